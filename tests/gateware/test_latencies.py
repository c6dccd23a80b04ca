"""The cycle model counts with the gateware's latencies, and bits of memory are the gateware's."""

import numpy as np
from amaranth.hdl import Shape

from pleach.compile.explore import memory_bits
from pleach.cycles import model as cycles
from pleach.engine import EngineConfig
from pleach_hw.compute.drain import DrainUnit
from pleach_hw.compute.pointer_read import COLUMNS_AHEAD, PointerRead, block_layout
from pleach_hw.compute.requantize import RequantizeUnit
from pleach_hw.compute.weight_read import entry_layout
from pleach_hw.primitives import Multiplier
from tests.strategies import random_model


def test_latencies_are_the_gateware_s():
    assert cycles.MULTIPLIER == Multiplier.latency
    assert cycles.REQUANTIZE == RequantizeUnit.latency
    assert cycles.COLUMNS_AHEAD == COLUMNS_AHEAD
    for config in (
        EngineConfig(),
        EngineConfig(ram_latency=1),
        EngineConfig(ram_latency=1, groups=4),
        EngineConfig(pes=64, groups=4, lanes=16, block=8, outputs=4096),
    ):
        *_, pointer, queued, places, _ = cycles.stages(config)
        assert pointer == PointerRead(config).latency
        assert queued + 1 == DrainUnit(config).latency
        assert places == DrainUnit(config)._depth


def test_memory_bits_are_those_of_the_words():
    model = random_model(np.random.default_rng(1), [40, 30, 9])
    kept = sum(layer.kept for layer in model.layers)
    for config in (EngineConfig(pes=4), EngineConfig(pes=8, groups=2, block=4, codebook=512)):
        columns = sum(config.local_columns(layer.columns) for layer in model.layers)
        pointers = config.pes * columns // config.block * Shape.cast(block_layout(config)).width
        bits = Shape.cast(entry_layout(config)).width + pointers / kept
        assert memory_bits(model, config) == bits

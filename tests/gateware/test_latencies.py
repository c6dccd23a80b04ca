"""The cycle model counts with the gateware's latencies."""

from pleach.reference import EngineConfig, cycles
from pleach_hw.drain import DrainUnit
from pleach_hw.pointer_read import COLUMNS_AHEAD, PointerRead
from pleach_hw.primitives import Multiplier
from pleach_hw.requantize import RequantizeUnit


def test_latencies_are_the_gateware_s():
    assert cycles.MULTIPLIER == Multiplier.latency
    assert cycles.REQUANTIZE == RequantizeUnit.latency
    assert cycles.COLUMNS_AHEAD == COLUMNS_AHEAD
    for config in (
        EngineConfig(),
        EngineConfig(ram_latency=1),
        EngineConfig(pes=64, groups=4, lanes=16, block=8, outputs=4096),
    ):
        *_, pointer, queued, places, _ = cycles.stages(config)
        assert pointer == PointerRead(config).latency
        assert queued + 1 == DrainUnit(config).latency
        assert places == DrainUnit(config)._depth

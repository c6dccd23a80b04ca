"""Even loads: rows dealt out to PEs, and pruning that keeps them even."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pleach.compile.balance import balanced, deal, dealt, work
from pleach.compile.explore import engines, latency, macs, memory_bits, sweep
from pleach.compression import PruneConfig, prune_
from pleach.cycles import CycleModel
from pleach.engine import EngineConfig
from pleach.engine.plan import base_engine, fitted
from pleach.errors import ConfigError, ModelError
from pleach.model import CompressedModel, Convolution, Graph, Node, Skip
from pleach.reference import Reference
from pleach_sim.simulate import Job, simulate_jobs
from tests.strategies import random_inputs, random_layer, random_model, random_part

ENGINE = EngineConfig(pes=16, groups=2, accumulators=64)


def uneven():
    """A network whose every 8th hidden neuron has most of the weights."""
    rng = np.random.default_rng(5)
    model = random_model(rng, [60, 64, 64, 10], density=0.5, shift=9)
    layers = list(model.layers)
    for n in range(2):
        layer = layers[n]
        kept = (layer.row_of % 8 == 0) | (rng.random(layer.kept) < 0.2)
        layers[n] = type(layer)(
            **{**vars(layer), "positions": layer.positions[kept], "codes": layer.codes[kept]}
        )
    return type(model)(tuple(layers), model.input_type, 8), random_inputs(rng, model, 20)


def test_balanced_network_computes_the_same_in_fewer_cycles():
    model, inputs = uneven()
    even = balanced(model, inputs, ENGINE)
    assert np.array_equal(Reference(even).run(inputs), Reference(model).run(inputs))
    before, after = (CycleModel(m, ENGINE).run(inputs).latency.mean() for m in (model, even))
    assert after < 0.8 * before
    assert [layer.kept for layer in even.layers] == [layer.kept for layer in model.layers]


def test_outputs_move_only_when_asked_to():
    layer = random_layer(np.random.default_rng(2), 50, 40, density=0.2, shift=5)
    model = type(uneven()[0])((layer,))
    inputs = random_inputs(np.random.default_rng(3), model, 10)
    assert balanced(model, inputs, ENGINE).layers == model.layers
    moved = balanced(model, inputs, ENGINE, outputs=True)
    assert np.array_equal(
        np.sort(Reference(moved).run(inputs)), np.sort(Reference(model).run(inputs))
    )


def uneven_maps():
    """A convolutional network whose every 4th channel has most of the weights."""
    rng = np.random.default_rng(5)
    first = Convolution(2, 8, 8, 3, 3, padding=(1, 1, 1, 1))
    second, depth = replace(first, channels=16), replace(first, channels=16, groups=16)
    ops = [
        random_part(rng, first, 16, density=0.6, shift=6),
        random_part(rng, second, 16, Skip(16), density=0.4, shift=13),
        random_part(rng, depth, 16, density=0.7, shift=11),
        random_part(rng, replace(second, kernel_height=1, kernel_width=1, padding=0), 8,
                    density=0.4, shift=13),
        random_part(rng, None, 4, inputs=512, density=0.2, shift=12),
    ]  # fmt: skip
    for n, layer in enumerate(ops[:-1]):
        kept = (layer.row_of % 4 == 0) | (rng.random(layer.kept) < 0.3)
        ops[n] = replace(layer, positions=layer.positions[kept], codes=layer.codes[kept])
    sources = [(0,), (1, 1), (2,), (3,), (4,)]
    nodes = [Node(f"n{n}", op, s) for n, (op, s) in enumerate(zip(ops, sources, strict=True))]
    model = CompressedModel.of(Graph(tuple(nodes), (2, 8, 8)))
    return model, random_inputs(rng, model, 3)


def test_channels_are_dealt_out_on_an_engine_with_a_map_memory():
    model, inputs = uneven_maps()
    engine = fitted(model, base_engine(model, 4))
    assert engine.maps
    even = balanced(model, inputs, engine)
    assert np.array_equal(Reference(even).run(inputs), Reference(model).run(inputs))
    taken = [Reference(each).taken(inputs) for each in (model, even)]
    before, after = (
        latency(each, of, engine) for each, of in zip((model, even), taken, strict=True)
    )
    assert after < 0.8 * before
    # What the layers take is moved with them, not computed again.
    for found, wanted in zip(dealt(model, taken[0], engine)[1], taken[1], strict=True):
        assert all(map(np.array_equal, found, wanted))
    assert [layer.kept for layer in even.layers] == [layer.kept for layer in model.layers]
    short = replace(engine, entries=2 * engine.entries)
    assert balanced(even, inputs, short) == even


def test_work_of_a_layer_over_a_map_counts_macs():
    model, inputs = uneven_maps()
    engine, shapes = EngineConfig(maps=256), model.graph.shapes()
    for layer, node, trace in zip(
        model.layers, model.graph.nodes, Reference(model).trace(inputs), strict=True
    ):
        found = work(layer, (trace.inputs, trace.skips), engine, shapes[node.sources[-1]])
        assert found.shape == (layer.outputs, 1)
        assert found.sum() == pytest.approx(trace.macs.mean())
    wanted = sum(trace.macs.mean() for trace in Reference(model).trace(inputs))
    assert macs(model, Reference(model).taken(inputs)) == pytest.approx(wanted)


def test_deal_evens_the_work_and_keeps_rows_a_pe():
    rng = np.random.default_rng(1)
    loads = rng.uniform(1, 3, (37, 2))
    order = deal(loads, 8)
    assert sorted(order) == list(range(37))
    most = max(loads[order[pe::8]].sum(axis=0).max() for pe in range(8))
    assert most < 1.25 * loads.sum(axis=0).max() / 8
    assert most < max(loads[pe::8].sum(axis=0).max() for pe in range(8))


def test_work_counts_macs():
    model, inputs = uneven()
    trace = Reference(model).trace(inputs)[0]
    found = work(model.layers[0], (trace.inputs, trace.skips), ENGINE)
    assert found.sum() == pytest.approx(trace.macs.mean())


def test_pruning_with_even_loads():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 32))
    with torch.no_grad():
        model[0].weight[::4] *= 10
    prune_(model, PruneConfig(density=0.25, balance=4))
    kept = (model[0].weight != 0).sum(1) + (model[0].bias != 0)
    classes = [int(kept[n::4].sum()) for n in range(4)]
    assert sum(classes) == round(0.25 * 31 * 32) and max(classes) == min(classes)
    with pytest.raises(ConfigError, match="balance goes with a density per layer"):
        PruneConfig(scope="network", balance=4)


def test_sweep_is_the_cycle_model_on_every_engine():
    model, inputs = uneven()
    configs = engines(model, pes=[4, 16], groups=[1, 2], lanes=[2, 16])
    assert len(configs) == 5  # 16 lanes want 16 PEs of a group
    taken = Reference(model).taken(inputs)
    for config, row in zip(configs, sweep(model, taken, configs), strict=True):
        cycles = CycleModel(model, config).run(inputs)
        assert row["latency_cycles"] == cycles.latency.mean()
        assert row["memory_bits"] == memory_bits(model, config)


def test_convolutions_are_refused_by_name():
    shape = Convolution(channels=1, height=4, width=4, kernel_height=2, kernel_width=2)
    layer = replace(random_layer(np.random.default_rng(1), 4, 3), name="c1", convolution=shape)
    model = CompressedModel((layer,))
    refused = pytest.raises(
        ModelError, match="layer 'c1' is a convolution: an engine without a map memory runs fully"
    )
    with refused:
        CycleModel(model, ENGINE)
    with refused:
        balanced(model, np.ones((2, 16), np.uint8), ENGINE)
    with refused:
        simulate_jobs([Job("c", model, np.ones((2, 16), np.uint8))], ENGINE)


def test_an_order_that_is_no_faster_is_not_taken():
    """Two rows on two PEs: the one with more work is dealt out first, to PE 0; nothing is won."""
    rng = np.random.default_rng(4)
    first = random_layer(rng, 8, 2, density=1.0, shift=5)
    keep = (first.row_of == 1) | (first.column_of < 2)
    first = replace(first, positions=first.positions[keep], codes=first.codes[keep])
    model = CompressedModel((first, random_layer(rng, 2, 2, density=1.0, shift=5)))
    inputs = np.full((3, 8), 200, np.uint8)
    engine = EngineConfig(pes=2)
    assert deal(work(first, (inputs, inputs[:, :0]), engine), 2).tolist() == [1, 0]
    assert balanced(model, inputs, engine) == model


def test_rows_without_work_take_no_time():
    """As many as a file of a few bytes can claim."""
    rows = np.zeros((65535, 1))
    rows[[5, 70]] = 1
    deal(rows[:8], 2)  # compiled now
    begun = time.process_time()
    order = deal(rows, 2)
    assert time.process_time() - begun < 1
    assert sorted(order) == list(range(65535))
    assert {int(np.flatnonzero(order == row)[0]) % 2 for row in (5, 70)} == {0, 1}

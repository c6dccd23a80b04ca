"""The order of hidden neurons: the same function, fewer bits."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.compile.order import Hidden, clustered, free, ordered, position_bits, reordered
from pleach.model import (
    Activation,
    CompressedLayer,
    CompressedModel,
    Convolution,
    Graph,
    Node,
    Pool,
    Skip,
    Window,
)
from pleach.reference import Reference
from tests.strategies import random_inputs, random_part


def layer(rng, name, inputs, outputs, mask, convolution=None):
    positions = np.flatnonzero(mask.T.ravel())
    return CompressedLayer(
        name=name, inputs=inputs, outputs=outputs, bias=True, positions=positions,
        codes=rng.integers(0, 4, len(positions)), codebook=[-9, -2, 3, 11], shift=3,
        activation=Activation.RELU, bias_exponent=4, output_fraction=4, convolution=convolution,
    )  # fmt: skip


def uniform(rng, rows, columns, density):
    return rng.random((rows, columns)) < density


@given(seed=st.integers(0, 10_000), density=st.sampled_from([0.0, 0.05, 0.3, 1.0]))
@settings(max_examples=30, deadline=None)
def test_the_function_stays(seed, density):
    rng = np.random.default_rng(seed)
    conv = Convolution(1, 6, 6, 3, 3, pool=2)
    model = CompressedModel(
        (
            layer(rng, "conv1", 9, 8, uniform(rng, 8, 10, density), conv),
            layer(rng, "fc1", 32, 20, uniform(rng, 20, 33, density)),
            layer(rng, "fc2", 20, 5, uniform(rng, 5, 21, density)),
        )
    )
    better = ordered(model)
    inputs = rng.integers(0, 256, (7, 36)).astype(np.uint8)
    assert np.array_equal(Reference(better).run(inputs), Reference(model).run(inputs))
    bits = [sum(map(position_bits, m.layers)) for m in (better, model)]
    assert bits[0] <= bits[1]
    assert ordered(better).layers[-1].outputs == 5


def test_like_rows_come_together():
    """Rows of two kinds, shuffled: the gaps of the ordered file cost a fraction."""
    rng = np.random.default_rng(1)
    kinds = uniform(rng, 2, 101, 0.2)
    mask = kinds[rng.permutation(np.arange(64) % 2)]
    model = CompressedModel(
        (layer(rng, "fc1", 100, 64, mask), layer(rng, "fc2", 64, 4, uniform(rng, 4, 65, 0.5)))
    )
    before, after = (position_bits(m.layers[0]) for m in (model, ordered(model)))
    assert after < 0.5 * before


def residual(rng, groups=6) -> CompressedModel:
    """Channels that a residual sum joins, those on both sides of a depthwise convolution and of
    poolings, and a map that is seen as a row."""
    first = Convolution(2, 8, 8, 3, 3, padding=(1, 1, 1, 1), pool=2)
    second = Convolution(6, 4, 4, 3, 3, padding=(1, 1, 1, 1))
    depth = Convolution(6, 4, 4, 3, 3, padding=(1, 1, 1, 1), groups=groups)
    graph = Graph(
        (
            Node("a", random_part(rng, first, 6, density=0.5, shift=7), (0,)),
            Node("b", random_part(rng, second, 5, density=0.5, shift=13), (1,)),
            Node(
                "c",
                random_part(
                    rng, replace(second, channels=5), 6, Skip(6), density=0.5, shift=13,
                    scales=rng.integers(8000, 16384, 6),
                ),
                (2, 1),
            ),
            Node("d", random_part(rng, depth, 6, density=0.7, shift=11), (3,)),
            Node("largest", Pool(Window(6, 4, 4, 2, 2)), (4,)),
            Node("e", random_part(rng, None, 7, inputs=24, density=0.7, shift=13), (5,)),
            Node("f", random_part(rng, None, 3, inputs=7, density=0.9, shift=12), (6,)),
        ),
        (2, 8, 8),
    )  # fmt: skip
    return CompressedModel.of(graph)


def test_channels_that_are_joined_move_together():
    rng = np.random.default_rng(5)
    model = residual(rng)
    found = free(model)
    assert found == [
        Hidden(6, rows=(0,), columns=(1,), skips=(2,)),
        Hidden(5, rows=(1,), columns=(2,), skips=()),
        Hidden(6, rows=(2, 3), columns=(3, 4), skips=()),
        Hidden(7, rows=(4,), columns=(5,), skips=()),
    ]
    assert found[0].layers == (0, 1, 2)
    inputs = random_inputs(rng, model, 5)
    wanted = Reference(model).run(inputs)
    assert len(np.unique(wanted)) > 8
    for hidden in found:
        model = reordered(model, hidden, rng.permutation(hidden.count))
        assert np.array_equal(Reference(model).run(inputs), wanted)
    last = free(model, outputs=True)[-1]
    assert last == Hidden(3, rows=(5,), columns=(), skips=())
    moved = reordered(replace(model, output_exponents=(0, 1, 2)), last, np.array([2, 0, 1]))
    assert np.array_equal(Reference(moved).run(inputs), wanted[:, [2, 0, 1]])
    assert moved.output_exponents == (2, 0, 1)


def test_channels_of_groups_have_their_places():
    found = free(residual(np.random.default_rng(5), groups=3))
    assert [hidden.rows for hidden in found] == [(0,), (1,), (4,)]


def test_groups_stay():
    rng = np.random.default_rng(2)
    conv = Convolution(4, 5, 5, 3, 3, groups=2)
    first = random_part(rng, conv, 4, density=0.3)
    model = CompressedModel((first, layer(rng, "fc1", 36, 3, uniform(rng, 3, 37, 0.3))))
    assert ordered(model) == replace(model, layers=model.layers)


def test_every_row_is_there_once():
    rng = np.random.default_rng(3)
    for rows in (1, 2, 3, 40):
        mask = uniform(rng, rows, 30, 0.1)
        mask[rows // 2] = False
        assert sorted(clustered(mask)) == list(range(rows))


def test_an_order_that_codes_worse_is_not_taken():
    worse = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        pair = (
            layer(rng, "fc1", 6, 5, uniform(rng, 5, 7, 0.5)),
            layer(rng, "fc2", 5, 4, uniform(rng, 4, 6, 0.5)),
        )
        before = sum(map(position_bits, pair))
        mask = np.zeros(pair[0].size, bool)
        mask[pair[0].positions] = True
        hidden = Hidden(5, rows=(0,), columns=(1,), skips=())
        tried = reordered(CompressedModel(pair), hidden, clustered(mask.reshape(7, 5).T)).layers
        worse += sum(map(position_bits, tried)) > before
        after = ordered(CompressedModel(pair)).layers
        assert sum(map(position_bits, after)) == min(before, sum(map(position_bits, tried)))
    assert worse > 5

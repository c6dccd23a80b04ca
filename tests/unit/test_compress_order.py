"""The order of hidden neurons: the same function, fewer bits."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.compile.order import clustered, moved, ordered, position_bits
from pleach.model import Activation, CompressedLayer, CompressedModel, Convolution
from pleach.reference import Reference
from tests.strategies import random_part


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
        tried = moved(*pair, clustered(mask.reshape(7, 5).T))
        worse += sum(map(position_bits, tried)) > before
        after = ordered(CompressedModel(pair)).layers
        assert sum(map(position_bits, after)) == min(before, sum(map(position_bits, tried)))
    assert worse > 5

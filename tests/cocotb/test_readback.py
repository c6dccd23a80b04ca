"""What the RTL loader decodes, against the software: files as they are shipped, and odd ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pleach.engine import EngineConfig
from pleach.errors import FormatError
from pleach.format import dumps, load
from pleach.model import (
    CompressedModel,
    Convolution,
    Graph,
    InputType,
    Node,
    Pool,
    Skip,
    Window,
)
from pleach_sim.readback import read_back
from tests.strategies import random_layer, random_part

MODELS = sorted((Path(__file__).parents[2] / "bench/models").glob("*.pleach"))
LOADER = EngineConfig(
    pes=1, columns=2048, entries=16384, codebook=1024, accumulators=1024, accumulator_bits=40
)


def assert_same(model, data):
    for (positions, values), layer in zip(read_back(data, LOADER), model.layers, strict=True):
        assert np.array_equal(positions, layer.positions)
        assert np.array_equal(values, layer.values)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_shipped_files(path):
    assert_same(load(path), path.read_bytes())


def test_all_kinds_of_layers_and_wide_codebooks():
    """Convolutions in groups, with a skip and a pooling between them, int8 and int16 codebooks, one
    code, one gap, no entry."""
    rng = np.random.default_rng(6)
    first = Convolution(
        channels=2, height=9, width=8, kernel_height=3, kernel_width=2, padding=(1, 1, 1, 0)
    )
    window = Window(6, *first.pooled, 2, 2, 1)
    second = Convolution(6, *window.map, 2, 2, groups=2, stride=2, pool=2)
    third = random_part(rng, None, 12, Skip(144), inputs=4 * 2 * 1, density=0.5, codebook=3)
    layers = [
        random_part(rng, first, 6, Skip(2), codebook=200),
        Pool(window),
        random_part(rng, second, 4, density=1, codebook=1),
        replace(third, codebook=[-128, 127, 5]),
        random_layer(rng, 12, 5, density=0, codebook=3),
    ]
    sources = [(0, 0), (1,), (2,), (3, 0), (4,)]
    nodes = [Node("", op, taken) for op, taken in zip(layers, sources, strict=True)]
    model = CompressedModel.of(Graph(tuple(nodes), (144,)), input_type=InputType.UINT8)
    assert_same(model, dumps(model))


def test_a_file_that_is_none():
    with pytest.raises(FormatError):
        read_back(b"PLCH")

"""What the RTL loader decodes, against the software: files as they are shipped, and odd ones."""

from pathlib import Path

import numpy as np
import pytest

from pleach.engine import EngineConfig
from pleach.errors import FormatError
from pleach.format import dumps, load
from pleach.model import CompressedModel, Convolution, InputType
from pleach_sim.readback import read_back
from tests.strategies import random_layer

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


def test_convolutions_and_wide_codebooks():
    """Convolution after convolution, int8 and int16 codebooks, one code, one gap, no entry."""
    from dataclasses import replace

    rng = np.random.default_rng(6)
    first = Convolution(channels=2, height=9, width=8, kernel_height=3, kernel_width=2, padding=1)
    height, width = first.pooled
    second = Convolution(
        channels=6, height=height, width=width, kernel_height=2, kernel_width=2, groups=2, stride=2,
        pool=2, pool_stride=1,
    )  # fmt: skip
    layers = [
        replace(random_layer(rng, first.columns, 6, codebook=200), convolution=first),
        replace(random_layer(rng, second.columns, 4, density=1, codebook=1), convolution=second),
    ]
    values = CompressedModel(layers, InputType.UINT8).outputs
    layers += [random_layer(rng, values, 12, density=0.5, codebook=3)]
    layers[-1] = replace(layers[-1], codebook=[-128, 127, 5])
    layers += [random_layer(rng, 12, 5, density=0, codebook=3)]
    model = CompressedModel(layers, InputType.UINT8)
    assert_same(model, dumps(model))


def test_a_file_that_is_none():
    with pytest.raises(FormatError):
        read_back(b"PLCH")

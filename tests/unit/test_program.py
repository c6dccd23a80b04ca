"""The program that a network is to the engine."""

from pathlib import Path

import numpy as np
import pytest

from pleach.engine import EngineConfig
from pleach.engine.program import PASS, Sink, Source, lower
from pleach.errors import CapacityError, ModelError
from pleach.format import load
from tests.strategies import random_model

CONVOLUTIONAL = Path(__file__).parents[2] / "bench/models/lenet_5_small.pleach"
CONFIG = EngineConfig(pes=4, groups=2, block=2, columns=32, codebook=16, accumulators=16)


def test_a_pass_a_layer_one_behind_the_other():
    model = random_model(np.random.default_rng(3), [9, 6, 5, 3], codebook=4, density=0.5)
    program = lower(model, CONFIG)
    for field, values in {
        "source": [Source.INPUTS, Source.DRAINED, Source.DRAINED],
        "sink": [Sink.NEXT, Sink.NEXT, Sink.OUTPUTS],
        "last": [False, False, True],
        "parity": [0, 1, 0],
        "inputs": [9, 6, 5],
        "rows": [6, 5, 3],
        "column_base": [0, 6, 10],  # 10, 7 and 6 columns in blocks of two in two groups
        "codebook_base": [0, 4, 8],
        "bias": [True, True, True],
        "relu": [True, True, False],
        "shift": [layer.shift for layer in model.layers],
        "bias_exponent": [layer.bias_exponent for layer in model.layers],
    }.items():
        assert [getattr(each, field) for each in program.passes] == values, field
        assert program.table()[field].tolist() == values
    assert len(program.table().dtype) == len(vars(program.passes[0])) == len(PASS)


def test_what_does_not_run_has_no_program():
    large = random_model(np.random.default_rng(3), [99, 6])
    with pytest.raises(CapacityError, match="columns 50 of 32"):
        lower(large, CONFIG)
    with pytest.raises(ModelError, match="convolution"):
        lower(load(CONVOLUTIONAL), CONFIG)

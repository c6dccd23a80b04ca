"""The error of each layer: worked out by hand, and nothing where nothing is rounded."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from pleach.model import Activation, CompressedLayer, CompressedModel
from pleach.reference import Reference
from pleach.reference.unrounded import errors
from pleach_cli.app import app
from tests.cocotb.map_cases import map_engine, nasty_maps


def layer(**changes):
    about = {
        "name": "fc1", "inputs": 2, "outputs": 2, "bias": False, "positions": [0, 3],
        "codes": [0, 1], "codebook": [3, 5], "shift": 1, "activation": Activation.NONE,
        "bias_exponent": 0, "output_fraction": 1,
    }  # fmt: skip
    return CompressedLayer(**about | changes)


def test_two_layers_by_hand():
    """1.5 and 2.5 become 2 and 3, of which 3/2 · 2 − 3 = 0 and 5/2 · 3 − 6.25 are left."""
    second = layer(name="fc2", output_fraction=2)
    first, last = errors(CompressedModel((layer(), second)), np.array([[1, 1]], np.uint8))
    assert first.own == first.error == 0.5 / 2
    assert first.rms == np.sqrt((4 + 9) / 2) / 2
    # Integers 3 and 8 (of 7.5); without rounding 2.25 and 6.25.
    assert last.own == pytest.approx(np.sqrt(0.5**2 / 2) / 4)
    assert last.error == pytest.approx(np.sqrt((0.75**2 + 1.75**2) / 2) / 4)
    assert last.largest == 1.75 / 4


def test_what_saturates():
    wide = layer(codebook=[32767, 1], shift=0)
    (found,) = errors(CompressedModel((wide,)), np.array([[2, 1]], np.uint8))
    assert found.saturated == 0.5


def test_without_shifts_nothing_is_lost():
    """Kernels, strides, groups, pools, skips, clips and signs: where nothing is rounded or
    saturated, what is computed is what the reference gives."""
    seen = 0
    for job in nasty_maps(map_engine(4)):
        ops = [node.op for node in job.model.graph.nodes]
        pools = [op for op in ops if not isinstance(op, CompressedLayer)]
        if any(op.shift for op in pools) or any(op.scales is not None for op in job.model.layers):
            continue
        layers = tuple(replace(op, shift=0) for op in job.model.layers)
        model = replace(job.model, layers=layers)
        inputs = np.minimum(job.inputs, 1)
        most = max(int(np.abs(each).max(initial=0)) for each in Reference(model).nodes(inputs))
        if most < 32767:
            seen += 1
            assert all(row.error == 0 for row in errors(model, inputs)), job.name
    assert seen > 5


def test_the_command():
    given = ["trace", "bench/models/lenet_5_small.pleach", "--images", "2", "--json"]
    found = CliRunner().invoke(app, given)
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout)["layers"]
    assert [row["name"] for row in rows] == ["conv1", "conv2", "fc1", "fc2"]
    assert all(0 < row["own"] <= 1.5 * row["error"] < 0.05 * row["rms"] for row in rows)
    assert "none from 10000" in str(CliRunner().invoke(app, [*given, "--input", "10000"]).exception)

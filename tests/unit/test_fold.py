"""Scaling of inputs, folded into the first layer."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pleach.compression import PruneConfig, finish, prune_
from pleach.compression.train import predict
from pleach.errors import ConfigError, ModelError
from pleach.models import fold_inputs, mlp
from pleach.reference import Reference

RNG = np.random.default_rng(3)
BYTES = RNG.integers(0, 256, (9, 2, 6, 6)).astype(np.uint8)
ROWS = nn.Sequential(nn.Linear(72, 5), nn.ReLU(), nn.Linear(5, 3))
BARE = nn.Sequential(nn.Flatten(), nn.Linear(72, 5, bias=False))
MAPS = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
IMAGE = nn.Sequential(nn.Unflatten(1, (2, 6, 6)), nn.Conv2d(2, 4, 3, bias=False), nn.ReLU())


@pytest.mark.parametrize("stored", [BYTES, BYTES * np.float32(0.3) - 20])
@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, 1.0), (0.1307, 0.3081), ([0.4, -0.2], [0.2, 0.7]), ([0.5], 2)]
)
@pytest.mark.parametrize("model", [ROWS, BARE, MAPS, IMAGE])
def test_computes_what_the_network_did_of_scaled_inputs(model, mean, std, stored):
    before = copy.deepcopy(model.state_dict())
    folded = fold_inputs(
        model, kind=stored.dtype, scale=1 / 255, mean=mean, std=std, shape=(2, 6, 6)
    )
    each = [np.reshape(value, (-1, 1, 1)) for value in (mean, std)]
    scaled = ((stored / 255 - each[0]) / each[1]).astype(np.float32)
    shaped = BYTES.shape if model is MAPS else (9, 72)
    with torch.no_grad():
        expected = model(torch.from_numpy(scaled.reshape(shaped))).flatten(1)
    assert torch.allclose(predict(folded, stored), expected, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_mean_for_each_feature():
    mean, std = RNG.random(72), RNG.random(72) + 0.5
    rows = RNG.random((4, 72)).astype(np.float32)
    expected = ROWS(torch.from_numpy(((rows - mean) / std).astype(np.float32)))
    folded = fold_inputs(ROWS, kind="float", mean=mean, std=std)
    assert torch.allclose(predict(folded, rows), expected, atol=1e-5)


def test_a_mean_for_each_channel_and_a_deviation_for_each_feature():
    mean, std = np.array([0.4, -0.2]), RNG.random(72) + 0.5
    rows = RNG.random((4, 72)).astype(np.float32)
    scaled = (rows - np.repeat(mean, 36)) / std
    folded = fold_inputs(ROWS, kind="float", mean=mean, std=std, shape=(2, 6, 6))
    expected = ROWS(torch.from_numpy(scaled.astype(np.float32)))
    assert torch.allclose(predict(folded, rows), expected, atol=1e-5)


def test_nothing_to_fold_changes_nothing():
    for kind in ("uint8", "float", np.float64):
        assert torch.equal(fold_inputs(ROWS, kind=kind)[0].weight, ROWS[0].weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_floats(dtype):
    model = copy.deepcopy(ROWS).to(dtype)
    folded = fold_inputs(model, kind="float", scale=1 / 3)
    assert folded[0].weight.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.allclose(folded[0].weight, model[0].weight.to(folded[0].weight) / 3)


def test_padding_and_means():
    padded = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU())
    folded = fold_inputs(padded, kind="uint8", scale=1 / 255, std=[0.2, 0.3])
    with torch.no_grad():
        scaled = (BYTES / 255 / np.reshape([0.2, 0.3], (2, 1, 1))).astype(np.float32)
        expected = padded(torch.from_numpy(scaled)).flatten(1)
    assert torch.allclose(predict(folded, BYTES), expected, atol=1e-4)
    with pytest.raises(ModelError, match="a node of its own: give the shape"):
        fold_inputs(padded, kind="uint8", scale=1 / 255, mean=0.1)


class Twice(nn.Module):
    """Two layers take its input."""

    def __init__(self):
        super().__init__()
        self.one, self.inputs = nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3)

    def forward(self, x):
        return torch.relu(self.one(x)) + self.inputs(x)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1)),
        nn.Sequential(nn.ZeroPad2d(1), *MAPS[:2]),
        Twice(),
    ],
)
@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.25), ([0.4, -0.2], [0.2, 0.7])])
def test_what_no_layer_takes_up_is_a_node_of_its_own(model, mean, std):
    """Zeros around a map are none before the mean is off; and what an engine answers is right."""
    folded = fold_inputs(model, kind="uint8", scale=1 / 255, mean=mean, std=std, shape=(2, 6, 6))
    each = [np.reshape(value, (-1, 1, 1)) for value in (mean, std)]
    scaled = ((BYTES / 255 - each[0]) / each[1]).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(scaled)).flatten(1).numpy()
    assert np.allclose(predict(folded, BYTES).numpy(), expected, atol=1e-4)
    integers = finish(folded, BYTES)
    assert integers.graph.nodes[0].name.rstrip("_") == "inputs"
    found = integers.dequantise(Reference(integers).run(integers.quantise(BYTES)))
    assert np.allclose(found, expected, atol=0.02)


def test_channels_that_are_too_many_for_a_node():
    wide = nn.Sequential(nn.Conv2d(129, 1, 3, padding=1))
    with pytest.raises(ModelError, match="of 128 channels at most, not 129: store the inputs as"):
        fold_inputs(wide, kind="float", mean=0.5, shape=(129, 4, 4))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "int8"}, "uint8 or float, not int8"),
        ({"kind": "images"}, "uint8 or float, not images"),
        ({"mean": 0.1}, "want a scale too: 1/255"),
        ({"std": 0.3}, "want a scale too: 1/255"),
        ({"scale": 0}, "scale must not be 0"),
        ({"scale": np.inf}, "scale must be a number, not inf"),
        ({"scale": [1, 2]}, "scale must be a number, not"),
        ({"scale": 1, "std": [0]}, "std must be above 0"),
        ({"scale": 1, "mean": "x"}, "mean must be a number or a list, not x"),
        ({"scale": 1, "mean": [[1]]}, "mean must be a number or a list"),
    ],
)
def test_settings_that_are_wrong(settings, words):
    with pytest.raises(ConfigError, match=words):
        fold_inputs(ROWS, **{"kind": "uint8"} | settings)


def test_networks_that_are_wrong():
    for shape, counts in (
        (None, "1 or 72, one a feature"),
        ((8, 9), "1 or 72, one a feature"),
        ((3, 4, 6), "1 or 72, one a feature or 3, one a channel"),
    ):  # 2 divides 72: what is meant by 0,3 is no mean for each half of the pixels
        with pytest.raises(ModelError, match=f"mean has 2 numbers, must have {counts}; .*a point"):
            fold_inputs(ROWS, kind="float", mean=[0, 3], shape=shape)
    with pytest.raises(ModelError, match="std has 3 numbers, must have 1 or 2, one a channel;"):
        fold_inputs(MAPS, kind="float", mean=[1, 2], std=[0, 3, 8])
    with pytest.raises(ModelError, match=r"takes 72 inputs, the shape \(3, 4\) has 12"):
        fold_inputs(ROWS, kind="float", mean=[1] * 3, shape=(3, 4))
    with pytest.raises(ModelError, match="too large for float32"):
        fold_inputs(ROWS, kind="float", scale=1e300)
    pruned = mlp([3, 2])
    prune_(pruned, PruneConfig(density=0.5))
    with pytest.raises(ModelError, match="'fc1' is pruned or shared: fold the inputs before"):
        fold_inputs(pruned, kind="float", scale=2)

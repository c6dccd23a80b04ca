"""Batch normalisation while a network trains."""

import copy

import pytest
import torch
from torch import nn

from pleach.compression import PruneConfig, TrainConfig, prune_, train
from pleach.compression.normalise import Normalisation, normalising
from pleach.errors import ConfigError
from pleach.models import layers_of
from pleach.models.read import network_of

SHAPE = (2, 6, 6)


def network(norm=True):
    torch.manual_seed(0)
    after = nn.BatchNorm2d(3) if norm else nn.Identity()
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), after, nn.ReLU(), nn.Flatten(), nn.Linear(108, 5),
    )  # fmt: skip
    if norm:
        after.running_mean[:] = torch.tensor([0.3, -0.2, 0.1])
        after.running_var[:] = torch.tensor([0.5, 2.0, 1.0])
    return network_of(model.eval(), SHAPE)


@pytest.fixture
def inputs():
    return torch.randn(300, *SHAPE, generator=torch.Generator().manual_seed(1)) + 0.5


@pytest.mark.parametrize(("choice", "norm", "layers"), [
    ("folded", True, 1), ("folded", False, 0), ("all", False, 1), ("none", True, 0),
])  # fmt: skip
def test_it_changes_nothing_by_itself(choice, norm, layers, inputs):
    model = network(norm).eval()
    before = model(inputs)
    with normalising(model, layers_of(model), inputs, choice, set()) as found:
        assert len(found) == layers
        assert torch.allclose(model(inputs), before, atol=1e-4)
    assert torch.allclose(model(inputs), before, atol=1e-4)
    assert not any(module._forward_hooks for module in model.modules())


def test_it_is_torchs(inputs):
    """The output and the gradient of the weights are those of BatchNorm1d behind the layer."""
    layer, theirs = nn.Linear(6, 4), nn.BatchNorm1d(4)
    ours, rows = copy.deepcopy(layer), inputs[:, 0, 0]
    normal = Normalisation(ours)
    normal.measure(1)
    ours(rows)
    normal.begin()
    with torch.no_grad():
        theirs.weight.copy_(normal.gain)
        # What is behind theirs is the mean that ours gives back, and the layer's bias.
        theirs.bias.copy_(layer(rows).mean(0))
    found, expected = ours.train()(rows), theirs(layer(rows))
    assert torch.allclose(found, expected, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    assert torch.allclose(ours.weight.grad, layer.weight.grad, atol=1e-3)
    assert torch.allclose(normal.gain.grad, theirs.weight.grad, rtol=1e-4)


def test_what_was_trained_is_folded(inputs):
    """Outputs at the end are those with the normalisation; what is masked is zero."""
    model = network()
    with normalising(model, layers_of(model), inputs, "folded", set()):
        conv = layers_of(model)[0].module
        prune_(model, PruneConfig(density=0.3))
        assert bool(conv.parametrizations.bias[0].mask.all())
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        for batch in inputs.split(50):
            model.train()(batch).square().mean().backward()
            optimizer.step()
    held = model.eval()(inputs)
    mask = conv.parametrizations.weight[0].mask
    assert 0 < int(mask.sum()) == round(0.3 * mask.numel())
    assert not conv.weight[mask == 0].any() and bool(conv.bias.all())
    # What is folded is what the last means say: again from there, nothing changes.
    with normalising(model, layers_of(model), inputs, "folded", set()):
        assert torch.allclose(model.eval()(inputs), held, atol=1e-4)


def test_rows_that_are_pruned_give_nothing(inputs):
    model = network()
    with normalising(model, layers_of(model), inputs, "folded", set()):
        prune_(model, PruneConfig(density=0.4, granularity="channel", layers={"4": 1.0}))
        conv = layers_of(model)[0].module
        off = conv.parametrizations.bias[0].mask == 0
        assert 0 < int(off.sum()) < 3
        assert not conv.train()(inputs)[:, off].any()
    assert not conv.weight[off].any() and not conv.bias[off].any()


def test_a_layer_with_pruned_biases_has_none(inputs):
    """They were pruned alone, before: their rows stay."""
    model = network()
    prune_(model, PruneConfig(density=0.3, criterion="magnitude"))
    conv = layers_of(model)[0].module
    masks = [conv.parametrizations[part][0].mask for part in ("weight", "bias")]
    masks[1][0] = 0
    live = int(masks[0].sum())
    assert masks[0][0].any()
    train(model, inputs, torch.arange(300) % 5, TrainConfig(epochs=1))
    assert int(masks[0].sum()) == live and conv.weight[0].any() and not conv.bias[0].any()


def test_training_takes_it(inputs):
    """A frozen layer has none; a diverged network is as it was before the epoch."""
    labels = torch.arange(300) % 5
    model = network()
    before = [parameter.clone() for parameter in model.parameters()]
    frozen = layers_of(model)[0].name
    train(model, inputs, labels, TrainConfig(epochs=1, freeze=(frozen,)))
    assert torch.equal(next(model.parameters()), before[0])
    train(model, inputs, labels, TrainConfig(epochs=1))
    assert not torch.equal(next(model.parameters()), before[0])
    with pytest.raises(ConfigError, match="normalise"):
        TrainConfig(normalise="some")

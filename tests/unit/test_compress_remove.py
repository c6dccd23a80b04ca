"""Neurons without inputs or outputs: removed, and nothing else changes."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pleach.compression import PruneConfig, ShareConfig, prune_, share_
from pleach.compression.remove import remove_neurons_
from pleach.errors import ModelError
from pleach.models import lenet_5, mlp


def outputs(model, inputs):
    model.eval()
    with torch.no_grad():
        return model(inputs)


@given(seed=st.integers(0, 10_000), density=st.sampled_from([0.0, 0.02, 0.05, 0.1, 0.3]))
@settings(max_examples=20, deadline=None)
def test_a_pruned_network_keeps_its_function(seed, density):
    model = mlp([12, 20, 15, 4], seed=seed)
    prune_(model, PruneConfig(density=density))
    before = copy.deepcopy(model)
    removed = remove_neurons_(model)
    inputs = torch.rand(16, 12)
    torch.testing.assert_close(outputs(model, inputs), outputs(before, inputs))
    assert removed == 35 - len(model.fc1.weight) - len(model.fc2.weight)
    # What is left has inputs and outputs, or is the one neuron that a layer keeps.
    for layer, after in ((model.fc1, model.fc2), (model.fc2, model.fc3)):
        assert layer.out_features == after.in_features == len(layer.weight)
        if len(layer.weight) > 1:
            assert (layer.weight != 0).any(1).all() and (after.weight != 0).any(0).all()


def test_it_goes_on_until_nothing_changes():
    """A neuron whose only reader is removed is removed after it, and the same forwards."""
    model = nn.Sequential(
        nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(),
        nn.Linear(2, 1),
    )  # fmt: skip
    with torch.no_grad():
        for layer in (model[0], model[2], model[4]):
            layer.weight.copy_(torch.eye(*layer.weight.shape))
        model[6].weight.copy_(torch.tensor([[1.0, 0.0]]))  # nothing reads neuron 1 of the third
    assert remove_neurons_(model) == 3
    assert [tuple(model[i].weight.shape) for i in (0, 2, 4, 6)] == [(1, 3), (1, 1), (1, 1), (1, 1)]


def test_a_constant_goes_into_the_next_biases():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 3.0]))
        model[2].weight.copy_(torch.tensor([[1.0, 10.0], [2.0, 0.0]]))
        model[2].bias.copy_(torch.tensor([0.5, 0.25]))
    prune_(model, PruneConfig(density=1.0))
    with torch.no_grad():
        model[2].parametrizations.bias[0].mask[0] = 0  # as if its bias had been pruned
    assert remove_neurons_(model) == 1
    assert model[2].bias.tolist() == [30.0, 0.25]  # not the 0.5 that was pruned


@given(seed=st.integers(0, 1000), density=st.sampled_from([0.005, 0.01, 0.03]))
@settings(max_examples=3, deadline=None)
def test_channels_of_convolutions(seed, density):
    model = lenet_5(seed=seed)
    prune_(model, PruneConfig(density=density))
    before = copy.deepcopy(model)
    assert remove_neurons_(model) > 0
    inputs = torch.rand(4, 784)
    torch.testing.assert_close(outputs(model, inputs), outputs(before, inputs))
    assert model.fc1.in_features == 16 * model.conv2.out_channels
    assert model.conv2.in_channels == model.conv1.out_channels == len(model.conv1.weight)


def test_a_padded_convolution_takes_no_constant():
    """At the border its kernel sees zeros, not the constant."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1))
    with torch.no_grad():
        model[0].weight[1] = 0
        model[0].bias[1] = 1
    assert remove_neurons_(model) == 0
    with torch.no_grad():
        model[0].bias[1] = -1  # the ReLU makes it zero
    assert remove_neurons_(model) == 1


def test_training_goes_on():
    model = mlp([6, 8, 3])
    prune_(model, PruneConfig(density=0.2))
    remove_neurons_(model)
    kept = [(p != 0) for p in (model.fc1.weight, model.fc2.weight)]
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    model(torch.rand(5, 6)).square().sum().backward()
    optimizer.step()
    assert all(
        torch.equal(p != 0, k)
        for p, k in zip((model.fc1.weight, model.fc2.weight), kept, strict=True)
    )


def test_a_later_stage_counts_from_the_whole_network():
    """Densities are of the network that was given, not of what removal has left of it."""
    model = mlp([12, 40, 15, 4])
    whole = sum(p.numel() for p in model.parameters())
    for density in (0.4, 0.2):
        prune_(model, PruneConfig(density=density, scope="network"))
        kept = sum(int(p.count_nonzero()) for m in model[::2] for p in (m.weight, m.bias))
        assert kept == round(density * whole)
        remove_neurons_(model)
    assert sum(p.numel() for p in model.parameters()) < whole


def test_shared_weights_are_refused():
    model = mlp([6, 8, 3])
    share_(model, ShareConfig(clusters=2))
    with pytest.raises(ModelError, match="'fc1' is shared"):
        remove_neurons_(model)


def test_an_empty_network_keeps_a_neuron_a_layer():
    model = mlp([5, 4, 3])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert remove_neurons_(model) == 3
    assert np.array_equal(outputs(model, torch.rand(2, 5)), np.zeros((2, 3)))

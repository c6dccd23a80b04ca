"""Networks that are trained over lists of the weights that are left."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pleach.compression import PruneConfig, ShareConfig, TrainConfig, prune_, share_, sparse, train
from pleach.compression.sparse import SparseNetwork, held
from pleach.models import ours

CONV = (1, 14, 13)


def convolutional(seed: int = 0) -> nn.Sequential:
    """Both kinds of window, maps that pooling does not divide, a row of no weight."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, (3, 4)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 5, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 5 * 4, 6),
        nn.ReLU(),
        nn.Linear(6, 4),
    )


def connected(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 4, bias=False))


def pruned(model: nn.Module) -> nn.Module:
    prune_(model, PruneConfig(density=0.4, remove=False))
    return model


def shared(model: nn.Module) -> nn.Module:
    share_(pruned(model), ShareConfig(clusters=3))
    return model


def gradients(model, forward, inputs, labels) -> list[np.ndarray]:
    model.zero_grad()
    outputs = forward(inputs)
    functional.cross_entropy(outputs, labels).backward()
    return [outputs.detach().numpy(), *(p.grad.numpy() for p in model.parameters())]


@pytest.mark.parametrize("prepare", [pruned, shared])
@pytest.mark.parametrize(
    ("network", "shape", "count"), [(convolutional, CONV, 21), (connected, (9,), 16)]
)
def test_outputs_and_gradients_are_those_of_torch(monkeypatch, network, shape, count, prepare):
    monkeypatch.setattr(sparse, "WORTH", 9.0)
    model = prepare(network())
    generator = torch.Generator().manual_seed(1)
    inputs = torch.rand(count, *shape, generator=generator) - 0.3
    labels = torch.randint(4, (count,), generator=generator)
    lists = SparseNetwork(model, shape)
    assert held(model, shape)
    found = gradients(model, lists, inputs, labels)
    assert lists._runs == 1
    wanted = gradients(model, model, inputs, labels)
    assert len(found) > 2
    for own, other in zip(found, wanted, strict=True):
        assert np.abs(own - other).max() < 1e-5 * max(1, np.abs(other).max())
    assert all(np.abs(own).max() > 1e-4 for own in found)


def test_lists_follow_the_masks(monkeypatch):
    monkeypatch.setattr(sparse, "WORTH", 9.0)
    model = pruned(connected())
    lists = SparseNetwork(model, (9,))
    inputs = torch.rand(5, 9)
    before = lists(inputs)
    prune_(model, PruneConfig(density=0.2, remove=False))
    assert not torch.equal(lists(inputs), before)
    assert torch.allclose(lists(inputs), model(inputs), atol=1e-6)


def test_a_dense_network_is_torchs_and_a_sparse_one_says_so(caplog):
    caplog.set_level(logging.INFO)
    inputs = torch.rand(5, 9)
    model = connected()
    lists = SparseNetwork(model, (9,))
    lists(inputs)
    assert not lists._runs and not caplog.messages
    prune_(model, PruneConfig(density=0.1, remove=False))
    lists(inputs)
    assert lists._runs == 1
    assert caplog.messages == [
        "training over the 9 weights that are left, not through torch's layers"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.insert(1, nn.Dropout(0.5)),
        lambda model: model.double(),
        lambda model: model[0].register_forward_hook(ours(lambda *_: None)),
        lambda model: prune_(model, PruneConfig(density=0.4, splice=True)),
        lambda model: share_(model, ShareConfig(clusters=3, reassign=1)),
    ],
)
def test_what_the_lists_do_not_compute_is_left_to_torch(change):
    model = connected()
    assert held(model, (9,))
    change(model)
    assert not held(model, (9,))


@pytest.mark.parametrize(
    "first",
    [nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(1, 2, 3, bias=False)],
)
def test_convolutions_with_padding_or_strides_are_left_to_torch(first):
    size = first(torch.zeros(1, *CONV)).numel()
    model = nn.Sequential(first, nn.Flatten(), nn.Linear(size, 2))
    assert held(model, CONV) == (first.bias is None)


@pytest.mark.parametrize("prepare", [pruned, shared])
def test_training_goes_where_torchs_goes(monkeypatch, prepare):
    inputs = np.random.default_rng(0).random((40, 9), np.float32)
    labels = np.arange(40) % 4
    settings = TrainConfig(epochs=3, batch_size=16, learning_rate=1e-2, distillation=0.5)
    soft = torch.rand(40, 4, generator=torch.Generator().manual_seed(0))
    found, slopes, moments = {}, {}, {}
    for worth in (0.0, 9.0, 9.0):
        monkeypatch.setattr(sparse, "WORTH", worth)
        model = prepare(connected())

        def look(_, optimizer, worth=worth, model=model):
            first = next(model.parameters())
            slopes[worth] = None if first.grad is None else first.grad.numpy().copy()
            moments[worth] = optimizer.state[first].get("exp_avg_sq")

        train(model, inputs, labels, settings, teacher=soft, before_step=look)
        weight = model[0].weight.detach().numpy()
        if worth in found:
            assert np.array_equal(found[worth], weight)
        found[worth] = weight
    assert not np.array_equal(found[9.0], prepare(connected())[0].weight.detach().numpy())
    assert np.abs(found[0.0] - found[9.0]).max() < 1e-4
    assert slopes[0.0] == pytest.approx(slopes[9.0], abs=1e-5)
    assert moments[0.0].numpy() == pytest.approx(moments[9.0].numpy(), rel=1e-3, abs=1e-9)
    assert moments[0.0].max() > 1e-6


def test_frozen_layers_stay(monkeypatch):
    monkeypatch.setattr(sparse, "WORTH", 9.0)
    model = pruned(connected())
    before = [layer.weight.detach().clone() for layer in (model[0], model[2])]
    train(model, torch.rand(20, 9), np.arange(20) % 4, TrainConfig(epochs=1, freeze=("0",)))
    assert torch.equal(model[0].weight, before[0]) and not torch.equal(model[2].weight, before[1])

"""A convolutional network through the whole path, from torch to the fixed-point reference."""

import numpy as np
import pytest
import torch
from torch import nn

import pleach.data
from pleach.compression import (
    CompressConfig,
    PruneConfig,
    ShareConfig,
    TrainConfig,
    compress,
    error_percent,
    train,
)
from pleach.compression.train import predict
from pleach.errors import DataError, ModelError
from pleach.reference import Reference

FAST = CompressConfig(
    prune=PruneConfig(
        density=0.4,
        ramp=2,
        train=TrainConfig(epochs=4, batch_size=32, learning_rate=3e-3, distillation=0.5),
    ),
    share=ShareConfig(train=TrainConfig(epochs=1, batch_size=32, learning_rate=3e-4)),
)


@pytest.fixture(scope="module")
def digits():
    return pleach.data.load("digits")


def network(*first: nn.Module) -> nn.Sequential:
    torch.manual_seed(1)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3)]
    return nn.Sequential(*first, *layers, nn.ReLU(), nn.Flatten(), nn.Linear(48, 10))


@pytest.fixture(scope="module")
def trained(digits):
    model = network()
    train(
        model, digits.train_images, digits.train_labels,
        TrainConfig(epochs=6, batch_size=32, learning_rate=3e-3),
    )  # fmt: skip
    return model


@pytest.mark.parametrize("rows", [False, True])
def test_from_torch_to_the_reference(digits, trained, rows):
    model = nn.Sequential(*[nn.Unflatten(1, (1, 8, 8))][:rows], *trained)
    stages = []
    test = digits.test_images, digits.test_labels
    compressed = compress(
        model, digits.train_images, digits.train_labels, FAST, validation=test, report=stages.append
    )
    assert all(stage.error < 14 for stage in stages), stages
    first, second, last = compressed.layers
    assert [x.convolution is None for x in compressed.layers] == [False, False, True]
    assert first.convolution.pooled == (4, 4) and second.convolution.columns == 9 * first.outputs
    assert compressed.inputs == 64 and last.inputs == second.values_out
    outputs = Reference(compressed).run(compressed.quantise(digits.test_images))
    wrong = 100 * np.mean(outputs.argmax(axis=1) != digits.test_labels)
    assert wrong == pytest.approx(stages[-1].error)


def test_images_come_in_any_shape(digits):
    model = network()
    flat = digits.test_images
    expected = predict(model, flat)
    assert expected.shape == (360, 10)
    assert torch.equal(expected, predict(model, flat.reshape(-1, 8, 8)))
    assert torch.equal(expected, predict(model, flat.reshape(-1, 1, 8, 8)))
    assert error_percent(model, flat, digits.test_labels) > 50
    with pytest.raises(ModelError, match="'0' takes images of 1 channel"):
        predict(model, flat[:, 1:])
    with pytest.raises(DataError, match="'1' takes 64 a sample"):
        predict(network(nn.Unflatten(1, (1, 8, 8))), flat[:, 1:])


def test_a_network_that_ends_in_a_convolution(digits):
    model = nn.Sequential(nn.Conv2d(1, 10, 8))
    config = TrainConfig(epochs=5, batch_size=32, learning_rate=3e-3)
    train(model, digits.train_images, digits.train_labels, config)
    assert error_percent(model, digits.test_images, digits.test_labels) < 15

"""ResNet-8 and DS-CNN in the shapes of MLPerf Tiny, for images of 28 × 28 grey pixels.

    python bench/compression.py resnet_8 ds_cnn        # trains and compresses them

Banbury et al., "MLPerf Tiny Benchmark", NeurIPS Datasets and Benchmarks 2021: the layers of image
classification and keyword spotting. Neither of that benchmark's data sets is in a package registry,
so they train on Fashion-MNIST, and no figure of them is the benchmark's. What differs: ResNet-8 has
one channel of input, its images a border of zeros up to 32 × 32; DS-CNN's input is square where a
spectrogram is 49 × 10, and it gives 10 classes where there are 12 keywords.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F


def _convolved(
    channels: int, rows: int, kernel: int | tuple[int, int] = 3, stride: int = 1,
    padding: int | tuple[int, int] = 1, groups: int = 1,
) -> nn.Sequential:  # fmt: skip
    """A convolution and its normalisation."""
    layers = OrderedDict(
        conv=nn.Conv2d(channels, rows, kernel, stride, padding, groups=groups, bias=False),
        norm=nn.BatchNorm2d(rows),
    )
    return nn.Sequential(layers)


class Residual(nn.Module):
    """Two convolutions and the sum with what they took, or with a convolution of it."""

    def __init__(self, channels: int, rows: int, stride: int):
        super().__init__()
        self.first = _convolved(channels, rows, stride=stride)
        self.second = _convolved(rows, rows)
        self.shortcut = (
            nn.Identity()
            if (channels, stride) == (rows, 1)
            else nn.Conv2d(channels, rows, 1, stride, bias=False)
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        more = self.second(F.relu(self.first(maps)))
        return F.relu(more + self.shortcut(maps))


def resnet_8(*, seed: int = 0) -> nn.Sequential:
    """Three stages of 16, 32 and 64 channels on maps of 32 × 32, 16 × 16 and 8 × 8."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _resnet_8()


def ds_cnn(*, seed: int = 0) -> nn.Sequential:
    """A convolution of 10 × 4 and four depthwise separable ones of 64 channels on 14 × 14."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _ds_cnn()


def _resnet_8() -> nn.Sequential:
    layers = OrderedDict(
        image=nn.Unflatten(1, (1, 28, 28)),
        first=_convolved(1, 16, padding=3),
        relu=nn.ReLU(),
        stage1=Residual(16, 16, 1),
        stage2=Residual(16, 32, 2),
        stage3=Residual(32, 64, 2),
        mean=nn.AvgPool2d(8),
        flatten=nn.Flatten(),
        fc=nn.Linear(64, 10),
    )
    return nn.Sequential(layers)


def _ds_cnn() -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        image=nn.Unflatten(1, (1, 28, 28)),
        border=nn.ZeroPad2d((1, 1, 4, 4)),
        first=_convolved(1, 64, (10, 4), 2, 0),
        relu=nn.ReLU(),
    )
    for number in range(1, 5):
        layers[f"deep{number}"] = _convolved(64, 64, groups=64)
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"point{number}"] = _convolved(64, 64, kernel=1, padding=0)
        layers[f"relu_{number}"] = nn.ReLU()
    layers["mean"] = nn.AvgPool2d(14)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(64, 10)
    return nn.Sequential(layers)

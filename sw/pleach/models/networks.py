"""Networks to start from."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from pleach.errors import ModelError


def mlp(widths: Sequence[int], *, seed: int = 0) -> nn.Sequential:
    """Linear layers with ReLU between them (Rumelhart et al. 1986).

    They are called ``fc1``, ``fc2`` …; the same seed, the same weights.

    Use it for tables, small images and regressions.

    Args:
        widths: inputs, the width of each hidden layer, outputs.

    >>> [name for name, _ in mlp([4, 3, 2]).named_children()]
    ['fc1', 'relu1', 'fc2']
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ModelError(f"a network needs two or more widths, each at least 1, not {widths}")
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        modules[f"fc{index}"] = nn.utils.skip_init(nn.Linear, inputs, outputs)
        if index < len(widths) - 1:
            modules[f"relu{index}"] = nn.ReLU()
    return _initial(nn.Sequential(modules), seed)


def lenet_300_100(*, seed: int = 0) -> nn.Sequential:
    """LeNet-300-100 (LeCun et al. 1998; Deep Compression, table 2): 266,610 weights and biases.

    Use it to compare with what was published for fully connected networks.
    """
    return mlp([784, 300, 100, 10], seed=seed)


def lenet_5(*, seed: int = 0) -> nn.Sequential:
    """Caffe's LeNet-5 (LeCun et al. 1998; Deep Compression, table 3): 431,080 weights and biases.

    Use it to compare with what was published for convolutional networks.

    It takes rows, ``(n, 784)``. ReLU stands after both convolutions too, where Caffe's has none.

    >>> lenet_5()(torch.zeros(3, 784)).shape
    torch.Size([3, 10])
    """
    modules = OrderedDict(
        image=nn.Unflatten(1, (1, 28, 28)),
        conv1=nn.utils.skip_init(nn.Conv2d, 1, 20, 5),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.utils.skip_init(nn.Conv2d, 20, 50, 5),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.utils.skip_init(nn.Linear, 800, 500),
        relu3=nn.ReLU(),
        fc2=nn.utils.skip_init(nn.Linear, 500, 10),
    )
    return _initial(nn.Sequential(modules), seed)


def _initial(model: nn.Sequential, seed: int) -> nn.Sequential:
    """The weights that torch's own initialisation gives with that seed, from a generator of our
    own: torch's belongs to the whole process, and another thread may draw from it."""
    generator = torch.Generator().manual_seed(seed)
    for module in model:
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            bound = 1 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    return model

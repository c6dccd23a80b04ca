"""Fully connected networks: making them, and reading a user's own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import nn

from pleach.errors import ModelError
from pleach.model import Activation

IGNORED = (nn.Flatten, nn.Dropout, nn.Identity)


def mlp(widths: Sequence[int], *, seed: int = 0) -> nn.Sequential:
    """Linear layers ``fc1``, ``fc2`` … with ReLU between them; the same seed, the same weights.

    Args:
        widths: inputs, the width of each hidden layer, outputs.

    >>> [name for name, _, _ in layers_of(mlp([4, 3, 2]))]
    ['fc1', 'fc2']
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ModelError(f"a network needs two or more widths, each at least 1, not {widths}")
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for index, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            modules[f"fc{index}"] = nn.Linear(inputs, outputs)
            if index < len(widths) - 1:
                modules[f"relu{index}"] = nn.ReLU()
    return nn.Sequential(modules)


def lenet_300_100(*, seed: int = 0) -> nn.Sequential:
    """LeNet-300-100 (LeCun 1998; Deep Compression, table 2): 266,610 weights and biases."""
    return mlp([784, 300, 100, 10], seed=seed)


def layers_of(model: nn.Module) -> list[tuple[str, nn.Linear, Activation]]:
    """Qualified name, module and activation function of each Linear layer, in running order.

    `model` is an nn.Sequential, nested or not, of Linear and ReLU. Flatten, Dropout and Identity
    are passed over: they change nothing of the numbers at inference.

    Raises:
        ModelError: anything else; names the layer.

    >>> layers_of(nn.Sequential(nn.Linear(2, 1), nn.Conv2d(1, 1, 3)))
    Traceback (most recent call last):
    pleach.errors.ModelError: layer '1' is a Conv2d: convolutions are not supported yet
    """
    layers: list[tuple[str, nn.Linear, Activation]] = []
    for name, module in _leaves(model, ""):
        if isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
            for before, other, _ in layers:
                if other is module:
                    raise ModelError(f"layer {name!r} is layer {before!r} again: tie no layers")
            if layers and layers[-1][1].out_features != module.in_features:
                raise ModelError(
                    f"layer {name!r} takes {module.in_features} inputs, layer {layers[-1][0]!r} "
                    f"before it gives {layers[-1][1].out_features}"
                )
            layers.append((name, module, Activation.NONE))
        elif isinstance(module, nn.ReLU):
            if not layers:
                raise ModelError(f"layer {name!r} is a ReLU before the first Linear layer")
            layers[-1] = (*layers[-1][:2], Activation.RELU)
        elif not isinstance(module, IGNORED):
            kind = type(module).__name__
            why = (
                "convolutions are not supported yet"
                if kind.startswith("Conv")
                else "only Linear, ReLU, Flatten, Dropout and Identity are supported"
            )
            raise ModelError(f"layer {name!r} is a {kind}: {why}")
    if not layers:
        raise ModelError("the network has no Linear layer")
    return layers


def _leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Modules in running order; one used twice (a shared ReLU) comes twice."""
    if type(module).forward is not nn.Sequential.forward:
        if not name:
            raise ModelError(
                f"the network is a {type(module).__name__}; only an nn.Sequential shows the order "
                "in which its layers run"
            )
        yield name, module
        return
    for child, inner in module._modules.items():
        yield from _leaves(inner, f"{name}.{child}" if name else child)

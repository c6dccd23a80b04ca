"""Scaling of inputs, folded into a network's first layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from pleach.errors import ConfigError, ModelError
from pleach.model import Graph, takers
from pleach.models.graph import graph_of
from pleach.models.layers import Layer, columns_of, copied, pads
from pleach.models.network import Affine, Network
from pleach.models.read import network_of
from pleach.numbers import CODEBOOK_MAX, UINT8_FRACTION

UINT8_SCALE = 1 / (1 << UINT8_FRACTION)  # how a stored byte is seen


def fold_inputs(
    model: nn.Module,
    *,
    kind: str | np.dtype,
    scale: float | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    shape: Sequence[int] | None = None,
) -> nn.Module:
    """A network that takes stored inputs and computes what `model` does of scaled ones.

    `model` was trained on ``(x · scale − mean) / std``, where ``x`` is as the data set stores it.
    The network that comes back takes uint8 ``x`` as value / 256 and floats as they are, which is
    how all of Pleach feeds a network. Weights and bias of the first layer take up the difference,
    computed in float64; a stored zero stays a zero, which costs the engine nothing. Where that
    layer pads and a mean is taken off, or several nodes take the input's map, a node of its own
    does it, ``inputs``, over the channels of each pixel. `model` itself is not changed.

    Args:
        kind: of the stored inputs: ``"uint8"`` or ``"float"``, or their dtype.
        scale: what a stored value was multiplied by; 1/255 is torchvision's ToTensor. None where
            `model` was trained on inputs as Pleach feeds them.
        mean, std: a number, or one for each of the channels, or for each of a row's features.
        shape: of an input, ``(channels, height, width)``: needed where the first layer is Linear
            and mean or std are one a channel, which it does not know, and for a node of its own.

    Raises:
        ConfigError: a scale or std of zero, values that are not finite, or uint8 inputs with mean
            or std and without a scale.
        ModelError: rows of features that several nodes take; a first layer that is pruned or shared
            already; means or deviations that are as many as neither channels nor features; a shape
            that is not that layer's, or none where it is needed.

    >>> model = nn.Sequential(nn.Linear(2, 1))
    >>> folded = fold_inputs(model, kind="uint8", scale=1 / 255, mean=0.13, std=0.31)
    >>> x = torch.tensor([[0.0, 255.0]])
    >>> torch.allclose(folded(x / 256), model((x / 255 - 0.13) / 0.31))
    True
    """
    stored = _kind(kind)
    graph = graph_of(model, shape)
    first = _first(graph)
    if first is not None:
        counts = _counts(first.name, first.module, shape)
    elif len(graph.shape) == 3:
        counts = {graph.shape[0]: "channel"}
    else:
        raise ModelError(
            f"not one layer alone takes the network's input, node {graph.nodes[0].name!r} does, "
            "too: scale the inputs as the network was trained, and store them as floats"
        )
    mean, std = (_fitting(*each, counts) for each in (("mean", mean), ("std", std)))
    if (std <= 0).any():
        raise ConfigError("std must be above 0")
    factor = _factor(stored, scale, plain=not mean.any() and bool((std == 1).all()))
    if factor == 1 and not mean.any() and (std == 1).all():
        return copied(model)
    if first is None or (mean.any() and _padded(first)):
        return _in_front(model, factor / std, -mean / std, shape)
    return _in_layer(copied(model), first.name, factor, mean, std)


def _first(graph: Graph) -> Layer | None:
    """The layer that alone takes the network's input."""
    first = graph.nodes[0].op
    return first if isinstance(first, Layer) and len(takers(graph.nodes, 0)) == 1 else None


def _factor(stored: str, scale: float | None, plain: bool) -> float:
    """What the network multiplies an input by, before means and deviations."""
    if scale is None:
        if stored == "uint8" and not plain:
            raise ConfigError(
                "mean and std of uint8 inputs want a scale too: 1/255 where the training divided "
                "by 255, as torchvision's ToTensor does, 1 where it did not divide"
            )
        return 1.0
    factor = float(_numbers("scale", scale)) / (UINT8_SCALE if stored == "uint8" else 1.0)
    if factor == 0:
        raise ConfigError("scale must not be 0")
    return factor


def _padded(layer: Layer) -> bool:
    """Whether a layer puts zeros around its input, which are no zeros before a mean is off."""
    return isinstance(layer.module, nn.Conv2d) and (
        pads(layer.module) or (layer.geometry is not None and any(layer.geometry.padding))
    )


def _in_front(
    model: nn.Module, gain: np.ndarray, offset: np.ndarray, shape: Sequence[int] | None
) -> Network:
    """The network with a node before all others, ``x · gain + offset`` of each channel."""
    if not isinstance(model, Network):
        if shape is None:
            raise ModelError(
                "a mean before padding takes a node of its own: give the shape of an input with it"
            )
        model = network_of(model, shape)
    network = copied(model)
    channels = network.shape[0]
    if 2 * channels > CODEBOOK_MAX:  # a value each in its codebook
        raise ModelError(
            f"a mean before padding takes a node of its own, of {CODEBOOK_MAX // 2} channels at "
            f"most, not {channels}: store the inputs as floats, scaled as the network was trained"
        )
    network.put_in_front_("inputs", Affine(_each(gain), _each(offset) if offset.any() else None))
    return network


def _each(numbers: np.ndarray) -> tuple[float, ...]:
    return tuple(np.atleast_1d(numbers).tolist())


def _in_layer(
    folded: nn.Module, name: str, factor: float, mean: np.ndarray, std: np.ndarray
) -> nn.Module:
    """The network, whose layer of that name has taken up the scaling."""
    module = folded.get_submodule(name)
    folded.to(torch.promote_types(module.weight.dtype, torch.float32))
    if getattr(module, "parametrizations", None) or module._forward_pre_hooks:
        raise ModelError(f"layer {name!r} is pruned or shared: fold the inputs before that")
    columns = module.weight.detach().double().flatten(1).numpy(force=True)
    mean, std = columns_of(module, mean), columns_of(module, std)
    with torch.no_grad():
        bias = (columns * (-mean / std)).sum(1)
        if module.bias is not None:
            bias += module.bias.double().numpy(force=True)
        scaled = torch.from_numpy(columns * (factor / std)).view(module.weight.shape)
        module.weight.copy_(scaled)
        if module.bias is not None:
            module.bias.copy_(torch.from_numpy(bias))
        elif bias.any():
            module.bias = nn.Parameter(torch.from_numpy(bias).to(module.weight))
    if not all(bool(torch.isfinite(tensor).all()) for tensor in module.parameters()):
        raise ModelError(f"layer {name!r}: folded, its weights are too large for float32")
    return folded


def _kind(kind: str | np.dtype) -> str:
    try:
        dtype = np.dtype(kind)
    except TypeError:
        dtype = None
    if dtype == np.uint8:
        return "uint8"
    if dtype is not None and np.issubdtype(dtype, np.floating):
        return "float"
    raise ConfigError(f"stored inputs are uint8 or float, not {kind}")


def _numbers(name: str, value: float | Sequence[float]) -> np.ndarray:
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        numbers = None
    if numbers is None or numbers.ndim > (name != "scale") or not np.isfinite(numbers).all():
        raise ConfigError(f"{name} must be a number{' or a list' * (name != 'scale')}, not {value}")
    return numbers


def _counts(name: str, module: nn.Module, shape: Sequence[int] | None) -> dict[int, str]:
    """How many means or deviations a first layer can take up, and one for each of what."""
    if isinstance(module, nn.Conv2d):
        return {module.in_channels: "channel"}
    counts = {module.in_features: "feature"}
    if shape is not None:
        if math.prod(shape) != module.in_features:
            raise ModelError(
                f"layer {name!r} takes {module.in_features} inputs, the shape {tuple(shape)} has "
                f"{math.prod(shape)}"
            )
        if len(shape) == 3:
            counts[shape[0]] = "channel"
    return counts


def _fitting(name: str, value: float | Sequence[float], counts: dict[int, str]) -> np.ndarray:
    """The numbers in `value`, one or as many as there are channels or features."""
    numbers = _numbers(name, value)
    if numbers.ndim and len(numbers) not in {1, *counts}:
        fit = "".join(f" or {count}, one a {what}" for count, what in counts.items() if count > 1)
        raise ModelError(
            f"{name} has {len(numbers)} numbers, must have 1{fit}; decimals have a point: 0.3, "
            "not 0,3"
        )
    return numbers

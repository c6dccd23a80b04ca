"""Removal of neurons that pruning has left without inputs or without outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pleach.compression.masks import masks_of, over, own_masks_, parts_of
from pleach.errors import ModelError
from pleach.model import Activation
from pleach.models import applied, layers_of, neighbours

Matrix = nn.Linear | nn.Conv2d


def remove_neurons_(model: nn.Module) -> int:
    """Remove the hidden neurons and channels that do nothing, until no more do.

    A neuron that no weight leads away from is dropped. One that no weight leads to puts out a
    constant, its bias after the activation function: that is added to the biases of the layer
    after, and the neuron is dropped (Han 2015, section 3.5). Where the layer after has no bias, or
    is a convolution that pads its inputs, only a constant of zero can be. One neuron a layer stays.
    Modules shrink in place and keep their masks; make a new optimiser. Convolutions in groups are
    left as they are, and so is a layer that anything else than one other layer takes.

    Returns:
        Neurons and channels removed.

    Raises:
        ModelError: a layer that is not supported, or whose weights are shared.

    >>> model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> with torch.no_grad():
    ...     model[2].weight[0, 1] = 0
    >>> remove_neurons_(model), tuple(model[0].weight.shape), tuple(model[2].weight.shape)
    (1, (1, 3), (1, 1))
    """
    layers = layers_of(model)
    for layer in layers:
        own_masks_(layer.module)
        if parametrize.is_parametrized(layer.module) and not masks_of(layer.module):
            raise ModelError(f"layer {layer.name!r} is shared: remove neurons before that")
    removed = 0
    with torch.no_grad():
        while True:
            now = sum(
                _remove(layer.module, layer.activation, after.module)
                for layer, after in neighbours(model)
                if max(getattr(m, "groups", 1) for m in (layer.module, after.module)) == 1
            )
            if not now:
                return removed
            removed += now


def _remove(layer: Matrix, activation: Activation, after: Matrix) -> int:
    """Remove what can be between two layers; returns how many neurons."""
    neurons = len(layer.weight)
    # A channel is a run of columns of a fully connected layer after it, a plane of a convolution.
    outgoing = after.weight.reshape(len(after.weight), neurons, -1)
    value = layer.weight.new_zeros(neurons) if layer.bias is None else layer.bias.clone()
    value = applied(activation, value)
    dead = ~outgoing.any(2).any(0)
    constant = ~layer.weight.flatten(1).any(1) & ~dead
    if after.bias is None or any(getattr(after, "padding", ())):
        constant &= value == 0
    gone = dead | constant
    if gone.all():
        gone[0] = constant[0] = False
    if not gone.any():
        return 0
    folded = outgoing.sum(2) @ (value * constant)
    if folded.any() and after.bias is not None:
        bias = after.bias + folded
        masked = masks_of(after).get("bias")
        if masked is not None:
            masked.mask[bias != 0] = 1
        original = after.bias if masked is None else over(after, "bias").original
        original.copy_(bias)
    kept = (~gone).nonzero().flatten()
    for part in parts_of(layer):
        _select(layer, part, kept, 0)
    if isinstance(gamma := getattr(layer, "gamma", None), Tensor):
        layer.register_buffer("gamma", gamma[kept], persistent=False)
    columns = outgoing.shape[2] if isinstance(after, nn.Linear) else 1
    spread = torch.arange(columns, device=kept.device)
    _select(after, "weight", (kept[:, None] * columns + spread).flatten(), 1)
    for module, sides in (
        (layer, ("out_features", "out_channels")),
        (after, ("in_features", "in_channels")),
    ):
        for side in sides:
            if hasattr(module, side):
                setattr(module, side, module.weight.shape[0 if side.startswith("out") else 1])
    return int(gone.sum())


def _select(layer: Matrix, part: str, kept: Tensor, axis: int) -> None:
    """Keep those elements along `axis`, of the parameter and of its mask."""
    mask = masks_of(layer).get(part)
    owner, name = (layer, part) if mask is None else (over(layer, part), "original")
    parameter = getattr(owner, name)
    shorter = parameter.detach().index_select(axis, kept)
    setattr(owner, name, nn.Parameter(shorter, parameter.requires_grad))
    if mask is not None:
        mask.mask = mask.mask.index_select(axis, kept)

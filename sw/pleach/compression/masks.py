"""Masks of pruned weights, and the tensors that they lie over, as torch parametrizations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from pleach.errors import ModelError
from pleach.models import Layer, Parametrization

PARTS = ("weight", "bias")


class Mask(Parametrization):
    """Parametrization that multiplies a tensor by a mask of zeros and ones.

    Args:
        tensor: what is masked; the mask is all ones at first.
        deviation: standard deviation of the layer's weights before any was pruned.

    Attributes:
        size: elements that the tensor had before neurons were removed.
        splice: whether masked elements go on learning: they are zero in the forward pass and get
            the gradient as if they were not (Guo et al. 2016, equation 3).
    """

    def __init__(self, tensor: Tensor, deviation: float):
        super().__init__()
        self.register_buffer("mask", torch.ones_like(tensor))
        self.size = tensor.numel()
        self.deviation = deviation
        self.splice = False

    def forward(self, tensor: Tensor) -> Tensor:
        masked = tensor * self.mask
        return tensor + (masked - tensor).detach() if self.splice else masked

    def right_inverse(self, tensor: Tensor) -> Tensor:
        if tensor.shape != self.mask.shape or bool(tensor[self.mask == 0].any()):
            raise ModelError(
                "assigned to a pruned weight or bias what is not zero where it was pruned: "
                "multiply by its mask, layer.parametrizations.weight[0].mask, first, or take the "
                'mask off with torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")'
            )
        return tensor


def parts_of(layer: nn.Module) -> list[str]:
    """``weight`` and, where there is one, ``bias``."""
    return [part for part in PARTS if getattr(layer, part) is not None]


def check_weights(layers: Sequence[Layer]) -> None:
    """Refuse weights and biases that are not finite.

    Raises:
        ModelError: names the layer, and the place of the first.
    """
    for layer in layers:
        for part in parts_of(layer.module):
            tensor = getattr(layer.module, part).detach()
            if not bool(tensor.isfinite().all()):
                place = (~tensor.isfinite()).nonzero()[0].tolist()
                raise ModelError(
                    f"layer {layer.name!r}: its {part} holds {float(tensor[tuple(place)])} at "
                    f"{place}, which is not finite"
                )


def over(layer: nn.Module, part: str) -> Any:
    """The ParametrizationList over a layer's weight or bias: ``[0]`` is ours, ``original`` or
    ``original0`` what is trained. torch makes its attributes at run time."""
    return cast(nn.ModuleDict, layer.parametrizations)[part]


def masks_of(layer: nn.Module) -> dict[str, Mask]:
    """The masks of a layer, none where it was not pruned."""
    parts = [part for part in PARTS if parametrize.is_parametrized(layer, part)]
    return {part: over(layer, part)[0] for part in parts if isinstance(over(layer, part)[0], Mask)}


def mask_(layer: nn.Linear | nn.Conv2d, part: str) -> Mask:
    """Put a mask of ones on a layer's weight or bias."""
    mask = Mask(getattr(layer, part), float(layer.weight.detach().std()))
    parametrize_(layer, part, mask)
    return mask


def parametrize_(layer: nn.Module, part: str, parametrization: Parametrization) -> None:
    """Register a parametrization of ours; a Parameter assigned to the tensor then says as much as a
    tensor does, where torch says that the name exists."""
    parametrize.register_parametrization(layer, part, parametrization)

    def assign(module: nn.Module, name: str, value) -> None:
        if isinstance(value, nn.Parameter) and parametrize.is_parametrized(module, name):
            value = value.detach()
        own = cast(Any, type(module))  # another for each copy of the layer
        super(own, module).__setattr__(name, value)

    cast(Any, type(layer)).__setattr__ = assign


def own_masks_(layer: nn.Linear | nn.Conv2d) -> None:
    """Make masks of ours of those of torch.nn.utils.prune: what they have pruned stays pruned."""
    for hook in list(layer._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            part = hook._tensor_name
            mask = getattr(layer, f"{part}_mask").detach().clone()
            prune.remove(layer, part)
            mask_(layer, part).mask.copy_(mask)


def size_of(layer: nn.Module, part: str) -> int:
    """Elements of a weight or bias before neurons were removed, as its parametrization has it."""
    if parametrize.is_parametrized(layer, part):
        return over(layer, part)[0].size
    return getattr(layer, part).numel()


def masked_(name: str, layer: nn.Linear | nn.Conv2d, *, splice: bool) -> dict[str, Mask]:
    """The masks of a layer; they are put on at the first call.

    Raises:
        ModelError: the layer's weights are shared already.
    """
    own_masks_(layer)
    for part in parts_of(layer):
        if not parametrize.is_parametrized(layer, part):
            mask_(layer, part)
    masks = masks_of(layer)
    if len(masks) != len(parts_of(layer)):
        raise ModelError(f"layer {name!r} is parametrized already: prune before weights are shared")
    for mask in masks.values():
        mask.splice = splice
    return masks

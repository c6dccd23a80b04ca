"""Batch normalisation while a network trains, of layers that it was folded into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from pleach.compression.masks import PARTS, masks_of, over
from pleach.models import Layer, ours

EPSILON = 1e-5
MOMENTUM = 0.1
#: inputs of which means and variances are taken, and of a batch of them
MEASURED, BATCH = 4096, 256
#: the layers that `normalising` takes
CHOICES = ("folded", "all", "none")
#: layers that have one now; their biases are not pruned, for folding makes something of nothing
NORMALISED: WeakSet[nn.Module] = WeakSet()


class Normalisation:
    """A batch normalisation (Ioffe and Szegedy 2015, algorithm 1) behind the rows of a layer.

    It changes nothing at first: its gain and offset are the deviation and mean of what the rows
    give. The layer's bias comes behind it. A row whose bias is masked gives nothing.

    Attributes:
        gain: of each row, trained.
    """

    def __init__(self, module: nn.Linear | nn.Conv2d):
        self._module = module
        like = module.weight.detach()
        self._mean, self._offset = (like.new_zeros(len(like)) for _ in range(2))
        self._variance = like.new_ones(len(like))
        self.gain = nn.Parameter(like.new_ones(len(like)))
        self._rate: float | None = None  # None: as the module is, in training or not
        self._begun = False
        NORMALISED.add(module)
        self._handle = module.register_forward_hook(
            ours(lambda module, _, output: self._forward(module, output)), prepend=True
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All that training changes."""
        return [self.gain, self._mean, self._variance]

    def _forward(self, module: nn.Module, output: Tensor) -> Tensor:
        learns = module.training or self._rate is not None
        rate = MOMENTUM if self._rate is None else self._rate
        places = [1, -1, *[1] * (output.ndim - 2)]
        bias = cast(Tensor, module.bias).view(places)
        found = functional.batch_norm(
            output - bias, self._mean, self._variance, self.gain, self._offset,
            training=learns, momentum=rate, eps=EPSILON,
        )  # fmt: skip
        if not self._begun:
            return output
        mask = masks_of(module).get("bias")
        found = found + bias
        return found if mask is None else found * mask.mask.view(places)

    def measure(self, number: int) -> None:
        """What comes next counts as the `number`-th part of a mean, from 1."""
        self._rate = 1 / number

    def begin(self) -> None:
        """Change nothing: from what was measured on."""
        self._rate, self._begun = None, True
        with torch.no_grad():
            self.gain.copy_((self._variance + EPSILON).sqrt())
            self._offset.copy_(self._mean)

    def fold(self) -> None:
        """Take the normalisation off, and put what it did into the layer."""
        self._handle.remove()
        module = self._module
        NORMALISED.discard(module)
        scale = self.gain / (self._variance + EPSILON).sqrt()
        masks = masks_of(module)
        if "bias" in masks and "weight" in masks:
            off = masks["bias"].mask == 0
            masks["weight"].mask[off] = 0
        with torch.no_grad():
            _trained(module, "weight").mul_(scale.view(-1, *[1] * (module.weight.ndim - 1)))
            _trained(module, "bias").add_(self._offset - self._mean * scale)


def _trained(module: nn.Module, part: str) -> Tensor:
    if parametrize.is_parametrized(module, part):
        return over(module, part).original
    return getattr(module, part)


@contextmanager
def normalising(
    model: nn.Module, layers: Sequence[Layer], inputs: Tensor, choice: str, frozen: set[int]
) -> Iterator[list[Normalisation]]:
    """Have batch normalisations behind layers, and fold them again at the end.

    Means and variances are those of up to `MEASURED` of the inputs, before and after.

    Args:
        inputs: that the network is trained on.
        choice: ``folded``, those that one was folded into; ``all``, all but the last; ``none``.
        frozen: parameters that are not trained, by their `id`: their layers are left alone.
    """
    found = [
        Normalisation(layer.module)
        for layer in layers
        if (choice == "folded" and _had_one(layer)) or (choice == "all" and layer != layers[-1])
        if _plain(layer.module) and id(_trained(layer.module, "weight")) not in frozen
    ]
    try:
        _measure(model, found, inputs)
        for each in found:
            each.begin()
        yield found
        _measure(model, found, inputs)
    finally:
        for each in found:
            each.fold()


def _had_one(layer: Layer) -> bool:
    return isinstance(getattr(layer.module, "gamma", None), Tensor)


def _plain(module: nn.Module) -> bool:
    """Whether its values are free: none are shared, nor made of others by a hook, nor is a bias
    pruned whose row has weights, for a normalisation would give that row another one."""
    parts = [part for part in PARTS if getattr(module, part) is not None]
    masks = masks_of(module)
    if parts != [*PARTS] or len(masks) != sum(
        parametrize.is_parametrized(module, part) for part in parts
    ):
        return False
    if "bias" in masks:
        off = masks["bias"].mask == 0
        if bool(cast(Tensor, module.weight)[off].any()):
            return False
    return all(isinstance(_trained(module, part), nn.Parameter) for part in parts)


def _measure(model: nn.Module, found: Sequence[Normalisation], inputs: Tensor) -> None:
    if not found:
        return
    like = next(model.parameters())
    mixed = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))[:MEASURED]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for number, chosen in enumerate(mixed.split(BATCH), 1):
                for each in found:
                    each.measure(number)
                model(inputs[chosen].to(like))
    finally:
        model.train(training)

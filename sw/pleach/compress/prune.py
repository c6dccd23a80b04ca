"""Magnitude pruning: masks as torch parametrizations, so that any training loop works unchanged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pleach.compress.config import PruneConfig
from pleach.errors import ConfigError, ModelError
from pleach.models import layers_of
from pleach.settings import nearest

PARTS = ("weight", "bias")


class Mask(nn.Module):
    """Parametrization that multiplies a tensor by a mask of zeros and ones.

    Args:
        tensor: what is masked; the mask is all ones at first.
        deviation: standard deviation of the layer's weights before any was pruned.
    """

    def __init__(self, tensor: Tensor, deviation: float):
        super().__init__()
        self.register_buffer("mask", torch.ones_like(tensor))
        self.deviation = deviation

    def forward(self, tensor: Tensor) -> Tensor:
        return tensor * self.mask

    def right_inverse(self, tensor: Tensor) -> Tensor:
        return tensor


def prune_(model: nn.Module, config: PruneConfig | None = None, *, progress: float = 1.0) -> None:
    """Mask the weights and biases of least magnitude in each Linear layer of `model`.

    Weights that survive keep their values. One that is masked stays masked, its gradient is zero,
    so the user's training loop needs no change. The bias is one more input column: it is ranked
    with the weights of its layer.

    Args:
        progress: 0 to 1, how far the schedule has come; 1 is the target. At `t` the density is
            ``target + (1 − target)·(1 − t)³`` (Zhu and Gupta 2017, equation 1), a threshold is
            the target's times ``1 − (1 − t)³``.

    Raises:
        ConfigError: a layer in ``config.layers`` that the model does not have.
        ModelError: a layer that is not supported, or whose weights are shared already.

    >>> model = nn.Sequential(nn.Linear(9, 1))
    >>> prune_(model, PruneConfig(density=0.3))
    >>> int(model[0].weight.count_nonzero() + model[0].bias.count_nonzero())
    3
    """
    config = config or PruneConfig()
    layers = layers_of(model)
    target = per_layer(
        [name for name, _, _ in layers],
        config.density if config.quality is None else config.quality,
        config.layers,
    )
    remaining = (1 - min(max(progress, 0.0), 1.0)) ** 3
    for name, layer, _ in layers:
        masks = _masks(name, layer)
        with torch.no_grad():
            magnitudes = [getattr(layer, part).abs().flatten() for part in masks]
            joined = torch.cat(magnitudes)
            if config.quality is None:
                density = target[name] + (1 - target[name]) * remaining
                kept = torch.zeros_like(joined)
                kept[joined.topk(round(density * len(joined))).indices] = 1
            else:
                deviation = next(iter(masks.values())).deviation
                kept = (joined >= target[name] * (1 - remaining) * deviation).to(joined.dtype)
            kept *= joined > 0  # what was masked before stays so
            for mask, part in zip(
                masks.values(), kept.split([len(m) for m in magnitudes]), strict=True
            ):
                mask.mask.copy_(part.view_as(mask.mask))


def per_layer(names: list[str], default: float, settings: Mapping[str, float]) -> dict[str, float]:
    """The setting of each layer.

    Raises:
        ConfigError: a name in `settings` that is no layer.
    """
    for name in settings:
        if name not in names:
            raise ConfigError(f"no layer is called {name!r}: {nearest(name, names)}")
    return {name: settings.get(name, default) for name in names}


def parts_of(layer: nn.Linear) -> list[str]:
    """``weight`` and, where there is one, ``bias``."""
    return [part for part in PARTS if getattr(layer, part) is not None]


def _masks(name: str, layer: nn.Linear) -> dict[str, Mask]:
    """The masks of a layer; they are put on at the first call."""
    deviation = None
    for part in parts_of(layer):
        if not parametrize.is_parametrized(layer, part):
            if deviation is None:
                deviation = float(layer.weight.detach().std())
            mask = Mask(getattr(layer, part), deviation)
            parametrize.register_parametrization(layer, part, mask)
    masks = {part: layer.parametrizations[part][0] for part in parts_of(layer)}
    if not all(isinstance(mask, Mask) for mask in masks.values()):
        raise ModelError(f"layer {name!r} is parametrized already: prune before weights are shared")
    return masks

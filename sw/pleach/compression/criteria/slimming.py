"""What the batch normalisation after it scales a channel by (Liu 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.criteria import Criterion, Observations, PrunableLayer, criterion
from pleach.errors import ConfigError


@criterion("slimming")
@dataclass(frozen=True, kw_only=True)
class Slimming(Criterion):
    """The magnitude of a channel's gamma, before it was folded into the weights (section 3).

    Layers without a batch normalisation are left as they are.

    Use it with ``scope = "network"`` for a network that was trained with the regulariser
    ``slimming``: that pushes the gammas of channels to zero that nobody needs.
    """

    source = "Liu et al. 2017, arXiv:1708.06519, section 3 and equation 1"
    granularities = ("channel",)

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        if layer.scale is None:
            return {p: torch.full_like(t, 1e30) for p, t in layer.tensors.items()}
        return layer.by_row(layer.scale.abs())

    def check_layers(self, layers: Sequence[PrunableLayer]) -> None:
        if all(layer.scale is None for layer in layers):
            raise ConfigError(
                "PruneConfig.criterion = 'slimming' needs batch normalisations behind layers, the "
                f"network has none: {', '.join(layer.name for layer in layers)}; give it before "
                "they are folded"
            )

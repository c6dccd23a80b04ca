"""A whole layer (Wen 2016, depth-wise sparsity)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.granularity import Granularity, PrunableLayer, granularity
from pleach.compression.stage import PruningStage
from pleach.errors import ConfigError


@granularity("layer")
@dataclass(frozen=True, kw_only=True)
class Whole(Granularity):
    """All weights and biases of a layer as one; the last layer is left whole.

    Use it where a sum goes around the layer, as in residual networks: without it the network is cut
    in two. It goes with ``scope = "network"`` or as the granularity of the regulariser
    ``group_lasso``.
    """

    source = "Wen et al. 2016, arXiv:1608.03665, section 3.2 and equation 3"

    def check(self, stage: PruningStage) -> None:
        if stage.scope.kind not in ("network", "energy"):
            raise ConfigError(
                "PruneConfig.granularity = 'layer' keeps a layer or does not: it goes with scope = "
                f"'network' or 'energy', not {stage.scope.kind!r}"
            )

    def groups(self, layer: PrunableLayer) -> dict[str, Tensor]:
        if layer.last:
            return {}
        return {p: torch.zeros_like(t, dtype=torch.int64) for p, t in layer.tensors.items()}

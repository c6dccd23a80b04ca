"""What the loss would change without a feature map, to first order (Molchanov 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_integer, check_type
from pleach.compression.criteria import Criterion, Observations, Observe, PrunableLayer, criterion


@criterion("feature_taylor")
@dataclass(frozen=True, kw_only=True)
class FeatureTaylor(Criterion):
    """``|mean of z·∂C/∂z over the map|``, the mean over samples (equation 8), over the root of the
    sum of squares of its layer, so that layers can be compared.

    Use it to prune filters and neurons over the whole network, ``scope = "network"``, at once or in
    rounds. ``taylor`` does the same for single weights, from the gradients of the training.

    Args:
        samples: training inputs that it looks at.
        normalise: whether it is divided by the layer's.
    """

    samples: int = 1024
    normalise: bool = True

    source = "Molchanov et al. 2017, arXiv:1611.06440, equation 8"
    needs = frozenset({Observe.SAMPLES})
    granularities = ("channel",)

    def __post_init__(self):
        check_integer(self, "samples", 1, 1 << 30)
        check_type(self, "normalise", bool, "true or false")

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        found = []
        for batch in seen.look(layer, self.samples, slopes=True):
            product = batch.outputs * batch.slopes
            product = product.reshape(*product.shape[:2], -1).mean(2)
            found.append(product.abs())
        mean = torch.cat(found).mean(0)
        if self.normalise:
            mean = mean / mean.square().sum().sqrt().clamp(min=1e-30)
        return layer.by_row(mean)

"""How much two neurons fire together that a weight joins (Sun 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_integer
from pleach.compression.criteria import Criterion, Observations, Observe, PrunableLayer, criterion


@criterion("correlation")
@dataclass(frozen=True, kw_only=True)
class Correlation(Criterion):
    """The magnitude of Pearson's correlation of what a weight takes and what its neuron gives,
    after its activation function; of a convolution over all positions.

    The paper keeps a random share of the weakly correlated connections, too; here the strongest
    stay. A bias has nothing that it could be correlated with, and stays.

    Use it for fully connected layers with many inputs, in stages with retraining, from the last
    layer to the first as the paper does (``layers``).

    Args:
        samples: training inputs that it looks at.
    """

    samples: int = 1024

    source = "Sun et al. 2016, arXiv:1512.01891"
    needs = frozenset({Observe.SAMPLES})
    granularities = ("element", "block", "shape", "pe")

    def __post_init__(self):
        check_integer(self, "samples", 2, 1 << 30)

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        sums: list[Tensor] = []
        count = 0
        for batch in seen.look(layer, self.samples):
            columns = layer.columns(batch.inputs).double()
            x = columns.permute(1, 2, 0, 3).flatten(2)  # (groups, columns, n · positions)
            y = batch.outputs.double()
            y = y.reshape(len(y), layer.groups, -1, y[0, 0].numel()).permute(1, 2, 0, 3).flatten(2)
            count += x.shape[2]
            more = x.sum(2), y.sum(2), x.square().sum(2), y.square().sum(2), y @ x.mT
            sums = [a + b for a, b in zip(sums, more, strict=True)] if sums else list(more)
        mean_x, mean_y, square_x, square_y, product = (each / count for each in sums)
        spread_x = (square_x - mean_x.square()).clamp(min=0).sqrt()
        spread_y = (square_y - mean_y.square()).clamp(min=0).sqrt()
        spread = spread_y[:, :, None] * spread_x[:, None]
        covariance = product - mean_y[:, :, None] * mean_x[:, None]
        found = torch.where(spread > 1e-12, covariance / spread.clamp(min=1e-30), 0).abs()
        weight = layer.tensors["weight"]
        scores = {"weight": found.reshape(weight.shape).to(weight.dtype)}
        if "bias" in layer.tensors:
            scores["bias"] = torch.ones_like(layer.tensors["bias"])
        return scores

"""How much a channel's mean says (Luo 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_integer
from pleach.compression.criteria import Criterion, Observations, Observe, PrunableLayer, criterion


@criterion("entropy")
@dataclass(frozen=True, kw_only=True)
class Entropy(Criterion):
    """The entropy of the mean of a channel's map, ``−Σ p·log p`` over bins of equal width from its
    least to its largest value among the samples (equation 2).

    Use it to prune filters where labels are few: it needs none. It says nothing of how a channel is
    used, so retrain after it.

    Args:
        samples: training inputs that it looks at.
        bins: that their means are counted in.
    """

    samples: int = 1024
    bins: int = 32

    source = "Luo et al. 2017, arXiv:1706.05791, equation 2"
    needs = frozenset({Observe.SAMPLES})
    granularities = ("channel",)

    def __post_init__(self):
        check_integer(self, "samples", 1, 1 << 30)
        check_integer(self, "bins", 2, 1 << 16)

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        means = [
            batch.outputs.reshape(*batch.outputs.shape[:2], -1).mean(2)
            for batch in seen.look(layer, self.samples)
        ]
        return layer.by_row(entropies(torch.cat(means), self.bins))


def entropies(values: Tensor, bins: int) -> Tensor:
    """The entropy of each column in nats, of bins of equal width over its range.

    >>> entropies(torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.1, 1.0], [0.9, 1.0]]), 2).tolist()
    [0.6931471824645996, 0.0]
    """
    low, high = values.amin(0), values.amax(0)
    spread = (high - low).clamp(min=torch.finfo(values.dtype).tiny)
    places = ((values - low) / spread * bins).long().clamp(0, bins - 1)
    counts = torch.zeros(bins, values.shape[1], dtype=values.dtype, device=values.device)
    counts.scatter_add_(0, places, torch.ones_like(values))
    shares = counts / len(values)
    return torch.special.entr(shares).sum(0)

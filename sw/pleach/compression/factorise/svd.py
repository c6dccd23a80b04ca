"""A fully connected layer as the product of two (Denil et al. 2013; Denton et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_integer, check_number
from pleach.compression.factorise import Factoriser, PrunableLayer, factoriser
from pleach.numbers import SIZE_MAX


@factoriser("svd")
@dataclass(frozen=True, kw_only=True)
class Svd(Factoriser):
    """The truncated singular value decomposition, the best product of its rank.

    Use it for wide fully connected layers before pruning, where their matrices are nearly of
    low rank; after it prune both factors.

    Args:
        energy: share of the sum of squares of the weights that is kept, which gives the rank.
        rank: if set, the rank itself.

    A layer that would become no smaller is left as it is, and so is a convolution.
    """

    energy: float = 0.95
    rank: int | None = None

    def __post_init__(self):
        check_number(self, "energy", 0, 1)
        if self.rank is not None:
            check_integer(self, "rank", 1, SIZE_MAX)

    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        if not isinstance(layer.module, nn.Linear):
            return None
        weight = layer.module.weight.detach()
        left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
        rank = self.rank or self._rank(values)
        rows, columns = weight.shape
        if rank * (rows + columns) >= rows * columns:
            return None
        scale = values[:rank].sqrt()
        bias = layer.module.bias
        first = _linear(scale[:, None] * right[:rank], None)
        second = _linear(left[:, :rank] * scale, None if bias is None else bias.detach())
        return nn.Sequential(first, second).to(weight)

    def _rank(self, values: Tensor) -> int:
        """The least that keeps the energy."""
        kept = values.square().cumsum(0)
        return 1 + int((kept < self.energy * float(kept[-1])).sum())


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A layer of these tensors; torch's generator is not moved."""
    rows, columns = weight.shape
    layer = nn.Linear(columns, rows, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight)
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone().to(weight))
    return layer

"""A layer as the product of two (Denil et al. 2013; Denton et al. 2014; Jaderberg et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_choice, check_integer, check_number
from pleach.compression.factorise import (
    Factoriser,
    PrunableLayer,
    bias_of,
    conv,
    factoriser,
    least_rank,
    linear,
)
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
        convolutions: ``leave``; ``matrix``, one row a filter: a convolution with fewer filters,
            then one of 1 × 1 (Denton); or ``separable``: one over the height, then one over the
            width (Jaderberg, scheme 2).

    A layer that would become no smaller is left as it is, and so is a convolution in groups.
    """

    source = (
        "Denton et al. 2014, arXiv:1404.0736, section 3.2; "
        "Jaderberg et al. 2014, arXiv:1405.3866, section 2.2"
    )

    energy: float = 0.95
    rank: int | None = None
    convolutions: str = "leave"

    def __post_init__(self):
        check_number(self, "energy", 0, 1)
        check_choice(self, "convolutions", ("leave", "matrix", "separable"))
        if self.rank is not None:
            check_integer(self, "rank", 1, SIZE_MAX)

    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        module, weight = layer.module, layer.module.weight.detach().double()
        if isinstance(module, nn.Linear):
            found = self.product(weight)
            if found is None:
                return None
            left, right = found
            return nn.Sequential(linear(right), linear(left, bias_of(layer))).to(module.weight)
        if self.convolutions == "leave" or module.groups > 1:
            return None
        rows, channels, height, width = weight.shape
        if self.convolutions == "matrix":
            found = self.product(weight.flatten(1))
            if found is None:
                return None
            left, right = found
            first = conv(
                right.reshape(-1, channels, height, width),
                stride=module.stride,
                padding=module.padding,
            )
            second = conv(left[:, :, None, None], bias_of(layer))
            return nn.Sequential(first, second).to(module.weight)
        # Rows of the matrix are filters and places along the width, columns channels and height.
        found = self.product(weight.permute(0, 3, 1, 2).reshape(rows * width, channels * height))
        if found is None:
            return None
        left, right = found
        down, along = halves(module)
        return nn.Sequential(
            conv(right.reshape(-1, channels, height, 1), **down),
            conv(
                left.reshape(rows, width, -1).transpose(1, 2)[:, :, None],
                bias_of(layer),
                **along,
            ),
        ).to(module.weight)

    def product(self, matrix: Tensor) -> tuple[Tensor, Tensor] | None:
        """Two matrices whose product is nearest; None where they are no smaller."""
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        rank = min(self.rank or least_rank(values, self.energy), len(values))
        rows, columns = matrix.shape
        if rank * (rows + columns) >= rows * columns:
            return None
        scale = values[:rank].sqrt()
        return left[:, :rank] * scale, scale[:, None] * right[:rank]


def halves(module: nn.Conv2d) -> tuple[dict, dict]:
    """Stride and padding of a convolution over the height, and of one over the width after it."""
    stride, padding = module.stride, module.padding
    down, along = (
        (padding, padding) if isinstance(padding, str) else ((padding[0], 0), (0, padding[1]))
    )
    return (
        {"stride": (stride[0], 1), "padding": down},
        {"stride": (1, stride[1]), "padding": along},
    )

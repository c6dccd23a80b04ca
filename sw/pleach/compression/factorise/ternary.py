"""A layer as three: signs, a scale for each, signs (Wang and Cheng 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_integer, check_number
from pleach.compression.factorise import (
    Factoriser,
    PrunableLayer,
    bias_of,
    conv,
    factoriser,
    linear,
)
from pleach.numbers import SIZE_MAX

ROUNDS, STARTS = 30, 8


@factoriser("ternary")
@dataclass(frozen=True, kw_only=True)
class TernaryFactors(Factoriser):
    """``X·D·Yᵀ`` with ``X`` and ``Y`` of −1, 0 and 1 and a diagonal ``D``: the semidiscrete
    decomposition, one term after the other.

    Two layers stand for it: ``D·Yᵀ``, a ternary matrix whose rows have a scale each, and ``X``.
    Share them with the quantiser ``twn`` and ``scale = "row"``: it finds them on its set, as long
    as they were not trained in between, and trains through it where they are to be.

    Use it where multiplications are to be additions and one ternary matrix is too coarse.

    Args:
        energy: share of the sum of squares of the weights that is kept, which gives the rank.
        rank: if set, the rank itself.

    Convolutions are taken as matrices, one row a filter; those in groups are left as they are.
    """

    source = "Wang and Cheng 2017, arXiv:1611.01972, section 3"

    energy: float = 0.9
    rank: int | None = None

    def __post_init__(self):
        check_number(self, "energy", 0, 0.9999)
        if self.rank is not None:
            check_integer(self, "rank", 1, SIZE_MAX)

    def factors(self, layer: PrunableLayer) -> nn.Sequential | None:
        module, weight = layer.module, layer.module.weight.detach().double()
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            return None
        left, scales, right = semidiscrete(weight.flatten(1), self.rank, self.energy)
        if not len(scales):
            return None
        first = scales[:, None] * right
        if isinstance(module, nn.Linear):
            made = (linear(first), linear(left, bias_of(layer)))
        else:
            kernel = first.reshape(-1, *weight.shape[1:])
            made = (
                conv(kernel, stride=module.stride, padding=module.padding),
                conv(left[:, :, None, None], bias_of(layer)),
            )
        return nn.Sequential(*made).to(module.weight)


def semidiscrete(
    matrix: Tensor, rank: int | None = None, energy: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """``X``, ``(rows, rank)``, the diagonal of ``D``, and ``Yᵀ``, ``(rank, columns)``.

    Args:
        rank: terms; None: as many as keep `energy` of the sum of squares.
    """
    left, terms = matrix.clone(), []
    whole = float(matrix.square().sum())
    most = rank or 4 * max(matrix.shape)
    while len(terms) < most:
        rest = float(left.square().sum())
        if rest <= 1e-20 * whole or (rank is None and rest <= (1 - energy) * whole):
            break
        x, y = _term(left)
        scale = (x @ left @ y) / (x.abs().sum() * y.abs().sum())
        terms.append((x, scale, y))
        left = left - scale * x[:, None] * y
    if not terms:
        return matrix[:, :0], matrix[0, :0], matrix[:0]
    x, scales, y = (torch.stack(parts) for parts in zip(*terms, strict=True))
    return x.T, scales, y


def _term(left: Tensor) -> tuple[Tensor, Tensor]:
    """The ternary vectors with the largest ``(xᵀ·R·y)² / (|x|·|y|)``, in turns, of some starts."""
    best, found = -1.0, None
    columns = left.norm(dim=0).topk(min(STARTS, left.shape[1])).indices
    rows = left.norm(dim=1).topk(min(STARTS, len(left))).indices
    starts = [nn.functional.one_hot(columns, left.shape[1]).to(left), left[rows]]
    for start in torch.cat(starts):
        x, y, worth = left[:, 0], _ternary(start), -1.0
        for _ in range(ROUNDS):
            x = _ternary(left @ y)
            y = _ternary(x @ left)
            before, worth = worth, float((x @ left @ y) ** 2 / (x.abs().sum() * y.abs().sum()))
            if worth <= before * (1 + 1e-12):
                break
        if worth > best:
            best, found = worth, (x, y)
    assert found is not None
    return found


def _ternary(pull: Tensor) -> Tensor:
    """The signs of the largest so many numbers, for the largest ``(sum of them)² / count``."""
    falling, order = pull.abs().sort(descending=True)
    count = torch.arange(1, len(pull) + 1)
    chosen = order[: 1 + int((falling.cumsum(0) ** 2 / count).argmax())]
    found = torch.zeros_like(pull)
    found[chosen] = torch.where(pull[chosen] < 0, -1.0, 1.0).to(pull)
    return found

"""Few levels and a scale, by alternating directions (Leng et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_choice, check_number
from pleach.compression.quantisers import (
    Fit,
    Matrix,
    Projection,
    Regulariser,
    Through,
    at_levels,
    quantiser,
)
from pleach.compression.regularisers.admm import Admm

LEVELS = {
    "binary": (-1.0, 1.0),
    "ternary": (-1.0, 0.0, 1.0),
    "one_shift": (-2.0, -1.0, 0.0, 1.0, 2.0),
    "two_shifts": (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0),
}
ROUNDS = 50


@quantiser("admm")
@dataclass(frozen=True, kw_only=True)
class AdmmLevels(Projection):
    """Levels ``α·Q`` nearest to the weights: ``Q`` and ``α`` in turns, each the best for the other.

    The network is trained with what pulls its weights to the set (the regulariser ``admm``), by
    plain gradients and not by the extragradient of section 3.1. Then it is put on the set.

    Use it for sets of few values where training straight through the projection (``twn``,
    ``bwn``) does not come near the dense network: the weights are pulled to the set over many
    epochs, and only then put there.

    Args:
        levels: ``binary``, ``ternary``, ``one_shift`` with ±2 too, ``two_shifts`` with ±4 too.
        scale: of the ``layer``, or of each ``row``.
        rho: weight of the distance from the set in the loss.
    """

    source = "Leng et al. 2018, arXiv:1707.09870"

    levels: str = "two_shifts"
    scale: str = "layer"
    rho: float = 1e-3

    def __post_init__(self):
        check_choice(self, "levels", tuple(LEVELS))
        check_choice(self, "scale", ("layer", "row"))
        check_number(self, "rho", 0, 1e6)

    @property
    def size(self) -> int:
        return sum(level != 0 for level in LEVELS[self.levels])

    def fit(self, matrix: Matrix) -> Fit:
        weight = matrix.weight if self.scale == "row" else matrix.weight.reshape(1, -1)
        kept = matrix.kept.reshape(weight.shape)
        levels = weight.new_tensor(LEVELS[self.levels])
        scales, codes = nearest_scaled(weight, kept, levels)
        if self.scale == "row":
            return Fit(levels, codes, scales)
        return Fit(levels * scales, codes.reshape(matrix.weight.shape))

    def through(self, matrix: Matrix, seed: int) -> Through:
        return _Plain(self, seed)

    @property
    def penalties(self) -> tuple[Regulariser, ...]:
        return (Admm(quantiser=self, rho=self.rho),)


class _Plain(Through):
    """The weights themselves: a penalty leads them to the set."""

    def forward(self, matrix: Matrix) -> Tensor:
        return matrix.weight


def nearest_scaled(weight: Tensor, kept: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """A scale for each row, and the index of each element's level: a local minimum of the squared
    distance, the best of several starts.

    Args:
        weight: ``(rows, columns)``.
        kept: bool, the elements that count.
        levels: rising.
    """
    largest = (weight.abs() * kept).amax(1)
    best: tuple[Tensor, Tensor, Tensor] | None = None
    for start in torch.linspace(0.1, 1.0, 10).tolist():
        scales = start * largest / levels[-1].abs()
        codes = torch.zeros_like(weight, dtype=torch.long)
        for _ in range(ROUNDS):
            positive = torch.where(scales > 0, scales, 1)
            found = at_levels(weight / positive[:, None], levels)
            put = levels[found] * kept
            power = (put * put).sum(1)
            scales = torch.where(power > 0, (weight * put).sum(1) / power.clamp(min=1e-30), scales)
            if torch.equal(found, codes):
                break
            codes = found
        lost = ((weight - scales[:, None] * levels[codes]) ** 2 * kept).sum(1)
        if best is None:
            best = lost, scales, codes
            continue
        less = lost < best[0]
        best = (
            torch.where(less, lost, best[0]),
            torch.where(less, scales, best[1]),
            torch.where(less[:, None], codes, best[2]),
        )
    assert best is not None
    return best[1], best[2]

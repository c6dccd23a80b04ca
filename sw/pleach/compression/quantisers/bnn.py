"""Two values, and a power of two for each row (Courbariaux et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pleach.compression.quantisers import (
    Fit,
    Matrix,
    Projection,
    Through,
    nearest_power,
    quantiser,
)


@quantiser("bnn")
@dataclass(frozen=True, kw_only=True)
class Bnn(Projection):
    """The weights of a binarized network: signs, whose sums are shifted.

    What BatchNorm multiplies a row by stands in the row's weights, as it is folded into them before
    compression. Of the row the power of two next to its mean magnitude is left, which is
    shift-based BatchNorm. The weights behind are clipped
    to ``−1 … 1``. With ``share.activations = "sign"`` it is the whole method.

    Use it with activations of one bit, for networks that had a batch normalisation after each
    layer.
    """

    source = "Courbariaux et al. 2016, arXiv:1602.02830"
    size = 2

    def fit(self, matrix: Matrix) -> Fit:
        scales = nearest_power(matrix.row_mean(matrix.weight.abs())[:, 0])
        return Fit(matrix.weight.new_tensor([-1.0, 1.0]), (matrix.weight >= 0).long(), scales)

    def through(self, matrix: Matrix, seed: int) -> Through:
        return _Through(self, seed)


class _Through(Through):
    def before_step(self, matrix: Matrix, done: float) -> Tensor:
        return matrix.weight.clamp(-1, 1)

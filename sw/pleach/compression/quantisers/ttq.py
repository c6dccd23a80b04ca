"""Two trained values and zero (Zhu et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_number
from pleach.compression.quantisers import Fit, Matrix, Projection, Through, quantiser


@quantiser("ttq")
@dataclass(frozen=True, kw_only=True)
class Ttq(Projection):
    """``{−Wn, 0, Wp}``: which one a weight is, its size says; both values are trained.

    Use it for three values where there is time to train: both values are learned, which ``twn``
    computes.

    Args:
        threshold: ``t``: a weight up to ``t`` times the largest of its layer is zero (equation 9).
    """

    source = "Zhu et al. 2017, arXiv:1612.01064, equations 6 to 9"
    size = 2

    threshold: float = 0.05

    def __post_init__(self):
        check_number(self, "threshold", 0, 1)

    def codes_of(self, matrix: Matrix) -> Tensor:
        """0, 1 and 2 of a negative value, zero and a positive one."""
        limit = self.threshold * (matrix.weight.abs() * matrix.kept).max()
        return 1 + (matrix.weight > limit).long() - (matrix.weight < -limit).long()

    def fit(self, matrix: Matrix) -> Fit:
        """With the means of both sides for values, which training begins with."""
        codes = self.codes_of(matrix)
        low, high = (matrix.mean(matrix.weight, codes == side).squeeze() for side in (0, 2))
        return Fit(torch.stack([low, torch.zeros_like(low), high]), codes)

    def through(self, matrix: Matrix, seed: int) -> Through:
        return _Through(self, matrix, seed)


class _Through(Through):
    """Attributes:
    values: ``−Wn`` and ``Wp``.
    """

    def __init__(self, projection: Ttq, matrix: Matrix, seed: int):
        super().__init__(projection, seed)
        fit = projection.fit(matrix)
        self.values = nn.Parameter(fit.values[[0, 2]].clone())

    def forward(self, matrix: Matrix) -> Tensor:
        return _Trained.apply(matrix.weight, self.values, self.projection.codes_of(matrix))

    def fit(self, matrix: Matrix) -> Fit:
        low, high = self.values.detach()
        codes = self.projection.codes_of(matrix)
        if low <= high and low <= 0 <= high:
            return Fit(torch.stack([low, torch.zeros_like(low), high]), codes)
        values, order = torch.stack([low, torch.zeros_like(low), high]).sort()
        return Fit(values, order.argsort()[codes])


class _Trained(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, values: Tensor, codes: Tensor) -> Tensor:
        ctx.save_for_backward(values, codes)
        return torch.stack([values[0], torch.zeros_like(values[0]), values[1]])[codes]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,), (values, codes) = gradients, ctx.saved_tensors
        # Equation 7: a value gets the sum over the weights that are it.
        own = torch.stack([gradient[codes == side].sum() for side in (0, 2)])
        # Equation 8: a weight gets its own, times the magnitude of its value.
        size = values.abs()
        return (
            gradient * torch.stack([size[0], torch.ones_like(size[0]), size[1]])[codes],
            own,
            None,
        )

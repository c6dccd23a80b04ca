"""Three values with one scale (Li et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_choice
from pleach.compression.quantisers import Fit, Matrix, Projection, quantiser


@quantiser("twn")
@dataclass(frozen=True, kw_only=True)
class Twn(Projection):
    """``α·{−1, 0, 1}``: zero up to a threshold ``Δ``, ``α`` the mean magnitude above it.

    Use it for three values with little training: threshold and scale follow from the weights.
    What becomes zero is pruned as well.

    Args:
        threshold: ``mean``, 0.7 of the mean magnitude (equation 6), or ``optimal``, the one with
            the least squared error (equation 5, by search over all).
        scale: of the ``layer``, or of each ``row``.
    """

    source = "Li et al. 2016, arXiv:1605.04711, equations 3 to 6"
    size = 2

    threshold: str = "mean"
    scale: str = "layer"

    def __post_init__(self):
        check_choice(self, "threshold", ("mean", "optimal"))
        check_choice(self, "scale", ("layer", "row"))

    def fit(self, matrix: Matrix) -> Fit:
        magnitude = matrix.weight.abs() * matrix.kept
        rows = self.scale == "row"
        mean = matrix.row_mean if rows else matrix.mean
        if self.threshold == "mean":
            over = magnitude > 0.7 * mean(magnitude)
        else:
            over = magnitude >= least_kept(magnitude if rows else magnitude.reshape(1, -1))
        codes = torch.where(over, torch.where(matrix.weight > 0, 2, 0), 1)
        scale = mean(magnitude, over)
        levels = matrix.weight.new_tensor([-1.0, 0.0, 1.0])
        if rows:
            return Fit(levels, codes, scale[:, 0])
        return Fit(levels * scale[0], codes)


def least_kept(magnitude: Tensor) -> Tensor:
    """Of each row, ``(rows, 1)``, the magnitude from which on all are to be ``±α`` for the least
    squared error: the ``k`` largest, where ``(Σ of k largest)² / k`` is largest (equation 5).

    >>> least_kept(torch.tensor([[3.0, 1.0, 0.9, 0.1]]))
    tensor([[3.]])
    """
    falling = magnitude.double().sort(1, descending=True).values
    count = torch.arange(1, falling.shape[1] + 1, device=falling.device)
    best = (falling.cumsum(1) ** 2 / count).argmax(1, keepdim=True)
    least = falling.gather(1, best).to(magnitude)
    return torch.where(least > 0, least, torch.inf)

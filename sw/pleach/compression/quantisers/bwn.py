"""Two values with a scale for each row (Rastegari et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pleach.compression.quantisers import Fit, Matrix, Projection, Through, quantiser


@quantiser("bwn")
@dataclass(frozen=True, kw_only=True)
class Bwn(Projection):
    """``α·sign(w)``, ``α`` the mean magnitude of the row: of all such, the nearest.

    With ``share.activations = "sign"`` it is XNOR-Net, but for the scales of inputs, ``K``: the
    paper finds them to matter less than ``α``, and an engine would need a multiplier for each
    input.

    Use it for weights of one bit from a trained network: the scale of each row costs 16 bits
    and saves most of what signs alone lose.
    """

    source = "Rastegari et al. 2016, arXiv:1603.05279, section 3"
    size = 2

    def fit(self, matrix: Matrix) -> Fit:
        signs = (matrix.weight >= 0).long()
        scales = matrix.row_mean(matrix.weight.abs())[:, 0]
        return Fit(matrix.weight.new_tensor([-1.0, 1.0]), signs, scales)

    def through(self, matrix: Matrix, seed: int) -> Through:
        return _Through(self, seed)


class _Through(Through):
    def forward(self, matrix: Matrix) -> Tensor:
        with torch.no_grad():
            fit = self.projection.fit(matrix)
        count = matrix.kept.sum(1, keepdim=True).clamp(min=1)
        return _Binary.apply(matrix.weight, fit.tensor, fit.scales, count)


class _Binary(torch.autograd.Function):
    """The gradient of section 3.1: what a weight gets is ``g · (1/n + α·1(|w| ≤ 1))``."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, put: Tensor, scales: Tensor, count: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scales, count)
        return put

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        weight, scales, count = ctx.saved_tensors
        inside = scales[:, None] * (weight.abs() <= 1)
        return gradients[0] * (1 / count + inside), None, None, None

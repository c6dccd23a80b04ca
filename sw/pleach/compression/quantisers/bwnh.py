"""Two values and a scale for each row, for what the layer gives (Hu et al. 2018, BWNH)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_integer
from pleach.compression.quantisers import Fit, Matrix, Projection, Through, quantiser


@quantiser("bwnh")
@dataclass(frozen=True, kw_only=True)
class Bwnh(Projection):
    """``α·b`` with ``b`` of ±1, such that the layer gives for its inputs what it gave: the least
    ``Σ ‖Xᵀw − α·Xᵀb‖²``. ``α`` and ``b`` in turns, ``b`` one element after the other
    (section 3.3). Then the scales and biases are trained; the signs stay.

    Use it for weights of one bit where there are inputs and little time: it fits each layer to
    its outputs before anything is trained.

    Args:
        rounds: of both.
    """

    source = "Hu et al. 2018, arXiv:1802.02733"
    size = 2
    looks = True

    rounds: int = 10

    def __post_init__(self):
        check_integer(self, "rounds", 1, 1000)

    def fit(self, matrix: Matrix) -> Fit:
        signs, scales = self.found(matrix)
        return Fit(matrix.weight.new_tensor([-1.0, 1.0]), (signs > 0).long(), scales)

    def found(self, matrix: Matrix) -> tuple[Tensor, Tensor]:
        """``b``, zero where a weight was pruned, and ``α`` of each row."""
        weight, kept = matrix.weight, matrix.kept
        moments = matrix.moments
        if moments is None:  # of inputs that are all alike and independent
            moments = torch.eye(weight.shape[1], device=weight.device).to(weight)
        wanted = weight @ moments
        signs = torch.where(weight >= 0, 1.0, -1.0).to(weight) * kept
        scales = _scales(signs, wanted, moments)
        for _ in range(self.rounds):
            before, given = signs.clone(), signs @ moments
            for column in range(weight.shape[1]):
                own = moments[column, column]
                others = given[:, column] - own * signs[:, column]
                pull = (wanted[:, column] - scales * others) * scales.sign()
                new = torch.where(pull == 0, signs[:, column], pull.sign()) * kept[:, column]
                change = new - signs[:, column]
                if change.any():
                    signs[:, column] = new
                    given += change[:, None] * moments[column]
            scales = _scales(signs, wanted, moments)
            if torch.equal(signs, before):
                break
        # A scale is positive in the file; what a negative one says the signs can say.
        return signs * torch.where(scales < 0, -1.0, 1.0)[:, None], scales.abs()

    def through(self, matrix: Matrix, seed: int) -> Through:
        return _Through(self, matrix, seed)


def _scales(signs: Tensor, wanted: Tensor, moments: Tensor) -> Tensor:
    """The best for the signs."""
    power = ((signs @ moments) * signs).sum(1)
    return (wanted * signs).sum(1) / power.clamp(min=1e-30)


class _Through(Through):
    def __init__(self, projection: Bwnh, matrix: Matrix, seed: int):
        super().__init__(projection, seed)
        signs, scales = projection.found(matrix)
        self.register_buffer("signs", signs)
        self.scales = nn.Parameter(scales.clone())

    def forward(self, matrix: Matrix) -> Tensor:
        return self.signs * self.scales[:, None]

    def fit(self, matrix: Matrix) -> Fit:
        scales = self.scales.detach()
        signs = self.signs * torch.where(scales < 0, -1.0, 1.0)[:, None]
        return Fit(matrix.weight.new_tensor([-1.0, 1.0]), (signs > 0).long(), scales.abs())

"""Two values, by sign or by a throw of dice (Courbariaux et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_number, check_type
from pleach.compression.quantisers import Fit, Matrix, Projection, Through, quantiser
from pleach.models import Put


@quantiser("binary_connect")
@dataclass(frozen=True, kw_only=True)
class BinaryConnect(Projection):
    """Each weight is ``+H`` or ``−H``, one ``H`` for the layer (equations 1 to 3).

    In training the weights behind are clipped to ``−H … H`` after each step (algorithm 1). In the
    end each has the value of its sign.

    Use it for weights of one bit in a network that is trained from the start, or whose layers
    are followed by scales; a trained network is better served by ``bwn``.

    Args:
        stochastic: whether in training a weight is ``+H`` with the probability ``σ(w / H)``, σ the
            hard sigmoid, and not by its sign.
        magnitude: ``H``. 0: the mean magnitude of the layer when the training begins. The paper
            has 1, where a BatchNorm follows.
    """

    source = "Courbariaux et al. 2015, arXiv:1511.00363, equations 1 to 3, algorithm 1"
    size = 2

    stochastic: bool = False
    magnitude: float = 0.0

    def __post_init__(self):
        check_type(self, "stochastic", bool, "true or false")
        check_number(self, "magnitude", 0, 1e6)

    def height(self, matrix: Matrix) -> Tensor:
        """``H``."""
        if self.magnitude:
            return matrix.weight.new_tensor(self.magnitude)
        return matrix.mean(matrix.weight.abs()).squeeze()

    def fit(self, matrix: Matrix) -> Fit:
        return _signs(matrix, self.height(matrix))

    def through(self, matrix: Matrix, seed: int) -> Through:
        return _Through(self, matrix, seed)


def _signs(matrix: Matrix, height: Tensor) -> Fit:
    return Fit(torch.stack([-height, height]), (matrix.weight >= 0).long())


class _Through(Through):
    """Straight through, with dice where it is stochastic."""

    height: Tensor

    def __init__(self, projection: BinaryConnect, matrix: Matrix, seed: int):
        super().__init__(projection, seed)
        self.stochastic = projection.stochastic
        self.register_buffer("height", projection.height(matrix).clone())
        self.drawn = 0

    def fit(self, matrix: Matrix) -> Fit:
        return _signs(matrix, self.height)

    def forward(self, matrix: Matrix) -> Tensor:
        if not (self.stochastic and self.training):
            return super().forward(matrix)
        generator = torch.Generator().manual_seed(self.seed + (self.drawn << 20))
        self.drawn += 1
        dice = torch.rand(matrix.weight.shape, generator=generator).to(matrix.weight)
        up = dice < (matrix.weight / self.height + 1) / 2
        return Put.apply(matrix.weight, torch.where(up, self.height, -self.height))

    def before_step(self, matrix: Matrix, done: float) -> Tensor:
        height = float(self.height)
        return matrix.weight.clamp(-height, height)

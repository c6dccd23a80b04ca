"""Powers of two, a part of the weights after the other (Zhou et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pleach.compression.checks import check_integer
from pleach.compression.quantisers import Fit, Matrix, Projection, Through, quantiser
from pleach.errors import ConfigError


@quantiser("inq")
@dataclass(frozen=True, kw_only=True)
class Inq(Projection):
    """``±2ⁿ`` and zero: the largest weights are put there and stay, the others learn to make up for
    it, again and again until all are.

    Use it where products should be shifts: in several parts of a training it loses less than
    putting all weights on powers of two at once.

    Args:
        bits: ``b``: the set has ``2^(b−1)`` values beside zero.
        portions: the share that is put on the set by the beginning of each part of the training,
            the last one, 1, at its end.
    """

    source = "Zhou et al. 2017, arXiv:1702.03044, equations 1 to 4, algorithm 1"

    bits: int = 5
    portions: tuple[float, ...] = (0.5, 0.75, 0.875, 1.0)

    def __post_init__(self):
        check_integer(self, "bits", 2, 8)
        given = tuple(self.portions) if isinstance(self.portions, list | tuple) else ()
        numbers = bool(given) and all(isinstance(p, int | float) for p in given)
        if not numbers or given[0] < 0 or given[-1] != 1 or any(a >= b for a, b in pairwise(given)):
            raise ConfigError(f"Inq.portions must be rising shares to 1, not {self.portions!r}")
        object.__setattr__(self, "portions", given)

    @property
    def size(self) -> int:
        return 1 << (self.bits - 1)

    def powers(self, matrix: Matrix) -> Tensor:
        """The magnitudes of the set, rising: ``2^n₂`` to ``2^n₁`` (equations 2 and 3)."""
        largest = float((matrix.weight.abs() * matrix.kept).max())
        first = math.floor(math.log2(4 * largest / 3)) if largest else 0
        exponents = torch.arange(first - max(self.size // 2, 1) + 1, first + 1)
        return 2.0 ** exponents.to(matrix.weight)

    def fit(self, matrix: Matrix) -> Fit:
        return on_powers(matrix, self.powers(matrix))

    def through(self, matrix: Matrix, seed: int) -> Through:
        return _Through(self, matrix, seed)


def on_powers(matrix: Matrix, powers: Tensor) -> Fit:
    """The weights on ``{0, ±powers}``: a power takes what lies from the middle between it and the
    one below, zero at the end, to three halves of it (equation 4)."""
    middles = torch.cat([powers[:1] / 2, (powers[1:] + powers[:-1]) / 2])
    number = torch.bucketize(matrix.weight.abs(), middles, right=True)
    values = torch.cat([-powers.flip(0), powers.new_zeros(1), powers])
    return Fit(values, len(powers) + number * torch.where(matrix.weight < 0, -1, 1))


class _Through(Through):
    """Attributes:
    frozen: bool, the weights that are on the set.
    powers: of the set, of the layer as it was.
    """

    frozen: Tensor
    powers: Tensor

    def __init__(self, projection: Inq, matrix: Matrix, seed: int):
        super().__init__(projection, seed)
        self.register_buffer("frozen", torch.zeros_like(matrix.kept))
        self.register_buffer("powers", projection.powers(matrix))
        self.freeze(matrix, projection.portions[0])

    def fit(self, matrix: Matrix) -> Fit:
        return on_powers(matrix, self.powers)

    def forward(self, matrix: Matrix) -> Tensor:
        with torch.no_grad():
            put = self.fit(matrix).tensor
        return torch.where(self.frozen, put, matrix.weight)

    def freeze(self, matrix: Matrix, portion: float) -> None:
        """Put so many of the weights on the set, the largest of the others next (section 2.3)."""
        missing = math.ceil(portion * int(matrix.kept.sum())) - int(self.frozen.sum())
        if missing > 0:
            free = torch.where(matrix.kept & ~self.frozen, matrix.weight.abs(), -1).flatten()
            self.frozen.view(-1)[free.topk(missing).indices] = True

    def before_step(self, matrix: Matrix, done: float) -> None:
        portions = self.projection.portions
        part = min(int(done * max(len(portions) - 1, 1)), len(portions) - 1)
        self.freeze(matrix, portions[part])

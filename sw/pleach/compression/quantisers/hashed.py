"""Weights that share by chance (Chen et al. 2015, HashedNets)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pleach.compression.checks import check_integer
from pleach.compression.quantisers import Fit, Matrix, Projection, Through, quantiser

PRIMES = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)


@quantiser("hashed")
@dataclass(frozen=True, kw_only=True)
class Hashed(Projection):
    """Which value a weight has, a hash of its place says, and one hash more its sign; the values
    are trained. A baseline: what sharing is worth that knows nothing of the weights.

    Use it to see what a codebook is worth that looks at the weights: at the same number of
    values it is never better than ``kmeans``.

    Args:
        values: trained values of a layer; with both signs the set has twice as many.
        seed: of the hash.
    """

    source = "Chen et al. 2015, arXiv:1504.04788, equations 3 and 7, section 4.3"

    values: int = 32
    seed: int = 0

    def __post_init__(self):
        check_integer(self, "values", 1, 127)
        check_integer(self, "seed", 0, (1 << 31) - 1)

    @property
    def size(self) -> int:
        return 2 * self.values

    def places(self, matrix: Matrix) -> tuple[Tensor, Tensor]:
        """The value of each weight, and its sign."""
        rows, columns = matrix.weight.shape
        device = matrix.weight.device
        row, column = torch.arange(rows, device=device), torch.arange(columns, device=device)
        mixed = (row[:, None] * PRIMES[0] + column * PRIMES[1] + self.seed * PRIMES[2]) & 0xFFFFFFFF
        for _ in range(2):
            mixed = ((mixed ^ (mixed >> 15)) * PRIMES[1]) & 0xFFFFFFFF
            mixed = ((mixed ^ (mixed >> 13)) * PRIMES[2]) & 0xFFFFFFFF
        mixed = mixed ^ (mixed >> 16)
        return (mixed >> 1) % self.values, 1 - 2 * (mixed & 1)

    def fit(self, matrix: Matrix) -> Fit:
        """With the mean of what shares it for each value, the nearest there is."""
        place, sign = self.places(matrix)
        own = (place[matrix.kept], (matrix.weight * sign)[matrix.kept])
        sums = matrix.weight.new_zeros(self.values).index_add(0, *own)
        counts = torch.bincount(own[0], minlength=self.values).clamp(min=1)
        return self.laid(matrix, sums / counts)

    def laid(self, matrix: Matrix, values: Tensor) -> Fit:
        """With these values."""
        place, sign = self.places(matrix)
        both, order = torch.cat([values, -values]).sort()
        return Fit(both, order.argsort()[torch.where(sign < 0, place + self.values, place)])

    def through(self, matrix: Matrix, seed: int) -> Through:
        return _Through(self, matrix, seed)


class _Through(Through):
    def __init__(self, projection: Hashed, matrix: Matrix, seed: int):
        super().__init__(projection, seed)
        place, sign = projection.places(matrix)
        self.register_buffer("place", place)
        self.register_buffer("sign", sign)
        found = projection.fit(matrix).tensor * sign
        values = found.new_zeros(projection.values).index_put((place,), found)
        self.values = nn.Parameter(values)

    def forward(self, matrix: Matrix) -> Tensor:
        return self.values[self.place] * self.sign

    def fit(self, matrix: Matrix) -> Fit:
        return self.projection.laid(matrix, self.values.detach())

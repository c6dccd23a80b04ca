"""Sums of a few powers of two (Gudovskiy and Rigazio 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from pleach.compression.checks import check_integer
from pleach.compression.quantisers import Fit, Matrix, Projection, quantiser
from pleach.errors import ConfigError
from pleach.numbers import CODEBOOK_MAX


@quantiser("shiftcnn")
@dataclass(frozen=True, kw_only=True)
class ShiftCnn(Projection):
    """Of ``terms`` small codebooks of powers of two each gives one: the one nearest to what those
    before have left. The layer's largest magnitude stands for 1.

    Use it without any training, for products of a few shifts: two terms of four bits lose next
    to nothing.

    Args:
        terms: ``N``, powers in a sum.
        bits: ``B``: the n-th codebook is zero and ``±2^(1−n)`` down to ``±2^(2−n−⌊M/2⌋)``, ``M =
            2^B − 1`` values.
    """

    source = "Gudovskiy and Rigazio 2017, arXiv:1706.02393"

    terms: int = 2
    bits: int = 4

    def __post_init__(self):
        check_integer(self, "terms", 1, 4)
        check_integer(self, "bits", 2, 8)
        if len(self.codebooks[0]) ** self.terms > 1 << 16 or self.size > CODEBOOK_MAX:
            raise ConfigError(
                f"ShiftCnn: {self.terms} terms of {self.bits} bits have more than {CODEBOOK_MAX} "
                "sums: have fewer"
            )

    @property
    def codebooks(self) -> list[list[float]]:
        """One for each term, rising."""
        powers = ((1 << self.bits) - 1) // 2
        found = []
        for term in range(1, self.terms + 1):
            positive = [2.0 ** (1 - term - n) for n in range(powers)]
            found.append(sorted([-p for p in positive] + [0.0, *positive]))
        return found

    @property
    def sums(self) -> list[float]:
        """The set, rising, for a layer whose largest magnitude is 1."""
        return sorted({sum(each) for each in product(*self.codebooks)})

    @property
    def size(self) -> int:
        return len(self.sums) - 1

    def fit(self, matrix: Matrix) -> Fit:
        largest = (matrix.weight.abs() * matrix.kept).max().clamp(min=1e-30)
        left, total = matrix.weight / largest, torch.zeros_like(matrix.weight)
        for codebook in self.codebooks:
            levels = left.new_tensor(codebook)
            term = _nearest(left, levels)
            left, total = left - term, total + term
        values = left.new_tensor(self.sums)
        return Fit(values * largest, torch.searchsorted(values, total))


def _nearest(left: Tensor, levels: Tensor) -> Tensor:
    """The level nearest to each number; half-way the one nearer to zero."""
    sizes = levels[levels >= 0].contiguous()
    number = torch.bucketize(left.abs(), (sizes[1:] + sizes[:-1]) / 2)
    return sizes[number] * left.sign()

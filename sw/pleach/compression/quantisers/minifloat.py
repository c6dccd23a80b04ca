"""Floating point of 8 bits or less (Gysel et al. 2016, Ristretto)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pleach.compression.checks import check_integer
from pleach.compression.quantisers import Fit, Matrix, Projection, at_levels, quantiser
from pleach.errors import ConfigError


@quantiser("minifloat")
@dataclass(frozen=True, kw_only=True)
class Minifloat(Projection):
    """``±2^e·(1 + m / 2^mantissa)``, and zero: no denormal numbers, infinities or others. The
    layer's largest weight says where the exponents begin.

    Use it as a baseline for layers whose weights differ much in size: its values are densest
    near zero.

    Args:
        exponent: bits of the exponent.
        mantissa: bits of the mantissa; with the exponent's 1 to 7.
    """

    source = "Gysel et al. 2016, arXiv:1604.03168, section 4.1"

    exponent: int = 3
    mantissa: int = 2

    def __post_init__(self):
        check_integer(self, "exponent", 1, 7)
        check_integer(self, "mantissa", 0, 6)
        if self.exponent + self.mantissa > 7:
            raise ConfigError(
                "Minifloat: exponent and mantissa have 7 bits at most beside the sign"
            )

    @property
    def size(self) -> int:
        return (2 << (self.exponent + self.mantissa)) - 2

    def fit(self, matrix: Matrix) -> Fit:
        largest = float((matrix.weight.abs() * matrix.kept).max())
        most = (2 << self.mantissa) - 1  # of the mantissa with its leading one
        top = math.ceil(math.log2(largest / most)) + self.mantissa if largest else 0
        steps = torch.arange(1 << self.mantissa, 2 << self.mantissa)
        exponents = torch.arange(top - (1 << self.exponent) + 1, top + 1) - self.mantissa
        positive = (2.0 ** exponents[:, None] * steps).flatten()[1:]  # the least stands for zero
        levels = torch.cat([-positive.flip(0), torch.zeros(1), positive]).to(matrix.weight)
        return Fit(levels, at_levels(matrix.weight, levels))

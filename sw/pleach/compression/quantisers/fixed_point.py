"""Fixed point with a fraction for each layer (Gysel et al. 2016, Ristretto)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pleach.compression.checks import check_integer
from pleach.compression.quantisers import Fit, Matrix, Projection, quantiser


@quantiser("fixed_point")
@dataclass(frozen=True, kw_only=True)
class FixedPoint(Projection):
    """Dynamic fixed point: whole multiples of a power of two, from ``−2^(bits−1)`` to ``2^(bits−1)
    − 1`` of them. The layer's largest weight says which power.

    Use it as the baseline that any codebook has to beat, or where another engine that has no
    codebook is to run the weights.

    Args:
        bits: of a weight, its sign among them, 2 to 8.
    """

    source = "Gysel et al. 2016, arXiv:1604.03168, section 4.2"

    bits: int = 8

    def __post_init__(self):
        check_integer(self, "bits", 2, 8)

    @property
    def size(self) -> int:
        return (1 << self.bits) - 1

    def fit(self, matrix: Matrix) -> Fit:
        largest = float((matrix.weight.abs() * matrix.kept).max())
        whole = math.ceil(math.log2(largest)) if largest else 0  # bits before the point
        step = 2.0 ** (whole + 1 - self.bits)
        half = 1 << (self.bits - 1)
        codes = (matrix.weight / step).round().clamp(-half, half - 1).long() + half
        values = torch.arange(-half, half, device=codes.device).to(matrix.weight) * step
        return Fit(values, codes)

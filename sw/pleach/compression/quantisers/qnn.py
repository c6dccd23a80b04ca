"""Linear or logarithmic steps (Hubara et al. 2016)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pleach.compression.checks import check_choice, check_integer
from pleach.compression.quantisers import Fit, Matrix, Projection, nearest_power, quantiser


@quantiser("qnn")
@dataclass(frozen=True, kw_only=True)
class Qnn(Projection):
    """``clip(round(w / step)·step, −top, top)``, or the power of two whose exponent is nearest.

    The paper's weights lie in −1 … 1; here ``top`` is the power of two next to the layer's largest
    weight.

    Use it for weights and activations of few bits that are trained together, linear or as
    shifts.

    Args:
        bits: of a weight, its sign among them, 2 to 8.
        steps: ``linear`` or ``logarithmic``.
    """

    source = "Hubara et al. 2016, arXiv:1609.07061, section 3, LinearQuant and LogQuant"

    bits: int = 4
    steps: str = "linear"

    def __post_init__(self):
        check_integer(self, "bits", 2, 8)
        check_choice(self, "steps", ("linear", "logarithmic"))

    @property
    def size(self) -> int:
        return (1 << self.bits) - (0 if self.steps == "linear" else 2)

    def fit(self, matrix: Matrix) -> Fit:
        weight = matrix.weight
        largest = float((weight.abs() * matrix.kept).max())
        top = round(math.log2(largest)) if largest else 0
        half = 1 << (self.bits - 1)
        if self.steps == "linear":
            step = 2.0**top / half
            codes = (weight / step).round().clamp(-half, half).long() + half
            return Fit(torch.arange(-half, half + 1).to(weight) * step, codes)
        count = half - 1  # powers of each sign
        exponents = nearest_power(weight.abs().clamp(min=1e-30)).log2()
        number = (exponents - top + count).clamp(1, count).long()
        powers = 2.0 ** torch.arange(top - count + 1, top + 1).to(weight)
        values = torch.cat([-powers.flip(0), powers.new_zeros(1), powers])
        return Fit(values, count + number * torch.where(weight < 0, -1, 1))

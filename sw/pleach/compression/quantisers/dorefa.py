"""Weights of k bits (Zhou et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_choice, check_integer
from pleach.compression.quantisers import Fit, Matrix, Projection, Through, quantiser
from pleach.models import Put


@quantiser("dorefa")
@dataclass(frozen=True, kw_only=True)
class DoReFa(Projection):
    """``2·quantize_k(tanh(w) / (2·max|tanh(w)|) + 1/2) − 1`` (equation 9); of one bit, the sign
    times the mean magnitude (equation 8).

    Use it for weights of 2 to 4 bits together with its activations; with as many values as
    that, ``kmeans`` makes the smaller file.

    Args:
        bits: ``k``, 1 to 8.
        scale: what a value of 1 stands for: ``layer``, the largest magnitude of the layer when
            training begins, or ``one``, as in the paper, where a BatchNorm follows.
    """

    source = "Zhou et al. 2016, arXiv:1606.06160, equations 5 to 9"

    bits: int = 4
    scale: str = "layer"

    def __post_init__(self):
        check_integer(self, "bits", 1, 8)
        check_choice(self, "scale", ("layer", "one"))

    @property
    def size(self) -> int:
        return 1 << self.bits

    def height(self, matrix: Matrix) -> Tensor:
        """What a value of 1 stands for."""
        if self.scale == "one":
            return matrix.weight.new_tensor(1.0)
        return (matrix.weight.abs() * matrix.kept).max()

    def fit(self, matrix: Matrix) -> Fit:
        return self.at(matrix, self.height(matrix))

    def at(self, matrix: Matrix, height: Tensor) -> Fit:
        """With that for a value of 1."""
        if self.bits == 1:
            mean = matrix.mean(matrix.weight.abs()).squeeze()
            return Fit(torch.stack([-mean, mean]), (matrix.weight >= 0).long())
        steps = (1 << self.bits) - 1
        codes = (self.unit(matrix) * steps).round().long()
        values = 2 * torch.arange(steps + 1, device=codes.device) / steps - 1
        return Fit(values.to(height) * height, codes)

    def unit(self, matrix: Matrix) -> Tensor:
        """The weights between 0 and 1."""
        squeezed = matrix.weight.tanh()
        largest = (squeezed.abs() * matrix.kept).max().clamp(min=1e-30)
        return (squeezed / (2 * largest) + 0.5).clamp(0, 1)

    def through(self, matrix: Matrix, seed: int) -> Through:
        return _Through(self, matrix, seed)


class _Through(Through):
    """Straight through the rounding alone."""

    height: Tensor

    def __init__(self, projection: DoReFa, matrix: Matrix, seed: int):
        super().__init__(projection, seed)
        self.register_buffer("height", projection.height(matrix).clone())

    def fit(self, matrix: Matrix) -> Fit:
        return self.projection.at(matrix, self.height)

    def forward(self, matrix: Matrix) -> Tensor:
        with torch.no_grad():
            put = self.fit(matrix).tensor
        if self.projection.bits == 1:
            return Put.apply(matrix.weight, put)
        return Put.apply((2 * self.projection.unit(matrix) - 1) * self.height, put)

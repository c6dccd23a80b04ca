"""k bits from 0 to 1 (Zhou et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.activations import LowBit, activation
from pleach.compression.checks import check_integer, check_number
from pleach.model import Activation


@activation("dorefa")
@dataclass(frozen=True, kw_only=True)
class DoReFa(LowBit):
    """The sum kept from 0 to ``top``, in ``2^bits − 1`` steps (equations 5 and 11).

    Use it with the quantiser of the same name; two to four bits are enough for most networks.

    Args:
        bits: ``k`` of what a layer gives, 1 to 8.
        top: of the sums; the paper has 1, where a BatchNorm comes before.
        gradient_bits: of the gradients (equation 12), 1 to 16; 0 leaves them as they are.
    """

    source = "Zhou et al. 2016, arXiv:1606.06160, equations 5, 11 and 12"

    bits: int = 4
    top: float = 1.0
    gradient_bits: int = 0

    def __post_init__(self):
        check_integer(self, "bits", 1, 8)
        check_number(self, "top", 1e-6, 1e6)
        check_integer(self, "gradient_bits", 0, 16)

    @property
    def function(self) -> Activation:
        return Activation(0.0, self.top, step=self.top / ((1 << self.bits) - 1))

    def gradients(self, generator: torch.Generator) -> Callable[[Tensor], Tensor] | None:
        if not self.gradient_bits:
            return None
        return lambda gradient: few_bits(gradient, self.gradient_bits, generator)


def few_bits(gradient: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """Gradients, ``(n, …)``, in ``2^bits − 1`` steps over the range of each input of the batch,
    rounded up or down by chance so that the mean stays (equation 12)."""
    steps = (1 << bits) - 1
    largest = gradient.abs().flatten(1).amax(1).reshape(-1, *[1] * (gradient.ndim - 1))
    noise = torch.rand(gradient.shape, generator=generator).to(gradient) - 0.5
    share = gradient / (2 * largest.clamp(min=1e-30)) + 0.5 + noise / steps
    return 2 * largest * ((share * steps).round().clamp(0, steps) / steps - 0.5)

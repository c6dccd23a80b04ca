"""k bits on both sides of zero, or on one (Hubara et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from pleach.compression.activations import LowBit, activation
from pleach.compression.checks import check_integer, check_type
from pleach.model import Activation


@activation("qnn")
@dataclass(frozen=True, kw_only=True)
class Qnn(LowBit):
    """``clip(round(x·2^n)·2^−n)``, to the numbers of ``bits`` bits (LinearQuant, section 3).

    Use it for activations of few bits behind any quantiser; four bits and more cost little.

    Args:
        bits: of what a layer gives, 2 to 8.
        signed: whether one of them is a sign; without, it is a ReLU.
        whole: bits before the point.
    """

    source = "Hubara et al. 2016, arXiv:1609.07061, section 3, LinearQuant"

    bits: int = 4
    signed: bool = False
    whole: int = 0

    def __post_init__(self):
        check_integer(self, "bits", 2, 8)
        check_type(self, "signed", bool, "true or false")
        check_integer(self, "whole", -8, 8)

    @property
    def function(self) -> Activation:
        step = 2.0 ** (self.whole + self.signed - self.bits)
        top = (1 << (self.bits - self.signed)) - 1
        return Activation(-(top + 1) * step if self.signed else 0.0, top * step, step=step)

"""One bit (Courbariaux et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from pleach.compression.activations import LowBit, activation
from pleach.model import Activation


@activation("sign")
@dataclass(frozen=True, kw_only=True)
class Sign(LowBit):
    """1 where the sum is not negative, −1 where it is; the gradient passes where the sum is −1 to
    1 (equations 1 and 4).

    Use it with ``bnn`` or ``bwn`` for networks of one bit throughout; nothing is zero then, so
    the engine skips nothing.
    """

    source = "Courbariaux et al. 2016, arXiv:1602.02830, equations 1 and 4"

    @property
    def function(self) -> Activation:
        return Activation(-1.0, 1.0, sign=True)

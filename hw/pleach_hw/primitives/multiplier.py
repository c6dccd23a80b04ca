"""The multiplier."""

from __future__ import annotations

import operator

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Multiplier(wiring.Component):
    """Signed product ``product = a * b``, exact, `latency` cycles later; one a cycle.

    Registered at its inputs and at its output, as hardened multipliers are. It runs freely and
    nothing is reset: the user carries a valid bit along.

    On ECP5 up to 18×18 bits are one MULT18X18D.

    Args:
        width_a, width_b: of the factors, at least 2 bits.

    Raises:
        ValueError: a width below 2.
    """

    latency = 2

    def __init__(self, *, width_a, width_b):
        self._width_a = operator.index(width_a)
        self._width_b = operator.index(width_b)
        if min(self._width_a, self._width_b) < 2:
            raise ValueError(
                f"multiplier widths must be at least 2, not {self._width_a} and {self._width_b}"
            )
        super().__init__(
            {
                "a": In(signed(self._width_a)),
                "b": In(signed(self._width_b)),
                "product": Out(signed(self._width_a + self._width_b)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        a = Signal.like(self.a, reset_less=True)
        b = Signal.like(self.b, reset_less=True)
        product = Signal.like(self.product, reset_less=True)
        m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b)]
        m.d.comb += self.product.eq(product)
        return m

"""The multiplier."""

from __future__ import annotations

import operator

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine.pipeline import MULTIPLIER
from pleach_hw.primitives import ecp5, gowin, ice40
from pleach_hw.primitives.delay import delay
from pleach_hw.primitives.family import family_of


class Multiplier(wiring.Component):
    """Signed product ``product = a * b``, exact, `latency` cycles later; one a cycle.

    Registered at its inputs, inside and at its output, as hardened multipliers are. It runs freely
    and nothing is reset: the user carries a valid bit along.

    On ECP5 up to 18×18 bits are one MULT18X18D, on Gowin one MULT18X18, on iCE40 up to 16×16 bits
    one SB_MAC16, with all their registers; elsewhere it is inferred.

    Args:
        width_a, width_b: of the factors, at least 2 bits.

    Raises:
        ValueError: a width below 2.
    """

    latency = MULTIPLIER

    def __init__(self, *, width_a: int, width_b: int):
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
        family, width = family_of(platform), max(self._width_a, self._width_b)
        if family == "ecp5" and width <= 18:
            return ecp5.multiplier(self)
        if family == "iCE40" and width <= 16:
            return ice40.multiplier(self)
        if family == "gowin" and width <= 18:
            return gowin.multiplier(self)
        m = Module()
        a = delay(m, self.a, 1, name="a")
        b = delay(m, self.b, 1, name="b")
        m.d.comb += self.product.eq(delay(m, a * b, self.latency - 1, name="product"))
        return m

"""The product of an accumulator and its row's scale."""

from __future__ import annotations

import operator

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine.pipeline import SCALE
from pleach.numbers import ACCUMULATOR_BITS_MAX
from pleach_hw.primitives import Multiplier

#: bits of a factor that a hardened multiplier takes
_FACTOR = 18


class ScaleUnit(wiring.Component):
    """`product` is ``acc * scale``, `latency` cycles later, one a cycle: as many bits of it as an
    accumulator may have, which is all of it where `acc` has 32 bits, or where `scale` is 1.

    It runs freely and nothing is reset. A multiplier for every 17 bits of `acc`.

    Args:
        accumulator_bits: width of `acc`.
    """

    latency = SCALE

    def __init__(self, *, accumulator_bits: int):
        self._bits = operator.index(accumulator_bits)
        super().__init__(
            {
                "acc": In(signed(self._bits)),
                "scale": In(signed(16)),
                "product": Out(signed(ACCUMULATOR_BITS_MAX)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # The highest part of `acc` has its sign, the others have none.
        low, factors = 0, []
        while self._bits - low > _FACTOR:
            factors.append((low, Cat(self.acc[low : low + _FACTOR - 1], Const(0, 1)).as_signed()))
            low += _FACTOR - 1
        factors.append((low, self.acc[low:].as_signed()))
        products = []
        for low, factor in factors:
            m.submodules[f"multiplier_{low}"] = unit = Multiplier(width_a=len(factor), width_b=16)
            m.d.comb += [unit.a.eq(factor), unit.b.eq(self.scale)]
            products.append(unit.product << low)
        total = Signal.like(self.product, reset_less=True)
        m.d.sync += total.eq(sum(products))
        m.d.comb += self.product.eq(total)
        return m

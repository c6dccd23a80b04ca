"""Requantisation."""

from __future__ import annotations

import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine.pipeline import REQUANTIZE
from pleach.numbers import ACCUMULATOR_BITS_MAX


class RequantizeUnit(wiring.Component):
    """`result` is `acc` shifted right by `shift` with halves rounded up, saturated to int16, and
    with `relu` no less than 0 (docs/numerics.md, `pleach.reference.Requantizer`): `latency` cycles
    later, one a cycle. With `sign` it is the largest int16 where that is not negative, otherwise
    the smallest: bounds behind it turn these into the two values of a sign function.

    It runs freely and nothing is reset. `shift`, `relu` and `sign` are those of the layer: they
    stand still while anything of it is inside.

    Args:
        accumulator_bits: width of `acc`, 17 to 48.

    Raises:
        ValueError: another `accumulator_bits`.
    """

    latency = REQUANTIZE

    def __init__(self, *, accumulator_bits: int):
        self._bits = operator.index(accumulator_bits)
        if not 17 <= self._bits <= ACCUMULATOR_BITS_MAX:
            raise ValueError(
                f"accumulators must have 17 to {ACCUMULATOR_BITS_MAX} bits, not {self._bits}"
            )
        super().__init__(
            {
                "acc": In(signed(self._bits)),
                "shift": In(6),
                "relu": In(1),
                "sign": In(1),
                "result": Out(signed(16)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # floor((acc + h) / 2^shift) is the shifted accumulator plus the last bit shifted out of it:
        # that bit is kept below the binary point. First it is shifted by sixteens, to the 32 bits
        # that a shift of 15 may want; those above them matter only where it is not shifted.
        acc = Cat(Const(0, 1), self.acc).as_signed()
        sixteens, rest = self.shift[4:], self.shift[:4]
        coarse = Signal(32, reset_less=True)
        negative, near = Signal(reset_less=True), Signal(reset_less=True)
        above = acc[32:]
        m.d.sync += [
            coarse.eq(acc >> (sixteens << 4)),
            negative.eq(acc[-1]),
            near.eq((sixteens != 0) | (above == acc[-1].replicate(len(above)))),
        ]

        # Then to the 17 bits of a value and what is below its point. It fits if all bits from its
        # sign upwards are the accumulator's sign: so no more than the 17 need be shifted.
        mask = Signal(16)
        value = Signal(17, reset_less=True)
        fits, below = Signal(reset_less=True), Signal(reset_less=True)
        others = (coarse[16:] ^ negative.replicate(16)) & mask
        m.d.sync += [
            mask.eq(Const(0xFFFF, 16) << rest),
            value.eq(coarse >> rest),
            fits.eq(near & ~others.any()),
            below.eq(negative),
        ]

        # Rounding up is the only way out of range left.
        rounded = Signal(signed(17))
        less, saturates = Signal(), Signal()
        m.d.comb += [
            rounded.eq(value[1:].as_signed() + value[0]),
            less.eq(Mux(fits, rounded[16], below)),
            saturates.eq(self.sign | ~fits | (rounded[16] ^ rounded[15])),
        ]
        limit = Cat((~less).replicate(15), less)
        result = Mux(saturates, limit, rounded[:16])
        m.d.sync += self.result.eq(Mux(self.relu & less, 0, result))
        return m

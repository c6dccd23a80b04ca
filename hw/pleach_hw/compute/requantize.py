"""Requantisation."""

from __future__ import annotations

import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
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
        m.d.sync += [
            coarse.eq(Mux(sixteens[1], acc >> 32, Mux(sixteens[0], acc >> 16, acc))),
            negative.eq(acc[-1]),
            near.eq(sixteens.any() | _all(acc[32:], acc[-1])),
        ]

        # Then by less, to the 16 bits of a value and the one below its point. What a step leaves
        # above must be the sign's, and so must the value's own sign.
        shifted, fits = coarse, near
        for bit in reversed(range(len(rest))):
            wide = 16 + (1 << bit)
            fits = fits & (rest[bit] | _all(shifted[wide:], negative))
            shifted = Mux(rest[bit], shifted[1 << bit :], shifted[:wide])
        value = Signal(17, reset_less=True)
        in_range, kept, below = (
            Signal(name=n, reset_less=True) for n in ("in_range", "kept", "below")
        )
        m.d.sync += [
            value.eq(shifted),
            in_range.eq(fits),
            kept.eq(fits & ~self.sign),
            below.eq(negative),
        ]

        # Rounding up leaves the range from its largest value alone, and the negative ones from -1.
        ones, less, saturates = Signal(), Signal(), Signal()
        m.d.comb += [
            ones.eq(value[:16].all()),
            less.eq(below & ~(in_range & value[16] & ones)),
            saturates.eq(~kept | (value[16] ^ below) | (ones & ~below)),
        ]
        limit = Cat((~less).replicate(15), less)
        result = Mux(saturates, limit, (value[1:] + value[0])[:16])
        m.d.sync += self.result.eq(Mux(self.relu & less, 0, result))
        return m


def _all(bits: Value, value: Value) -> Value:
    """Whether all bits are `value`."""
    return bits == value.replicate(len(bits))

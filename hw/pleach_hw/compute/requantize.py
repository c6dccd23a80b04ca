"""Requantisation."""

from __future__ import annotations

import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine.pipeline import REQUANTIZE
from pleach.numbers import INT16, INT16_MAX


class RequantizeUnit(wiring.Component):
    """`result` is `acc` shifted right by `shift` with halves rounded up, saturated to int16, and
    with `relu` no less than 0 (docs/numerics.md, `pleach.reference.Requantizer`): `latency` cycles
    later, one a cycle.

    It runs freely and nothing is reset. `shift` and `relu` are those of the layer: they stand still
    while anything of it is inside.

    Args:
        accumulator_bits: width of `acc`, from 17.

    Raises:
        ValueError: `accumulator_bits` below 17.
    """

    latency = REQUANTIZE

    def __init__(self, *, accumulator_bits: int):
        self._bits = operator.index(accumulator_bits)
        if self._bits < 17:
            raise ValueError(f"accumulators must have at least 17 bits, not {self._bits}")
        super().__init__(
            {
                "acc": In(signed(self._bits)),
                "shift": In(6),
                "relu": In(1),
                "result": Out(signed(16)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # floor((acc + h) / 2^shift) is the shifted accumulator plus the last bit shifted out of it:
        # that bit is kept below the binary point.
        coarse = Signal(signed(self._bits + 1), reset_less=True)
        fine = Signal(signed(self._bits + 1), reset_less=True)
        m.d.sync += [
            coarse.eq(Cat(Const(0, 1), self.acc).as_signed() >> (self.shift[4:] << 4)),
            fine.eq(coarse >> self.shift[:4]),
        ]

        whole, negative = fine[1:], fine[-1]
        fits = whole[15:] == negative.replicate(len(whole) - 15)
        # Rounding up is the only way out of range left, and only from the largest value.
        up = fine[0] & (whole[:16] != INT16_MAX)
        limit = Mux(negative, *INT16)
        result = Mux(fits, (whole[:16] + up)[:16].as_signed(), limit)
        m.d.sync += self.result.eq(Mux(self.relu & negative, 0, result))
        return m

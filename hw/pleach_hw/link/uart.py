"""Bytes over two pins: a start bit, eight bits from the lowest on, a stop bit."""

from __future__ import annotations

from fractions import Fraction

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

#: cycles that a bit takes at least
SHORTEST_BIT = 4
#: how far a bit's mean length may be off
TOLERANCE = Fraction(1, 400)


def phase_step(clock_hz: int, baud: int) -> tuple[int, int]:
    """A phase accumulator's width and what to add to it in each cycle, so that it overflows once a
    bit: the narrowest that keeps `TOLERANCE`.

    >>> phase_step(12_000_000, 3_000_000), phase_step(25_000_000, 3_000_000)
    ((2, 1), (10, 123))

    Raises:
        ValueError: a bit of fewer than `SHORTEST_BIT` cycles.
    """
    if not 0 < SHORTEST_BIT * baud <= clock_hz:
        raise ValueError(
            f"{baud} baud need a clock of {SHORTEST_BIT * baud} Hz or more, not {clock_hz}"
        )
    exact = Fraction(baud, clock_hz)
    width = 2
    while abs(Fraction(round(exact * 2**width), 2**width) / exact - 1) > TOLERANCE:
        width += 1
    return width, round(exact * 2**width)


class UartReceiver(wiring.Component):
    """Bytes from a pin. A byte without a stop bit is dropped.

    What counts is the majority of three samples in a row, so a pulse of one cycle is not seen. Of a
    bit it is looked at in the middle, up to two cycles late.

    Args:
        clock_hz, baud: cycles and bits a second.

    Ports:
        rx: the pin.
        valid: a byte came; `data` has it in this cycle only.

    Raises:
        ValueError: as `phase_step`.
    """

    def __init__(self, *, clock_hz: int, baud: int):
        self._width, self._step = phase_step(clock_hz, baud)
        super().__init__({"rx": In(1, init=1), "valid": Out(1), "data": Out(8)})

    def elaborate(self, platform):
        m = Module()
        samples = Signal(3, init=0b111)
        m.submodules.synchronizer = FFSynchronizer(self.rx, samples[0], init=1)
        m.d.sync += samples[1:].eq(samples)
        level = Signal()
        first, second, third = samples
        m.d.comb += level.eq((first & second) | (third & (first | second)))

        # The one that is put on top comes out at the end when start, data and stop bit are in.
        bits = Signal(10)
        busy = Signal()
        phase = Signal(self._width)
        tick = Signal()
        m.d.comb += self.data.eq(bits[1:9])
        m.d.sync += [self.valid.eq(0), Cat(phase, tick).eq(phase + Const(self._step, self._width))]
        with m.If(~busy):
            m.d.sync += [
                busy.eq(~level),
                bits.eq(1 << 9),
                phase.eq((1 << self._width - 1) + self._step),  # half a bit to the middle
                tick.eq(0),
            ]
        with m.Elif(tick):
            m.d.sync += bits.eq(Cat(bits[1:], level))
            with m.If(bits[0]):
                m.d.sync += [busy.eq(0), self.valid.eq(level & ~bits[1])]
        return m


class UartTransmitter(wiring.Component):
    """Bytes to a pin, one behind the other without a pause where they are there.

    Args:
        clock_hz, baud: cycles and bits a second.

    Ports:
        i: bytes. It is ready for one cycle at the end of a bit.
        tx: the pin.

    Raises:
        ValueError: as `phase_step`.
    """

    def __init__(self, *, clock_hz: int, baud: int):
        self._width, self._step = phase_step(clock_hz, baud)
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        # The stop bit is the last one in it, and stays on the pin.
        bits = Signal(10, init=1)
        phase = Signal(self._width)
        tick = Signal()
        idle = Signal(init=1)
        m.d.sync += Cat(phase, tick).eq(phase + Const(self._step, self._width))
        m.d.comb += [idle.eq(~bits[1:].any()), self.i.ready.eq(tick & idle)]
        with m.If(tick):
            with m.If(~idle):
                m.d.sync += bits.eq(bits[1:])
            with m.Elif(self.i.valid):
                m.d.sync += bits.eq(Cat(Const(0, 1), self.i.payload, Const(1, 1)))
        m.d.comb += self.tx.eq(bits[0])
        return m

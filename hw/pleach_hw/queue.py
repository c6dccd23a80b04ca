"""Short queues."""

from __future__ import annotations

import operator

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach_hw.primitives import LutRam


def one_more(count: Value) -> Value:
    """The number after a short one, around its end: without a carry chain, which takes more."""
    return Cat(count[n] ^ count[:n].all() for n in range(len(count)))


class Queue(wiring.Component):
    """First in, first out: what enters is offered in the next cycle; one in and one out a cycle.

    `i` is ready while fewer than `depth` payloads are held, whatever `o` does. Reset empties the
    queue.

    Args:
        shape: of the payload.
        depth: payloads held at most, a power of two from 2.

    Raises:
        ValueError: depth not a power of two.
    """

    def __init__(self, *, shape: ShapeLike, depth: int):
        self._shape = shape
        self._depth = operator.index(depth)
        if self._depth < 2 or self._depth & (self._depth - 1):
            raise ValueError(f"queue depth must be a power of two from 2, not {self._depth}")
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
            }
        )

    @property
    def depth(self) -> int:
        return self._depth

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = LutRam(shape=self._shape, depth=self._depth)
        # One bit more than the address tells full from empty.
        head = Signal(range(2 * self._depth))
        tail = Signal(range(2 * self._depth))
        put = self.i.valid & self.i.ready
        get = self.o.valid & self.o.ready
        m.d.comb += [
            self.i.ready.eq((tail ^ head) != self._depth),
            self.o.valid.eq(tail != head),
            # The free place at the tail is written with whatever is offered: only `tail`, which
            # says what is held, needs to know in time whether it is valid.
            ram.write_en.eq(self.i.ready),
            ram.write_addr.eq(tail),
            ram.write_data.eq(self.i.payload),
            ram.read_addr.eq(head),
            self.o.payload.eq(ram.read_data),
        ]
        # Enables, not addends: they come late.
        with m.If(put):
            m.d.sync += tail.eq(one_more(tail))
        with m.If(get):
            m.d.sync += head.eq(one_more(head))
        return m


class Buffer(wiring.Component):
    """A queue of two places, all of it registers: neither payload nor ready goes through in the
    same cycle. Reset empties it.

    Args:
        shape: of the payload.
    """

    def __init__(self, *, shape: ShapeLike):
        self._shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        behind = Signal(self._shape, reset_less=True)
        behind_valid = Signal()
        m.d.comb += self.i.ready.eq(~behind_valid)
        with m.If(~behind_valid):  # whether or not it will be needed: `o.ready` comes late
            m.d.sync += behind.eq(self.i.payload)
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [
                self.o.payload.eq(Mux(behind_valid, behind, self.i.payload)),
                self.o.valid.eq(behind_valid | self.i.valid),
            ]
        stuck = self.o.valid & ~self.o.ready
        m.d.sync += behind_valid.eq(stuck & (behind_valid | self.i.valid))
        return m

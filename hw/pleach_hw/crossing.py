"""Words from one clock to another."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out


class Crossing(wiring.Component):
    """A stream from the clock `source` to the clock `target`, whatever the two are.

    A word waits in a register while a bit, turned over, goes to the other side and back: at most a
    word is under way, and each takes about three cycles of either clock. There is no memory in it.
    Both domains are to be reset together.

    Args:
        shape: of a word.
        source, target: clock domains of `i` and `o`.
    """

    def __init__(self, shape: ShapeLike, *, source: str, target: str):
        self._shape = shape
        self._source = source
        self._target = target
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        word = Signal(self._shape, reset_less=True)
        sent, sent_seen = Signal(), Signal()
        taken, taken_seen = Signal(), Signal()
        m.submodules.forth = FFSynchronizer(sent, sent_seen, o_domain=self._target)
        m.submodules.back = FFSynchronizer(taken, taken_seen, o_domain=self._source)
        m.d.comb += [
            self.i.ready.eq(sent == taken_seen),
            self.o.valid.eq(sent_seen != taken),
            self.o.payload.eq(word),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d[self._source] += [word.eq(self.i.payload), sent.eq(~sent)]
        with m.If(self.o.valid & self.o.ready):
            m.d[self._target] += taken.eq(sent_seen)
        return m

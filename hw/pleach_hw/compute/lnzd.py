"""Non-zero detection: from vectors of activations to a broadcast that passes over the zeros."""

from __future__ import annotations

import operator

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach_hw.layouts import token_layout, vector_layout
from pleach_hw.queue import Queue


class NonZeroDetector(wiring.Component):
    """Takes a vector a cycle and gives a token for each of its activations that is not zero, in
    the order of columns: one token a cycle without a gap, the first three cycles after its vector.

    Vectors of zeros are dropped at the input, so that a run of them takes `lanes` columns a cycle.
    Each layer ends in exactly one token with `last`. Back-pressure: up to `depth` vectors wait;
    `i.ready` does not depend on `o.ready`. Where only one can wait, one comes in every other cycle
    at most, and its first token a cycle sooner. Reset drops all that wait.

    Args:
        lanes: activations in a vector.
        column_width: bits of a column number.
        depth: vectors that can wait, a power of two.
    """

    def __init__(self, *, lanes: int = 4, column_width: int = 16, depth: int = 16):
        self._lanes = operator.index(lanes)
        self._column_width = operator.index(column_width)
        self._depth = operator.index(depth)
        self._vector = vector_layout(lanes=self._lanes, column_width=self._column_width)
        token = token_layout(column_width=self._column_width)
        super().__init__(
            {"i": In(stream.Signature(self._vector)), "o": Out(stream.Signature(token))}
        )

    def elaborate(self, platform):
        m = Module()
        # What enters has a register, and one of the places while it is there. From there on `mask`
        # says which lanes hold something other than zero.
        entered, entered_valid = Signal(self._vector, reset_less=True), Signal()
        found = Cat(entered.mask[n] & (entered.values[n] != 0) for n in range(self._lanes))
        something = entered_valid & (found.any() | entered.last)
        if self._depth > 1:
            m.submodules.queue = queue = Queue(shape=self._vector, depth=self._depth)
            waiting = queue.o
            m.d.sync += [
                entered.eq(self.i.payload),
                entered_valid.eq(self.i.valid & self.i.ready),
            ]
            # Places taken, given back a cycle late: the host's `tready` comes from here.
            taken = Signal(range(self._depth + 1))
            back = Signal(2)
            left = queue.o.valid & queue.o.ready
            m.d.sync += back.eq((entered_valid & ~something) + left)
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += taken.eq(taken + 1 - back)
            with m.Else():
                m.d.sync += taken.eq(taken - back)
            m.d.comb += [
                queue.i.payload.eq(entered),
                queue.i.payload.mask.eq(found),
                queue.i.valid.eq(something),
                self.i.ready.eq(~taken[-1]),  # the depth is a power of two
            ]
        else:
            waiting = stream.Signature(self._vector).create()
            m.d.comb += [
                waiting.payload.eq(entered),
                waiting.payload.mask.eq(found),
                waiting.valid.eq(something),
                self.i.ready.eq(~entered_valid),
            ]
            with m.If(entered_valid):
                m.d.sync += entered_valid.eq(something & ~waiting.ready)
            with m.Else():
                m.d.sync += [entered.eq(self.i.payload), entered_valid.eq(self.i.valid)]

        # The next vector waits here until all its lanes were sent; `mask` is what is left of it.
        vector, token = Signal(self._vector, reset_less=True), self.o.payload
        mask = vector.mask
        after = Cat(mask[n] & mask[:n].any() for n in range(self._lanes))  # without its lowest bit
        done = ~self.o.valid | (self.o.ready & ~after.any())
        m.d.comb += [
            token.column.eq(vector.column),
            token.present.eq(mask.any()),
            token.last.eq(vector.last & ~after.any()),
            waiting.ready.eq(done),
        ]
        for lane in reversed(range(self._lanes)):
            with m.If(mask[lane]):
                m.d.comb += token.value.eq(vector.values[lane])
                m.d.comb += token.column.eq(vector.column | lane)
        with m.If(done):
            m.d.sync += [vector.eq(waiting.payload), self.o.valid.eq(waiting.valid)]
        with m.Elif(self.o.ready):
            m.d.sync += mask.eq(after)
        return m

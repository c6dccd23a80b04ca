"""The scales of a layer's rows."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach_hw.buses import ScaleBus
from pleach_hw.layouts import map_pass_layout


class ScaleReader(wiring.Component):
    """Reads the scales of a layer, two in a word, and deals them out as the rows are.

    Ports:
        start: strobe, read those of `pass_`, which stands until `done`; they go to `base` and
            behind it.
        i: the words; the one after the last scale is not taken.
        o: a write in each cycle, a cycle behind.
        done: strobe, the last one was read.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "pass_": In(map_pass_layout(config)),
                "base": In(range(config.scales + 1)),
                "i": In(stream.Signature(32)),
                "o": Out(ScaleBus(config)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        left, high = Signal.like(self.pass_.rows), Signal(16)
        half = Signal()  # the upper half of a word is next
        pe, row = Signal(range(self._config.pes)), Signal.like(self.o.row)
        last_pe = pe == (self._config.pes - 1) >> self.pass_.teams
        reads = Signal()
        m.d.comb += [
            self.i.ready.eq((left != 0) & ~half),
            reads.eq((left != 0) & (half | self.i.valid)),
            self.done.eq(reads & (left == 1)),
        ]
        m.d.sync += [
            self.o.write.eq(reads),
            self.o.pe.eq(pe),
            self.o.row.eq(row),
            self.o.value.eq(Mux(half, high, self.i.payload[:16])),
        ]
        with m.If(reads):
            m.d.sync += [
                left.eq(left - 1),
                half.eq(~half & (left != 1)),
                high.eq(self.i.payload[16:]),
                pe.eq(Mux(last_pe, 0, pe + 1)),
                row.eq(row + last_pe),
            ]
        with m.If(self.start):
            m.d.sync += [left.eq(self.pass_.rows), half.eq(0), pe.eq(0), row.eq(self.base)]
        return m

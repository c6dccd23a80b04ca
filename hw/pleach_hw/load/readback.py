"""The loader by itself, with what it writes to processing elements as words: for tests of files."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach_hw.load.loader import Loader

#: What bits 1:0 of a word say: a codebook value in 31:16; an entry, its code in 9:2 and its row in
#: 31:16; the end of a column; the loader's verdict, its error in 9:2 and the detail in 31:16.
VALUE, ENTRY, COLUMN, VERDICT = range(4)


class Readback(wiring.Component):
    """A loader for one PE; what it writes comes out as words, at most one a cycle."""

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "s_axis_tdata": In(32),
                "s_axis_tvalid": In(1),
                "s_axis_tlast": In(1),
                "s_axis_tready": Out(1),
                "m_axis_tdata": Out(32),
                "m_axis_tvalid": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.loader = loader = Loader(self._config)
        started = Signal()
        m.d.sync += started.eq(1)
        m.d.comb += [
            loader.start.eq(~started),
            loader.i.p.data.eq(self.s_axis_tdata),
            loader.i.p.last.eq(self.s_axis_tlast),
            loader.i.valid.eq(self.s_axis_tvalid),
            self.s_axis_tready.eq(loader.i.ready),
        ]
        kind, low, high = Signal(2), Signal(14), Signal(16)
        m.d.comb += self.m_axis_tdata.eq(Cat(kind, low, high))
        words = (
            (VALUE, loader.codebook.write, 0, loader.codebook.value),
            (ENTRY, loader.pes.entry_valid, loader.pes.entry.code, loader.pes.entry.row),
            (COLUMN, loader.pes.column_end, 0, 0),
            (VERDICT, loader.done, loader.error, loader.detail),
        )
        m.d.comb += self.m_axis_tvalid.eq(Cat(strobe for _, strobe, _, _ in words).any())
        for number, strobe, low_value, high_value in words:
            with m.If(strobe):
                m.d.comb += [kind.eq(number), low.eq(low_value), high.eq(high_value)]
        return m

"""The loader by itself, with what it writes to processing elements as words: for tests of files."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from pleach.engine import EngineConfig
from pleach_hw.load.loader import Loader
from pleach_hw.maps.records import Records

#: What bits 1:0 of a word say: a codebook value in 31:16; an entry, its code in 9:2 and its row in
#: 31:16; the end of a column; the loader's verdict, its error in 9:2 and the detail in 31:16.
VALUE, ENTRY, COLUMN, VERDICT = range(4)


class Readback(wiring.Component):
    """A loader for one PE; what it writes comes out as words, at most one a cycle.

    With a map memory two packets come, the plan and the file, else the file alone.
    """

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
        started, loading = Signal(), Signal()
        m.d.sync += started.eq(1)
        readers = [(loader, loading)]
        if self._config.maps:
            m.submodules.records = records = Records(self._config)
            readers.append((records, ~loading))
            m.d.sync += loading.eq(loading | records.done)
            m.d.comb += [
                records.start.eq(~started),
                loader.start.eq(records.done),
                records.fetch.eq(loader.fetch),
                records.index.eq(loader.index),
                loader.pass_.eq(records.pass_),
                loader.fetched.eq(records.fetched),
                loader.planned.eq(records.planned),
                loader.passes.eq(records.passes),
            ]
            connect(m, loader.record, records.record)
        else:
            m.d.comb += [loader.start.eq(~started), loading.eq(1)]
        m.d.comb += self.s_axis_tready.eq(Cat(r.i.ready & turn for r, turn in readers).any())
        for reader, turn in readers:
            m.d.comb += [
                reader.i.p.data.eq(self.s_axis_tdata),
                reader.i.p.last.eq(self.s_axis_tlast),
                reader.i.valid.eq(self.s_axis_tvalid & turn),
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

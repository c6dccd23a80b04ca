"""A layer from its words: tables, entries, and where each entry goes."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from pleach.engine import EngineConfig
from pleach.engine.protocol import EngineError
from pleach_hw.buses import CodebookBus
from pleach_hw.layouts import entry_layout
from pleach_hw.load.fields import LAYER_FIELDS
from pleach_hw.load.scatter import Scatter
from pleach_hw.load.tables import TableReader


class LayerDecoder(wiring.Component):
    """Decodes one layer after the other, and writes it into the PEs.

    It knows of no file: words come from wherever a layer is kept. An entry takes as long as
    `decoder` takes, an empty column a cycle.

    Args:
        decoder: `EntryDecoder` or `SerialDecoder`.
        scatter: `Scatter` or `MapScatter`.

    Ports:
        start: strobe, decode the layer of `fields`, which stand until `done`, as do its `rows` and
            `columns`.
        column_base, codebook_base: where its columns and its codebook go.
        i, exhausted: the words after the fields, and that there are no more.
        done: strobe, the layer was decoded; words may be left.
        refuse, error: strobe, it is wrong; the decoder must be reset.
        entry_valid, entry, column_end, column: as in `LoadBus`, for all PEs.
        codebook: for all PEs.
    """

    def __init__(self, config: EngineConfig, decoder: wiring.Component, scatter: Scatter):
        self._config = config
        self._decoder = decoder
        self._scatter = scatter
        super().__init__(
            {
                "start": In(1),
                "fields": In(LAYER_FIELDS),
                "rows": In(16),
                "columns": In(17),
                "column_base": In(range(config.columns + 1)),
                "codebook_base": In(range(config.codebook + 1)),
                "i": In(stream.Signature(32)),
                "exhausted": In(1),
                "done": Out(1),
                "refuse": Out(1),
                "error": Out(EngineError),
                "entry_valid": Out(config.pes),
                "entry": Out(entry_layout(config)),
                "column_end": Out(config.groups),
                "column": Out(range(config.columns)),
                "codebook": Out(CodebookBus(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.tables = tables = TableReader(self._config)
        m.submodules.decoder = decoder = self._decoder
        m.submodules.scatter = scatter = self._scatter
        connect(m, tables.code_table, decoder.code_table)
        connect(m, tables.gap_table, decoder.gap_table)
        connect(m, tables.classes, decoder.classes)
        connect(m, tables.codebook, flipped(self.codebook))
        connect(m, decoder.o, scatter.i)
        fields = self.fields
        out_of_data = Signal()
        m.d.sync += [
            out_of_data.eq(decoder.starved & self.exhausted),
        ]
        m.d.comb += [
            tables.tables.eq(fields.tables),
            tables.codebook_base.eq(self.codebook_base),
            tables.exhausted.eq(self.exhausted),
            # One of the two takes words at a time.
            tables.i.payload.eq(self.i.payload),
            tables.i.valid.eq(self.i.valid),
            decoder.i.payload.eq(self.i.payload),
            decoder.i.valid.eq(self.i.valid),
            self.i.ready.eq(tables.i.ready | decoder.i.ready),
            decoder.entries.eq(fields.entries),
            decoder.code_length.eq(fields.tables.code_length),
            decoder.gap_length.eq(fields.tables.gap_length),
            scatter.rows.eq(self.rows),
            scatter.columns.eq(self.columns),
            scatter.column_base.eq(self.column_base),
            self.entry_valid.eq(scatter.entry_valid),
            self.entry.eq(scatter.entry),
            self.column_end.eq(scatter.column_end),
            self.column.eq(scatter.column),
        ]

        def fail(error: EngineError) -> None:
            m.d.comb += [self.refuse.eq(1), self.error.eq(error)]
            m.next = "idle"

        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.comb += decoder.clear.eq(1)
                m.next = "begin"
                with m.If(fields.entries != 0):
                    m.d.comb += tables.start.eq(1)
                    m.next = "tables"
            with m.State("tables"):
                with m.If(tables.done):
                    m.next = "begin"
                with m.If(tables.refuse):
                    fail(tables.error)
            with m.State("begin"):
                m.d.comb += [decoder.start.eq(1), scatter.start.eq(1)]
                m.next = "entries"
            with m.State("entries"):
                m.d.comb += scatter.finish.eq(decoder.done)
                with m.If(scatter.outside):
                    fail(EngineError.POSITION)
                with m.Elif(out_of_data):
                    fail(EngineError.DATA)
                with m.Elif(scatter.done):
                    m.d.comb += self.done.eq(1)
                    m.next = "idle"
        return m

"""A layer from its words: tables, entries, and where each entry goes."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from pleach.engine import EngineConfig
from pleach.engine.protocol import EngineError
from pleach_hw.buses import CodebookBus, ScaleBus
from pleach_hw.layouts import entry_layout, map_pass_layout
from pleach_hw.load.fields import LAYER_FIELDS
from pleach_hw.load.scales import ScaleReader
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

    Ports besides, of an engine with scales:
        pass_: of the layer; stands while it is decoded.
        scale_base: where its scales go.
        scales: for all groups.
    """

    def __init__(self, config: EngineConfig, decoder: wiring.Component, scatter: Scatter):
        self._config = config
        self._decoder = decoder
        self._scatter = scatter
        more = {}
        if config.scales:
            more = {
                "pass_": In(map_pass_layout(config)),
                "scale_base": In(range(config.scales + 1)),
                "scales": Out(ScaleBus(config)),
            }
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
                "codebook": Out(CodebookBus(config, size=config.codebook)),
                **more,
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

        readers = [tables, decoder]
        scales = ScaleReader(self._config) if self._config.scales else None
        if scales is not None:
            m.submodules.scales = scales
            readers.append(scales)
            connect(m, scales.o, flipped(self.scales))
            m.d.comb += [scales.pass_.eq(self.pass_), scales.base.eq(self.scale_base)]
        # One of them takes words at a time.
        for reader in readers:
            m.d.comb += [
                reader.i.payload.eq(self.i.payload),
                reader.i.valid.eq(self.i.valid),
            ]
        m.d.comb += self.i.ready.eq(Cat(reader.i.ready for reader in readers).any())

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
                    if scales is not None:
                        with m.If(fields.scale.scaled):
                            m.d.comb += scales.start.eq(1)
                            m.next = "scales"
                with m.If(tables.refuse):
                    fail(tables.error)
            if scales is not None:
                with m.State("scales"):
                    with m.If(scales.done):
                        m.next = "begin"
                    with m.Elif(scales.i.ready & ~self.i.valid & self.exhausted):
                        fail(EngineError.DATA)
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

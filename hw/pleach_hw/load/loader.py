"""The loader: checks a bitstream word by word and fills the processing elements from it."""

from __future__ import annotations

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from pleach.engine import EngineConfig
from pleach.engine.protocol import EngineError
from pleach_hw.buses import CodebookBus, LoadBus, ProgramBus, RecordBus, ScaleBus
from pleach_hw.layouts import PACKET_WORD, map_pass_layout
from pleach_hw.load.commit import Commit, MapCommit
from pleach_hw.load.entry_decoder import EntryDecoder
from pleach_hw.load.fields import FieldReader
from pleach_hw.load.framing import Framing, PacketBuffer
from pleach_hw.load.layer import LayerDecoder
from pleach_hw.load.scatter import MapScatter, Scatter
from pleach_hw.load.serial_decoder import SerialDecoder


class Loader(wiring.Component):
    """Reads the file of a LOAD packet and fills the PEs, the codebook and the program.

    `Framing` gives out the words of the layers' sections, `FieldReader` reads what a layer is,
    `Commit` knows whether there is room for it, and `LayerDecoder` fills the PEs. Each of them may
    refuse the file.

    A word a cycle outside of the data words; data words as the entry decoder asks for them, an
    entry in two cycles, an empty column in one. With `serial_loader` a word takes 32 cycles, and an
    entry as many as `SerialDecoder` says. Whatever is wrong ends in `done` with
    an error, after the packet's last word was taken; no write goes past what the PEs and the
    program hold, whatever the file says.

    Ports:
        start: a packet begins; what was loaded is void.
        i: its words after the command word.
        done: strobe, the packet was taken; `error` and `detail` stand until the next start.
        input_type: of the header, once done without an error.
        program: to the control unit, a pass for each layer.
        pes, codebook: to all PEs.

    With a map memory, instead of `program`:
        fetch, index: strobe, show the pass of this number.
        pass_, fetched: it, and that it is there.
        planned, passes: there is a plan, and of so many passes.
        record: write port of the records of passes.
        scales: to all groups, where the engine has some.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        if config.maps:
            more = {
                "fetch": Out(1),
                "index": Out(range(config.layers + 1)),
                "pass_": In(map_pass_layout(config)),
                "fetched": In(1),
                "planned": In(1),
                "passes": In(8),
                "record": Out(RecordBus(config)),
            }
            if config.scales:
                more["scales"] = Out(ScaleBus(config))
        else:
            more = {"program": Out(ProgramBus(config))}
        super().__init__(
            {
                "start": In(1),
                "i": In(stream.Signature(PACKET_WORD)),
                "done": Out(1),
                "error": Out(EngineError),
                "detail": Out(16),
                "input_type": Out(1),
                "pes": Out(LoadBus(config, pes=config.pes)),
                "codebook": Out(CodebookBus(config, size=config.codebook)),
                **more,
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        most_entries = config.most_columns * config.most_rows
        if config.serial_loader:
            decoder, crc_bits = SerialDecoder(most_entries), 1
        else:
            decoder, crc_bits = EntryDecoder(most_entries), 32
        m.submodules.framing = framing = Framing(
            layers=config.layers, crc_bits=crc_bits, settle=2 if config.maps else 1
        )
        m.submodules.commit = commit = (MapCommit if config.maps else Commit)(config)
        scatter = (MapScatter if config.maps else Scatter)(config)
        # What a refused layer leaves half-way must not reach the next one.
        fields = FieldReader(maps=bool(config.maps), scales=bool(config.scales))
        layer = LayerDecoder(config, decoder, scatter)
        m.submodules.fields = ResetInserter(framing.abandon)(fields)
        m.submodules.layer = ResetInserter(framing.abandon)(layer)
        if config.serial_loader:
            connect(m, flipped(self.i), framing.i)
        else:  # so that host link and loader have a cycle each
            m.submodules.buffer = buffer = PacketBuffer()
            connect(m, flipped(self.i), buffer.i)
            connect(m, buffer.o, framing.i)
            m.d.comb += buffer.open.eq(self.start)

        begin = fields.done & ~commit.refused
        m.d.comb += [
            framing.start.eq(self.start),
            self.done.eq(framing.done),
            self.error.eq(framing.error),
            self.detail.eq(framing.detail),
            self.input_type.eq(framing.input_type),
            fields.begin.eq(framing.begin),
            fields.section.eq(framing.section),
            fields.version.eq(framing.version),
            fields.exhausted.eq(framing.exhausted),
            commit.clear.eq(self.start),
            commit.layers.eq(framing.layers),
            commit.last.eq(framing.last),
            commit.fields.eq(fields.fields),
            commit.commit.eq(framing.commit),
            layer.start.eq(begin & ~fields.fields.pool),
            layer.fields.eq(fields.fields),
            layer.rows.eq(commit.rows),
            layer.columns.eq(commit.columns),
            layer.column_base.eq(commit.column_base),
            layer.codebook_base.eq(commit.codebook_base),
            layer.exhausted.eq(framing.exhausted),
            framing.finish.eq(layer.done | (begin & fields.fields.pool)),
            framing.full.eq(self.pes.overflow),
            framing.refuse.eq(fields.refuse | (fields.done & commit.refused) | layer.refuse),
        ]
        # One of the two takes words at a time.
        for reader in (fields, layer):
            m.d.comb += [
                reader.i.payload.eq(framing.o.payload),
                reader.i.valid.eq(framing.o.valid),
            ]
        m.d.comb += framing.o.ready.eq(fields.i.ready | layer.i.ready)
        with m.If(layer.refuse):
            m.d.comb += framing.refusal.error.eq(layer.error)
        with m.Elif(fields.refuse):
            m.d.comb += framing.refusal.error.eq(fields.error)
        with m.Else():
            m.d.comb += framing.refusal.eq(commit.refusal)
        if config.maps:
            connect(m, commit.record, flipped(self.record))
            fetching = Signal()  # a cycle behind: `fetched` is the pass before's
            m.d.sync += fetching.eq(framing.begin)
            m.d.comb += [
                self.fetch.eq(framing.begin),
                self.index.eq(framing.layers),
                commit.planned.eq(self.planned),
                commit.passes.eq(self.passes),
                commit.pass_.eq(self.pass_),
                commit.begin.eq(begin),
                scatter.pass_.eq(self.pass_),
                fields.wait.eq(fetching | ~self.fetched),
            ]
            if config.scales:
                connect(m, layer.scales, flipped(self.scales))
                m.d.comb += [
                    layer.pass_.eq(self.pass_),
                    layer.scale_base.eq(commit.scale_base),
                ]
        else:
            connect(m, commit.program, flipped(self.program))
        connect(m, layer.codebook, flipped(self.codebook))
        m.d.sync += self.pes.clear.eq(self.start)
        m.d.comb += [
            self.pes.entry_valid.eq(layer.entry_valid),
            self.pes.entry.eq(layer.entry),
            self.pes.column_end.eq(layer.column_end),
            self.pes.column.eq(layer.column),
        ]
        return m

"""From the first words of a section to what is known of its layer, as far as the file says it."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import words
from pleach.engine.protocol import EngineError
from pleach.format import gaps
from pleach.numbers import CODEBOOK_MAX, EXPONENT_MAX, SHIFT_MAX
from pleach_hw.layouts import layout
from pleach_hw.load.framing import SECTION_HEAD

_SIZE, _COUNT, _SCALE, _TABLES = words.LAYER_WORDS

#: A layer's fields as they stand in the file; of a convolution's geometry nothing is kept.
LAYER_FIELDS = data.StructLayout(
    {
        "size": layout(_SIZE),
        "count": layout(_COUNT),
        "scale": layout(_SCALE),
        "tables": layout(_TABLES),
        "columns": 17,  # inputs and bias
        "convolution": 1,
    }
)

#: Cycles until a layer's fields are checked.
CHECK_CYCLES = 2


class FieldReader(wiring.Component):
    """Reads the fields of a layer, a word a cycle, and checks what no engine could run.

    Ports:
        section: the head of a section, until that of the next one.
        begin: strobe, it begins; two cycles after its head or later.
        i: its words.
        fields: stand from `done` until the next section.
        done: strobe, they are right: `CHECK_CYCLES` + 1 cycles after their last word was taken.
        refuse, error: they are wrong. Said instead of `done`, or from `begin` on where the section
            cannot have any.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "begin": In(1),
                "section": In(SECTION_HEAD),
                "i": In(stream.Signature(32)),
                "fields": Out(LAYER_FIELDS),
                "done": Out(1),
                "refuse": Out(1),
                "error": Out(EngineError),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        parts = [self.fields[name] for name in ("size", "count", "scale", "tables")]
        layer_words = words.LAYER_WORDS + words.CONV_WORDS
        convolution = self.section.type == words.SECTION_CONV
        bad_geometry = Signal()
        unknown, too_short, bad_field, bad_table = self._checks(m, bad_geometry)
        m.d.comb += [
            self.fields.convolution.eq(convolution),
            self.refuse.eq(unknown | too_short),
            self.error.eq(
                Mux(
                    unknown,
                    EngineError.SECTION_TYPE,
                    Mux(too_short | bad_field, EngineError.BAD_FIELD, EngineError.BAD_TABLE),
                )
            ),
        ]
        with m.FSM():
            with m.State("idle"), m.If(self.begin & ~self.refuse):
                m.next = "field 0"
            for index, layer_word in enumerate(layer_words):
                with m.State(f"field {index}"):
                    m.d.comb += self.i.ready.eq(1)
                    # Words are kept whether one is there or not: the last that a state sees is
                    # taken.
                    if index < len(parts):
                        m.d.sync += [parts[index].eq(self.i.payload), bad_geometry.eq(0)]
                    with m.If(self.i.valid):
                        m.next = f"field {index + 1}" if index + 1 < len(layer_words) else "check 0"
                        # Of a convolution's geometry the engine knows only that it must be sound.
                        if index >= len(parts):
                            bad = (self.i.payload & layer_word.reserved()) != 0
                            m.d.sync += bad_geometry.eq(bad_geometry | bad)
                        if index + 1 == len(parts):
                            with m.If(~convolution):
                                m.next = "check 0"
            for index in range(CHECK_CYCLES):
                with m.State(f"check {index}"):
                    m.next = f"check {index + 1}" if index + 1 < CHECK_CYCLES else "judge"
            with m.State("judge"):
                with m.If(bad_field | bad_table):
                    m.d.comb += self.refuse.eq(1)
                with m.Else():
                    m.d.comb += self.done.eq(1)
                m.next = "idle"
        return m

    def _checks(self, m: Module, bad_geometry: Signal) -> tuple[Signal, Signal, Signal, Signal]:
        """A section of another kind, a payload shorter than its fields, a field out of range,
        tables that cannot be.

        They follow the fields by a carry chain a cycle: nothing here is in a hurry.
        """
        fields, length = self.fields, self.section.length
        size, count, scale, tables = fields.size, fields.count, fields.scale, fields.tables
        field_words = Mux(
            fields.convolution,
            len(words.LAYER_WORDS) + len(words.CONV_WORDS),
            len(words.LAYER_WORDS),
        )
        reserved = [
            (field.as_value() & word.reserved()) != 0
            for field, word in zip((size, count, scale, tables), words.LAYER_WORDS, strict=True)
        ]
        no_tables = (
            (tables.codebook_size == 0)
            & (tables.code_length == 0)
            & (tables.gap_classes == 0)
            & (tables.gap_length == 0)
            & ~tables.narrow
        )
        bad_fields = [
            *reserved,
            bad_geometry,
            size.inputs == 0,
            size.outputs == 0,
            fields.columns[16],
            # No entry takes less than a bit: a payload's word pays for 32 of them.
            Cat(count.entries[:5].any(), count.entries[5:]) > length << 1,
            scale.shift > SHIFT_MAX,
            scale.activation > 1,
            scale.bias_exponent > EXPONENT_MAX,
            tables.codebook_size > CODEBOOK_MAX,
            tables.code_length > words.MAX_CODE_LENGTH,
            tables.gap_classes > gaps.CLASSES,
            tables.gap_length > words.MAX_GAP_LENGTH,
            (count.entries == 0) & (~no_tables | (length != field_words)),
            (count.entries != 0) & ((tables.codebook_size == 0) | (tables.gap_classes == 0)),
        ]
        bad_words = Signal(len(bad_fields))
        unknown, too_short, bad_field, bad_table = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            fields.columns.eq(size.inputs + scale.bias),
            bad_words.eq(Cat(bad_fields)),
            bad_field.eq(bad_words.any()),
            bad_table.eq(
                (count.entries != 0) & ((tables.codebook_size == 1) != (tables.code_length == 0))
            ),
            unknown.eq((self.section.type != words.SECTION_LAYER) & ~fields.convolution),
            too_short.eq(~length[3:].any() & (length[:3] < field_words)),
        ]
        return unknown, too_short, bad_field, bad_table

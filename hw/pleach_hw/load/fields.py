"""From the first words of a section to what is known of its layer, as far as the file says it."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import words
from pleach.engine.protocol import EngineError
from pleach.engine.words import Word
from pleach.format import gaps
from pleach.numbers import CODEBOOK_MAX, EXPONENT_MAX, INT16, INT16_MAX, SHIFT_MAX
from pleach_hw.layouts import layout
from pleach_hw.load.framing import SECTION_HEAD

#: A layer's fields; of a convolution's geometry nothing is kept.
LAYER_FIELDS = data.StructLayout(
    {
        "inputs": 16,  # without a short form: as the file says them, of a map its channels
        "outputs": 16,
        "entries": 32,
        "scale": layout(words.SCALE_WORD),
        "tables": layout(words.TABLES_WORD),
        "low": signed(16),  # the bounds of its activations
        "high": signed(16),
        "short": 1,
        "pool": 1,  # it has no weights
    }
)

#: Cycles until a layer's fields are checked.
CHECK_CYCLES = 2


class FieldReader(wiring.Component):
    """Reads the fields of a layer, a word a cycle, and checks what no engine could run.

    Args:
        maps: the engine has a map memory. One without refuses all but fully connected layers.
        scales: it runs layers with scales; with a map memory only.

    Ports:
        version: of the file.
        section: the head of a section, until that of the next one.
        begin: strobe, it begins; two cycles after its head or later.
        i, exhausted: its words, and that there are no more.
        wait: it cannot be judged yet.
        fields: stand from `done` until the next section.
        done: strobe, they are right: `CHECK_CYCLES` + 1 cycles after their last word was taken.
        refuse, error: they are wrong. Said instead of `done`, or from `begin` on where the section
            cannot have any.
    """

    def __init__(self, *, maps: bool = False, scales: bool = False) -> None:
        self._maps, self._scales = maps, scales
        super().__init__(
            {
                "version": In(8),
                "begin": In(1),
                "section": In(SECTION_HEAD),
                "i": In(stream.Signature(32)),
                "exhausted": In(1),
                "wait": In(1),
                "fields": Out(LAYER_FIELDS),
                "done": Out(1),
                "refuse": Out(1),
                "error": Out(EngineError),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        fields, payload = self.fields, self.i.payload
        kind, short = self._kinds()
        convolution, pool = kind == words.SECTION_CONV, kind == words.SECTION_POOL
        bad = Signal()  # a word behind the first ones is
        refusals = self._checks(m, bad)
        ended = Signal()  # there are too few words
        m.d.comb += [
            fields.pool.eq(pool),
            fields.short.eq(short),
            self.refuse.eq(refusals["unknown"] | refusals["unsupported"] | ended),
            self.error.eq(EngineError.BAD_TABLE),
        ]
        with m.If(refusals["unknown"]):
            m.d.comb += self.error.eq(EngineError.SECTION_TYPE)
        with m.Elif(refusals["unsupported"] | (refusals["cannot"] & ~ended)):
            m.d.comb += self.error.eq(EngineError.UNSUPPORTED)
        with m.Elif(ended | refusals["field"]):
            m.d.comb += self.error.eq(EngineError.BAD_FIELD)

        def go(name: str) -> None:
            m.d.sync += self.i.ready.eq(name not in ("idle", "check 0"))
            m.next = name

        def state(name: str, word: Word, after: str | list[tuple[Value, str]], *keep) -> None:
            """A word: what it is kept in, and the state behind it. It is kept whether one is there
            or not: the last that a state sees is taken."""
            with m.State(name):
                m.d.comb += ended.eq(self.exhausted)
                m.d.sync += list(keep)
                with m.If(self.i.valid):
                    if word.reserved():
                        m.d.sync += bad.eq(bad | ((payload & word.reserved()) != 0))
                    go("check 0")
                    if isinstance(after, str):
                        go(after)
                    else:
                        for condition, following in reversed(after):
                            with m.If(condition):
                                go(following)
                with m.If(ended):
                    go("idle")

        long, short_word = layout(words.LONG_WORDS[0])(payload), layout(words.SHORT_WORD)(payload)
        scale, tables = fields.scale, fields.tables
        with m.FSM():
            with m.State("idle"):
                m.d.sync += bad.eq(0)
                with m.If(self.begin & ~self.refuse):
                    go("size")
                    with m.If(short):
                        go("short")
                    if self._maps:
                        with m.If(pool):
                            go("channels")
                            with m.If(short):
                                go("window")
            # Words that a layer has always.
            size = [fields.inputs.eq(long.inputs), fields.outputs.eq(long.outputs)]
            state("size", words.LONG_WORDS[0], "count", *size)
            state("count", words.LONG_WORDS[1], "scale", fields.entries.eq(payload))
            state(
                "short", words.SHORT_WORD, "scale",
                fields.outputs.eq(short_word.outputs), fields.entries.eq(short_word.entries),
                fields.inputs.eq(0),
            )  # fmt: skip
            bounds = self._bounds(layout(words.SCALE_WORD)(payload))
            state("scale", words.SCALE_WORD, "tables", scale.eq(payload), *bounds)
            if self._maps:
                self._map_states(state, convolution, short)
                more = [
                    (scale.function[1], "bounds"),
                    (scale.joined, "joined"),
                    (convolution & ~short, "map"),
                    (convolution, "kernel"),
                ]
                state("tables", words.TABLES_WORD, more, tables.eq(payload))
            else:
                state("tables", words.TABLES_WORD, "check 0", tables.eq(payload))
            for index in range(CHECK_CYCLES):
                with m.State(f"check {index}"), m.If(~self.wait):
                    m.next = f"check {index + 1}" if index + 1 < CHECK_CYCLES else "judge"
            with m.State("judge"):
                wrong = refusals["cannot"] | refusals["field"] | refusals["table"]
                with m.If(wrong):
                    m.d.comb += self.refuse.eq(1)
                with m.Else():
                    m.d.comb += self.done.eq(1)
                m.next = "idle"
        return m

    def _kinds(self) -> tuple[Value, Value]:
        """The kind of the section, and whether its first words are short."""
        kind = self.section.type
        return Cat(kind[:4], 0, kind[5:]), kind[4]

    def _bounds(self, scale: data.View) -> list:
        """The bounds that go with a function, as far as it says them itself."""
        relu = scale.function == 1
        return [
            self.fields.low.eq(Mux(relu, 0, INT16[0])),
            self.fields.high.eq(INT16_MAX),
        ]

    def _map_states(self, state, convolution: Value, short: Value) -> None:
        """The words that only an engine with a map memory takes."""
        fields, payload = self.fields, self.i.payload
        bounds = layout(words.BOUNDS_WORD)(payload)
        geometry = [(convolution & ~short, "map"), (convolution, "kernel")]
        state(
            "bounds", words.BOUNDS_WORD, [(fields.scale.joined, "joined"), *geometry],
            fields.low.eq(bounds.low), fields.high.eq(bounds.high),
        )  # fmt: skip
        has_skip = layout(words.JOINED_WORD)(payload).skip_channels != 0
        state("joined", words.JOINED_WORD, [(has_skip, "skip"), *geometry])
        state("skip", words.SKIP_WORD, geometry)
        state("map", words.MAP_WORD, "kernel")
        sides = layout(words.KERNEL_WORD)(payload).sides
        state("kernel", words.KERNEL_WORD, [(sides, "sides")])
        state("sides", words.SIDES_WORD, "padding")
        state("padding", words.PADDING_WORD, "check 0")
        pooling = layout(words.POOL_WORD)(payload)
        state("channels", words.CHANNELS_WORD, "pool map")
        state("pool map", words.MAP_WORD, "window")
        state("window", words.WINDOW_WORD, "pool padding")
        state("pool padding", words.PADDING_WORD, "pool")
        state(
            "pool", words.POOL_WORD, "check 0",
            fields.scale.eq(0), fields.scale.shift.eq(pooling.shift), fields.entries.eq(0),
            fields.tables.eq(0), fields.outputs.eq(1), fields.inputs.eq(1),
            fields.low.eq(INT16[0]), fields.high.eq(INT16_MAX),
        )  # fmt: skip

    def _checks(self, m: Module, bad: Signal) -> dict[str, Signal]:
        """What is wrong: a section of an unknown kind, or of one that this engine never runs; what
        it does not run of a layer, a field out of range, tables that cannot be.

        They follow the fields by a carry chain a cycle: nothing here is in a hurry.
        """
        fields, length = self.fields, self.section.length
        scale, tables = fields.scale, fields.tables
        kind, short = self._kinds()
        old = self.version == words.VERSIONS[0]
        layer = kind == words.SECTION_LAYER
        mapped = (kind == words.SECTION_CONV) | (kind == words.SECTION_POOL)
        known = layer | mapped | ((kind == words.SECTION_CELL) & ~short)
        no_tables = (
            (tables.codebook_size == 0)
            & (tables.code_length == 0)
            & (tables.gap_classes == 0)
            & (tables.gap_length == 0)
            & ~tables.narrow
            & ~scale.scaled
        )
        new = scale.scaled | scale.joined | scale.function[1] | tables.streams.any() | tables.sliced
        bad_fields = [
            bad,
            (fields.inputs == 0) & ~short,
            fields.outputs == 0,
            # No entry takes less than a bit: a payload's word pays for 32 of them.
            Cat(fields.entries[:5].any(), fields.entries[5:]) > length << 1,
            scale.shift > SHIFT_MAX,
            scale.bias_exponent > EXPONENT_MAX,
            fields.low > fields.high,
            old & new,
            short & scale.joined,
            tables.codebook_size > CODEBOOK_MAX,
            tables.code_length > words.MAX_CODE_LENGTH,
            tables.gap_classes > gaps.CLASSES,
            tables.gap_length > words.MAX_GAP_LENGTH,
            (fields.entries == 0) & ~(no_tables & self.exhausted),
            (fields.entries != 0) & ((tables.codebook_size == 0) | (tables.gap_classes == 0)),
        ]
        bad_words = Signal(len(bad_fields))
        found = {
            name: Signal(name=name)
            for name in ("unknown", "unsupported", "cannot", "field", "table")
        }
        cannot = [tables.streams.any(), tables.sliced]
        if not self._maps:
            cannot += [scale.joined, scale.function[1]]
        if not self._scales:
            cannot.append(scale.scaled)
        m.d.sync += [
            bad_words.eq(Cat(bad_fields)),
            found["field"].eq(bad_words.any()),
            found["table"].eq(
                (fields.entries != 0) & ((tables.codebook_size == 1) != (tables.code_length == 0))
            ),
            found["cannot"].eq(Cat(cannot).any() & ~old),
            found["unknown"].eq(~known | (old & (short | ~(layer | (kind == words.SECTION_CONV))))),
            found["unsupported"].eq(
                ~layer if not self._maps else (old & ~layer) | ~(layer | mapped)
            ),
        ]
        return found

"""From the data words of a layer to its entries: three readers and what joins them."""

from amaranth.hdl import (
    Array,
    Cat,
    Const,
    Module,
    Mux,
    ResetInserter,
    ShapeLike,
    Signal,
    Value,
    ValueLike,
)
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from pleach.engine.words import MAX_CODE_LENGTH, MAX_GAP_LENGTH
from pleach.format import gaps
from pleach.numbers import CODEBOOK_MAX
from pleach_hw.load.buses import ClassWrite, TableWrite, decoder_ports
from pleach_hw.load.huffman import BitReader, SymbolReader
from pleach_hw.primitives.memory import LutRam
from pleach_hw.queue import Buffer

MAX_EXTRA = int(max(gaps.EXTRA_BITS))


def exceeds(left: ValueLike, right: ValueLike) -> Value:
    """Whether a number of four bits is more than another: two levels of gates, no carry chain."""
    left, right = Value.cast(left), Value.cast(right)

    def more(a: Value, b: Value) -> Value:
        return a[1] & ~b[1] | ~(a[1] ^ b[1]) & a[0] & ~b[0]

    return more(left[2:], right[2:]) | (left[2:] == right[2:]) & more(left[:2], right[:2])


class GapClasses(wiring.Component):
    """The gap classes in the order of their code numbers, and how many extra bits each has.

    Ports:
        clear: strobe, no class is the skip.
        i: write port of the list; it has a cycle for the way.
        number: of a gap code.
        gap_class, extra: what it stands for, and its extra bits.
        held, lacking: fewer bits than these extra ones.
        skip_number: the number of the skip, or one that no class has.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "i": In(ClassWrite()),
                "number": In(5),
                "gap_class": Out(5),
                "extra": Out(4),
                "held": In(4),
                "lacking": Out(1),
                "skip_number": Out(5, init=gaps.CLASSES),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        write = ClassWrite().create(path=("write",))
        for field in write.signature.members:
            m.d.sync += getattr(write, field).eq(getattr(self.i, field))
        # Two lists, each as deep as a RAM: which of them it is, is asked last.
        found = []
        for half in range(2):
            m.submodules[f"places_{half}"] = places = LutRam(
                shape=data.StructLayout({"gap_class": 5, "extra": 4}), depth=16
            )
            m.d.comb += [
                places.write_en.eq(write.write & (write.number[4] == half)),
                places.write_addr.eq(write.number),
                places.write_data.gap_class.eq(write.gap_class),
                places.write_data.extra.eq(
                    Array(Const(int(n), 4) for n in gaps.EXTRA_BITS)[write.gap_class]
                ),
                places.read_addr.eq(self.number),
            ]
            extra = places.read_data.extra
            found.append(Cat(places.read_data.gap_class, extra, exceeds(extra, self.held)))
        m.d.comb += Cat(self.gap_class, self.extra, self.lacking).eq(
            Mux(self.number[4], found[1], found[0])
        )
        with m.If(self.clear):
            m.d.sync += self.skip_number.eq(gaps.CLASSES)
        with m.If(write.write & (write.gap_class == gaps.SKIP)):
            m.d.sync += self.skip_number.eq(write.number)
        return m


class GapValue(wiring.Component):
    """From a gap's class and its extra bits to the gap, in two steps.

    Ports:
        keep: strobe, the first step: `gap_class`, and a `window` in which `count` extra bits come
            behind `past` others.
        cut: strobe, the second.
        gap: from the cycle after that on.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "keep": In(1),
                "gap_class": In(5),
                "window": In(MAX_EXTRA + 7),
                "past": In(3),
                "count": In(range(MAX_EXTRA + 1)),
                "cut": In(1),
                "gap": Out(17),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        width = len(self.window)
        window, end = Signal(width), Signal(range(width + 1))
        gap_class, count = Signal(5), Signal.like(self.count)
        bits, mask, base = Signal(MAX_EXTRA), Signal(MAX_EXTRA), Signal(17)
        # The extra bits of a class are zero in its base.
        m.d.comb += self.gap.eq(base | (bits & mask))
        with m.If(self.keep):
            m.d.sync += [
                window.eq(self.window),
                end.eq(self.past + self.count),
                gap_class.eq(self.gap_class),
                count.eq(self.count),
            ]
        with m.If(self.cut):
            m.d.sync += [
                # The first `end` bits of the window, as a number: the lowest of it.
                bits.eq((window << end)[width : width + MAX_EXTRA]),
                mask.eq(Array(Const((1 << n) - 1, MAX_EXTRA) for n in range(MAX_EXTRA + 1))[count]),
                base.eq(Array(Const(int(b), 17) for b in gaps.BASE)[gap_class]),
            ]
        return m


class Readers(wiring.Component):
    """G, X and C of the specification, and the words that they take, each in its turn.

    Two words are held before a reader takes them. G takes one in another phase than X and C, which
    take theirs in this order.

    Ports:
        start: no bits are held; the next words are a layer's.
        clear: forget both tables; for a write into them in the next cycle it is too late.
        running: words come in, and steps are done.
        gap_length, code_length, gap_table, code_table: of the two codes.
        i: words.
        reads, gap_find: G reads a symbol, if there is a step; it does.
        sought: a number of a gap code.
        gap_number, gap_found: two cycles later; it is the one sought.
        asks_extra, extra_taken: X wants a word; it takes one.
        extra_held, extra_window, extra_past, extra_count, extra_field, extra_consume: as
            `BitReader` has them.
        wants_code, code_find: C reads a symbol, if there is a step; it does.
        code_number: two cycles later.
        blocked: C takes no word, and X and C do no step.
        gap_step, step: of G, and of X and C: whoever asks for a word has one, and nothing else is
            in the way. Each of them only where the others do not ask.
        starved: words come in, somebody asks, and none is there.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "clear": In(1),
                "running": In(1),
                "gap_length": In(range(MAX_GAP_LENGTH + 1)),
                "code_length": In(range(MAX_CODE_LENGTH + 1)),
                "gap_table": In(TableWrite()),
                "code_table": In(TableWrite()),
                "i": In(stream.Signature(32)),
                "reads": In(1),
                "gap_find": In(1),
                "sought": In(5),
                "gap_number": Out(5),
                "gap_found": Out(1),
                "asks_extra": In(1),
                "extra_taken": Out(1),
                "extra_held": Out(4),
                "extra_window": Out(MAX_EXTRA + 7),
                "extra_past": Out(3),
                "extra_count": In(range(MAX_EXTRA + 1)),
                "extra_field": In(1),
                "extra_consume": In(1),
                "wants_code": In(1),
                "code_find": In(1),
                "code_number": Out(8),
                "blocked": In(1),
                "gap_step": Out(1),
                "step": Out(1),
                "starved": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.gap = gap = SymbolReader(longest=MAX_GAP_LENGTH, size=gaps.CLASSES)
        m.submodules.extra = extra = BitReader(width=MAX_EXTRA)
        m.submodules.code = code = SymbolReader(longest=MAX_CODE_LENGTH, size=CODEBOOK_MAX)
        connect(m, flipped(self.gap_table), gap.table)
        connect(m, flipped(self.code_table), code.table)
        words = Buffer(shape=32)
        m.submodules.words = ResetInserter(self.start)(words)
        word_valid = words.o.valid
        m.d.comb += [
            words.i.payload.eq(self.i.payload),
            words.i.valid.eq(self.i.valid & self.running),
            self.i.ready.eq(words.i.ready & self.running),
            gap.need.eq(self.gap_length),
            gap.sought.eq(self.sought),
            gap.find.eq(self.gap_find),
            self.gap_number.eq(gap.number),
            self.gap_found.eq(gap.found),
            extra.count.eq(self.extra_count),
            extra.field.eq(self.extra_field),
            extra.consume.eq(self.extra_consume),
            self.extra_held.eq(extra.held),
            self.extra_window.eq(extra.window),
            self.extra_past.eq(extra.past),
            code.need.eq(self.code_length),
            code.find.eq(self.code_find),
            self.code_number.eq(code.number),
        ]
        for reader in (gap, extra, code):
            m.d.comb += [reader.word.eq(words.o.payload), reader.clear.eq(self.start)]
        for reader in (gap, code):
            m.d.comb += [reader.word_valid.eq(word_valid), reader.forget.eq(self.clear)]

        # Who asks, in order.
        asks_gap = self.reads & gap.ask
        asks_extra = self.asks_extra
        asks_code = self.wants_code & code.ask
        takes_gap = asks_gap & ~gap.stale
        takes_extra = asks_extra & word_valid
        takes_code = asks_code & ~code.stale & ~asks_extra & ~self.blocked
        m.d.comb += [
            self.starved.eq(self.running & (asks_gap | asks_extra | asks_code) & ~word_valid),
            self.gap_step.eq(self.running & ~(asks_gap & gap.stale)),
            self.step.eq(
                self.running
                & ~(asks_code & (code.stale | asks_extra))
                & ~(asks_extra & ~word_valid)
                & ~self.blocked
            ),
            extra.take.eq(takes_extra),
            self.extra_taken.eq(takes_extra),
            gap.take.eq(takes_gap),
            gap.mend.eq(asks_gap & word_valid),
            gap.taken.eq(takes_extra | takes_code),
            code.take.eq(takes_code),
            code.mend.eq(asks_code & ~asks_extra & word_valid),
            code.taken.eq(takes_extra | takes_gap),
            words.o.ready.eq(takes_gap | takes_extra | takes_code),
        ]
        return m


class EntryDecoder(wiring.Component):
    """Gap symbols and weight codes of one layer, in order (docs/bitstream.md, "The order of …").

    A step is two cycles, so one entry comes every two cycles, unless two readers take a word in
    neighbouring cycles (a cycle or two more) or a word is not there yet. Step `s` of the
    specification:

    ===== ================== =================== ================== =================
    phase G, symbol s        X, C, symbol s − 1  symbol s − 2       symbol s − 3
    ===== ================== =================== ================== =================
    0     take a word, find  class looked up     cut                given out
    1     cut                take words, find    gap and code known
    ===== ================== =================== ================== =================

    Args:
        most_entries: of a layer.

    Ports:
        start: begin a layer of `entries` entries; the tables are in place.
        i: data words; two are held before a reader takes them.
        o: one payload a gap symbol.
        starved: a reader asks and no word is there.
        done: every entry was given out; held until the next start.
        gap_length, code_length: of the longest codes.
        clear: forget both tables; for a write into them in the next cycle it is too late.
        gap_table, code_table, classes: write ports of the two codes, and of the list of classes.
    """

    def __init__(self, most_entries: int):
        super().__init__(decoder_ports(most_entries))

    def elaborate(self, platform) -> Module:
        m = Module()
        running = Signal()
        m.submodules.readers = readers = Readers()
        m.submodules.classes = classes = GapClasses()
        m.submodules.value = value = GapValue()
        connect(m, flipped(self.gap_table), readers.gap_table)
        connect(m, flipped(self.code_table), readers.code_table)
        connect(m, flipped(self.classes), classes.i)
        connect(m, flipped(self.i), readers.i)
        clear = Signal()  # what goes to many registers has a cycle for the way
        m.d.sync += clear.eq(self.clear)

        def state(shape: ShapeLike = 1) -> Signal:
            """What a start sets, or what comes after it; so that no reset need come this far."""
            return Signal(shape, reset_less=True, src_loc_at=1)

        # A stage's registers are set in one phase and read in the other: no step asks for another.
        phase = state()
        left = state(self.entries.shape())  # their gap symbols were not read yet, as far as known
        one_less = state(self.entries.shape())
        reads_past_skip, reads_past_entry = state(), state()  # phase 0: G reads, if after such
        reading = state()  # phase 1: G is in a symbol
        numbered = state()  # phase 0: a gap symbol's code number, to be looked up
        looked_up = state()  # phase 1: its class, for X and C
        wants_code, asks_extra = state(), state()  # phase 1
        gap_class, extra_count = state(5), state(range(MAX_EXTRA + 1))
        found = state()  # phase 0: X's window is kept, and C is in a symbol
        known = state()  # phase 1: the gap and the code's number
        found_skip, known_skip = state(), state()

        is_entry = numbered & ~readers.gap_found
        reads = ~phase & Mux(readers.gap_found, reads_past_skip, reads_past_entry)
        # `known`, and the last one is not taken. An entry comes every other cycle at most: a cycle
        # without costs nothing, and what takes the last one need not say so in the same cycle.
        blocked = state()
        m.d.comb += [
            readers.start.eq(self.start),
            readers.clear.eq(clear),
            readers.running.eq(running),
            readers.gap_length.eq(self.gap_length),
            readers.code_length.eq(self.code_length),
            readers.reads.eq(reads),
            readers.sought.eq(classes.skip_number),
            readers.asks_extra.eq(asks_extra),
            readers.extra_count.eq(extra_count),
            readers.extra_field.eq(phase & looked_up),
            classes.held.eq(readers.extra_held),
            readers.wants_code.eq(phase & wants_code),
            readers.blocked.eq(blocked),
            classes.clear.eq(clear),
            classes.number.eq(readers.gap_number),
            value.gap_class.eq(gap_class),
            value.window.eq(readers.extra_window),
            value.past.eq(readers.extra_past),
            value.count.eq(extra_count),
            self.starved.eq(readers.starved),
            self.done.eq(~running & ~self.o.valid),
        ]
        with m.If(readers.extra_taken):
            m.d.sync += asks_extra.eq(0)

        m.d.sync += one_less.eq(left - 1)
        with m.If(self.o.ready):
            m.d.sync += [self.o.valid.eq(0), blocked.eq(0)]
        with m.If(~phase):
            with m.If(readers.gap_step):
                m.d.comb += [readers.gap_find.eq(reads), value.cut.eq(1)]
                with m.If(is_entry):
                    m.d.sync += left.eq(one_less)
                m.d.sync += [
                    phase.eq(1),
                    reading.eq(reads),
                    looked_up.eq(numbered),
                    wants_code.eq(is_entry),
                    gap_class.eq(classes.gap_class),
                    extra_count.eq(classes.extra),
                    asks_extra.eq(numbered & classes.lacking),
                    known.eq(found),
                    known_skip.eq(found_skip),
                    blocked.eq(found & self.o.valid & ~self.o.ready),
                ]
        with m.Else():
            with m.If(readers.step):
                m.d.comb += [
                    value.keep.eq(1),
                    readers.extra_consume.eq(looked_up),
                    readers.code_find.eq(wants_code),
                ]
                goes_on = reading | looked_up
                more = goes_on & (left != 0)
                m.d.sync += [
                    phase.eq(0),
                    running.eq(goes_on),
                    reads_past_skip.eq(more),
                    reads_past_entry.eq(more & ~(reading & (left == 1))),
                    numbered.eq(reading),
                    found.eq(looked_up),
                    found_skip.eq(~wants_code),
                ]
                with m.If(known):
                    m.d.sync += [
                        self.o.valid.eq(1),
                        self.o.p.skip.eq(known_skip),
                        self.o.p.code.eq(readers.code_number),
                        self.o.p.gap.eq(value.gap),
                    ]

        with m.If(self.start):
            m.d.sync += [
                running.eq(1),
                phase.eq(0),
                left.eq(self.entries),
                reads_past_skip.eq(self.entries != 0),
                reads_past_entry.eq(self.entries != 0),
                self.o.valid.eq(0),
            ]
            stages = (reading, numbered, looked_up, wants_code, asks_extra, found, known, blocked)
            m.d.sync += [stage.eq(0) for stage in stages]
        return m

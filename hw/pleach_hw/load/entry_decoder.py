"""From the data words of a layer to its entries: three readers and what joins them."""

from amaranth.hdl import Array, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from pleach.engine.words import MAX_CODE_LENGTH, MAX_GAP_LENGTH
from pleach.format import gaps
from pleach.numbers import CODEBOOK_MAX
from pleach_hw.load.buses import ClassWrite, decoder_ports
from pleach_hw.load.huffman import BitReader, SymbolReader
from pleach_hw.primitives.memory import LutRam
from pleach_hw.queue import Buffer

MAX_EXTRA = int(max(gaps.EXTRA_BITS))


class GapClasses(wiring.Component):
    """The gap classes in the order of their code numbers, and how many extra bits each has.

    Ports:
        clear: strobe, no class is the skip.
        i: write port of the list.
        number: of a gap code.
        gap_class, extra: what it stands for, and its extra bits.
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
                "skip_number": Out(5, init=gaps.CLASSES),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.places = places = LutRam(
            shape=data.StructLayout({"gap_class": 5, "extra": 4}), depth=32
        )
        m.d.comb += [
            places.write_en.eq(self.i.write),
            places.write_addr.eq(self.i.number),
            places.write_data.gap_class.eq(self.i.gap_class),
            places.write_data.extra.eq(
                Array(Const(int(n), 4) for n in gaps.EXTRA_BITS)[self.i.gap_class]
            ),
            places.read_addr.eq(self.number),
            self.gap_class.eq(places.read_data.gap_class),
            self.extra.eq(places.read_data.extra),
        ]
        with m.If(self.clear):
            m.d.sync += self.skip_number.eq(gaps.CLASSES)
        with m.If(self.i.write & (self.i.gap_class == gaps.SKIP)):
            m.d.sync += self.skip_number.eq(self.i.number)
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

    def elaborate(self, platform):
        m = Module()
        m.submodules.gap = gap = SymbolReader(longest=MAX_GAP_LENGTH, size=gaps.CLASSES)
        m.submodules.extra = extra = BitReader(width=MAX_EXTRA)
        m.submodules.code = code = SymbolReader(longest=MAX_CODE_LENGTH, size=CODEBOOK_MAX)
        connect(m, flipped(self.gap_table), gap.table)
        connect(m, flipped(self.code_table), code.table)
        # What goes to many registers has a cycle for the way.
        clear = Signal()
        m.d.sync += clear.eq(self.clear)
        m.d.comb += [gap.need.eq(self.gap_length), code.need.eq(self.code_length)]
        m.d.comb += [reader.forget.eq(clear) for reader in (gap, code)]

        m.submodules.classes = classes = GapClasses()
        m.d.comb += [classes.clear.eq(clear), gap.sought.eq(classes.skip_number)]
        for field in ("write", "number", "gap_class"):
            m.d.sync += getattr(classes.i, field).eq(getattr(self.classes, field))

        # The next words.
        running = Signal()
        words = Buffer(shape=32)
        m.submodules.words = ResetInserter(self.start)(words)
        m.d.comb += [
            words.i.payload.eq(self.i.payload),
            words.i.valid.eq(self.i.valid & running),
            self.i.ready.eq(words.i.ready & running),
        ]
        for reader in (gap, extra, code):
            m.d.comb += [reader.word.eq(words.o.payload), reader.clear.eq(self.start)]
        for reader in (gap, code):
            m.d.comb += reader.word_valid.eq(words.o.valid)

        # What each stage holds. Where a stage asks for words, what it holds is zero in the other
        # phase, so that whether there is a step takes few gates.
        phase = Signal()
        left = Signal.like(
            self.entries
        )  # entries whose gap symbol was not read yet, as far as known
        one_less = Signal.like(left)
        # phase 0: G reads a symbol, if the one before is a skip, or is an entry or not known yet
        reads_past_skip, reads_past_entry = Signal(), Signal()
        reading = Signal()  # phase 1: G is in a symbol
        numbered = Signal()  # phase 0: a gap symbol's code number, to be looked up
        looked_up = Signal()  # phase 1: its class, for X and C
        wants_code, asks_extra = Signal(), Signal()  # phase 1
        gap_class = Signal(5)
        extra_count = Signal(range(MAX_EXTRA + 1))
        found = Signal()  # phase 0: X's window, and C is in a symbol
        found_skip = Signal()
        window = Signal(MAX_EXTRA)
        window_count = Signal.like(extra_count)
        window_class = Signal(5)
        known = Signal()  # phase 1: extra bits, code number, and where the class begins
        known_skip = Signal()
        extra_bits = Signal(MAX_EXTRA)
        base = Signal(17)

        # Who asks, in order.
        is_entry = numbered & ~gap.found
        reads = Mux(gap.found, reads_past_skip, reads_past_entry)
        asks_gap = reads & gap.ask
        asks_code = wants_code & code.ask
        # An entry comes every other cycle at most, so one cycle without the last one costs nothing,
        # and what takes it need not say in the same cycle that it does.
        blocked = known & self.o.valid
        word_valid = words.o.valid
        takes_gap = asks_gap & word_valid & ~gap.stale
        takes_extra = asks_extra & word_valid
        takes_code = asks_code & word_valid & ~code.stale & ~asks_extra
        step = Signal()
        m.d.comb += [
            self.starved.eq((asks_gap | asks_extra | asks_code) & ~word_valid),
            step.eq(
                running
                & ~(asks_gap & ~takes_gap)
                & ~(asks_code & ~takes_code)
                & ~(asks_extra & ~takes_extra)
                & ~blocked
            ),
            extra.take.eq(takes_extra),
            gap.take.eq(takes_gap),
            gap.mend.eq(asks_gap & word_valid),
            gap.taken.eq(takes_extra | (takes_code & ~blocked)),
            code.take.eq(takes_code & ~blocked),
            code.mend.eq(asks_code & ~asks_extra & word_valid),
            code.taken.eq(takes_extra | takes_gap),
            words.o.ready.eq(takes_gap | takes_extra | (takes_code & ~blocked)),
        ]
        with m.If(takes_extra):
            m.d.sync += asks_extra.eq(0)

        m.d.comb += [
            classes.number.eq(gap.number),
            extra.count.eq(extra_count),
        ]
        m.d.sync += one_less.eq(left - 1)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(step):
            m.d.sync += phase.eq(~phase)
            with m.If(~phase):
                m.d.comb += gap.find.eq(reads)
                with m.If(is_entry):
                    m.d.sync += left.eq(one_less)
                m.d.sync += [
                    reads_past_skip.eq(0),
                    reads_past_entry.eq(0),
                    reading.eq(reads),
                    looked_up.eq(numbered),
                    wants_code.eq(is_entry),
                    gap_class.eq(classes.gap_class),
                    extra_count.eq(classes.extra),
                    asks_extra.eq(numbered & extra.short.bit_select(classes.extra, 1)),
                    known.eq(found),
                    known_skip.eq(found_skip),
                    # The first `window_count` bits of the window, as a number.
                    extra_bits.eq((window << window_count)[MAX_EXTRA : 2 * MAX_EXTRA]),
                    base.eq(Array(Const(int(b), 17) for b in gaps.BASE)[window_class]),
                ]
            with m.Else():
                m.d.comb += [
                    extra.consume.eq(looked_up),
                    code.find.eq(wants_code),
                ]
                goes_on = reading | looked_up
                more = goes_on & (left != 0)
                m.d.sync += [
                    running.eq(goes_on),
                    reads_past_skip.eq(more),
                    reads_past_entry.eq(more & ~(reading & (left == 1))),
                    numbered.eq(reading),
                    looked_up.eq(0),
                    wants_code.eq(0),
                    found.eq(looked_up),
                    found_skip.eq(~wants_code),
                    window.eq(extra.window),
                    window_count.eq(extra_count),
                    window_class.eq(gap_class),
                    known.eq(0),
                ]
                with m.If(known):
                    m.d.sync += [
                        self.o.valid.eq(1),
                        self.o.p.skip.eq(known_skip),
                        self.o.p.code.eq(code.number),
                        self.o.p.gap.eq(base + extra_bits),
                    ]
        m.d.comb += self.done.eq(~running & ~self.o.valid)

        with m.If(self.start):
            m.d.sync += [
                running.eq(1),
                phase.eq(0),
                left.eq(self.entries),
                reads_past_skip.eq(self.entries != 0),
                reads_past_entry.eq(self.entries != 0),
                self.o.valid.eq(0),
            ]
            held = (reading, numbered, looked_up, wants_code, asks_extra, found, known)
            m.d.sync += [s.eq(0) for s in held]
        return m

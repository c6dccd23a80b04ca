"""From the data words of a layer to its entries: three bit readers and two Huffman decoders."""

from amaranth.hdl import Array, Const, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.format import gaps
from pleach.format.words import MAX_CODE_LENGTH, MAX_GAP_LENGTH
from pleach_hw.huffman import BitReader, HuffmanDecoder
from pleach_hw.primitives.memory import LutRam

MAX_EXTRA = int(max(gaps.EXTRA_BITS))

#: One gap symbol: positions to pass over, and the code of the entry there unless it is a skip.
ENTRY = data.StructLayout({"gap": 17, "skip": 1, "code": 8})


class EntryDecoder(wiring.Component):
    """Gap symbols and weight codes of one layer, in order (docs/bitstream.md, "The order of …").

    A step is two cycles, so one entry comes every two cycles, unless X and C want a word in the
    same step (a cycle more) or a word is not there yet. Step `s` of the specification:

    ===== ============================= ============================== ==========================
    phase G, symbol s                   X, C, symbol s − 1             symbol s − 2
    ===== ============================= ============================== ==========================
    0     take a word, latch the window class of s − 1 looked up       decoded and given out
    1     decode, consume               take words, latch the windows
    ===== ============================= ============================== ==========================

    On ECP5, speed grade 6: 2450 LUT4, 810 flip-flops, 100 MHz, bound by the 12-bit code's loop.

    Ports:
        start: begin a layer of `entries` entries; the tables are in place.
        i: data words. Taken only when a reader asks.
        o: one payload a gap symbol.
        starved: a reader asks and no word is offered.
        done: every entry was given out; held until the next start.
        gap_*, code_*: longest codes, single-symbol flags and table writes of the two decoders.
        clear: forget both tables.
        class_*: write port of the list of gap classes.
    """

    def __init__(self):
        table = {
            "write": In(1),
            "write_length": In(range(MAX_CODE_LENGTH + 1)),
            "write_upper": In(MAX_CODE_LENGTH + 1),
            "write_offset": In(8),
        }
        super().__init__(
            {
                "start": In(1),
                "entries": In(32),
                "i": In(stream.Signature(32)),
                "o": Out(stream.Signature(ENTRY)),
                "starved": Out(1),
                "done": Out(1),
                "gap_length": In(range(MAX_GAP_LENGTH + 1)),
                "code_length": In(range(MAX_CODE_LENGTH + 1)),
                "clear": In(1),
                "class_write": In(1),
                "class_addr": In(range(gaps.CLASSES)),
                "class_data": In(range(gaps.CLASSES)),
                **{f"gap_{name}": flow for name, flow in table.items()},
                **{f"code_{name}": flow for name, flow in table.items()},
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.gap_reader = gap_reader = BitReader(width=MAX_GAP_LENGTH)
        m.submodules.extra_reader = extra_reader = BitReader(width=MAX_EXTRA)
        m.submodules.code_reader = code_reader = BitReader(width=MAX_CODE_LENGTH)
        m.submodules.gap_decoder = gap_decoder = HuffmanDecoder(
            max_length=MAX_GAP_LENGTH, size=gaps.CLASSES
        )
        m.submodules.code_decoder = code_decoder = HuffmanDecoder(
            max_length=MAX_CODE_LENGTH, size=256
        )
        m.submodules.classes = classes = LutRam(shape=unsigned(5), depth=32)
        m.d.comb += [
            classes.write_en.eq(self.class_write),
            classes.write_addr.eq(self.class_addr),
            classes.write_data.eq(self.class_data),
            gap_decoder.single.eq(self.gap_length == 0),
            code_decoder.single.eq(self.code_length == 0),
            gap_decoder.clear.eq(self.clear),
            code_decoder.clear.eq(self.clear),
        ]
        for decoder, prefix in ((gap_decoder, "gap"), (code_decoder, "code")):
            for name in ("write", "write_length", "write_upper", "write_offset"):
                m.d.comb += getattr(decoder, name).eq(getattr(self, f"{prefix}_{name}"))
        for reader in (gap_reader, extra_reader, code_reader):
            m.d.comb += [reader.word.eq(self.i.payload), reader.clear.eq(self.start)]

        phase = Signal()
        running = Signal()
        left = Signal(32)  # entries whose gap symbol was not read yet, as far as looked up
        none_left = Signal()
        one_left = Signal()

        # The code number of the skip: known without a look-up, it says what G does next.
        has_skip = Signal()
        skip_number = Signal.like(gap_decoder.number)
        with m.If(self.clear):
            m.d.sync += has_skip.eq(0)
        with m.If(self.class_write & (self.class_data == gaps.SKIP)):
            m.d.sync += [has_skip.eq(1), skip_number.eq(self.class_addr)]

        # What each pipeline stage holds.
        gap_latched = Signal()  # a window of G, to be decoded in phase 1
        gap_window = Signal(MAX_GAP_LENGTH)
        numbered = Signal()  # a gap symbol's code number, to be looked up in phase 0
        number = Signal.like(gap_decoder.number)
        is_skip = Signal()
        looked_up = Signal()  # its class, for X and C in phase 1
        skip = Signal()
        extra_count = Signal(range(MAX_EXTRA + 1))
        base = Signal(17)
        latched = Signal()  # windows of X and C, to be decoded in phase 0
        latched_skip = Signal()
        extra_window = Signal(MAX_EXTRA)
        code_window = Signal(MAX_CODE_LENGTH)
        window_count = Signal.like(extra_count)
        window_base = Signal.like(base)

        gap_class = classes.read_data
        m.d.comb += [
            classes.read_addr.eq(number),
            gap_decoder.window.eq(gap_window),
            gap_reader.count.eq(gap_decoder.length),
            code_decoder.window.eq(code_window),
            code_reader.count.eq(code_decoder.length),
            extra_reader.count.eq(1 << window_count),
        ]

        # The first `window_count` bits of the window, as a number.
        extra = (extra_window << window_count)[MAX_EXTRA : 2 * MAX_EXTRA]

        # Phase 0: G asks; the oldest symbol leaves.
        entry_read = numbered & ~is_skip
        reads_gap = running & ~none_left & ~(one_left & entry_read)
        gap_asks, extra_asks, code_asks = Signal(), Signal(), Signal()
        m.d.comb += [
            gap_reader.need.eq(self.gap_length),
            extra_reader.need.eq(extra_count),
            code_reader.need.eq(self.code_length),
            gap_asks.eq(gap_reader.ask & reads_gap & (phase == 0)),
            extra_asks.eq(extra_reader.ask & running & looked_up & (phase == 1)),
            code_asks.eq(code_reader.ask & running & looked_up & ~skip & (phase == 1)),
        ]
        leaves = Signal()
        step = Signal()
        m.d.comb += leaves.eq(running & (phase == 0) & latched)
        # An entry comes every other cycle at most, so one cycle without the last one costs nothing,
        # and what takes it need not say in the same cycle that it does.
        blocked = leaves & self.o.valid

        both = extra_asks & code_asks
        asked = gap_asks | extra_asks | code_asks
        m.d.comb += [
            self.i.ready.eq(asked & ~blocked),
            self.starved.eq(asked & ~self.i.valid),
            gap_reader.take.eq(gap_asks & self.i.valid & ~blocked),
            extra_reader.take.eq(extra_asks & self.i.valid),
            code_reader.take.eq(code_asks & ~extra_asks & self.i.valid),
            step.eq(running & ~blocked & ~(asked & ~self.i.valid) & ~both),
        ]

        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(step):
            m.d.sync += phase.eq(~phase)
            with m.If(phase == 0):
                m.d.comb += [
                    extra_reader.consume.eq(latched),
                    code_reader.consume.eq(latched & ~latched_skip),
                ]
                m.d.sync += [
                    gap_latched.eq(reads_gap),
                    gap_window.eq(gap_reader.window),
                    left.eq(left - entry_read),
                    looked_up.eq(numbered),
                    skip.eq(is_skip),
                    extra_count.eq(Array(Const(int(n), 4) for n in gaps.EXTRA_BITS)[gap_class]),
                    base.eq(Array(Const(int(b), 17) for b in gaps.BASE)[gap_class]),
                ]
                with m.If(latched):
                    m.d.sync += [
                        self.o.valid.eq(1),
                        self.o.p.skip.eq(latched_skip),
                        self.o.p.code.eq(code_decoder.number),
                        self.o.p.gap.eq(window_base + extra),
                    ]
                with m.If(~reads_gap & ~numbered & ~latched):
                    m.d.sync += running.eq(0)
            with m.Else():
                m.d.comb += gap_reader.consume.eq(gap_latched)
                m.d.sync += [
                    none_left.eq(left == 0),
                    one_left.eq(left == 1),
                    numbered.eq(gap_latched),
                    number.eq(gap_decoder.number),
                    is_skip.eq(has_skip & (gap_decoder.number == skip_number)),
                    latched.eq(looked_up),
                    latched_skip.eq(skip),
                    extra_window.eq(extra_reader.window),
                    code_window.eq(code_reader.window),
                    window_count.eq(extra_count),
                    window_base.eq(base),
                ]
        m.d.comb += self.done.eq(~running & ~self.o.valid)

        with m.If(self.start):
            m.d.sync += [
                running.eq(1),
                phase.eq(0),
                left.eq(self.entries),
                none_left.eq(self.entries == 0),
                one_left.eq(self.entries == 1),
                numbered.eq(0),
                looked_up.eq(0),
                latched.eq(0),
                gap_latched.eq(0),
                self.o.valid.eq(0),
            ]
        return m

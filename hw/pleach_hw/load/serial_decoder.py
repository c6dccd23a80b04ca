"""The entry decoder for small chips: a bit a cycle."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from pleach.engine.words import MAX_CODE_LENGTH, MAX_GAP_LENGTH
from pleach.format import gaps
from pleach_hw.load.buses import ClassWrite, TableWrite, decoder_ports
from pleach_hw.load.entry_decoder import MAX_EXTRA
from pleach_hw.primitives import LutRam

#: Places in the decoder's memory: from 0 on the bounds of the gap codes, then …
CODE_BOUND_AT = 16
CLASS_AT = 32


class SerialReader(wiring.Component):
    """Gives its words away bit by bit, bit 31 first.

    Args:
        width: of the widest field that is asked for, at most 15.

    Ports:
        need: bits of the next field, at most.
        ask: fewer are held.
        word, take: the next word, and the strobe that takes it; only while `ask`.
        bit, shift: the next bit, and the strobe that passes over it.
        clear: forget all bits.
    """

    def __init__(self, *, width: int):
        self._width = width
        super().__init__(
            {
                "need": In(range(width + 1)),
                "ask": Out(1),
                "word": In(32),
                "take": In(1),
                "bit": Out(1),
                "shift": In(1),
                "clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        held = Signal(32, reset_less=True)
        count = Signal(range(33))
        # What was left when the last word was taken goes first; it is fewer bits than a field's.
        rest = Signal(self._width - 1, reset_less=True)
        rest_count = Signal(range(self._width))
        m.d.comb += [
            self.ask.eq((rest_count == 0) & (count < self.need)),
            self.bit.eq(Mux(rest_count != 0, rest[-1], held[-1])),
        ]
        with m.If(self.take):
            m.d.sync += [
                rest.eq(held[32 - len(rest) :]),
                rest_count.eq(count),
                held.eq(self.word),
                count.eq(32),
            ]
        with m.Elif(self.shift):
            with m.If(rest_count != 0):
                m.d.sync += [rest.eq(rest << 1), rest_count.eq(rest_count - 1)]
            with m.Else():
                m.d.sync += [held.eq(held << 1), count.eq(count - 1)]
        with m.If(self.clear):
            m.d.sync += [count.eq(0), rest_count.eq(0)]
        return m


class CodeNumber(wiring.Component):
    """Finds the number of a canonical code from its bits, one a cycle.

    Of what is written to tables and list only one may come in a cycle; the tables' offsets are not
    looked at, they come out by the way.

    Ports:
        gap_table, code_table, classes: what is written into both tables, and into the list.
        begin, of_weight: strobe, a code begins, of a weight or of a gap; its first bit comes two
            cycles later, or later.
        take, bit: strobe, its next bit.
        complete: with a bit, it is the last one; `number` stands from the next cycle on. A code of
            no bits has number 0.
        look_up: show the `gap_class` that has this number, in this cycle.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "gap_table": In(TableWrite()),
                "code_table": In(TableWrite()),
                "classes": In(ClassWrite()),
                "begin": In(1),
                "of_weight": In(1),
                "take": In(1),
                "bit": In(1),
                "complete": Out(1),
                "number": Out(8),
                "look_up": In(1),
                "gap_class": Out(range(gaps.CLASSES)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        # A memory for both tables, the bound of each length, and for the list of classes.
        m.submodules.memory = memory = LutRam(shape=MAX_CODE_LENGTH + 1, depth=64)
        gap_table, code_table, classes = self.gap_table, self.code_table, self.classes
        m.d.comb += memory.write_en.eq(gap_table.write | code_table.write | classes.write)
        with m.If(classes.write):
            m.d.comb += [
                memory.write_addr.eq(CLASS_AT | classes.number),
                memory.write_data.eq(classes.gap_class),
            ]
        with m.Elif(code_table.write):
            m.d.comb += [
                memory.write_addr.eq(CODE_BOUND_AT | code_table.length),
                memory.write_data.eq(code_table.upper),
            ]
        with m.Else():
            m.d.comb += [
                memory.write_addr.eq(gap_table.length),
                memory.write_data.eq(gap_table.upper),
            ]

        # `prefix` is the code's number among the words of its length, which `bound` tells from
        # longer codes, and `offset` + `prefix` its number in the table. The bound is read a bit
        # ahead, for codes of `length`.
        of_weight, begun = Signal(), Signal()
        bound = Signal(MAX_CODE_LENGTH + 1, reset_less=True)
        length = Signal(range(1, MAX_CODE_LENGTH + 1), init=1)
        prefix = Signal(MAX_CODE_LENGTH)
        offset = Signal(8)
        longer = Cat(self.bit, prefix)
        m.d.comb += [
            memory.read_addr.eq(Mux(self.look_up, CLASS_AT | self.number, Cat(length, of_weight))),
            self.gap_class.eq(memory.read_data),
            self.complete.eq(longer < bound),
        ]
        m.d.sync += begun.eq(self.begin)
        with m.If(begun | self.take):
            m.d.sync += [bound.eq(memory.read_data), length.eq(length + 1)]
        with m.If(self.take):
            m.d.sync += [
                prefix.eq(longer),
                offset.eq(offset - bound),
                self.number.eq(longer + offset),
            ]
        with m.If(self.begin):
            m.d.sync += [
                of_weight.eq(self.of_weight),
                length.eq(1),
                prefix.eq(0),
                offset.eq(0),
                self.number.eq(0),
            ]
        return m


class SerialDecoder(wiring.Component):
    """Does what `EntryDecoder` does with a fifth of its logic, a bit of a code or of a gap in a
    cycle: a step takes eight cycles and one for each of its bits, the gap symbol's, its extra bits'
    and the weight code's.

    Ports are those of `EntryDecoder`. `start` may come only while `done`, and for writes into the
    tables goes what `CodeNumber` says.
    """

    def __init__(self, most_entries: int):
        super().__init__(decoder_ports(most_entries))

    def elaborate(self, platform):
        m = Module()
        m.submodules.gap = gap = SerialReader(width=MAX_GAP_LENGTH)
        m.submodules.extra = extra = SerialReader(width=MAX_EXTRA)
        m.submodules.code = code = SerialReader(width=MAX_CODE_LENGTH)
        m.submodules.number = number = CodeNumber()
        for port in ("gap_table", "code_table", "classes"):
            connect(m, flipped(getattr(self, port)), getattr(number, port))
        left = Signal.like(self.entries)  # entries whose gap symbol was not read yet
        none_left = Signal()
        m.d.sync += none_left.eq(left == 0)
        coming, coming_class = Signal(), Signal(range(gaps.CLASSES))  # gap symbol s, …
        here, here_class = Signal(), Signal(range(gaps.CLASSES))  # … and s − 1
        skip = Signal()
        extra_left = Signal(range(MAX_EXTRA + 1))
        # A gap is its class's leading bits and then the extra ones.
        leading = [int(b) >> int(n) for b, n in zip(gaps.BASE, gaps.EXTRA_BITS, strict=True)]
        m.d.comb += [
            gap.need.eq(self.gap_length),
            extra.need.eq(extra_left),
            code.need.eq(self.code_length),
            skip.eq(here_class == gaps.SKIP),
            self.o.p.skip.eq(skip),
            self.o.p.code.eq(number.number),
        ]
        for reader in (gap, extra, code):
            m.d.comb += [reader.word.eq(self.i.payload), reader.clear.eq(self.start)]

        def take_word(reader, then):
            """Take a word if the reader asks for one, and go on."""
            m.d.comb += [
                self.i.ready.eq(reader.ask),
                self.starved.eq(reader.ask & ~self.i.valid),
                reader.take.eq(reader.ask & self.i.valid),
            ]
            with m.If(~reader.ask | self.i.valid):
                m.next = then

        def read_code(reader, longest, then):
            """Read the bits of a code, up to its number."""
            with m.If(longest == 0):
                m.next = then
            with m.Else():
                m.d.comb += [reader.shift.eq(1), number.take.eq(1), number.bit.eq(reader.bit)]
                with m.If(number.complete):
                    m.next = then

        with m.FSM():
            with m.State("done"):
                m.d.comb += self.done.eq(1)
                with m.If(self.start):
                    m.d.sync += [left.eq(self.entries), here.eq(0), coming.eq(0)]
                    m.next = "begin"
            with m.State("begin"):  # `none_left` is a cycle old
                m.next = "step"
            with m.State("step"):
                m.d.comb += number.begin.eq(1)
                m.d.sync += coming.eq(~none_left)
                m.next = "gap word"
                with m.If(none_left):
                    m.next = "extra word"
                    with m.If(~here):
                        m.next = "done"
            with m.State("gap word"):
                take_word(gap, "gap")
            with m.State("gap"):
                read_code(gap, self.gap_length, "gap class")
            with m.State("gap class"):
                m.d.comb += number.look_up.eq(1)
                m.d.sync += coming_class.eq(number.gap_class)
                with m.If(number.gap_class != gaps.SKIP):
                    m.d.sync += left.eq(left - 1)
                m.next = "extra word"
                with m.If(~here):
                    m.next = "next"
            with m.State("extra word"):
                m.d.comb += [number.begin.eq(1), number.of_weight.eq(1)]
                take_word(extra, "extra")
            with m.State("extra"):
                with m.If(extra_left != 0):
                    m.d.comb += extra.shift.eq(1)
                    m.d.sync += [
                        self.o.p.gap.eq(Cat(extra.bit, self.o.p.gap)),
                        extra_left.eq(extra_left - 1),
                    ]
                with m.Elif(skip):
                    m.next = "give"
                with m.Else():
                    m.next = "code word"
            with m.State("code word"):
                take_word(code, "code")
            with m.State("code"):
                read_code(code, self.code_length, "give")
            with m.State("give"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "next"
            with m.State("next"):
                m.d.sync += [
                    here.eq(coming),
                    here_class.eq(coming_class),
                    extra_left.eq(Array(Const(int(n), 4) for n in gaps.EXTRA_BITS)[coming_class]),
                    self.o.p.gap.eq(Array(Const(n, 17) for n in leading)[coming_class]),
                ]
                m.next = "step"
        return m

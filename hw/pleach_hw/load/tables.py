"""The tables in front of a layer's data words: counts of code lengths, gap codes, the codebook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from pleach.engine import EngineConfig, words
from pleach.engine.protocol import EngineError
from pleach.format import gaps
from pleach.numbers import CODEBOOK_MAX
from pleach_hw.buses import CodebookBus
from pleach_hw.layouts import layout
from pleach_hw.load.buses import ClassWrite, TableWrite
from pleach_hw.primitives import LutRam
from pleach_hw.primitives.delay import delays

_, _, _, TABLES = words.LAYER_WORDS


class ByteReader(wiring.Component):
    """Words to bytes, the lowest first.

    A word is taken only when a byte is wanted and none is held, so that what comes behind the last
    byte's word stays where it is.

    Ports:
        clear: strobe, hold nothing.
        i: words.
        o: bytes; the first one of a word is there the cycle after the word was taken.
    """

    def __init__(self) -> None:
        super().__init__(
            {"clear": In(1), "i": In(stream.Signature(32)), "o": Out(stream.Signature(8))}
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        held = Signal(32)
        left = Signal(range(5))
        m.d.comb += [
            self.o.payload.eq(held[:8]),
            self.o.valid.eq(left != 0),
            self.i.ready.eq(self.o.ready & ~self.o.valid),
        ]
        with m.If(self.o.ready):
            m.d.sync += held.eq(Mux(self.o.valid, held >> 8, self.i.payload))
            with m.If(self.o.valid):
                m.d.sync += left.eq(left - 1)
            with m.Elif(self.i.valid):
                m.d.sync += left.eq(4)
        with m.If(self.clear):
            m.d.sync += left.eq(0)
        return m


class TableBuilder(wiring.Component):
    """Counts of code lengths to the table of a canonical code, six cycles a length.

    Ports:
        start: begin the table of an alphabet of `size` ≥ 2 symbols, longest code `longest` ≥ 1.
        count, step: the count of codes of the next length; for the longest it is ignored.
        at_longest: the next step is the last one; known two cycles after a start, one after `done`.
        o: what is written into the table.
        done: strobe, the step was taken; `broken` says then that the Kraft equality cannot hold.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "size": In(9),
                "longest": In(range(words.MAX_CODE_LENGTH + 1)),
                "count": In(8),
                "step": In(1),
                "at_longest": Out(1),
                "o": Out(TableWrite()),
                "done": Out(1),
                "broken": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        upper = Signal(words.MAX_CODE_LENGTH + 1)
        below = Signal(10)  # codes shorter than the next length
        full = Signal(words.MAX_CODE_LENGTH + 1)  # 2^length
        length = Signal.like(self.o.length)

        # Carry chains a cycle apart: nothing here is in a hurry.
        left = Signal(signed(11))
        count = Signal(signed(11))
        total = Signal(words.MAX_CODE_LENGTH + 3)
        stepped = delays(m, self.step, 5, name="stepped", reset_less=False)
        m.d.comb += [
            self.o.write.eq(stepped[4]),
            self.o.length.eq(length),
            self.o.upper.eq(total),
            self.done.eq(stepped[5]),
        ]
        m.d.sync += [
            self.at_longest.eq(length == self.longest),
            left.eq(self.size - below),
            total.eq((upper << 1) + count),
            self.o.offset.eq(below - (upper << 1)),
        ]
        with m.If(self.step):
            m.d.sync += count.eq(self.count)
        with m.If(stepped[1] & self.at_longest):
            m.d.sync += count.eq(left)
        with m.If(stepped[3]):
            m.d.sync += self.broken.eq(
                Mux(self.at_longest, (total != full) | (left <= 0), (total >= full) | (left < 0))
            )
        with m.If(self.start):
            m.d.sync += [upper.eq(0), below.eq(0), length.eq(1), full.eq(2)]
        with m.Elif(stepped[4]):
            m.d.sync += [
                upper.eq(total),
                below.eq(below + count),
                length.eq(length + 1),
                full.eq(full << 1),
            ]
        return m


class ClassList(wiring.Component):
    """The lengths of the gap codes, by class, to the list of classes in the order of their codes.

    The lengths are gone through once for each length, a class a cycle.

    Ports:
        clear: strobe, begin a list of `last` + 1 classes.
        put, pair: the lengths of the next two classes; `filled` says that there are no more.
        scan: look at a class; `scanned` says that it is the last one.
        advance: strobe, go on to the next length, from 1 upwards.
        o: a class that was found.
        of_length: classes found of this length.
        coded: lengths that are not zero.
        incomplete: there is a class that was not found, or the last one has no code.
    """

    def __init__(self) -> None:
        count = range(gaps.CLASSES + 1)
        super().__init__(
            {
                "clear": In(1),
                "last": In(range(gaps.CLASSES)),
                "put": In(1),
                "pair": In(8),
                "filled": Out(1),
                "scan": In(1),
                "scanned": Out(1),
                "advance": In(1),
                "o": Out(ClassWrite()),
                "of_length": Out(count),
                "coded": Out(count),
                "incomplete": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.lengths = lengths = LutRam(shape=8, depth=16)
        number = Signal(range(gaps.CLASSES + 1))  # of the next code
        gap_class = Signal(range(gaps.CLASSES))
        wanted = Signal(range(words.MAX_GAP_LENGTH + 1))
        no_last = Signal()
        length = lengths.read_data.word_select(gap_class[0], 4)
        m.d.comb += [
            lengths.write_en.eq(self.put),
            lengths.write_addr.eq(gap_class[1:]),
            lengths.write_data.eq(self.pair),
            lengths.read_addr.eq(gap_class[1:]),
            self.filled.eq(gap_class[1:] == self.last[1:]),
            self.scanned.eq(gap_class == self.last),
            self.o.number.eq(number),
            self.o.gap_class.eq(gap_class),
            self.incomplete.eq((number != self.coded) | no_last),
        ]
        with m.If(self.put):
            m.d.sync += [
                self.coded.eq(self.coded + self.pair[:4].any() + self.pair[4:].any()),
                gap_class.eq(Mux(self.filled, 0, gap_class + 2)),
                wanted.eq(1),
                self.of_length.eq(0),
            ]
        with m.If(self.scan):
            m.d.sync += gap_class.eq(gap_class + 1)
            with m.If(length == wanted):
                m.d.comb += self.o.write.eq(1)
                m.d.sync += [number.eq(number + 1), self.of_length.eq(self.of_length + 1)]
            with m.If(self.scanned):
                m.d.sync += [gap_class.eq(0), no_last.eq(length == 0)]
        with m.If(self.advance):
            m.d.sync += [wanted.eq(wanted + 1), self.of_length.eq(0)]
        with m.If(self.clear):
            m.d.sync += [number.eq(0), gap_class.eq(0), self.coded.eq(0)]
        return m


class CodebookReader(wiring.Component):
    """Bytes to the values of a codebook, of one byte or of two.

    Ports:
        start: strobe, a codebook of `size` values begins, which go to `base` and behind it.
        narrow: they are of one byte.
        i: the bytes; always ready.
        o: write port of the PEs' codebooks, a cycle behind.
        done: with a byte, it is the last one.
    """

    def __init__(self, config: EngineConfig):
        super().__init__(
            {
                "start": In(1),
                "size": In(9),
                "base": In(range(config.codebook + 1)),
                "narrow": In(1),
                "i": In(stream.Signature(8)),
                "o": Out(CodebookBus(config, size=config.codebook)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        number, last = Signal(range(CODEBOOK_MAX)), Signal(range(CODEBOOK_MAX))
        high_next = Signal()  # the next byte is a value's last
        byte = self.i.payload
        m.d.comb += [
            self.i.ready.eq(1),
            self.done.eq(self.i.valid & high_next & (number == last)),
        ]
        m.d.sync += [last.eq(self.size - 1), self.o.write.eq(self.i.valid & high_next)]
        with m.If(self.o.write):
            m.d.sync += self.o.address.eq(self.o.address + 1)
        with m.If(self.i.valid):
            m.d.sync += high_next.eq(~high_next | self.narrow)
            with m.If(self.narrow | ~high_next):
                m.d.sync += self.o.value[:8].eq(byte)
            with m.If(high_next):
                m.d.sync += [
                    self.o.value[8:].eq(Mux(self.narrow, byte[7].replicate(8), byte)),
                    number.eq(number + 1),
                ]
        with m.If(self.start):
            m.d.sync += [
                number.eq(0),
                high_next.eq(self.narrow),
                self.o.address.eq(self.base),
            ]
        return m


class TableReader(wiring.Component):
    """Reads the tables of a layer that has entries, a byte at a time.

    Ports:
        start: strobe, read the tables that `tables` tells of; these stand until `done`.
        i: the words after the fields; the one after the tables' last is not taken.
        exhausted: there are no more.
        code_table, gap_table, classes: what is written into a decoder.
        codebook_base, codebook: where the codebook begins, and what is written there.
        done: strobe, all was read.
        refuse, error: strobe, it is wrong.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "tables": In(layout(TABLES)),
                "i": In(stream.Signature(32)),
                "exhausted": In(1),
                "code_table": Out(TableWrite()),
                "gap_table": Out(TableWrite()),
                "classes": Out(ClassWrite()),
                "codebook_base": In(range(config.codebook + 1)),
                "codebook": Out(CodebookBus(config, size=config.codebook)),
                "done": Out(1),
                "refuse": Out(1),
                "error": Out(EngineError),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        tables = self.tables
        m.submodules.bytes = bytes_ = ByteReader()
        m.submodules.builder = builder = TableBuilder()
        m.submodules.classes = classes = ClassList()
        m.submodules.codebook = codebook = CodebookReader(self._config)
        connect(m, flipped(self.i), bytes_.i)
        connect(m, classes.o, flipped(self.classes))
        connect(m, codebook.o, flipped(self.codebook))
        byte = bytes_.o.payload
        coding_gaps = Signal()  # the table being read: weight codes first, then gap classes
        last_count = Signal()
        no_codes = Signal()  # of the weights: all are the one in the codebook
        bad_gap_table = Signal()
        m.d.comb += [
            builder.size.eq(Mux(coding_gaps, classes.coded, tables.codebook_size)),
            builder.longest.eq(Mux(coding_gaps, tables.gap_length, tables.code_length)),
            builder.count.eq(Mux(coding_gaps, classes.of_length, byte)),
            self.code_table.write.eq(builder.o.write & ~coding_gaps),
            self.gap_table.write.eq(builder.o.write & coding_gaps),
            classes.pair.eq(byte),
            bytes_.clear.eq(self.start),
            codebook.size.eq(tables.codebook_size),
            codebook.base.eq(self.codebook_base),
            codebook.narrow.eq(tables.narrow),
            codebook.i.payload.eq(byte),
        ]
        for table in (self.code_table, self.gap_table):
            m.d.comb += [
                table.length.eq(builder.o.length),
                table.upper.eq(builder.o.upper),
                table.offset.eq(builder.o.offset),
            ]
        m.d.sync += [
            builder.start.eq(0),
            classes.last.eq(tables.gap_classes - 1),
            no_codes.eq(tables.code_length == 0),
            bad_gap_table.eq(
                classes.incomplete | ((tables.gap_length == 0) & (classes.coded != 1))
            ),
        ]

        def go(state: str) -> None:
            m.d.sync += bytes_.o.ready.eq(state in ("count byte", "gap lengths", "codebook"))
            m.next = state

        def fail(error: EngineError) -> None:
            m.d.comb += [self.refuse.eq(1), self.error.eq(error)]
            go("idle")

        @contextmanager
        def byte_read() -> Iterator[None]:
            """In a state that reads a byte as soon as there is one: when it does, …"""
            with m.If(bytes_.o.valid):
                yield
            with m.Elif(self.exhausted):
                fail(EngineError.DATA)

        with m.FSM():
            with m.State("idle"):
                m.d.sync += [builder.start.eq(1), coding_gaps.eq(0), last_count.eq(0)]
                with m.If(self.start):
                    go("counts")
            with m.State("counts"):
                with m.If(no_codes):
                    go("next table")
                with m.Elif(builder.at_longest):
                    m.d.comb += builder.step.eq(1)
                    m.d.sync += last_count.eq(1)
                    go("count")
                with m.Else():
                    go("count byte")
            with m.State("count byte"), byte_read():
                m.d.comb += builder.step.eq(1)
                go("count")
            with m.State("count"), m.If(builder.done):
                go("counts")
                with m.If(last_count):
                    go("next table")
                with m.If(builder.broken):
                    fail(EngineError.BAD_TABLE)
            with m.State("next table"):
                m.d.comb += classes.clear.eq(1)
                m.d.sync += [builder.start.eq(1), coding_gaps.eq(1)]
                go("gap lengths")
            with m.State("gap lengths"), byte_read():
                m.d.comb += classes.put.eq(1)
                with m.If(classes.filled):
                    go("gap classes")
            with m.State("gap classes"):
                m.d.comb += classes.scan.eq(1)
                with m.If(classes.scanned):
                    go("gap classes of a length")
            with m.State("gap classes of a length"):
                m.d.sync += last_count.eq(builder.at_longest)
                go("gap count")
                with m.If(tables.gap_length == 0):
                    go("gap table read")
                with m.Else():
                    m.d.comb += builder.step.eq(1)
            with m.State("gap count"), m.If(builder.done):
                m.d.comb += classes.advance.eq(1)
                go("gap classes")
                with m.If(last_count):
                    go("gap table read")
                with m.If(builder.broken):
                    fail(EngineError.BAD_TABLE)
            with m.State("gap table read"):
                m.d.comb += codebook.start.eq(1)
                go("codebook")
                with m.If(bad_gap_table):
                    fail(EngineError.BAD_TABLE)
            with m.State("codebook"), byte_read():
                m.d.comb += codebook.i.valid.eq(1)
                with m.If(codebook.done):
                    m.d.comb += self.done.eq(1)
                    go("idle")
        return m

"""Packets: inputs unpacked, outputs packed, files taken apart."""

from __future__ import annotations

from amaranth.asserts import AnySeq
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tests.formal.harness import proof
from tests.formal.small import small


@proof(
    "io.packing.InputUnpack", "of each packet, however long, all words are taken, and one vector "
    "is the last; each vector begins behind the one before",
    broken=("vector.last.eq(last | self.i.p.last)", "vector.last.eq(last)"),
    depth=20,
)  # fmt: skip
def test_input_unpack(bench, blocks):
    m = bench.m
    m.submodules.dut = dut = blocks["io.packing"].InputUnpack(lanes=4, column_width=4)
    i, o = dut.i, dut.o
    asked = Signal()  # from its start to its last word
    inputs, wide = bench.one(4), bench.one()
    bench.given(inputs != 0)
    m.d.comb += [
        dut.start.eq(bench.any() & ~asked),
        dut.inputs.eq(inputs),
        dut.wide.eq(wide),
        i.valid.eq(bench.any() & asked),
        i.p.last.eq(bench.any()),
        i.p.data.eq(bench.any(2)),
        o.ready.eq(bench.any()),
    ]
    taken, given = i.valid & i.ready, o.valid & o.ready
    ended, over = Signal(), Signal()  # the last vector went
    words = Signal(5)
    m.d.sync += [
        asked.eq((asked | dut.start) & ~(taken & i.p.last)),
        ended.eq(taken & i.p.last),
        over.eq((over & ~dut.start) | (given & o.p.last)),
        words.eq(Mux(dut.start, 0, words + (given & (words != 31)))),
    ]
    bench.show(~over, when=given)
    bench.show(over & dut.done, when=ended)
    bench.show(~given | taken)
    # A word has two or four inputs; lanes are four.
    bench.show(o.p.column == Mux(wide, words >> 1 << 2, words << 2)[:4], when=given & (words < 4))
    needed = Mux(wide, (inputs + 1) >> 1, (inputs + 3) >> 2)
    whole = words + 1 == needed
    bench.show(o.p.last == (whole | i.p.last), when=given & (words < needed))
    bench.show(i.ready | ~o.ready, when=asked)
    bench.reached(ended & (words == 3) & ~dut.wrong_length)
    bench.reached(ended & dut.wrong_length)


@proof(
    "io.packing.OutputPack", "each vector gives its words, each with its own values, and its place "
    "back once; a word that is offered stays until it is taken",
    broken=("ended.eq(ends)", "ended.eq(1)"),
)  # fmt: skip
def test_output_pack(bench, blocks):
    m = bench.m
    m.submodules.dut = dut = blocks["io.packing"].OutputPack(lanes=4, column_width=4)
    i, o, vector = dut.i, dut.o, dut.i.p
    held = bench.before(i.valid & ~i.ready)
    number, values, last = Signal(range(5)), Signal(4), Signal()
    m.d.comb += [
        i.valid.eq(bench.any() | held),
        number.eq(Mux(held, bench.before(number), bench.any(3))),
        values.eq(Mux(held, bench.before(values), bench.any(4))),
        last.eq(Mux(held, bench.before(last), bench.any())),
        vector.mask.eq(Cat(number > n for n in range(4))),
        vector.last.eq(last),
        o.ready.eq(bench.any()),
        *(vector.values[n].eq(values[n]) for n in range(4)),
    ]
    bench.given((number != 0) & (number <= 4))
    loads = i.valid & (~o.valid | o.ready)
    word = Signal(2)  # of the vector
    ends = word == (number - 1) >> 1
    with m.If(loads):
        m.d.sync += word.eq(Mux(ends, 0, word + 1))
    bench.show((i.valid & i.ready) == (loads & ends))
    pair = Cat(values & vector.mask).word_select(word[0], 2)
    loaded = bench.before(loads)
    bench.show(o.valid & (Cat(o.p.data[0], o.p.data[16]) == bench.before(pair)), when=loaded)
    bench.show(o.p.last == bench.before(last & ends), when=loaded)
    kept = bench.before(o.valid & ~o.ready)
    bench.show(o.valid & (o.payload.as_value() == bench.before(o.payload.as_value())), when=kept)
    owed = bench.count(i.valid & i.ready, dut.back, 1)
    bench.show(o.valid, when=owed != 0)
    bench.reached(dut.back & i.valid & (number == 4))


@proof(
    "maps.control.MapOutput", "as many vectors as the outputs fill, the last of them marked, and "
    "then the reading ends, once",
    broken=("vector.last.eq(left <= lanes)", "vector.last.eq(left < lanes)"),
)  # fmt: skip
def test_map_output(bench, blocks):
    m = bench.m
    m.submodules.dut = dut = blocks["maps.control"].MapOutput(small(maps=16), latency=3)
    number, asked, given = bench.one(4), Signal(), Signal(3)
    o = dut.o
    bench.given(number != 0)
    m.d.comb += [
        dut.start.eq(bench.any() & ~asked), dut.number.eq(number), o.ready.eq(bench.any()),
        dut.at.eq(bench.one(2) << 2),
    ]  # fmt: skip
    taken = o.valid & o.ready
    m.d.sync += [asked.eq((asked | dut.start) & ~dut.done), given.eq(given + taken)]
    with m.If(dut.start):
        m.d.sync += given.eq(0)
    vectors = (number + 3) >> 2
    bench.show(asked & (given < vectors), when=o.valid)
    bench.show(o.p.last == (given + 1 == vectors), when=o.valid)
    bench.show(dut.done == (taken & o.p.last))
    bench.show(dut.address == 0, when=~asked)
    bench.show(dut.address[2:] == (dut.at[2:] + given)[:2], when=o.valid)
    bench.within(asked & ~o.valid, 5)
    bench.reached(dut.done & (vectors == 3))


class AnyCrc(wiring.Component):
    """Stands for the CRC of words, which may be right or wrong, and may take a while."""

    def __init__(self, bits):
        super().__init__(
            {"word": In(32), "take": In(1), "begin": In(1), "busy": Out(1), "wrong": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.busy.eq(AnySeq(1)), self.wrong.eq(AnySeq(1))]
        return m


@proof(
    "load.framing.Framing", "of each packet, whatever is in it, all words are taken and it is "
    "answered once, after its last word; sections are begun and committed one after the other; it "
    "never locks up",
    broken=("with m.If(taking.ended):", "with m.If(taking.ended & taking.none_left):"),
    cycles=22,
    depth=40,
)  # fmt: skip
def test_framing(bench, blocks):
    m = bench.m
    module = blocks["load.framing"]
    module.WordCrc = AnyCrc
    dut = module.Framing(layers=2, crc_bits=1)
    inside = bench.inside(dut)
    i, busy = dut.i, inside.taking.crc.busy
    asked, ended = Signal(), Signal()
    taken = i.valid & i.ready
    m.d.comb += [
        dut.start.eq(bench.any() & ~asked),
        i.valid.eq(bench.any() & asked & ~ended),
        i.payload.eq(bench.any(33)),
        dut.o.ready.eq(bench.any()),
        dut.refusal.eq(bench.any(len(dut.refusal.as_value()))),
        dut.full.eq(bench.any()),
    ]
    m.d.sync += [
        asked.eq((asked | dut.start) & ~dut.done),
        ended.eq((ended | (taken & i.p.last)) & ~dut.done),
    ]
    bench.show(asked & ended, when=dut.done)
    # The reader of a section: it ends, or refuses it, when there are no more words at the latest.
    reads = Signal()
    refuses = bench.any() & (reads | dut.begin)
    m.d.comb += [
        dut.finish.eq((bench.any() | dut.exhausted) & reads & ~refuses), dut.refuse.eq(refuses)
    ]  # fmt: skip
    m.d.sync += reads.eq((reads | dut.begin) & ~dut.finish & ~refuses & ~dut.done)
    bench.show(~reads, when=dut.begin)
    waits = busy | (reads & ~dut.o.ready)
    bench.within(asked & ~ended & ~i.ready & ~waits, 10)
    bench.within(ended & ~dut.done & ~busy, 12)
    begun = Signal(2)
    m.d.sync += begun.eq(Mux(dut.start, 0, begun + dut.begin - dut.commit))
    bench.show(begun <= 1)
    bench.show(begun == 1, when=dut.commit)
    bench.show(dut.layers <= 2)
    bench.reached(dut.commit)
    bench.reached(dut.done & (dut.error == 0))

"""What a file goes through on its way into the PEs."""

from __future__ import annotations

from amaranth.hdl import Array, Mux, Signal

from tests.formal.harness import proof
from tests.formal.small import small
from tests.formal.test_queue import first_in_first_out


@proof(
    "load.framing.PacketBuffer", "each word of a packet leaves once and in order, and none that is "
    "behind the packet enters",
    broken=("self.i.ready.eq(buffer.i.ready & ~closed)", "self.i.ready.eq(buffer.i.ready)"),
)  # fmt: skip
def test_packet_buffer(bench, blocks):
    m = bench.m
    m.submodules.dut = dut = blocks["load.framing"].PacketBuffer()
    m.d.comb += [
        dut.i.valid.eq(bench.any()), dut.i.p.last.eq(bench.any()), dut.i.p.data.eq(bench.any(1)),
        dut.o.ready.eq(bench.any()), dut.open.eq(bench.any()),
    ]  # fmt: skip
    closed = Signal(init=1)
    with m.If(dut.open):
        m.d.sync += closed.eq(0)
    with m.Elif(dut.i.valid & dut.i.ready):
        m.d.sync += closed.eq(dut.i.p.last)
    bench.show(~closed, when=dut.i.valid & dut.i.ready)
    first_in_first_out(bench, dut.i, dut.o, depth=2)


@proof(
    "load.huffman.TwoWords", "the words that were taken are held in order until they are given up",
    broken=("Mux(self.drop, self.two | (self.one & self.take)", "Mux(self.drop, self.two"),
)  # fmt: skip
def test_two_words(bench, blocks):
    """One bit of a word is as good as all."""
    m = bench.m
    text = blocks["load.huffman"]
    m.submodules.dut = dut = text.TwoWords()
    m.d.comb += [
        dut.word.eq(bench.any(1)), dut.take.eq(bench.any()), dut.drop.eq(bench.any()),
        dut.clear.eq(bench.any()),
    ]  # fmt: skip
    bench.given(~dut.drop | dut.one | dut.take)
    bench.given(~dut.take | ~dut.two)
    held, words = Signal(2), Signal(2)
    after = Mux(dut.take, (words & ~(1 << held)) | (dut.word[0] << held), words)[:2]
    with m.If(dut.clear):
        m.d.sync += held.eq(0)
    with m.Else():
        m.d.sync += [
            held.eq(held + dut.take - dut.drop), words.eq(Mux(dut.drop, after >> 1, after))
        ]  # fmt: skip
    bench.show((dut.one == (held >= 1)) & (dut.two == (held == 2)) & (held <= 2))
    bench.show(dut.first[0] == words[0], when=dut.one)
    bench.show(dut.second[0] == words[1], when=dut.two)
    bench.reached(dut.two & dut.drop & words[1])


@proof(
    "load.serial_decoder.SerialReader", "each bit of each word that is taken leaves once, in "
    "order; it asks for a word before it is short of one",
    broken=("rest_count.eq(count)", "rest_count.eq(count - 1)"),
)  # fmt: skip
def test_serial_reader(bench, blocks):
    """One bit of one word, any, is followed."""
    m = bench.m
    width = 4
    dut = blocks["load.serial_decoder"].SerialReader(width=width)
    inside = bench.inside(dut)
    asks = bench.any()
    m.d.comb += [
        dut.need.eq(width),
        dut.word.eq(bench.any(32)),
        dut.take.eq(bench.any() & dut.ask),
        dut.shift.eq(asks & ~dut.take),
        dut.clear.eq(bench.any()),
    ]
    held, rest = inside.count, inside.rest_count
    bench.given(~dut.shift | ((held + rest) != 0))
    marked, bit, ahead = Signal(), Signal(), Signal(range(40))
    place, marks = bench.one(range(32)), bench.any()
    with m.If(dut.clear):
        m.d.sync += marked.eq(0)
    with m.Elif(dut.take & ~marked & marks):
        m.d.sync += [
            marked.eq(1), bit.eq(dut.word.bit_select(place, 1)), ahead.eq(held + 31 - place)
        ]  # fmt: skip
    with m.Elif(dut.shift & marked):
        m.d.sync += [ahead.eq(ahead - 1), marked.eq(ahead != 0)]
    bench.show(dut.bit == bit, when=marked & (ahead == 0))
    bench.show(ahead < held + rest, when=marked)
    behind = (ahead - rest)[:6]
    in_held = marked & (ahead >= rest)
    bench.show(inside.held.bit_select((31 - behind)[:5], 1) == bit, when=in_held)
    bench.show(Array(inside.rest)[(width - 2 - ahead)[:2]] == bit, when=marked & (ahead < rest))
    bench.show((held <= 32) & (rest < width))
    bench.show(rest == 0, when=dut.ask)
    bench.reached(marked & (ahead == 0) & dut.shift & (rest != 0))


@proof(
    "load.scatter.Scatter", "each symbol is worked off, each entry within its layer goes to one "
    "PE, and each column ends once, in order; after the last one it is done",
    broken=("complete.eq(columns_left == 1)", "complete.eq(columns_left <= 2)"),
    cycles=11,
    depth=24,
)  # fmt: skip
def test_scatter(bench, blocks):
    m = bench.m
    config = small(pes=2, lanes=1)
    dut = blocks["load.scatter"].Scatter(config)
    inside = bench.inside(dut)
    begun = Signal()
    m.d.sync += begun.eq(1)
    rows, columns = bench.one(3), bench.one(2)
    i = dut.i
    finish = Signal()
    m.d.comb += [
        dut.start.eq(~begun), dut.rows.eq(rows), dut.columns.eq(columns),
        i.valid.eq(bench.any() & begun & ~finish), i.p.gap.eq(bench.any(3)),
        i.p.skip.eq(bench.any()), i.p.code.eq(bench.any(1)), dut.finish.eq(finish),
    ]  # fmt: skip
    bench.given((rows != 0) & (rows <= 4) & (columns != 0))
    m.d.sync += finish.eq(finish | bench.any())
    ended = Signal(3)
    m.d.sync += ended.eq(ended + dut.column_end)
    bench.show((dut.column == ended[:2]) & (ended < columns), when=dut.column_end)
    # Done is said two cycles before the last end shows.
    later = bench.before(bench.before(dut.done))
    bench.show(ended == columns, when=later)
    bench.show(~dut.entry_valid.all())
    # Places of the layer, counted through: an entry is where its gaps say.
    at, place = Signal(6), Signal(6)
    taken = i.valid & i.ready
    m.d.comb += place.eq(at + i.p.gap)
    with m.If(taken & (at < 32)):
        m.d.sync += at.eq(place + ~i.p.skip)
    entries = Signal(range(8))
    inside_layer = taken & ~i.p.skip & (place < rows * columns)
    wrote = dut.entry_valid.any()
    m.d.sync += entries.eq(entries + inside_layer - wrote)
    bench.show(entries != 0, when=wrote)
    bench.show(entries == 0, when=later)
    bench.within(begun & finish & ~dut.done, 16)
    bench.within(begun & ~i.ready, 8)
    bench.reached(dut.done & (columns == 3) & inside.finish)
    bench.reached(dut.outside)

"""What a file goes through on its way into the PEs."""

from __future__ import annotations

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Cat, Module, Mux, Signal

from pleach.engine import words
from pleach.format import gaps
from pleach.numbers import CODEBOOK_MAX, SHIFT_MAX
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


@proof(
    "load.fields.FieldReader", "each section ends once, in fields or in a refusal; fields are "
    "within their ranges, and stand until the next section; no word is waited for that does not "
    "come; it never locks up",
    broken=("            fields.low > fields.high,\n", ""),
    cycles=24,
)  # fmt: skip
def test_field_reader(bench, blocks):
    m = bench.m
    dut = blocks["load.fields"].FieldReader(maps=True, scales=True)
    bench.inside(dut)
    version, busy, over = bench.one(8), Signal(), Signal()
    bench.given(Cat(version == each for each in words.VERSIONS).any())
    i, fields, scale, tables = dut.i, dut.fields, dut.fields.scale, dut.fields.tables
    m.d.comb += [
        dut.version.eq(version), dut.section.eq(bench.one(32)), dut.wait.eq(bench.any()),
        dut.begin.eq(bench.any() & ~busy & bench.before(bench.before(1))),
        i.valid.eq(bench.any() & ~over), i.payload.eq(bench.any(32)), dut.exhausted.eq(over),
    ]  # fmt: skip
    within = busy | dut.begin
    ends = (dut.done | dut.refuse) & within
    m.d.sync += [busy.eq(within & ~ends), over.eq((over | bench.any()) & within & ~ends)]
    bench.show(busy & ~dut.refuse, when=dut.done)
    bench.show(busy, when=i.valid & i.ready)
    ranges = [
        fields.outputs != 0, fields.low <= fields.high, scale.shift <= SHIFT_MAX,
        tables.codebook_size <= CODEBOOK_MAX, tables.code_length <= words.MAX_CODE_LENGTH,
        tables.gap_classes <= gaps.CLASSES, tables.gap_length <= words.MAX_GAP_LENGTH,
        (fields.entries == 0) == (tables.codebook_size == 0),
    ]  # fmt: skip
    bench.show(Cat(ranges).all(), when=dut.done)
    stand = Signal()
    m.d.sync += stand.eq((stand | dut.done) & ~dut.begin)
    kept = Cat(fields.entries[0], fields.low[0], fields.high[0], scale.shift, tables.gap_length)
    bench.show(kept == bench.before(kept), when=bench.before(stand & ~dut.begin))
    starved = i.ready & ~i.valid & ~over
    bench.within(busy & ~ends & ~starved & ~dut.wait, 16)
    bench.reached(dut.done & scale.joined & (scale.function == words.CLIP) & scale.scaled)


@proof(
    "load.tables.TableReader", "as many words are taken as the tables have, and what is behind "
    "them stays; each value of the codebook is written once, in order, and each length of both "
    "tables; it ends once, in a table or in a refusal; it never locks up",
    broken=("self.i.ready.eq(self.o.ready & ~self.o.valid)", "self.i.ready.eq(self.o.ready)"),
    cycles=32,
    depth=60,
)  # fmt: skip
def test_table_reader(bench, blocks):
    m = bench.m
    dut = blocks["load.tables"].TableReader(small(codebook=4))
    inside = bench.inside(dut)
    i, tables, busy, over = dut.i, dut.tables, Signal(), Signal()
    sizes = {"codebook_size": 2, "code_length": 2, "gap_classes": 2, "gap_length": 2, "narrow": 1}
    for name, bits in sizes.items():
        m.d.comb += getattr(tables, name).eq(bench.one(bits))
    bench.given((tables.codebook_size != 0) & (tables.gap_classes != 0))
    bench.given((tables.codebook_size == 1) == (tables.code_length == 0))
    idle = bench.before(~busy)  # what says how long codes are stands a while before
    calm = ~busy & idle & bench.before(idle) & bench.before(bench.before(idle))
    m.d.comb += [
        dut.start.eq(bench.any() & calm), i.valid.eq(bench.any() & ~over),
        i.payload.eq(bench.any(32)), dut.exhausted.eq(over),
    ]  # fmt: skip
    ends = dut.done | dut.refuse
    m.d.sync += [
        busy.eq((busy | dut.start) & ~ends),
        over.eq((over | bench.any()) & (busy | dut.start) & ~ends),
    ]
    bench.show(busy & ~(dut.done & dut.refuse), when=ends)
    # Bytes of the counts but for the last one, of the lengths of classes, of the codebook.
    counts = Mux(tables.code_length == 0, 0, tables.code_length - 1)[:2]
    size = tables.codebook_size[:2]
    total = Signal(5)
    m.d.comb += total.eq(
        counts + ((tables.gap_classes + 1) >> 1) + Mux(tables.narrow, size, size << 1)
    )
    taken, took = i.valid & i.ready, Signal(3)
    last = (total + 3) >> 2
    m.d.sync += took.eq(Mux(dut.start, 0, took + taken))
    bench.show(busy & (took < last), when=taken)
    bench.show(took == last, when=dut.done)
    for write, at, most in (
        (dut.codebook.write, dut.codebook.address - dut.codebook_base, size),
        (dut.classes.write, dut.classes.number, tables.gap_classes),
        (dut.code_table.write, dut.code_table.length - 1, tables.code_length),
        (dut.gap_table.write, dut.gap_table.length - 1, tables.gap_length),
    ):
        written = Signal(3, name=bench._name("written"))
        m.d.sync += written.eq(Mux(dut.start, 0, written + write))
        bench.show((at[:3] == written) & (written < most), when=write)
        if write is not dut.classes.write:
            late = bench.before(dut.done) & ~dut.start
            bench.show(written + write == most, when=late)
    bytes_, builder, classes = inside.bytes_, inside.builder, inside.classes
    moves = (bytes_.o.valid & bytes_.o.ready) | taken | builder.step | builder.done | classes.scan
    starved = i.ready & ~i.valid & ~over
    bench.within(busy & ~ends & ~starved & ~moves, 7)
    bench.reached(dut.done & (tables.code_length == 2) & (tables.gap_length == 1) & ~tables.narrow)


@proof(
    "load.tables.ByteReader", "each byte of each word leaves once, in order; no word is taken "
    "before a byte of it is wanted",
    broken=("left.eq(4)", "left.eq(3)"),
)  # fmt: skip
def test_byte_reader(bench, blocks):
    m = bench.m
    dut = blocks["load.tables"].ByteReader()
    inside = bench.inside(dut)
    i, o = dut.i, dut.o
    m.d.comb += [
        i.valid.eq(bench.any()), i.payload.eq(bench.any(32)), o.ready.eq(bench.any()),
        dut.clear.eq(bench.any()),
    ]  # fmt: skip
    place, marks, marked, value = bench.one(2), bench.any(), Signal(), Signal(8)
    left = bench.count(Mux(i.valid & i.ready, 4, 0), o.valid & o.ready, 4)
    with m.If(dut.clear):
        m.d.sync += [left.eq(0), marked.eq(0)]
    with m.Elif(i.valid & i.ready & ~marked & marks):
        m.d.sync += [marked.eq(1), value.eq(i.payload.word_select(place, 8))]
    with m.Elif(o.valid & o.ready & (left == 4 - place)):
        m.d.sync += marked.eq(0)
    bench.show(left == inside.left)
    bench.show(left >= 4 - place, when=marked)
    held = inside.held.word_select((place + left - 4)[:2], 8)
    bench.show(held == value, when=marked)
    bench.show(o.payload == value, when=marked & (left == 4 - place))
    bench.show(o.ready & (left == 0), when=i.ready)
    bench.show(o.valid | i.ready, when=o.ready)
    bench.reached(o.valid & o.ready & marked & (left == 4 - place) & (place == 3))


def any_readers(module):
    """Stand-ins for the decoder's readers, which step when they like and read anything, for the
    list of classes, each its own number, and for a gap, its class and one extra bit."""

    class AnyReaders(module.Readers):
        def elaborate(self, platform):
            m = Module()
            symbol, code = AnySeq(2), AnySeq(1)
            symbols, codes = Signal(2), Signal()
            m.d.sync += [self.gap_number.eq(symbols), self.code_number.eq(codes)]
            with m.If(self.gap_find):
                m.d.sync += symbols.eq(symbol)
            with m.If(self.code_find):
                m.d.sync += codes.eq(code)
            m.d.comb += [
                self.gap_found.eq(self.gap_number == self.sought),
                self.extra_window.eq(AnySeq(1)),
                self.extra_taken.eq(self.asks_extra & AnySeq(1)),
                self.gap_step.eq(self.running & AnySeq(1)),
                self.step.eq(
                    self.running & ~self.blocked & (~self.asks_extra | self.extra_taken) & AnySeq(1)
                ),
            ]
            self.drawn = symbol, code
            return m

    class AnyClasses(module.GapClasses):
        def elaborate(self, platform):
            m = Module()
            m.d.comb += [
                self.gap_class.eq(self.number), self.skip_number.eq(AnyConst(2)),
                self.lacking.eq(AnySeq(1)),
            ]  # fmt: skip
            return m

    class OneBit(module.GapValue):
        def elaborate(self, platform):
            m = Module()
            kept = Signal(3)
            with m.If(self.keep):
                m.d.sync += kept.eq(Cat(self.window[0], self.gap_class))
            with m.If(self.cut):
                m.d.sync += self.gap.eq(kept)
            return m

    return {"Readers": AnyReaders, "GapClasses": AnyClasses, "GapValue": OneBit}


@proof(
    "load.entry_decoder.EntryDecoder", "each gap symbol that is read is given out once and in "
    "order, with its own extra bits and, unless it is a skip, its own code; what is offered stays "
    "until it is taken; it is done when as many entries as there are were given; it never locks up",
    broken=("more & ~(reading & (left == 1))", "more"),
)  # fmt: skip
def test_entry_decoder(bench, blocks):
    m = bench.m
    module = blocks["load.entry_decoder"]
    module.__dict__.update(any_readers(module))
    dut = module.EntryDecoder(3)
    inside = bench.inside(dut)
    readers, skip, o = inside.readers, inside.classes.skip_number, dut.o
    symbol, code = readers.drawn
    m.d.comb += [
        dut.start.eq(bench.any() & dut.done), dut.entries.eq(bench.any(2)),
        o.ready.eq(bench.any()),
    ]  # fmt: skip
    finds, looks, gives = readers.gap_find, readers.extra_consume, o.valid & o.ready
    read = bench.count(finds, looks, 3)
    held = bench.count(looks, gives, 3)
    left = Signal(3)  # entries that were not given out
    entry = gives & ~o.p.skip
    m.d.sync += left.eq(Mux(dut.start, dut.entries, left - entry))
    bench.show(left != 0, when=entry)
    bench.show((left == 0) & (read == 0) & (held == 0), when=dut.done)
    offered = Cat(o.p.skip, o.p.code[0], o.p.gap[:3])
    kept = bench.before(o.valid & ~o.ready)
    bench.show(o.valid & (offered == bench.before(offered)), when=kept)
    # One symbol, any: what it is, and how many are ahead of it.
    marks, marked, looked = bench.any(), Signal(), Signal()
    number, window, own = Signal(2), Signal(), Signal()
    ahead = Signal(3)
    with m.If(finds & marks & ~marked):
        m.d.sync += [marked.eq(1), looked.eq(0), number.eq(symbol), ahead.eq(read - looks)]
    with m.Elif(marked & ~looked & looks):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += [
                looked.eq(1), window.eq(readers.extra_window[0]), own.eq(code),
                ahead.eq(held - gives),
            ]  # fmt: skip
    with m.Elif(marked & looked & gives):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += marked.eq(0)
    mine = marked & ~looked & looks & (ahead == 0)
    bench.show(readers.code_find == (number != skip), when=mine)
    out = marked & looked & o.valid & (ahead == 0)
    bench.show((o.p.skip == (number == skip)) & (o.p.gap[:3] == Cat(window, number)), when=out)
    bench.show(o.p.code[0] == own, when=out & ~o.p.skip)
    bench.show(ahead < Mux(looked, held, read), when=marked)
    steps = readers.gap_step & readers.step & o.ready
    bench.within(inside.running & steps & ~o.valid, 9)
    bench.reached(gives & out & ~o.p.skip & (left == 1) & bench.before(o.valid & ~o.ready))

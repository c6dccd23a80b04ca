"""The way over maps: windows, vectors, fronts, drains, packers, pools."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine.pipeline import MapDrainAges
from tests.formal.harness import proof
from tests.formal.small import small


def record(bench, dut, **fields):
    """A pass' record that stands; what is not given is 0."""
    pass_ = dut.pass_
    bench.m.d.comb += [pass_[name].eq(value) for name, value in fields.items()]
    return pass_


def begins(bench, dut):
    """The pass starts in the first cycle and not again; whether it has."""
    begun = Signal()
    bench.m.d.sync += begun.eq(1)
    bench.m.d.comb += dut.start.eq(~begun)
    return begun


class Passed(wiring.Component):
    """Stands for a requantiser: it gives the lowest bit of what it gets, as late."""

    latency = 1

    def __init__(self, *, accumulator_bits):
        ports = {"acc": In(signed(accumulator_bits)), "shift": In(6), "relu": In(1), "sign": In(1)}
        super().__init__(ports | {"result": Out(signed(16))})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.result.eq(self.acc[0])
        return m


PLACES = 2


@proof(
    "maps.packer.Packer", "each value is written once, where it belongs, and the last one of a "
    "window in the cycle in which the window is said to be written; no more are held than there "
    "are places, and each place is given back once; it never locks up",
    broken=("Mux(held & ~emits, enables, 0) | beat.mask", "Mux(held, enables, 0) | beat.mask"),
)  # fmt: skip
def test_packer(bench, blocks):
    """One place, any, is marked, and one address of it; it is followed to its row."""
    m = bench.m
    module = blocks["maps.packer"]
    module.PLACES = PLACES
    config = small(pes=4, groups=2, lanes=2, maps=8, neighbours=2)
    dut = module.Packer(config, number=1)
    inside = bench.inside(dut)
    begun = begins(bench, dut)
    place, write = dut.place, dut.write
    comes, follows = dut.place_valid, dut.values_valid
    m.d.comb += [
        comes.eq(bench.any() & begun),
        place.address.eq(bench.any(3)),
        place.mask.eq(bench.any(2)),
        place.last.eq(bench.any()),
        follows.eq(bench.any() & begun),
    ]
    bench.given(~comes | (place.address <= config.maps - 2))
    # Of places that came some values did not follow; those taken may not yet be given back.
    owed = (inside.place_tail - inside.tail)[:2]
    waiting = (inside.tail - inside.head)[:2]
    bench.given(~follows | (owed != 0))
    held = Signal(range(PLACES + 2))
    m.d.sync += held.eq(held + comes - dut.back)
    bench.given(~comes | (held != PLACES))
    bench.show(held == owed + waiting + dut.back)
    bench.show(owed + waiting <= PLACES)

    address = bench.one(3)
    lanes = Cat(place.mask[n] & (place.address + n == address) for n in range(2))
    marks = comes & lanes.any() & bench.any()
    there, loaded, packed = Signal(), Signal(), Signal()  # in the queue, the beat, the row
    index, lane = Signal(2), Signal()
    free = ~there & ~loaded & ~packed
    # A window's addresses differ: until the marked one is written no other place has it.
    bench.given(~comes | ~lanes.any() | free)
    slot = address[0]
    with m.If(marks):
        m.d.sync += [there.eq(1), index.eq(inside.place_tail), lane.eq(lanes[1])]
    ours = follows & there & (inside.tail == index)
    m.d.comb += [dut.values[n].eq(ours & (lane == n)) for n in range(2)]
    moves = there & inside.loads & (inside.head == index)
    row_of_beat = inside.place.address[1:] + inside.beyond
    with m.If(moves & (row_of_beat == address[1:])):
        m.d.sync += [there.eq(0), loaded.eq(1)]
    with m.If(loaded & inside.beat_taken):
        m.d.sync += [loaded.eq(0), packed.eq(1)]
    beat = inside.beat
    bench.show(inside.beat_valid & (beat.row == address[1:]), when=loaded)
    bench.show(beat.mask.bit_select(slot, 1) & Array(beat["values"])[slot][0], when=loaded)
    bench.show(inside.held & (inside.row == address[1:]), when=packed)
    bench.show(inside.enables.bit_select(slot, 1), when=packed)
    bench.show(inside.collected[0][0] | slot, when=packed)
    bench.show(inside.collected[1][0] | ~slot, when=packed)
    with m.If(packed & inside.emits):
        m.d.sync += packed.eq(0)
    wrote = bench.before(packed & inside.emits)
    written = write.enables.bit_select(slot, 1) & (write.row == address[1:])
    bench.show(written & Array(write.values)[slot][0], when=wrote)
    any_one = Cat(write.values[n][0] & write.enables[n] for n in range(2)).any()
    bench.show(wrote | ~any_one)
    bench.within((waiting != 0) & ~dut.back & ~write.enables.any(), 2 * config.groups + 3)
    bench.reached(wrote & dut.written)
    bench.reached((held == PLACES) & (owed == 0) & packed)


@proof(
    "maps.drain.GroupDrain", "no more windows wait than have a place, and each is taken when it is "
    "accumulated, freed once, and has one last place, with as many values as places, never more "
    "than the packer holds; no word is drained twice in a window, and each of a row of the layer "
    "is; it never locks up",
    broken=("takes.eq(units.o.valid & self.windows.waiting & ~active & ~taken.any())",
            "takes.eq(units.o.valid & self.windows.waiting & ~active)"),
    cycles=20,
)  # fmt: skip
def test_group_drain(bench, blocks):
    m = bench.m
    module = blocks["maps.drain"]
    module.PLACES = PLACES
    module.MOST_SLOTS = slots = 2
    module.RequantizeUnit = Passed
    module.map_drain_ages = lambda _: MapDrainAges(drained=3, requantized=5, given=7)
    config = small(pes=2, lanes=1, maps=16, accumulators=8)
    dut = module.GroupDrain(config)
    inside = bench.inside(dut)
    begun = begins(bench, dut)
    side, local = bench.one(1), bench.one(1)  # less 1
    rows = bench.one(3)
    pooled = bench.one(1)
    record(
        bench, dut, side=side, local_rows=local + 1, rows=rows, pooled=pooled, slots=slots,
        slot=(local + 1) << (side << 1),
    )  # fmt: skip
    bench.given((rows != 0) & (rows <= (local + 1) * 2) & (rows > local * 2))
    unit = dut.units.unit
    m.d.comb += [
        dut.units.valid.eq(bench.any() & begun),
        unit.edge_x.eq(bench.any(1)),
        unit.edge_y.eq(bench.any(1)),
        dut.back.eq(bench.any()),
    ]
    bench.given((unit.edge_x <= side) & (unit.edge_y <= side))
    bench.given(~pooled | ((unit.edge_x == side) & (unit.edge_y == side)))

    given = Signal(range(slots + 1))
    m.d.sync += given.eq(given + dut.units.valid - dut.freed)
    bench.given(~dut.units.valid | (given != slots))
    bench.show(given != 0, when=dut.freed)
    # The PEs: a window that was accumulated is waiting, and `take` is heeded three cycles later.
    done = Signal(range(slots + 1))
    ready = bench.any()  # another window is accumulated
    take = bench.before(bench.before(dut.windows.take))
    m.d.sync += done.eq(done + ready - take)
    bench.given(~ready | ((done != slots) & begun))
    m.d.sync += dut.windows.waiting.eq(done != 0)
    bench.show(done != 0, when=take)

    places = bench.count(dut.place_valid, dut.back, PLACES)
    bench.count(dut.place_valid, dut.values_valid, PLACES)
    complete = bench.count(dut.values_valid, dut.back, PLACES)  # with their values
    bench.given(~dut.back | (complete != 0))
    lasts = bench.count(dut.units.valid, dut.place_valid & dut.place.last, slots + 1)
    taken = bench.count(dut.units.valid, dut.windows.take, slots)
    bench.show(inside.units.i.ready, when=inside.units.i.valid)

    # One word of one PE, any: in each window drained once, if it is of a row and of a pixel that
    # is inside. A window's words follow those of the one before in the ring.
    word, pe = bench.one(3), bench.one(1)
    drained = Signal()
    now = dut.pes.valid.bit_select(pe, 1) & (dut.pes.row == word)
    bench.show(~drained, when=now)
    ends = bench.before(dut.freed)  # the last drain of a window shows
    over = inside.go & inside.done  # two cycles before
    slot, base = (local + 1) << (side << 1), Signal(3)
    with m.If(over):
        m.d.sync += base.eq(Mux(base == 0, slot, 0))
    within = (word - base)[:3]
    pixel = Mux(local, within >> 1, within)[:2]
    edges = inside.unit
    there = Mux(side, (pixel[0] <= edges.edge_x) & (pixel[1] <= edges.edge_y), pixel == 0)
    is_row = Cat(pe, within[0] & local) < rows
    wanted = bench.before(bench.before(over & (within < slot) & there & is_row))
    bench.show(drained | now, when=wanted)
    with m.If(ends):
        m.d.sync += drained.eq(0)
    with m.Elif(now):
        m.d.sync += drained.eq(1)
    bench.within((taken < given) & (places != PLACES) & ~dut.freed, 24)
    bench.within((given != 0) & (done != 0) & (taken == given) & ~dut.windows.take, 9)
    bench.reached(ends & now & (lasts != 0))
    bench.reached(dut.place_valid & ~bench.before(dut.place_valid) & (places == PLACES - 1))
    bench.reached(dut.freed & side & local)


@proof(
    "maps.front.Front", "each value of each vector is told to the PEs once for each pixel that it "
    "is for, each bias and each mark once for its window; no vector finds its place taken, each "
    "gives it back once; nothing is told while the PEs are not ready; it never locks up",
    broken=("ram.write_en.eq(self.vectors.valid)", "ram.write_en.eq(1)"),
    cycles=18,
    depth=24,
)  # fmt: skip
def test_front(bench, blocks):
    m = bench.m
    module = blocks["maps.front"]
    module.PASSES = module.SIDE = 2
    room = 2
    config = small(maps=16, neighbours=2, vectors=room, accumulators=2, columns=2)
    dut = module.Front(config)
    inside = bench.inside(dut)
    # The table of pixels is filled first: the marked pixel has another place than the others.
    a, b, bank = bench.one(1), bench.one(1), bench.one(1)
    step = Signal(range(6))
    with m.If(step != 5):
        m.d.sync += step.eq(step + 1)
    begun = step == 5
    number = step - 1
    m.d.comb += [
        dut.start.eq(step == 0),
        dut.pixels.write.eq((step != 0) & ~begun),
        dut.pixels.index.eq(number[:2]),
        dut.pixels.base.eq(number[:2] == Cat(b, a)),
        dut.pixels.bias.eq(2),
        dut.broadcast.ready.eq(bench.any()),
    ]
    biased = bench.one(1)
    record(bench, dut, bias=biased, slots=1)
    vector = dut.vectors.vector
    comes = dut.vectors.valid
    held = Signal(range(room + 1))
    m.d.sync += held.eq(held + comes - dut.back)
    bench.show(held != 0, when=dut.back)
    edge_x, edge_y = Signal(), Signal()
    mark, marked = bench.any(), Signal()  # one vector, any, until it gave its place back
    m.d.comb += [
        comes.eq(bench.any() & begun & (held != room)),
        vector.last.eq(bench.any()),
        vector.start.eq(bench.any(1)),
        vector.skip.eq(bench.any()),
        vector.edge_x.eq(edge_x),
        vector.edge_y.eq(edge_y),
        edge_x.eq(bench.any()),
        edge_y.eq(bench.any()),
        vector.rows.eq(bench.any(2)),
        vector.masks[0].eq(bench.any(2)),
        vector.masks[1].eq(bench.any(2)),
        vector.some.eq(Cat(mask.any() for mask in vector.masks)),
        *(vector["values"][n].eq(comes & mark & ~marked & (bank == n)) for n in range(2)),
    ]
    bench.given((edge_x | ~vector.masks[1].any()) & (edge_y | ~vector.rows[1]))
    some = vector.some.any() & vector.rows.any()
    bench.given(vector.last | some)

    out = dut.broadcast
    ours = out.valid & out.present & (out.base == 1)
    value, bias = ours & (out.activation == 1), ours & (out.activation == 2)
    turn, wanted = Signal.like(held), Signal()
    with m.If(comes & mark & ~marked):
        mask = Mux(b, vector.masks[1], vector.masks[0])
        m.d.sync += [
            marked.eq(1), turn.eq(held - dut.back),
            wanted.eq(mask.bit_select(bank, 1) & vector.rows.bit_select(a, 1)),
        ]  # fmt: skip
    with m.Elif(dut.back & marked):
        m.d.sync += [turn.eq(turn - 1), marked.eq(turn != 0)]
    with m.If(value):
        m.d.sync += wanted.eq(0)
    bench.show(marked & wanted & (turn == 0), when=value)
    bench.show(~wanted | value, when=dut.back & marked & (turn == 0))

    # Windows: their marks, and the bias of the pixel.
    windows = bench.count(comes & vector.last, out.valid & out.last, room)
    bench.show(dut.back, when=out.valid & out.last)
    inside_edges = Signal(room + 1)  # of windows that came, the oldest lowest: the pixel is inside
    has = biased & (~a | edge_y) & (~b | edge_x)
    shifted = Mux(out.valid & out.last, inside_edges >> 1, inside_edges)
    at = (windows - (out.valid & out.last))[:2]
    with m.If(comes & vector.last):
        m.d.sync += inside_edges.eq(
            (shifted & ((1 << at)[: room + 1] - 1)[: room + 1]) | (has << at)[: room + 1]
        )
    with m.Else():
        m.d.sync += inside_edges.eq(shifted)
    told = Signal()
    m.d.sync += told.eq(~(out.valid & out.last) & (told | bias))
    bench.show(inside_edges[0] & ~told & (windows != 0), when=bias)
    bench.show(told | bias | ~inside_edges[0], when=out.valid & out.last)
    queue = inside.queue
    bench.show(queue.i.ready, when=queue.i.valid)
    was_ready = bench.before(bench.before(Cat(out.ready, 1)))
    bench.show(was_ready[0] | ~was_ready[1], when=out.valid)
    calm = out.ready & bench.before(out.ready) & bench.before(bench.before(out.ready))
    bench.within((held != 0) & calm & ~out.valid, 5)
    bench.reached(value & (held == room) & dut.back)
    bench.reached(bias & out.last)

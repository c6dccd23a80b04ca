"""Windows given to teams, their vectors, pools, and the PEs that accumulate windows."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach_hw.buses import CodebookBus
from pleach_hw.layouts import entry_layout
from tests.formal.harness import AnyRam, proof
from tests.formal.small import small
from tests.formal.test_maps import Passed, begins, record


@proof(
    "maps.dispatch.AddressGenerator", "each window is given once, and its reads end; no group has "
    "more vectors or windows under way than it has places for; the pass ends when all windows are "
    "written, once; it never locks up",
    broken=("slots.any() | ~following[group]", "slots.any() | following[group]"),
    cycles=20,
    depth=30,
)  # fmt: skip
def test_address_generator(bench, blocks):
    m = bench.m
    groups, room = 2, 2
    dut = blocks["maps.dispatch"].AddressGenerator(
        small(pes=2, groups=groups, maps=16, vectors=room)
    )
    inside = bench.inside(dut)
    begun = begins(bench, dut)
    units_x, units_y, slots, teams = bench.one(2), bench.one(2), bench.one(2), bench.one(1)
    for number in (units_x, units_y, slots):
        bench.given((number != 0) & (number != 3))
    record(
        bench, dut, teams=teams, units_x=units_x, units_y=units_y, slots=slots,
        map_row=bench.one(3), map_rows=bench.one(2), patch_row=bench.one(3),
        patch_rows=bench.one(2), x_first=bench.one(signed(2)), x_step=bench.one(2),
        y_first=bench.one(signed(2)), y_step=bench.one(2), skip=bench.one(3), local_rows=1,
    )  # fmt: skip
    total, done = Signal(4), Signal()
    takes, serves = inside.takes, inside.serves
    m.d.sync += [total.eq(total + takes), done.eq(done | dut.done)]
    bench.show(total + takes <= units_x * units_y)
    idle = begun
    for group in range(groups):
        reads = serves & inside.members[group]
        gives = takes & inside.members[group]
        vectors, windows, unwritten = (
            Signal(3, name=f"{name}_{group}") for name in ("vectors", "windows", "unwritten")
        )
        back = Mux(vectors == 0, 0, bench.any(2))
        freed, written = bench.any() & (windows != 0), bench.any() & (unwritten != 0)
        bench.given(back <= vectors)
        bench.given(back != 3)
        m.d.comb += [dut.back[group].eq(back), dut.freed[group].eq(freed)]
        m.d.comb += dut.written[group].eq(written)
        m.d.sync += [
            vectors.eq(vectors + reads - back),
            windows.eq(windows + gives - freed),
            unwritten.eq(unwritten + bench.before(gives) - written),
        ]
        bench.given(unwritten + bench.before(gives) >= windows)  # written after it was freed
        bench.show(vectors <= room)
        bench.show(windows <= slots)
        bench.show(unwritten == 0, when=dut.done)
        idle &= (vectors == 0) & (windows == 0) & (unwritten == 0)
    bench.show((total == units_x * units_y) & ~done, when=dut.done)
    # Of a window that a team was given the last read comes before the next one is.
    for team in range(2):
        open_ = Signal(name=f"open_{team}")
        ours = inside.turn == team
        last = inside.valid & ours & inside.over
        with m.If(last):
            m.d.sync += open_.eq(0)
        with m.Elif(takes & (inside.team == team)):
            m.d.sync += open_.eq(1)
        bench.show(~open_, when=takes & (inside.team == team))
        bench.show(open_, when=inside.valid & ours)
    bench.within(idle & ~serves & ~done, 10)
    bench.reached(dut.done & teams & (total == 4))


@proof(
    "maps.vectors.VectorFormer", "of each read every group that it is for gets a vector or is told "
    "that there is none, once, five cycles later, and no other group; the last one of a window is "
    "always given",
    broken=("(found & reach).any() | read.last", "(found & reach).any()"),
)  # fmt: skip
def test_vector_former(bench, blocks):
    m = bench.m
    m.submodules.dut = dut = blocks["maps.vectors"].VectorFormer(small(pes=2, groups=2, maps=16))
    record(bench, dut, kernel_row=3, kernel_rows=2, pixel_x=1, pixel_y=1)
    read = dut.read
    m.d.comb += [
        dut.valid.eq(bench.any()),
        read.groups.eq(bench.any(2)),
        read.last.eq(bench.any()),
        read.count.eq(bench.any(3)),
        read.start.eq(bench.any(2)),
        read.place.eq(bench.any(2)),
        read.row.eq(bench.any(2)),
        read.edge_y.eq(bench.any(1)),
        *(value.eq(bench.any(1)) for value in dut.values),
    ]
    for group in range(2):
        due, last = dut.valid & read.groups[group], read.last
        for _ in range(5):
            due, last = bench.before(due), bench.before(last)
        given, dropped = dut.vectors.valid[group], dut.dropped[group]
        bench.show((given ^ dropped) == due)
        bench.show(~(given & dropped))
        bench.show(~(dropped & last))
        bench.reached(given & ~last)
        bench.reached(dropped)


@proof(
    "maps.pool.PoolUnit", "whatever a record says that was not refused, the pass ends, once, with "
    "the write of its last value; values are written one behind the other, one for each channel of "
    "each window",
    broken=("else left <= (by << 1)", "else left == (by << 1)"),
    cycles=26,
    depth=30,
)  # fmt: skip
def test_pool_unit(bench, blocks):
    m = bench.m
    module = blocks["maps.pool"]
    module.RequantizeUnit = Passed
    config = small(maps=16, columns=2)
    dut = module.PoolUnit(config, latency=3)
    bench.inside(dut)
    begins(bench, dut)
    units_x, units_y, down = bench.one(2), bench.one(2), bench.one(2)
    across, step = bench.one(2), bench.one(2)
    channels, wide = bench.one(3), bench.one()
    at_once = Mux(wide, config.neighbours, 1)
    record(
        bench, dut, units_x=units_x, units_y=units_y, kernel_rows=down, kernel_row=across,
        pixel_x=step, pixel=channels, group_channels=at_once, x_step=bench.one(2),
        y_step=bench.one(2), map_row=bench.one(3), map_rows=bench.one(2),
    )  # fmt: skip
    bench.given((units_x != 0) & (units_y != 0) & (step != 0))
    bench.given((units_x + units_y <= 3) & (channels <= 4) & (channels != 0))
    reads = Mux(wide, config.neighbours, channels)  # values of a window
    total = Mux((units_x | units_y) == 1, 1, 2) * reads
    written, done = Signal(5), Signal()
    write = dut.write
    wrote = write.enables.any()
    m.d.sync += [written.eq(written + wrote), done.eq(done | dut.done)]
    bench.show(Cat(write.enables == 1 << n for n in range(4)).any(), when=wrote)
    bench.show((1 << written[:2]) == write.enables, when=wrote)
    bench.show(write.row == written[2:4], when=wrote)
    bench.show((written + wrote == total) & ~done, when=dut.done)
    bench.show(written + wrote <= total)
    # A window is read in no more than nine cycles, and its way takes ten.
    bench.within(~done & ~wrote, 20)
    bench.reached(dut.done & (down == 2) & (units_y == 2))
    bench.reached(dut.done & (step == 2) & (across == 3))


class NoArithmetic(wiring.Component):
    """Stands for the arithmetic unit, which marks do not go through."""

    def __init__(self, config):
        row = range(config.accumulators)
        super().__init__(
            {
                "mac": In(1), "activation": In(signed(16)),
                "codebook_base": In(range(config.codebook)), "entry": In(entry_layout(config)),
                "drain": In(1), "drain_row": In(row), "base": In(row),
                "drained": Out(signed(config.accumulator_bits)), "drained_valid": Out(1),
                "codebook": In(CodebookBus(config)),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        return Module()


@proof(
    "compute.pe.ProcessingElement", "as fast as a front may send, no column finds the queue full; "
    "of each window the mark passes once, the count of windows holds as many as are in flight, and "
    "does not fall below none; work that is not held back goes on",
    broken=("init=COLUMNS_AHEAD - 1", "init=COLUMNS_AHEAD - 2", "compute.pointer_read"),
    cycles=16,
    depth=30,
)  # fmt: skip
def test_pe(bench, blocks):
    """Front and PE together: from `ready` to the column there are registers in both."""
    m = bench.m
    module, slots = blocks["compute.pe"], 2
    reading, weights = blocks["compute.pointer_read"], blocks["compute.weight_read"]
    reading.BlockRam = weights.BlockRam = AnyRam
    module.PointerRead, module.WeightRead = reading.PointerRead, weights.WeightRead
    module.ArithmeticUnit, module.MOST_SLOTS = NoArithmetic, slots
    config = small(maps=16, ram_latency=2, block=2)
    dut = module.ProcessingElement(config)
    inside = bench.inside(dut)
    bus = dut.broadcast
    m.d.comb += [
        bus.valid.eq(bench.any()), bus.last.eq(bench.any()), bus.present.eq(bench.any()),
        dut.drain.valid.eq(bench.any()), dut.windows.take.eq(bench.any()),
    ]  # fmt: skip
    bench.given(~bus.valid | bench.before(bench.before(bus.ready)))
    flight = Signal(range(slots + 2))
    m.d.sync += flight.eq(flight + (bus.valid & bus.last) - dut.windows.take)
    bench.given(~(bus.valid & bus.last) | (flight != slots))
    # A window is taken where one waits, not before what was taken shows.
    recent = take = dut.windows.take
    for _ in range(3):
        take = bench.before(take)
        recent = take if recent is dut.windows.take else recent | take
    bench.given(~dut.windows.take | (dut.windows.waiting & ~recent))
    queue = inside.of(inside.pointers).queue
    bench.show(queue.i.ready, when=queue.i.valid)
    bench.show(inside.passed <= slots)
    bench.show(inside.passed != 0, when=inside.windows.take)
    calm = ~dut.drain.valid & ~inside.drain.valid
    bench.within(calm & inside.weights.busy & ~inside.weights.i.ready, 8)
    bench.reached(dut.windows.take & (inside.passed == slots))
    bench.reached(inside.of(queue).head[-1])

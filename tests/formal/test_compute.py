"""The fully connected engine's way: detection of what is not zero, PEs, control, drain."""

from __future__ import annotations

from amaranth.asserts import AnySeq
from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine.pipeline import COLUMNS_AHEAD
from tests.formal.harness import AnyRam, proof
from tests.formal.small import small


@proof(
    "compute.lnzd.NonZeroDetector", "each activation that is not zero, and the end of each pass, "
    "leaves once, in order and unchanged; no vector finds the queue full; whatever waits is "
    "offered, and whoever waits is heard, within four cycles",
    broken=("entered_valid & (found.any() | entered.last)", "entered_valid & found.any()"),
)  # fmt: skip
def test_lnzd(bench, blocks):
    """One vector, any, is marked; it is followed through the queue, whose order is shown above."""
    m = bench.m
    dut = blocks["compute.lnzd"].NonZeroDetector(lanes=2, column_width=2, depth=2)
    inside = bench.inside(dut)
    i, o, queue = dut.i, dut.o, inside.queue
    vector = i.p
    m.d.comb += [
        i.valid.eq(bench.any()),
        vector.mask.eq(bench.any(2)),
        vector.column.eq(bench.any(1) << 1),
        vector.last.eq(bench.any()),
        o.ready.eq(bench.any()),
        *(vector.values[n].eq(bench.any(1)) for n in range(2)),
    ]
    bench.show(queue.i.ready, when=queue.i.valid)
    ends = inside.of(queue)
    level = (ends.tail - ends.head)[:2]
    bench.show(inside.taken == level + inside.entered_valid + inside.back)

    found = Cat(vector.mask[n] & vector.values[n].any() for n in range(2))
    marks = bench.any() & i.valid & i.ready & (found.any() | vector.last)
    entered, queued, out = Signal(), Signal(), Signal()  # where it is
    ahead = Signal(2)  # of it in the queue
    left, column, last = Signal(2), Signal(1), Signal()  # lanes that were not sent
    free = ~entered & ~queued & ~out
    with m.If(marks & free):
        m.d.sync += [
            entered.eq(1), left.eq(found), column.eq(vector.column[1]), last.eq(vector.last)
        ]  # fmt: skip
    with m.If(entered):
        m.d.sync += [entered.eq(0), queued.eq(1), ahead.eq(level - inside.left)]
    with m.If(queued & inside.left):
        m.d.sync += [ahead.eq(ahead - 1), queued.eq(ahead != 0), out.eq(ahead == 0)]
    token = o.p
    lane = ~left[0]
    one_left = ~left.all()
    bench.show(inside.entered_valid, when=entered)
    bench.show(o.valid, when=out)
    bench.show(token.present == left.any(), when=out)
    bench.show((token.column == Cat(lane & left.any(), column)), when=out)
    bench.show(token.value[0], when=out & left.any())
    bench.show(token.last == (last & one_left), when=out)
    with m.If(out & o.ready):
        m.d.sync += [left.eq(left & (left - 1)), out.eq(~one_left)]
    bench.show((queued & (ahead < level)) | ~queued)
    bench.within((level != 0) & ~o.valid, 1)
    bench.within(~i.ready & (level == 0), 2)
    bench.reached(out & last & o.ready & (level == 2))
    bench.reached(out & ~left.any() & o.ready)


def columns_come(bench, dut, ready, *, ahead=COLUMNS_AHEAD):
    """A column comes only so soon after `ready` that the PE allows for it."""
    came = dut.column_valid
    recently, age = ready, ready
    for _ in range(ahead - 1):
        age = bench.before(age)
        recently |= age
    bench.given(~came | recently)


@proof(
    "compute.pointer_read.PointerRead", "a column that is on its way finds a place in the queue; "
    "each with an entry leaves once, those without take no place; `empty` is true; it does not "
    "lock up",
    broken=("init=COLUMNS_AHEAD - 1", "init=COLUMNS_AHEAD - 2"),
    depth=30,
)  # fmt: skip
def test_pointer_read(bench, blocks):
    _pointer_read(bench, blocks, small(ram_latency=2, block=2))


@proof(
    "compute.pointer_read.PointerRead", "with a map memory, too; and no mark is lost or doubled",
    broken=("wanted |= last", "wanted |= last & present"),
    depth=30,
)  # fmt: skip
def test_pointer_read_with_marks(bench, blocks):
    _pointer_read(bench, blocks, small(maps=16))


def _pointer_read(bench, blocks, config):
    m = bench.m
    module = blocks["compute.pointer_read"]
    module.BlockRam = AnyRam
    dut = module.PointerRead(config)
    inside = bench.inside(dut)
    m.d.comb += [
        dut.column_valid.eq(bench.any()), dut.column.eq(bench.any(2)), dut.o.ready.eq(bench.any())
    ]  # fmt: skip
    columns_come(bench, dut, dut.ready)
    queue = inside.queue
    bench.show(queue.i.ready, when=queue.i.valid)
    drops = inside.found & ~inside.wanted
    leaves = dut.o.valid & dut.o.ready
    under_way = bench.count(dut.column_valid, drops + leaves, config.queue_depth)
    bench.show(under_way == 0, when=dut.empty)
    # What a place is given back for late, and what is in the memory or waits, is all that there is.
    level = bench.count(queue.i.valid, leaves, config.queue_depth)
    ends = inside.of(queue)
    bench.show(level == (ends.tail - ends.head)[: len(ends.tail)])
    on_the_way = Signal(range(config.queue_depth))
    m.d.comb += on_the_way.eq(sum(_ages(bench, dut.column_valid, dut.latency)))
    bench.show(under_way == level + on_the_way)
    late = 0 if config.maps else inside.dropped + inside.left
    bench.show(inside.reserved == under_way + late + COLUMNS_AHEAD - 1)
    bench.within((level == 0) & (on_the_way == 0) & ~dut.ready, 1)
    bench.show(dut.o.valid == (level != 0))
    if config.maps:
        # One column with a mark, any, is followed.
        m.d.comb += [dut.last.eq(bench.any()), dut.present.eq(bench.any())]
        marks, free = bench.any() & dut.column_valid & dut.last, Signal()
        ages = _ages(bench, marks & free, dut.latency)
        queued, ahead = Signal(), Signal.like(level)
        m.d.comb += free.eq(~Cat(ages).any() & ~queued)
        bench.show(inside.found & queue.i.valid, when=ages[-1])
        with m.If(ages[-1]):
            m.d.sync += [queued.eq(1), ahead.eq(level - leaves)]
        with m.Elif(queued & leaves):
            m.d.sync += [ahead.eq(ahead - 1), queued.eq(ahead != 0)]
        bench.show(ahead < level, when=queued)
        bench.show(dut.o.valid & dut.o.p.last, when=queued & (ahead == 0))
        bench.reached(queued & (ahead == 0) & leaves & ~dut.o.p.some)
    bench.reached(~dut.ready & (level == config.queue_depth))


def _ages(bench, value, cycles):
    """What it was in each of the cycles before, and is not worked off."""
    ages = []
    for _ in range(cycles):
        value = bench.before(value)
        ages.append(value)
    return ages


@proof(
    "compute.weight_read.WeightRead", "each entry of each piece of work is issued once and in its "
    "order, none while held back; a mark passes once, with the last one; it never waits by itself",
    broken=("last.eq(count == 2)", "last.eq(count <= 3)"),
)  # fmt: skip
def test_weight_read(bench, blocks):
    m = bench.m
    config = small(maps=16, entries=8)
    module = blocks["compute.weight_read"]
    module.BlockRam = AnyRam
    dut = module.WeightRead(config)
    inside = bench.inside(dut)
    work = dut.i.p
    m.d.comb += [
        dut.i.valid.eq(bench.any()),
        work.pointer.eq(bench.any(len(work.pointer.as_value()))),
        work.some.eq(bench.any()),
        work.last.eq(bench.any()),
        work.base.eq(bench.any(2)),
        work.activation.eq(bench.any(1)),
        dut.hold.eq(bench.any()),
    ]
    bench.given(~dut.i.valid | Mux(work.some, work.pointer.count != 0, work.last))
    bench.given(work.pointer.count <= config.named_rows)
    left, address, marked, base = Signal(4), Signal(3), Signal(), Signal(2)
    busy = Signal()
    ends = ~dut.hold & (left <= 1)
    with m.If(dut.i.valid & dut.i.ready):
        m.d.sync += [
            busy.eq(1), left.eq(Mux(work.some, work.pointer.count, 0)), marked.eq(work.last),
            address.eq(work.pointer.start), base.eq(work.base),
        ]  # fmt: skip
    with m.Elif(busy & ~dut.hold):
        m.d.sync += [left.eq(left - 1), address.eq(address + 1), busy.eq(left > 1)]
    bench.show(dut.busy == busy)
    bench.show(dut.i.ready == (~busy | ends))
    bench.show(dut.issued == (busy & ~dut.hold & (left != 0)))
    bench.show(dut.passed == (busy & marked & ends))
    bench.show((inside.entries.read_addr == address) & (dut.base == base), when=dut.issued)
    bench.reached(dut.passed & dut.issued & dut.i.valid)
    bench.reached(dut.passed & ~dut.issued)
    bench.reached(dut.issued & (left == 3))


class AnyProduct(wiring.Component):
    """Stands for a multiplier."""

    def __init__(self, *, width_a, width_b):
        bits = signed(width_a + width_b)
        super().__init__({"a": In(signed(width_a)), "b": In(signed(width_b)), "product": Out(bits)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.product.eq(AnySeq(1))
        return m


def _accumulators(bench, blocks, config):
    """The accumulator of one row, any, is what its MACs since its last drain add up to. One bit of
    each product and sum is as good as many."""
    m = bench.m
    module = blocks["compute.arithmetic"]
    module.Multiplier = AnyProduct
    module.LUT_RING = 2
    dut = module.ArithmeticUnit(config)
    inside = bench.inside(dut)
    m.d.comb += [
        dut.mac.eq(bench.any() & ~dut.drain),
        dut.drain.eq(bench.any()),
        dut.drain_row.eq(bench.any(2)),
        dut.entry.row.eq(bench.any(len(dut.entry.row))),
    ]
    if config.maps:
        m.d.comb += dut.base.eq(bench.any(2))
        base = Mux(dut.drain, dut.drain_row, dut.base)
        turned = Const(0, 1)
    else:
        m.d.comb += [dut.parity.eq(bench.any()), dut.drain_parity.eq(bench.any())]
        base = Mux(dut.drain, dut.drain_row, 0)
        turned = Mux(dut.drain, dut.drain_parity, dut.parity)

    def late(value, cycles):
        for _ in range(cycles):
            value = bench.before(value)
        return value

    latency, end = config.ram_latency, inside.end
    base, turned = late(base, latency), late(turned, latency)
    row = (base + Mux(late(dut.drain, latency), 0, dut.entry.row))[:2] ^ turned.replicate(2)
    ours = late(row == bench.one(2), end - latency)
    mac, drain = late(dut.mac, end), late(dut.drain, end)
    total = Signal(config.accumulator_bits)
    with m.If(ours & drain):
        m.d.sync += total.eq(0)
    with m.Elif(ours & mac):
        m.d.sync += total.eq(total + inside.product)
    bench.show(dut.drained_valid == drain)
    bench.show(dut.drained.as_unsigned() == total, when=ours & drain)
    bench.reached(ours & drain & (total != 0))
    bench.reached(ours & mac & bench.before(ours & drain))


@proof(
    "compute.arithmetic.ArithmeticUnit", "a row's accumulator is what its MACs since its last "
    "drain add up to, however closely operations on it follow each other",
    broken=("forward_zero.eq(again & drains[end - 1])", "forward_zero.eq(0)"),
)  # fmt: skip
def test_accumulators(bench, blocks):
    _accumulators(bench, blocks, small(ram_latency=2, accumulator_bits=1))


@proof(
    "compute.arithmetic.ArithmeticUnit", "the same of the words of a ring in LUT RAM",
    broken=("again = begun & (addresses[-3] == addresses[-2])", "again = begun"),
)  # fmt: skip
def test_ring_in_lut_ram(bench, blocks):
    config = small(maps=16, accumulator_bits=1)
    _accumulators(bench, blocks, config)


@proof(
    "compute.arithmetic.ArithmeticUnit", "the same of the words of a ring in block RAM",
    broken=("third.eq(writes & (addresses[-4] == addresses[-1]))", "third.eq(0)"),
)  # fmt: skip
def test_ring_in_block_ram(bench, blocks):
    _accumulators(bench, blocks, small(maps=16, ram_latency=2, accumulator_bits=1))

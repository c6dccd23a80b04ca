"""Who starts and ends things: control of passes, plans, packets."""

from __future__ import annotations

from amaranth.hdl import Cat, Mux, Signal

from pleach.engine.maps import PLAN_HEAD, PLAN_WORDS
from pleach.engine.pipeline import DrainAges
from tests.formal.harness import AnyRam, proof
from tests.formal.small import small
from tests.formal.test_maps import Passed


@proof(
    "compute.control.ControlUnit", "each pass takes its tokens up to its last one, broadcasts each "
    "of them once, and is drained once, when no MAC is left; nothing is broadcast while the PEs "
    "are not ready; it never locks up",
    broken=("tokens.ready.eq(ready[number] & ~ended[number])", "tokens.ready.eq(ready[number])"),
)  # fmt: skip
def test_control_unit(bench, blocks):
    m = bench.m
    config = small(pes=2, groups=2, lanes=1, layers=2)
    module = blocks["compute.control"]
    module.LutRam = AnyRam
    dut = module.ControlUnit(config)
    inside = bench.inside(dut)
    # The program's memory gives anything, but the same while a pass runs, and no more than two.
    last = inside.index == 1
    bench.given(inside.current.last == last)
    bench.given(inside.current.bias == 0)
    m.d.comb += [dut.start.eq(bench.any() & ~dut.busy), dut.drain.clear_busy.eq(bench.any())]
    ends, firsts = [], []
    for group, tokens in zip(dut.broadcast, dut.i, strict=True):
        m.d.comb += [
            tokens.valid.eq(bench.any()),
            tokens.p.last.eq(bench.any()),
            tokens.p.present.eq(bench.any()),
            tokens.p.value.eq(bench.any(1)),
            group.ready.eq(bench.any()),
            group.issued.eq(bench.any()),
        ]
        taken = tokens.valid & tokens.ready
        bench.show(bench.before(group.ready), when=taken)
        bench.show(group.valid == bench.before(taken & tokens.p.present))
        bench.show(group.activation[0] == bench.before(tokens.p.value[0]), when=group.valid)
        over = Signal()  # the group's last token of this pass was taken
        bench.show(~over, when=taken)
        ends.append((over, taken & tokens.p.last))
        firsts.append(taken)
    starts = dut.drain.start
    for over, ending in ends:
        with m.If(starts):
            m.d.sync += over.eq(ending)
        with m.Elif(ending):
            m.d.sync += over.eq(1)
        bench.show(over, when=starts)
    valid = Cat(group.valid for group in dut.broadcast).any()
    recent = valid | bench.before(valid) | bench.before(bench.before(valid))
    bench.show(~recent, when=starts)
    # The drain ends before the next one begins: its rows are what the next pass waits for.
    drains = Signal()
    done = dut.drain.done
    m.d.comb += done.eq(bench.any() & drains)
    m.d.sync += drains.eq((drains | starts) & ~done)
    bench.given(~Cat(firsts).any() | ~drains | ~Cat(e for _, e in ends).any())
    bench.show(~drains, when=starts)
    # Two drains for each start.
    owed = bench.count(Mux(dut.start, 2, 0), starts, 2)
    bench.show(dut.busy | (owed == 0))
    calm = Cat(group.issued for group in dut.broadcast).all() & ~valid & ~drains
    bench.within(Cat(over for over, _ in ends).all() & calm & ~starts, 8)
    bench.reached(starts & (owed == 1))


@proof(
    "maps.control.MapControl", "each pass of a run is fetched, started once as what it is, and "
    "waited for, and the outputs are read once, at the end; it never locks up",
    broken=("last.eq(self.index + 1 == self.passes)", "last.eq(self.index + 2 == self.passes)"),
)  # fmt: skip
def test_map_control(bench, blocks):
    m = bench.m
    dut = blocks["maps.control"].MapControl(small(maps=16, layers=2))
    bench.inside(dut)
    passes = bench.one(2)
    bench.given((passes == 1) | (passes == 2))
    kind = bench.any(1)
    m.d.comb += [
        dut.start.eq(bench.any() & ~dut.busy),
        dut.passes.eq(passes),
        dut.kind.eq(kind),
        dut.clear_busy.eq(bench.any()),
    ]
    # What was asked for comes, once each.
    waits = {}
    for name, asks, comes in (
        ("inputs", dut.start, dut.inputs_done),
        ("array", dut.array_start, dut.array_done),
        ("pool", dut.pool_start, dut.pool_done),
        ("outputs", dut.output_start, dut.output_done),
    ):
        waits[name] = waiting = Signal(name=f"waits_{name}")
        m.d.comb += comes.eq(bench.any() & waiting)
        m.d.sync += waiting.eq((waiting | asks) & ~comes)
        bench.show(~waiting, when=asks)
    asked = Signal()  # a record is asked for, and did not come
    bench.show(~asked, when=dut.fetch)
    arrives = bench.any() & asked & ~dut.hold
    m.d.sync += asked.eq((asked | dut.fetch) & ~arrives)
    with m.If(dut.fetch):
        m.d.sync += dut.fetched.eq(0)
    with m.Elif(arrives):
        m.d.sync += dut.fetched.eq(1)
    started = dut.array_start | dut.pool_start
    bench.show(dut.fetched & ~waits["inputs"], when=started)
    bench.show(~(dut.array_start & dut.pool_start) & (dut.pool_start == kind), when=started)
    owed = bench.count(Mux(dut.start, passes, 0), started, 2)
    answers = bench.count(dut.start, dut.output_start, 1)
    busy = Cat(waits.values()).any()
    bench.show(~busy & (owed == 0), when=dut.output_start)
    bench.show((owed == 0) & (answers == 0) & ~busy, when=~dut.busy)
    bench.show(dut.hold, when=waits["array"] | waits["pool"])
    bench.within((owed != 0) & ~busy & dut.fetched & ~started, 4)
    bench.within(dut.busy & (owed == 0) & ~busy & ~dut.clear_busy, 5)
    bench.reached(dut.output_done & (passes == 2))


@proof(
    "maps.records.Records", "whatever words a PLAN has, all are taken, and it is answered once, "
    "after its last word; a plan that was refused is none",
    broken=("ended.eq(self.i.p.last)", "ended.eq(self.i.p.last & (number == 0))"),
    depth=60,
)  # fmt: skip
def test_records(bench, blocks):
    m = bench.m
    module = blocks["maps.records"]
    module.BlockRam = AnyRam
    module.PLAN_HEAD = PLAN_HEAD[:2]
    judged = {
        "kind", "side", "teams", "edge_x", "edge_y", "slots", "local_rows", "units_x", "units_y",
        "slot", "pixel_x", "rows", "group_channels",
    }  # fmt: skip
    module.PLAN_WORDS = tuple(word for word in PLAN_WORDS if judged & word.fields.keys())
    m.submodules.dut = dut = module.Records(small(maps=16, layers=2))
    asked = Signal()  # a packet is under way
    taken = dut.i.valid & dut.i.ready
    ended = Signal()
    m.d.comb += [
        dut.start.eq(bench.any() & ~asked),
        dut.i.valid.eq(bench.any() & asked & ~ended),
        dut.i.payload.eq(bench.any(33)),
    ]
    m.d.sync += [
        asked.eq((asked | dut.start) & ~dut.done),
        ended.eq((ended | (taken & dut.i.p.last)) & ~dut.done),
    ]
    bench.show(asked & ended, when=dut.done)
    bench.show(dut.planned == (dut.error == 0), when=dut.done)
    bench.within(asked & ~ended & ~dut.i.ready, 6)
    bench.within(ended & ~dut.done, 8)
    bench.reached(dut.done & dut.planned & (dut.passes == 2))
    bench.reached(dut.done & ~dut.planned)


@proof(
    "io.host_link.HostLink", "each packet is taken whole and gets one answer, which ends; a model "
    "is held only after a LOAD without an error, and no more once the next LOAD or PLAN began; it "
    "never locks up",
    broken=("m.d.sync += state.model_held.eq(0)", "pass"),
    cycles=14,
    depth=14,
)  # fmt: skip
def test_host_link(bench, blocks):
    m = bench.m
    module = blocks["io.host_link"]
    m.submodules.dut = dut = module.HostLink(small(maps=16))
    i, o = dut.i, dut.o
    m.d.comb += [
        i.valid.eq(bench.any()), i.payload.eq(bench.any(33)), o.ready.eq(bench.any()),
        dut.status.word.eq(bench.any(32)),
    ]  # fmt: skip
    # Loader and plan take their packet whole, and then say what came of it.
    for name in ("load", "plan"):
        words, busy, over = getattr(dut, name), Signal(), Signal()
        done = getattr(dut, f"{name}_done")
        m.d.comb += [
            words.ready.eq(bench.any() & busy & ~over),
            done.eq(bench.any() & over),
            getattr(dut, f"{name}_error").eq(bench.any(2)),
        ]
        taken = words.valid & words.ready
        m.d.sync += [
            busy.eq((busy | getattr(dut, f"{name}_start")) & ~done),
            over.eq((over | (taken & words.p.last)) & ~done),
        ]
    runs, over, gives = Signal(), Signal(), Signal()
    outputs, taken = dut.outputs, dut.inputs.valid & dut.inputs.ready
    left = outputs.valid & outputs.ready & outputs.p.last
    m.d.comb += [
        dut.inputs.ready.eq(bench.any() & runs & ~over),
        dut.inputs_done.eq(over & runs),
        outputs.valid.eq((bench.any() | bench.before(outputs.valid & ~outputs.ready)) & gives),
        outputs.p.last.eq(bench.any()),
        dut.wrong_length.eq(bench.one()),
        dut.busy.eq(runs | gives),
    ]
    m.d.sync += [
        runs.eq((runs | dut.run_start) & ~dut.inputs_done),
        over.eq((over | (taken & dut.inputs.p.last)) & ~dut.inputs_done),
        gives.eq((gives | dut.inputs_done) & ~left),
    ]
    ends, answered = i.valid & i.ready & i.p.last, o.valid & o.ready & o.p.last
    bench.count(ends, answered, 1)
    began = Signal()  # the first word of a packet was taken
    with m.If(i.valid & i.ready):
        m.d.sync += began.eq(~i.p.last)
    bench.show(~bench.before(o.valid & ~o.ready) | o.valid)
    held = dut.state.model_held
    ok = bench.before(dut.load_done & (dut.load_error == 0))
    bench.show(ok | bench.before(held), when=held)
    loading = bench.before(dut.load_start | dut.plan_start)
    bench.show(~held, when=loading)
    bench.reached(answered & ~began & held)


@proof(
    "compute.drain.DrainUnit", "each vector of a pass is given once and in order, with its rows; "
    "the last one is marked, and told once; none finds the queue full; it never locks up",
    broken=("room = ~places[-1]", "room = ~places[-1] | ~active"),
    cycles=18,
    depth=30,
)  # fmt: skip
def test_drain_unit(bench, blocks):
    m = bench.m
    module = blocks["compute.drain"]
    module.RequantizeUnit = Passed
    module.drain_ages = lambda _: DrainAges(drained=3, summed=4, queued=5)
    module.drain_places = lambda _: depth
    depth = 4
    config = small(pes=2, lanes=1)
    dut = module.DrainUnit(config)
    inside = bench.inside(dut)
    command = dut.command
    rows = bench.one(3)  # of the pass, less 1
    m.d.comb += [
        command.start.eq(bench.any() & ~dut.busy),
        command.last_row.eq(rows),
        dut.o.ready.eq(bench.any()),
        dut.back.eq(bench.any()),
    ]
    # A place is given back for each vector that was taken, then or later.
    taken = dut.o.valid & dut.o.ready
    late = Signal(range(depth + 2))
    bench.given(~dut.back | taken | (late != 0))
    m.d.sync += late.eq(late + taken - dut.back)
    queue = inside.queue
    bench.show(queue.i.ready, when=queue.i.valid)
    vector = dut.o.p
    following = Signal(3)
    with m.If(taken):
        m.d.sync += following.eq(Mux(vector.last, 0, following + 1))
    bench.show(
        (vector.column == following) & (vector.last == (following == rows)), when=dut.o.valid
    )
    begun = bench.count(command.start, command.done, 1)
    bench.show(dut.busy == (begun != 0))
    # Of each row the accumulator of its PE is drained once: one row, any, is marked.
    row = bench.one(3)
    drain = dut.groups[0]
    drains = (drain.row == row[1:]) & drain.valid.bit_select(row[0], 1)
    values = [bench.before(bench.before(drains & (row[0] == pe))) for pe in range(2)]
    m.d.comb += [drain.drained[pe].eq(value) for pe, value in enumerate(values)]
    bench.within(dut.busy & (inside.places == 0) & ~Cat(inside.valid).any(), 2)
    bench.within(dut.busy & ~Cat(inside.valid).any() & ~dut.o.valid & (late == 0), 5)
    bench.show(vector["values"][0][0] == (following == row), when=dut.o.valid)
    bench.reached(taken & vector.last & (rows == 5))
    bench.reached(inside.places == depth)

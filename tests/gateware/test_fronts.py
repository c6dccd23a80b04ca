"""From the map memory to the columns that PEs are told, against windows cut out with numpy."""

from collections import Counter
from random import Random
from typing import NamedTuple

import numpy as np
import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.cycles import dispatch, front
from pleach.engine import EngineConfig
from pleach_hw.buses import BroadcastBus, MapWriteBus, OutUnitBus, share
from pleach_hw.layouts import map_pass_layout
from pleach_hw.maps.front import Front
from pleach_hw.maps.memory import MapMemory
from pleach_hw.maps.vectors import Feeder
from tests.gateware.streams import simulate
from tests.gateware.windows import NASTY, random_convolution


class Fronts(wiring.Component):
    """A map memory, what reads it, and the fronts of all groups."""

    def __init__(self, config: EngineConfig):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "pass_": In(map_pass_layout(config)),
                "done": Out(1),
                "write": In(MapWriteBus(config)),
                "freed": In(config.groups),
                "written": In(config.groups),
                "units": Out(OutUnitBus(config)).array(config.groups),
                "broadcast": Out(BroadcastBus(config)).array(config.groups),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = MapMemory(self.config, readers=1, writers=1)
        m.submodules.feeder = self.feeder = feeder = Feeder(self.config)
        wiring.connect(m, wiring.flipped(self.write), memory.writes[0])
        for name in ("start", "pass_", "freed", "written"):
            m.d.comb += getattr(feeder, name).eq(getattr(self, name))
        m.d.comb += [
            self.done.eq(feeder.done),
            memory.reads[0].eq(feeder.address),
            feeder.values.eq(memory.values),
        ]
        for number in range(self.config.groups):
            m.submodules[f"front_{number}"] = own = Front(self.config)
            wiring.connect(m, wiring.flipped(self.units[number]), feeder.units[number])
            wiring.connect(m, wiring.flipped(self.broadcast[number]), own.broadcast)
            share(m, feeder.pixels, own.pixels)
            m.d.comb += [
                own.start.eq(self.start),
                own.pass_.eq(self.pass_),
                own.vectors.vector.eq(feeder.vectors.vector),
                own.vectors.valid.eq(feeder.vectors.valid[number]),
                feeder.back[number].eq(own.back),
            ]
        return m


async def fill(ctx, bus, values, count):
    """Write the first rows of a map memory, those of `count` values."""
    lanes = len(bus.enables)
    ctx.set(bus.enables, 2**lanes - 1)
    for row, at in enumerate(range(0, count, lanes)):
        ctx.set(bus.row, row)
        ctx.set(bus.values, values[at : at + lanes].tolist())
        await ctx.tick()
    ctx.set(bus.enables, 0)


class Stages(NamedTuple):
    """What the model's steps ask of an engine."""

    groups: int
    neighbours: int
    columns: int
    vectors: int


class Model:
    """The cycle model of the same blocks; `check` compares all that goes out of them."""

    def __init__(self, config):
        self.stages = Stages(config.groups, config.neighbours, config.columns, config.vectors)
        self.dispatch = dispatch.new(self.stages)
        self.fronts = front.new(self.stages)

    def step(self, start, record, active, freed, written, ready):
        """A cycle, with what goes into the blocks."""
        groups, arrived = self.dispatch.groups, self.dispatch.vector.copy()
        comes = groups["vector"].tolist()
        dispatch.step(
            self.dispatch, start, record, active, self.fronts.each, freed, written, self.stages
        )
        for number in range(self.stages.groups):
            front.step(
                self.fronts, number, start, record, comes[number], arrived, ready[number],
                self.stages,
            )  # fmt: skip

    def check(self, ctx, dut):
        feeder, at = dut.feeder, f"at {self.dispatch.one['since'][0]}"
        assert ctx.get(dut.done) == self.dispatch.one["done"][0], at
        vector = feeder.vectors.vector
        for number, (group, own) in enumerate(
            zip(self.dispatch.groups, self.fronts.each, strict=True)
        ):
            assert ctx.get(feeder.vectors.valid[number]) == group["vector"], at
            if group["vector"]:
                lanes, flags, column = self.dispatch.vector.tolist()
                assert ctx.get(vector.column) == column
                about = vector.some, vector.rows, vector.skip, vector.edge_x, vector.edge_y
                assert ctx.get(Cat(*about, vector.last, vector.start)) == flags, at
                start, banks = flags >> 14, self.stages.neighbours
                masks = [(lanes >> 16 * pixel & 0xFFFF) << start for pixel in range(4)]
                masks = [(mask | mask >> banks) & (1 << banks) - 1 for mask in masks]
                assert [ctx.get(mask) for mask in vector.masks] == masks, at
            unit = dut.units[number]
            assert ctx.get(unit.valid) == group["unit"], at
            if group["unit"]:
                seen = [ctx.get(x) for x in (unit.unit.address, unit.unit.edge_x, unit.unit.edge_y)]
                assert seen == self.dispatch.unit.tolist()
            bus = dut.broadcast[number]
            assert ctx.get(bus.valid) == own["out"], at
            if own["out"]:
                assert ctx.get(bus.last) == own["out_last"], at
                assert ctx.get(bus.present) == own["out_present"], at
                if own["out_present"]:
                    assert ctx.get(bus.base) == own["out_base"], at
                    assert ctx.get(bus.column) == own["out_column"], at


class Drains:
    """Frees each window of a group some cycles after its mark, and has it written some later."""

    def __init__(self, random, slow):
        self.random, self.slow = random, slow
        self.freed, self.written = [], []

    def mark(self):
        wait = self.random.randint(0, 40) if self.slow else 0
        self.freed.append(max([wait, *self.freed]) + (wait == 0))
        self.written.append(max(self.freed[-1] + 1, *self.written, 0) + 1)

    def step(self):
        out = []
        for waits in (self.freed, self.written):
            waits[:] = [wait - 1 for wait in waits]
            out.append(bool(waits) and waits[0] <= 0)
            if out[-1]:
                waits.pop(0)
                waits[:] = [max(wait, 1) for wait in waits]
        return out


async def run(ctx, dut, model, record, active, random, *, stall, slow):
    """A pass, with the model beside it; returns of each group its windows: where each goes, and
    what was told of it."""
    groups, buses = dut.config.groups, dut.broadcast
    drains = [Drains(random, slow) for _ in range(groups)]
    units, told = [[] for _ in range(groups)], [[[]] for _ in range(groups)]
    waiting = [0] * groups
    ready = [[True] * 2 for _ in range(groups)]
    of_model = dispatch.table([record])[0]
    inputs = True, of_model, active, *np.zeros((2, groups), np.int64), [True] * groups
    ctx.set(dut.pass_, {name: int(value) for name, value in vars(record).items()})
    ctx.set(dut.start, 1)
    done, cycle = False, 0
    while not done:
        await ctx.tick()
        ctx.set(dut.start, 0)
        model.step(*inputs)
        model.check(ctx, dut)
        cycle += 1
        freed, written = np.zeros((2, groups), np.int64)
        for group, bus in enumerate(buses):
            if ctx.get(bus.valid):
                assert ready[group][0], "sent while not ready"
                if ctx.get(bus.present):
                    at = (int(ctx.get(bus.column)), int(ctx.get(bus.activation)))
                    told[group][-1].append((*at, int(ctx.get(bus.base))))
                if ctx.get(bus.last):
                    told[group].append([])
                    drains[group].mark()
            if ctx.get(dut.units[group].valid):
                unit = dut.units[group].unit
                units[group].append(
                    tuple(int(ctx.get(x)) for x in (unit.address, unit.edge_x, unit.edge_y))
                )
                waiting[group] += 1
                assert waiting[group] <= record.slots
            one, two = drains[group].step()
            freed[group], written[group] = one, two
            waiting[group] -= one
            now = random.random() >= stall
            ready[group] = [ready[group][1], now]
            ctx.set(bus.ready, now)
        ctx.set(dut.freed, sum(1 << n for n in np.flatnonzero(freed).tolist()))
        ctx.set(dut.written, sum(1 << n for n in np.flatnonzero(written).tolist()))
        inputs = False, of_model, active, freed, written, [now for _, now in ready]
        done = ctx.get(dut.done)
        assert cycle < 20_000
    assert not any(drain.written for drain in drains), "done before all was written"
    assert all(windows.pop() == [] for windows in told), "more than marks end"
    return units, told


async def check(ctx, dut, model, case, rng, memory, **rates):
    """A pass, against numpy."""
    config = dut.config
    density = rng.choice([0.0, 0.2, 0.6, 1.0])

    def values(*shape):
        found = rng.integers(-(2**15), 2**15, shape)
        return found * (rng.random(shape) < density)

    the_map, skips = values(case.height, case.width, case.channels), values(*case.skip_shape)
    skip_source = case.source + the_map.size + int(rng.integers(0, 9))
    memory[case.source : case.source + the_map.size] = the_map.ravel()
    memory[skip_source : skip_source + skips.size] = skips.ravel()
    await fill(ctx, dut.write, memory, skip_source + skips.size)
    sink = int(rng.integers(0, 5))
    record = case.pass_(config, skip_source=skip_source, sink=sink)
    random = Random(int(rng.integers(99)))
    units, told = await run(ctx, dut, model, record, memory != 0, random, **rates)
    expected = case.told(the_map, skips, record)
    down, across = case.windows
    seen = []
    gang = config.groups >> case.team_bits
    for group, windows in enumerate(told):
        assert units[group] == units[group - group % gang], "groups of a team differ"
        assert len(windows) == len(units[group])
        order = []
        for number, ((address, edge_x, edge_y), columns) in enumerate(
            zip(units[group], windows, strict=True)
        ):
            y, x = divmod(address - sink, record.unit_y + (across - 1) * record.unit_x)
            place = y * across + x // record.unit_x
            assert edge_x == (record.edge_x if x // record.unit_x == across - 1 else record.side)
            assert edge_y == (record.edge_y if y == down - 1 else record.side)
            slot = number % record.slots * record.slot
            assert Counter(columns) == Counter(
                {(c, v, slot + base): n for (c, v, base), n in expected[place].items()}
            )
            order.append(place)
        assert order == sorted(order)
        seen += order if group % gang == 0 else []
    assert sorted(seen) == list(range(down * across))


CONFIG = EngineConfig(
    pes=8, groups=4, lanes=2, maps=1024, columns=1024, accumulators=512, vectors=4
)


def test_every_window_gets_its_patch():
    """One engine, pass after pass: all nasty cases, then random ones; PEs that are ready now and
    then, drains that take their time, and none of that."""
    rng = np.random.default_rng(1)
    passes([*NASTY.values(), *(random_convolution(rng, 4) for _ in range(4))], rng)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 32))
def test_any_windows_get_their_patches(seed):
    rng = np.random.default_rng(seed)
    passes([random_convolution(rng, 4) for _ in range(6)], rng)


def passes(cases, rng):
    """One after the other."""
    dut = Fronts(CONFIG)
    # What is read beside a patch is not zero.
    memory = rng.integers(1, 2**15, CONFIG.maps)

    async def bench(ctx):
        model = Model(CONFIG)
        await fill(ctx, dut.write, memory, CONFIG.maps)
        for number, case in enumerate(cases):
            stall, slow = (0.0, 0.3)[number % 2], number % 4 > 1
            await check(ctx, dut, model, case, rng, memory, stall=stall, slow=slow)

    simulate(dut, bench, limit=200_000)

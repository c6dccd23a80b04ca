"""The drain of windows with its packer, over a model of the PEs: the values that are written
against numpy's, and all that both say in every cycle against `pleach.cycles.group_drain`."""

from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.cycles import group_drain
from pleach.engine import EngineConfig
from pleach.engine.maps import MOST_SLOTS, MapPass
from pleach.engine.pipeline import PLACES, accumulator_latency, map_drain_ages
from pleach.numbers import INT16
from pleach_hw.maps.drain import GroupDrain
from pleach_hw.maps.packer import Packer
from tests.gateware.streams import simulate
from tests.gateware.test_ring import interpreted, plain

MODEL = interpreted(group_drain)


class Both(wiring.Component):
    """A group's drain and packer."""

    def __init__(self, config, *, number):
        self.drain = GroupDrain(config, number=number)
        self.packer = Packer(config, number=number)
        drain, packer = self.drain.signature.members, self.packer.signature.members
        self._of_drain = ("pass_", "units", "windows", "pes", "freed", "clear", "clear_busy")
        self._of_drain += ("scales",) * bool(config.scales)
        self._of_packer = ("write", "written")
        super().__init__(
            {"start": drain["start"]}
            | {name: drain[name] for name in self._of_drain}
            | {name: packer[name] for name in self._of_packer}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.drain, m.submodules.packer = drain, packer = self.drain, self.packer
        for part, names in ((drain, self._of_drain), (packer, self._of_packer)):
            for name in names:
                port, member = getattr(self, name), part.signature.members[name]
                if member.is_signature:
                    connect(m, flipped(port), getattr(part, name))
                elif member.flow is wiring.In:
                    m.d.comb += getattr(part, name).eq(port)
                else:
                    m.d.comb += port.eq(getattr(part, name))
        m.d.comb += [
            drain.start.eq(self.start),
            packer.start.eq(self.start),
            packer.place_valid.eq(drain.place_valid),
            packer.place.eq(drain.place),
            packer.values_valid.eq(drain.values_valid),
            packer.values.eq(drain.values),
            drain.back.eq(packer.back),
        ]
        return m


class Windows:
    """The windows of a pass that a group is given, what its PEs hold of them, and what becomes of
    them in the map memory."""

    def __init__(self, config, number, random, *, rate=0.3, **chosen):
        self.config, self.random, self.rate = config, random, rate
        teams, side = chosen["teams"], chosen["side"]
        width, height, rows = chosen["width"], chosen["height"], chosen["rows"]
        pooled, u = chosen["pooled"], side + 1
        team_pes = config.pes >> teams
        local = -(-rows // team_pes)
        slot = u * u * local
        low, high = random.choice([(-32768, 32767), (0, 32767), (-5, 100), (3, 3)])
        sign = random.random() < 0.3
        if config.scales:  # nothing behind the products hides them
            low, high, sign = -32768, 32767, False
        across = width // u if pooled else -(-width // u)
        down = height // u if pooled else -(-height // u)
        line = (across if pooled else width) * rows
        self.pass_ = MapPass(
            teams=teams, side=side, pooled=pooled, units_x=across, units_y=down,
            local_rows=local, slot=slot, slots=min(MOST_SLOTS, config.accumulators // slot),
            sink=(sink := random.randrange(8)), pixel=rows, line=line, rows=rows,
            shift=random.choice([0, 3, 9, 20] if config.scales else [0, 3, 9]),
            low=low, high=high, sign=sign,
            scaled=(scaled := chosen.get("scaled", config.scales > 0)),
            scale_base=(base := random.randrange(config.scales - local) if scaled else 0),
        )  # fmt: skip
        self.scales = [random.randint(*INT16) if scaled else 1 for _ in range(rows)]
        #: how the loader writes them
        self.scale_writes = [
            {"write": 1, "pe": row % team_pes, "row": base + row // team_pes, "value": value}
            for row, value in enumerate(self.scales * scaled)
        ]
        first = number % (config.groups >> teams) * config.row_pes
        rng = np.random.default_rng(random.getrandbits(32))
        self.given, self.passing, self.draining, self.writing = [], [], [], []
        for y in range(down):
            for x in range(across):
                if random.random() < 0.3:
                    continue  # another team's
                words = np.zeros((config.row_pes, u * u, local), np.int64)
                edge_x = u - 1 if pooled else min(u, width - x * u) - 1
                edge_y = u - 1 if pooled else min(u, height - y * u) - 1
                values, pixels = {}, {}
                for pe in range(config.row_pes):
                    for place in range(local):
                        row = place * team_pes + first + pe
                        if row >= rows:
                            continue
                        for pixel in range(u * u):
                            if pixel // u > edge_y or pixel % u > edge_x:
                                continue
                            big = random.random() < 0.3
                            word = int(rng.integers(-(1 << 31), 1 << 31) >> (0 if big else 16))
                            words[pe, pixel, place] = word
                            half = (1 << self.pass_.shift) >> 1
                            value = (word * self.scales[row] + half) >> self.pass_.shift
                            if sign:
                                value = high if value >= 0 else low
                            value = min(max(value, low), high)
                            at = sink + (y * u + pixel // u) * line + (x * u + pixel % u) * rows
                            if pooled:
                                at = sink + y * line + x * rows
                            pixels.setdefault(at + row, []).append(value)
                values = {at: max(found) for at, found in pixels.items()}
                address = sink + (y * line + x * rows) * (1 if pooled else u)
                self.given.append(SimpleNamespace(
                    address=address, edge_x=edge_x, edge_y=edge_y, words=words, values=values,
                ))  # fmt: skip
        self.ring = np.zeros((config.row_pes, config.accumulators), np.int64)
        self.count = len(self.given)
        self.slot = 0
        self.in_flight = 0
        self.passed = 0

    def give(self):
        """A window that is given in this cycle, or none."""
        if self.given and self.in_flight < self.pass_.slots and self.random.random() < self.rate:
            self.in_flight += 1
            self.passing.append(unit := self.given.pop(0))
            return unit
        return None

    def accumulate(self):
        """A window may get its sums."""
        if self.passing and self.random.random() < self.rate:
            unit = self.passing.pop(0)
            base = self.slot * self.pass_.slot
            size = unit.words[0].size
            assert not self.ring[:, base : base + size].any(), "words of a window left over"
            self.ring[:, base : base + size] = unit.words.reshape(len(unit.words), -1)
            self.slot = (self.slot + 1) % self.pass_.slots
            self.writing.append(unit)
            self.passed += 1


class Group:
    """Passes through a group's drain and packer, a cycle at a time."""

    def __init__(self, config, number):
        self.config, self.number = config, number
        self.memory = {}
        self.stages = SimpleNamespace(
            groups=config.groups, width=config.row_pes, lanes=config.drained,
            neighbours=config.neighbours, map_given=map_drain_ages(config).given,
        )  # fmt: skip
        self.model = plain(MODEL.new(self.stages))
        self.takes = [0] * 4  # windows taken, from a cycle ago on
        self.freed = [0] * 4  # a new one is accumulated some cycles later
        self.drained = [[0] * config.row_pes] * (2 + accumulator_latency(config))
        self.seen = {"full": 0, "crossing": 0, "outside": 0, "empty": 0}
        self.since = 0  # the cycles since the start of the pass

    async def run(self, ctx, dut, windows, cycles=-1):
        """A pass, to its last write or for so many cycles."""
        fields = vars(windows.pass_)
        ctx.set(dut.pass_, {name: int(fields[name]) for name, _ in dut.pass_.shape()})
        for write in [*windows.scale_writes, {"write": 0}]:
            for name, value in write.items() if self.config.scales else ():
                ctx.set(getattr(dut.scales, name), value)
            await ctx.tick()
            self.step(False, None, False, windows)
        written, start = 0, True
        while (written < windows.count or start) and cycles:
            cycles -= 1
            self.check(ctx, dut)
            written += self.write(ctx, dut, windows)
            unit = None if start else windows.give()
            ctx.set(dut.start, start)
            ctx.set(dut.units.valid, unit is not None)
            if unit:
                where = {name: getattr(unit, name) for name in ("address", "edge_x", "edge_y")}
                ctx.set(dut.units.unit, where)
            taken = self.takes.pop(0)
            self.takes.append(ctx.get(dut.windows.take))
            windows.passed -= taken
            waiting = windows.passed > 0
            ctx.set(dut.windows.waiting, waiting)
            windows.accumulate()
            self.freed.append(ctx.get(dut.freed))
            windows.in_flight -= self.freed.pop(0)
            self.drain(ctx, dut, windows)
            self.since = 0 if start else self.since + 1
            self.step(start, unit, waiting, windows)
            start = False
            await ctx.tick()
        assert cycles == 0 or not (windows.ring.any() or windows.given or windows.writing)

    def step(self, start, unit, waiting, windows):
        unit = unit or SimpleNamespace(address=None, edge_x=0, edge_y=0)
        at = self.model.drains[self.number]
        self.seen["full"] += at.places == PLACES
        self.seen["outside"] += at.step_goes and at.step_part < 0
        MODEL.step(
            self.model, self.number, start, unit.address is not None, unit.address or 0,
            unit.edge_x, unit.edge_y, waiting, windows.pass_, self.stages,
        )  # fmt: skip
        self.seen["crossing"] += self.model.packers[self.number].beyond

    def check(self, ctx, dut):
        """All that the group says, against the model."""
        drain, packer = self.model.drains[self.number], self.model.packers[self.number]
        valid, lanes = ctx.get(dut.pes.valid), self.config.drained
        part = (valid.bit_length() - 1) // lanes if valid else -1
        assert not valid or valid == ((1 << lanes) - 1) << part * lanes
        row, enables = ctx.get(dut.write.row), ctx.get(dut.write.enables)
        said = [ctx.get(s) for s in (dut.windows.take, dut.freed, dut.written)]
        assert [part, row, *said] == [
            drain.hold, packer.write_row, drain.takes, drain.freed, packer.written,
        ]  # fmt: skip
        assert packer.writes or not (enables or any(ctx.get(dut.write.values)))

    def write(self, ctx, dut, windows):
        """Take what is written; whether a window's last value was."""
        row, enables = ctx.get(dut.write.row), ctx.get(dut.write.enables)
        if enables:
            assert self.since % self.config.groups == (self.number + 1) % self.config.groups
        for slot, value in enumerate(ctx.get(dut.write.values)):
            if enables >> slot & 1:
                self.memory[row * self.config.neighbours + slot] = int(value)
        if not ctx.get(dut.written):
            return False
        unit = windows.writing.pop(0)
        self.seen["empty"] += not unit.values
        assert {at: self.memory.pop(at) for at in unit.values} == unit.values
        return True

    def drain(self, ctx, dut, windows):
        """The PEs: what is drained shows later, and is 0 from then on."""
        valid, word = ctx.get(dut.pes.valid), ctx.get(dut.pes.row)
        drained = [0] * self.config.row_pes
        for pe in range(self.config.row_pes):
            if valid >> pe & 1:
                drained[pe] = int(windows.ring[pe, word])
                windows.ring[pe, word] = 0
        self.drained.append(drained)
        ctx.set(dut.pes.drained, self.drained.pop(0))


def config_of(**array):
    return EngineConfig(
        **{
            "pes": 16, "groups": 4, "lanes": 2, "columns": 32, "entries": 64, "codebook": 16,
            "accumulators": 32, "queue_depth": 8, "maps": 2048, "neighbours": 4,
        }
        | array
    )  # fmt: skip


def shape(teams, side, pooled, rows, width=5, height=5):
    return {
        "teams": teams, "side": side, "pooled": pooled, "rows": rows, "width": width,
        "height": height,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("array", "number", "happens", "shapes"),
    [
        ({}, 0, "full", [shape(2, 0, False, 16), shape(1, 1, True, 12), shape(2, 1, False, 5)]),
        (
            {},
            3,
            "full crossing empty",
            [shape(0, 1, False, 7), shape(0, 0, False, 40), shape(1, 2, True, 11, 6, 6)],
        ),
        (
            {"neighbours": 8, "lanes": 4},
            1,
            "crossing outside",
            [shape(1, 1, False, 11), shape(2, 3, False, 3, 6)],
        ),
        ({"pes": 2, "groups": 1, "lanes": 1}, 0, "", [shape(0, 1, True, 7), shape(0, 1, False, 3)]),
        (
            {"scales": 32, "accumulator_bits": 32},
            2,
            "",
            [
                shape(2, 0, False, 16),
                shape(1, 1, True, 12) | {"scaled": False},
                shape(0, 1, False, 37),
            ],
        ),
        (
            {"pes": 8, "groups": 2, "lanes": 1, "scales": 16, "ram_latency": 1},
            1,
            "",
            [shape(1, 1, True, 9), shape(0, 0, False, 20)],
        ),
        (
            {"pes": 2, "groups": 2, "ram_latency": 1},
            1,
            "",
            [shape(1, 1, True, 3), shape(0, 0, False, 2)],
        ),
    ],
)
def test_windows_are_written(array, number, happens, shapes):
    """Pooled and not, with edges, with rows that fill no local row, and none of this group's."""
    group = written(config_of(**array), number, shapes, Random(number))
    for what in happens.split():
        assert group.seen[what] > 4, group.seen


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 32))
def test_any_windows_are_written(seed):
    random = Random(seed)
    pes, groups = random.choice([(16, 4), (8, 2), (2, 2), (2, 1)])
    config = config_of(
        pes=pes, groups=groups, lanes=min(random.choice([1, 2, 4]), pes // groups),
        neighbours=random.choice([4, 8]), ram_latency=random.choice([1, 2]),
    )  # fmt: skip
    shapes = []
    for _ in range(3):
        teams, side = random.randrange(groups.bit_length()), random.randrange(4)
        rows = (pes >> teams) * (config.accumulators // (side + 1) ** 2)
        width, height = random.randint(side + 1, 6), random.randint(side + 1, 6)
        pooled = random.random() < 0.5
        shapes.append(shape(teams, side, pooled, random.randint(1, rows), width, height))
    written(config, random.randrange(groups), shapes, random)


def written(config, number, shapes, random):
    """Windows of these shapes through a group's drain and packer, pass after pass."""
    dut, group = Both(config, number=number), Group(config, number)

    async def bench(ctx):
        for chosen in shapes:
            windows = Windows(config, number, random, **chosen)
            await group.run(ctx, dut, windows)
            assert not group.memory, "values that are no window's"

    simulate(dut, bench)
    return group


@pytest.mark.parametrize("after", [60, 75])
def test_reset_and_a_clear(after):
    """In the middle of a pass, with any of its stages busy; the next one is whole."""
    config = config_of()
    dut, reset = Both(config, number=1), Signal()

    async def bench(ctx):
        random = Random(after)
        group = Group(config, 1)
        windows = Windows(config, 1, random, **shape(1, 1, False, 13), rate=1.0)
        await group.run(ctx, dut, windows, cycles=after)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        ctx.set(dut.units.valid, 0)
        ctx.set(dut.windows.waiting, 0)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        drained = []
        for cycle in range(config.accumulators + 4):
            assert ctx.get(dut.clear_busy) == (cycle < config.accumulators)
            if ctx.get(dut.pes.valid):
                assert ctx.get(dut.pes.valid) == 0b1111
                drained.append(ctx.get(dut.pes.row))
            await ctx.tick()
        assert drained == list(range(config.accumulators))
        group = Group(config, 1)
        await group.run(ctx, dut, Windows(config, 1, random, **shape(1, 1, False, 13)))

    simulate(ResetInserter(reset)(dut), bench)

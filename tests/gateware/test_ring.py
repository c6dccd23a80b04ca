"""A group of processing elements that accumulate windows in a ring: its sums against Python's, and
what it says in every cycle against `pleach.cycles.ring`."""

from random import Random
from types import FunctionType, SimpleNamespace

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.cycles import ring
from pleach.cycles.model import stages
from pleach.engine import EngineConfig
from pleach.engine.pipeline import accumulator_latency, held_codes
from pleach_hw.compute.group import PeGroup
from tests.gateware.streams import simulate
from tests.gateware.test_pe import random_columns, random_values, wrapped

LUT_RAM = EngineConfig(
    pes=8, groups=2, lanes=2, columns=16, block=2, entries=128, codebook=16, accumulators=16,
    entry_rows=4, codes=8, queue_depth=8, maps=64,
)  # fmt: skip
BLOCK_RAM = EngineConfig(
    pes=2, columns=16, entries=64, codebook=16, accumulators=128, entry_rows=4, queue_depth=8,
    lanes=1, maps=64, ram_latency=1,
)  # fmt: skip


WINDOWS = 16


def interpreted(module):
    """A module of `pleach.cycles` with its compiled functions as Python: nothing to compile."""
    names = dict(vars(module))
    for name, each in vars(module).items():
        if hasattr(each, "py_func"):
            names[name] = FunctionType(each.py_func.__code__, names, name)
    return SimpleNamespace(**names)


def plain(state):
    """A state of `pleach.cycles` whose elements have their fields as attributes, for Python."""
    return type(state)(*(a.view(np.recarray) if a.dtype.names else a for a in state))


RING = interpreted(ring)


class Pes:
    """The stimuli of a group and what becomes of them, a cycle at a time.

    Windows of `pixels` output pixels follow each other in the ring's slots: each has columns of any
    pixel and a mark, some a mark alone. Their drains are in any order, and with any pauses.
    """

    def __init__(self, config, local_rows, pixels, slots, seed, *, windows=WINDOWS, idle=0.2):
        self.config, self.random, self.idle = config, Random(seed), idle
        self.local_rows, self.slot, self.slots = local_rows, pixels * local_rows, slots
        self.columns = [
            random_columns(self.random, config.columns, local_rows, 8)
            for _ in range(config.row_pes)
        ]
        self.codebook = random_values(self.random, held_codes(config))
        self.open = False  # a window has tokens left that came in part
        self.sums = np.zeros((config.row_pes, config.accumulators), np.int64)
        self.left = [self.window(number) for number in range(windows)]
        self.given = self.freed = self.taken = 0
        self.draining = []  # (part, word), of the window taken
        self.coming = [None] * (2 + accumulator_latency(config))  # what was drained, oldest first
        self.ready = [0, 0]  # two cycles ago, one cycle ago
        self.calm = 0  # cycles since a window was taken
        self.seen = {"stalls": 0, "marks": 0, "overtaken": 0, "full": 0}

    def window(self, number):
        """Its tokens, the last one with the mark: ``(column or -1, activation, base, last)``."""
        random, base = self.random, number % self.slots * self.slot
        values = random_values(random, random.choice([0, 1, 2, 7, 20]))
        tokens = [
            [
                random.randrange(self.config.columns), value,
                base + random.randrange(self.slot // self.local_rows) * self.local_rows, 0,
            ]
            for value in values
        ]  # fmt: skip
        if not tokens or random.random() < 0.4:
            tokens.append([-1, random.getrandbits(15), random.randrange(8), 0])
        tokens[-1][3] = 1
        return tokens

    def token(self):
        """The next one, or none, with regard to what the group said."""
        in_flight = self.given - self.freed
        if not self.left:
            return None
        if not self.ready[0]:
            self.seen["stalls"] += 1
            return None
        if self.random.random() < self.idle:
            return None
        if not self.open and in_flight == self.slots:
            self.seen["full"] += 1
            return None
        if not self.open:
            self.given, self.open = self.given + 1, True
        token = self.left[0].pop(0)
        if token[3]:
            self.left.pop(0)
            self.open = False
        self.seen["marks"] += token[0] < 0
        for pe, columns in enumerate(self.columns):
            for row, code in columns[token[0]] if token[0] >= 0 else []:
                self.sums[pe, token[2] + row] += self.codebook[code] * token[1]
        return token

    def drain(self, waiting):
        """Whether a window is taken, and the part and word that are drained, or none."""
        self.calm += 1
        take = bool(not self.draining and self.calm >= 5 and waiting and self.random.random() < 0.7)
        if take:
            parts = self.config.row_pes // self.config.drained
            base = self.taken % self.slots * self.slot
            self.draining = [(p, base + w) for p in range(parts) for w in range(self.slot)]
            self.random.shuffle(self.draining)
            self.taken, self.calm = self.taken + 1, 0
            return True, None
        if self.draining and self.random.random() < 0.7:
            self.seen["overtaken"] += bool(self.open)
            drained = self.draining.pop()
            if not self.draining:
                self.freed += 1
            return False, drained
        return False, None


async def load(ctx, dut, pes):
    """Load the group's weights."""
    config, bus = pes.config, dut.load
    ctx.set(bus.clear, 1)
    await ctx.tick()
    ctx.set(bus.clear, 0)
    for number in range(config.columns):
        for pe, columns in enumerate(pes.columns):
            ctx.set(bus.entry_valid, 1 << pe)
            for row, code in columns[number]:
                ctx.set(bus.entry, {"row": row, "code": code})
                await ctx.tick()
        ctx.set(bus.entry_valid, 0)
        ctx.set(bus.column_end, 1)
        ctx.set(bus.column, number)
        await ctx.tick()
        ctx.set(bus.column_end, 0)
    ctx.set(dut.codebook.write, 1)
    for address, value in enumerate(pes.codebook):
        ctx.set(dut.codebook.address, address)
        ctx.set(dut.codebook.value, value)
        await ctx.tick()
    ctx.set(dut.codebook.write, 0)
    for _ in range(4):
        await ctx.tick()
    assert not ctx.get(bus.overflow)


async def run(ctx, dut, pes, cycles=None):
    """Windows through the group, to the last sum or for so many cycles; checks every output."""
    config, about = pes.config, stages(pes.config)
    model = plain(RING.new(about))
    counts = np.array(
        [[len(columns[n]) for columns in pes.columns] for n in range(config.columns)]
    ).ravel()
    drained = 0
    while (pes.left or pes.taken < pes.given or pes.draining or any(pes.coming)) and cycles != 0:
        cycles = cycles and cycles - 1
        ready, waiting = ctx.get(dut.broadcast.ready), ctx.get(dut.windows.waiting)
        group = model.groups[0]
        assert (ready, waiting) == (group.ready, group.waiting)
        token = pes.token()
        pes.ready = [pes.ready[1], ready]
        take, wanted = pes.drain(waiting)
        part, word = wanted or (-1, pes.random.randrange(config.accumulators))
        column, activation, base, last = token or (-1, 0, pes.random.getrandbits(3), 0)
        broadcast = dut.broadcast
        for field, value in (
            ("valid", token is not None),
            ("column", column if column >= 0 else pes.random.randrange(config.columns)),
            ("activation", activation),
            ("base", base),
            ("present", column >= 0),
            ("last", last if token else pes.random.getrandbits(1)),
        ):
            ctx.set(getattr(broadcast, field), value)
        ctx.set(dut.windows.take, take)
        lanes = (1 << config.drained) - 1
        ctx.set(dut.drain.valid, lanes << part * config.drained if part >= 0 else 0)
        ctx.set(dut.drain.row, word)
        lot = slice(part * config.drained, (part + 1) * config.drained)
        come = pes.coming.pop(0)
        pes.coming.append(wanted and (lot, pes.sums[lot, word].tolist()))
        wanted_sums = [0] * config.row_pes
        if come:
            wanted_sums[come[0]] = [wrapped(value, config.accumulator_bits) for value in come[1]]
            drained += 1
        assert [int(value) for value in ctx.get(dut.drain.drained)] == wanted_sums
        if wanted:
            pes.sums[lot, word] = 0
        sent = column * config.row_pes if column >= 0 else -1
        RING.step(model, 0, sent, bool(last), take, part, counts, about)
        await ctx.tick()
    return drained


@pytest.mark.parametrize(
    ("config", "local_rows", "pixels", "slots"),
    [(LUT_RAM, 2, 4, 2), (LUT_RAM, 3, 1, 5), (BLOCK_RAM, 4, 4, 7)],
)  # fmt: skip
def test_windows_in_a_ring(config, local_rows, pixels, slots):
    """Rings with room left and rings that are exactly full; one window in flight and many."""
    pes = Pes(config, local_rows, pixels, slots, seed=local_rows)
    accumulated(pes)
    assert min(pes.seen["marks"], pes.seen["overtaken"]) > 5 and pes.seen["full"], pes.seen
    assert pes.seen["stalls"] > 5 or config is BLOCK_RAM, pes.seen


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    config=st.sampled_from([LUT_RAM, BLOCK_RAM]), local_rows=st.integers(1, 4),
    pixels=st.sampled_from([1, 4]), idle=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 1 << 32),
)  # fmt: skip
def test_any_windows_in_a_ring(config, local_rows, pixels, idle, seed):
    most = min(7, config.accumulators // (local_rows * pixels))
    accumulated(Pes(config, local_rows, pixels, 1 + seed % most, seed=seed, idle=idle))


def accumulated(pes):
    """All windows through a group; every word of each is drained once."""
    dut, parts = PeGroup(pes.config), pes.config.row_pes // pes.config.drained

    async def bench(ctx):
        await load(ctx, dut, pes)
        assert await run(ctx, dut, pes) == WINDOWS * pes.slot * parts

    simulate(dut, bench)


def test_reset_forgets_windows_and_marks():
    pes = Pes(LUT_RAM, 2, 1, 7, seed=3, idle=0)
    dut, reset = PeGroup(LUT_RAM), Signal()

    async def bench(ctx):
        await load(ctx, dut, pes)
        await run(ctx, dut, pes, cycles=99)
        ctx.set(reset, 1)
        ctx.set(dut.broadcast.valid, 0)
        ctx.set(dut.windows.take, 0)
        await ctx.tick()
        ctx.set(reset, 0)
        ctx.set(dut.drain.valid, (1 << LUT_RAM.row_pes) - 1)
        for word in range(LUT_RAM.accumulators):
            ctx.set(dut.drain.row, word)
            await ctx.tick()
        ctx.set(dut.drain.valid, 0)
        again = Pes(LUT_RAM, 2, 1, 7, seed=4)
        again.columns, again.codebook = pes.columns, pes.codebook
        await ctx.tick().repeat(len(again.coming))  # the last words on their way out
        assert await run(ctx, dut, again) == WINDOWS * 2 * 2

    simulate(ResetInserter(reset)(dut), bench)

"""The reader of weights: pieces of work to entries, one a cycle."""

from dataclasses import replace
from random import Random

import pytest
from amaranth.hdl import ResetInserter, Signal

from pleach.engine import EngineConfig
from pleach_hw.compute.weight_read import WeightRead
from tests.gateware.streams import send, simulate

CONFIG = EngineConfig(
    pes=1, columns=32, entries=64, codebook=16, accumulators=8, queue_depth=8
)  # fmt: skip


def random_work(random, config, count):
    """Pieces of all lengths: of one entry, of several, and at the memory's end."""
    pieces = []
    for _ in range(count):
        many = random.choice([1, 1, 2, 3, config.accumulators])
        start = random.choice([random.randrange(config.entries - many), config.entries - many])
        activation = random.randint(-32768, 32767)
        pieces.append({"pointer": {"start": start, "count": many}, "activation": activation})
    return pieces


async def fill(ctx, dut, entries):
    ctx.set(dut.write_en, 1)
    for address, entry in enumerate(entries):
        ctx.set(dut.write_addr, address)
        ctx.set(dut.write_entry, entry)
        await ctx.tick()
    ctx.set(dut.write_en, 0)


async def watch(ctx, dut, config, cycles, *, hold=0.0):
    """The entries that are issued in so many cycles, each with its activation, and when."""
    random = Random(1)
    issued, stamps, waiting = [], [], []
    for cycle in range(cycles):
        ctx.set(dut.hold, random.random() < hold)
        waiting.append((ctx.get(dut.issued), ctx.get(dut.activation)))
        if len(waiting) > config.ram_latency:
            valid, activation = waiting.pop(0)
            if valid:
                entry = ctx.get(dut.entry)
                issued.append((entry["row"], entry["code"], activation))
                stamps.append(cycle - config.ram_latency)
        await ctx.tick()
    return issued, stamps


def random_entries(config):
    random = Random(9)
    return [
        {"row": random.randrange(config.accumulators), "code": random.randrange(16)}
        for _ in range(config.entries)
    ]


def entries_of(work, entries):
    return [
        (entries[place]["row"], entries[place]["code"], piece["activation"])
        for piece in work
        for start in [piece["pointer"]["start"]]
        for place in range(start, start + piece["pointer"]["count"])
    ]


@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize(("idle", "hold"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.4), (0.4, 0.6)])
def test_every_entry_is_issued_in_order(latency, idle, hold):
    config = replace(CONFIG, ram_latency=latency)
    work = random_work(Random(latency), config, 60)
    entries = random_entries(config)
    dut, stamps = WeightRead(config), []

    async def bench(ctx):
        await fill(ctx, dut, entries)
        assert not ctx.get(dut.busy)
        begun.append(True)
        issued, cycles = await watch(ctx, dut, config, 900, hold=hold)
        assert issued == entries_of(work, entries) and not ctx.get(dut.busy)
        if not (idle or hold):
            assert cycles == list(range(cycles[0], cycles[0] + len(cycles)))
        if not hold:  # the first in the cycle after the work was taken, and no gap within a piece
            first, offset = 0, cycles[0] - stamps[0]
            for piece, stamp in zip(work, stamps, strict=True):
                many = piece["pointer"]["count"]
                begin = stamp + offset
                assert cycles[first : first + many] == list(range(begin, begin + many))
                first += many

    async def source(ctx):
        while not begun:
            await ctx.tick()
        await send(ctx, dut.i, work, idle=idle, seed=2, stamps=stamps)

    begun = []
    simulate(dut, bench, background=[source])


def test_reset_drops_the_work():
    entries, reset = random_entries(CONFIG), Signal()
    first = [{"pointer": {"start": 3, "count": 8}, "activation": 5}]
    second = [{"pointer": {"start": 20, "count": 2}, "activation": 6}]
    dut = WeightRead(CONFIG)

    async def bench(ctx):
        await fill(ctx, dut, entries)
        await send(ctx, dut.i, first)
        await ctx.tick()
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert await watch(ctx, dut, CONFIG, 12) == ([], [])
        await send(ctx, dut.i, second)
        issued, _ = await watch(ctx, dut, CONFIG, 12)
        assert issued == entries_of(second, entries)

    simulate(ResetInserter(reset)(dut), bench)

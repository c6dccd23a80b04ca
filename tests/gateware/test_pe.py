"""The processing element against sums in Python, and its cycles against the docstring's."""

from dataclasses import replace
from random import Random

import pytest
from amaranth.hdl import ResetInserter, Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.engine import EngineConfig
from pleach_hw.compute.pe import ProcessingElement
from tests.gateware.streams import simulate

SMALL = EngineConfig(
    pes=1, columns=32, entries=128, codebook=16, accumulators=8, accumulator_bits=32, queue_depth=8
)


async def load(ctx, dut, columns, codebook):
    """Load `columns`, a list of entries ``(row, code)`` for each, and the codebook."""
    ctx.set(dut.load.clear, 1)
    await ctx.tick()
    ctx.set(dut.load.clear, 0)
    for number, column in enumerate(columns):
        ctx.set(dut.load.entry_valid, 1)
        for row, code in column:
            ctx.set(dut.load.entry, {"row": row, "code": code})
            await ctx.tick()
        ctx.set(dut.load.entry_valid, 0)
        ctx.set(dut.load.column_end, 1)
        ctx.set(dut.load.column, number)
        await ctx.tick()
        ctx.set(dut.load.column_end, 0)
    ctx.set(dut.codebook.write, 1)
    for address, value in enumerate(codebook):
        ctx.set(dut.codebook.address, address)
        ctx.set(dut.codebook.value, value)
        await ctx.tick()
    ctx.set(dut.codebook.write, 0)


async def broadcast(ctx, dut, column, activation):
    """Broadcast a column as soon as the PE is ready."""
    while not ctx.get(dut.broadcast.ready):
        await ctx.tick()
    ctx.set(dut.broadcast.valid, 1)
    ctx.set(dut.broadcast.column, column)
    ctx.set(dut.broadcast.activation, activation)
    await ctx.tick()
    ctx.set(dut.broadcast.valid, 0)


async def drain(ctx, dut, rows, parity=0):
    """Drain `rows`, one a cycle, and return their sums; checks `drained_valid` in every cycle."""
    sums = []
    for cycle in range(len(rows) + dut.drain_latency):
        ctx.set(dut.drain.valid, cycle < len(rows))
        ctx.set(dut.drain.parity, parity)
        if cycle < len(rows):
            ctx.set(dut.drain.row, rows[cycle])
        assert ctx.get(dut.drained_valid) == (cycle >= dut.drain_latency)
        if cycle >= dut.drain_latency:
            sums.append(ctx.get(dut.drain.drained[0]))
        await ctx.tick()
    return sums


async def pause(ctx, cycles):
    for _ in range(cycles):
        await ctx.tick()


async def wait_for(ctx, signal):
    cycles = 0
    while not ctx.get(signal):
        await ctx.tick()
        cycles += 1
    return cycles


async def all_issued(ctx, dut):
    """After a broadcast: wait until nothing is left to issue; returns the cycles waited."""
    await ctx.tick()  # what `issued` says before is older than the broadcast
    return 1 + await wait_for(ctx, dut.broadcast.issued)


def wrapped(value, bits):
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def sums(columns, codebook, base, work, config):
    """What each row holds after the columns and activations of `work`."""
    rows = [0] * config.accumulators
    for column, activation in work:
        for row, code in columns[column]:
            rows[row] += codebook[base + code] * activation
    return [wrapped(value, config.accumulator_bits) for value in rows]


def random_columns(random, count, rows, codes, *, empty=0.3):
    """Columns with the entries of distinct rows, a share of them empty."""
    columns = []
    for _ in range(count):
        many = 0 if random.random() < empty else random.randint(1, rows)
        columns.append(
            [(row, random.randrange(codes)) for row in sorted(random.sample(range(rows), many))]
        )
    return columns


def random_values(random, count):
    """16-bit values, the extremes among them."""
    return [random.choice([-32768, 32767, -1, 1, random.randint(-999, 999)]) for _ in range(count)]


def run_layers(config, seed, *, idle, layers=4):
    """Layers of alternating parity on one PE, each drained while the next one is running.

    Returns how often the PE was not ready and how many drains went before a MAC.
    """
    random = Random(seed)
    half, quarter = config.accumulators // 2, config.columns // 2
    codes = min(256, config.codebook) // 2
    columns = random_columns(random, 2 * quarter, half, codes, empty=random.choice([0, 0.3, 0.9]))
    codebook = random_values(random, config.codebook)
    dut = ProcessingElement(config)
    stalls = overtaken = 0

    async def bench(ctx):
        nonlocal stalls, overtaken
        await load(ctx, dut, columns, codebook)
        draining, expected, coming = [], [], []
        for layer in range(layers + 1):
            parity = layer % 2
            base = parity * codes
            work = [
                (parity * quarter + column, activation)
                for column, activation in enumerate(random_values(random, quarter))
            ] * (layer < layers)
            wanted = sums(columns, codebook, base, work, config)
            ctx.set(dut.standing.parity, parity)
            ctx.set(dut.standing.codebook_base, base)
            fresh = False  # `issued` knows of the last column
            while work or draining or coming or not (fresh and ctx.get(dut.broadcast.issued)):
                # A column of this layer, a row of the one before, both, or neither.
                ready = ctx.get(dut.broadcast.ready)
                stalls += bool(work and not ready)
                go = bool(work and ready and random.random() >= idle)
                fresh = not go
                ctx.set(dut.broadcast.valid, go)
                if go:
                    column, activation = work.pop(0)
                    ctx.set(dut.broadcast.column, column)
                    ctx.set(dut.broadcast.activation, activation)
                go = bool(draining and random.random() < 0.3)
                ctx.set(dut.drain.valid, go)
                if go:
                    ctx.set(dut.drain.row, draining.pop(0))
                    ctx.set(dut.drain.parity, 1 - parity)
                    overtaken += not ctx.get(dut.broadcast.issued)
                coming.append(go)
                valid = coming.pop(0) if len(coming) > dut.drain_latency else False
                assert ctx.get(dut.drained_valid) == valid
                if valid:
                    assert ctx.get(dut.drain.drained[0]) == expected.pop(0)
                await ctx.tick()
                if not (draining or any(coming)):
                    coming = []
            # In the very cycle of `issued` the next layer may begin, and this one's drains.
            draining, expected = list(range(half)), wanted[:half]

    simulate(dut, bench)
    return stalls, overtaken


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    idle=st.sampled_from([0.0, 0.3, 0.9]),
    block=st.sampled_from([1, 2, 8]),
)
def test_layers_in_turns_give_the_sums(seed, idle, block):
    run_layers(replace(SMALL, block=block), seed, idle=idle)


def test_layers_in_turns_meet_full_queues_and_drain_before_macs():
    stalls, overtaken = run_layers(SMALL, 4, idle=0.0)
    assert stalls > 20 and overtaken > 5


@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize("codebook", [16, 512])
def test_any_memory_latency_and_codebook_size(latency, codebook):
    config = EngineConfig(
        pes=2,
        columns=16,
        entries=64,
        codebook=codebook,
        accumulators=4,
        accumulator_bits=41,
        ram_latency=latency,
    )
    run_layers(config, 11, idle=0.1)


def sums_of(columns, work, config=SMALL, codebook=range(1, 17)):
    """Load, run and drain one layer; returns (sums, cycles from first broadcast to `issued`)."""
    dut = ProcessingElement(config)
    result = []

    async def bench(ctx):
        await load(ctx, dut, columns, list(codebook))
        cycles = 0
        left = list(work)
        await wait_for(ctx, dut.broadcast.issued)
        fresh = False
        while left or not (fresh and ctx.get(dut.broadcast.issued)):
            go = bool(left and ctx.get(dut.broadcast.ready))
            fresh = not go
            ctx.set(dut.broadcast.valid, go)
            if go:
                column, activation = left.pop(0)
                ctx.set(dut.broadcast.column, column)
                ctx.set(dut.broadcast.activation, activation)
            await ctx.tick()
            cycles += 1
        assert not ctx.get(dut.load.overflow)
        result.extend(await drain(ctx, dut, range(config.accumulators)))
        assert await drain(ctx, dut, range(config.accumulators)) == [0] * config.accumulators
        result.append(cycles)

    simulate(dut, bench)
    return result[:-1], result[-1]


@pytest.mark.parametrize(
    "counts",
    [
        [8, 1, 1, 3, 1, 2, 8],
        [4, 0, 0, 1, 0, 2, 5],
        [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8],
        [1] * 20,
        [0, 3],
        [0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0],
    ],
)
def test_one_entry_a_cycle_across_columns(counts):
    columns = [[(row, (row + n) % 16) for row in range(c)] for n, c in enumerate(counts)]
    work = [(n, 3 + n) for n in range(len(counts))]
    got, cycles = sums_of(columns, work, replace(SMALL, queue_depth=16))
    assert got == sums(columns, range(1, 17), 0, work, SMALL)
    # A column can only begin once it was broadcast, one column a cycle; `issued` is a register.
    begin = ProcessingElement(SMALL).issue_latency
    end = begin
    for number, count in enumerate(counts):
        if count:
            end = max(end, begin + number) + count
    assert cycles == end + 1


def test_the_same_row_in_succession_is_forwarded():
    columns = [[(5, 1)], [(5, 2)], [(5, 3), (6, 1)], [(6, 9)], [(5, 4)], [(5, 15), (7, 0)]]
    work = [(n, 100 - 30 * n) for n in [0, 1, 2, 3, 4, 5, 5, 5, 0, 0, 0, 1]]
    got, _ = sums_of(columns, work)
    assert got == sums(columns, range(1, 17), 0, work, SMALL)


def test_a_row_is_zero_for_whatever_follows_its_drain_at_once():
    dut = ProcessingElement(SMALL)

    async def bench(ctx):
        await load(ctx, dut, [[(3, 0)]], [7] * 16)
        for gap in range(4):
            # MAC, drain, drain, MAC of one row, `gap` cycles apart.
            await broadcast(ctx, dut, 0, 10)
            await all_issued(ctx, dut)
            await pause(ctx, gap)
            assert await drain(ctx, dut, [3, 3, 4, 3]) == [70, 0, 0, 0]
        # A drain that comes in the MAC's cycle holds it back, and it follows right behind.
        seen = []
        for wait in range(1, 9):
            await broadcast(ctx, dut, 0, 1)
            await all_issued(ctx, dut)
            await broadcast(ctx, dut, 0, 2)
            await pause(ctx, wait)
            seen += await drain(ctx, dut, [3])
            await all_issued(ctx, dut)
            seen += await drain(ctx, dut, [3])
        early = dut.issue_latency - 2
        assert seen == [7, 14] * early + [21, 0] * (8 - early)

    simulate(dut, bench)


def test_a_pe_without_a_row_never_stalls_or_works():
    dut = ProcessingElement(SMALL)

    async def bench(ctx):
        await load(ctx, dut, [[]] * 32, [1] * 16)
        ctx.set(dut.broadcast.valid, 1)
        for column in range(32):
            assert ctx.get(dut.broadcast.ready)
            ctx.set(dut.broadcast.column, column)
            await ctx.tick()
        ctx.set(dut.broadcast.valid, 0)
        assert await wait_for(ctx, dut.broadcast.issued) == 3 + SMALL.ram_latency
        assert await drain(ctx, dut, range(8)) == [0] * 8

    simulate(dut, bench)


def test_issued_comes_when_the_last_mac_was_issued():
    dut = ProcessingElement(SMALL)

    async def bench(ctx):
        await load(ctx, dut, [[(0, 0), (1, 1)]], [1] * 16)
        await broadcast(ctx, dut, 0, 5)
        await ctx.tick()
        for _ in range(dut.issue_latency + 1):
            assert not ctx.get(dut.broadcast.issued)
            await ctx.tick()
        assert ctx.get(dut.broadcast.issued)

    simulate(dut, bench)


def test_queue_depth_columns_are_taken_then_no_more():
    dut = ProcessingElement(SMALL)

    async def bench(ctx):
        await load(ctx, dut, [[(row, 0) for row in range(8)]], [1] * 16)
        # Drains keep every MAC back.
        ctx.set(dut.drain.valid, 1)
        taken, before = 0, [0, 0]
        for _ in range(40):  # a broadcast may go by a `ready` that is two cycles old
            go, *before = *before, ctx.get(dut.broadcast.ready)
            ctx.set(dut.broadcast.valid, go)
            taken += go
            await ctx.tick()
        assert taken == SMALL.queue_depth
        ctx.set(dut.drain.valid, 0)
        ctx.set(dut.broadcast.valid, 0)
        # The end of the drains comes in a cycle later.
        assert await all_issued(ctx, dut) == 8 * taken + 2

    simulate(dut, bench)


def test_an_entry_too_many_is_dropped_and_reported():
    dut = ProcessingElement(SMALL)
    full = [[(row, row) for row in range(8)]] * 16

    async def bench(ctx):
        await load(ctx, dut, full, range(1, 17))
        assert not ctx.get(dut.load.overflow)
        await load(ctx, dut, [*full, [(1, 15)] * 130, []], range(1, 17))  # as many again, and two
        assert ctx.get(dut.load.overflow)
        await pause(ctx, 3)
        assert ctx.get(dut.load.overflow)
        for column in (0, 15, 16, 17):
            await broadcast(ctx, dut, column, 1)
        await all_issued(ctx, dut)
        assert await drain(ctx, dut, range(8)) == [2 * n for n in range(1, 9)]
        await load(ctx, dut, [[(0, 0)]], [1] * 16)
        assert not ctx.get(dut.load.overflow)

    simulate(dut, bench)


@pytest.mark.parametrize("after", range(0, 12, 3))
def test_reset_drops_the_work_and_keeps_the_weights(after):
    dut = ProcessingElement(SMALL)
    reset = Signal()

    async def bench(ctx):
        await load(ctx, dut, [[(row, row) for row in range(8)]], range(1, 17))
        for _ in range(SMALL.queue_depth):
            await broadcast(ctx, dut, 0, 3)
        await pause(ctx, after)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert ctx.get(dut.broadcast.ready)
        await drain(ctx, dut, range(8))
        await broadcast(ctx, dut, 0, -2)
        await all_issued(ctx, dut)
        assert await drain(ctx, dut, range(8)) == [-2 * n for n in range(1, 9)]

    simulate(ResetInserter(reset)(dut), bench)

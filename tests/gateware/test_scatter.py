"""Scatter against the positions of the format."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.engine import EngineConfig
from pleach.format import gaps
from pleach_hw.load.scatter import Scatter
from tests.gateware.streams import send, simulate


def scatter(positions, codes, rows, columns, *, pes, groups=1, column_base=0, idle=0.0, seed=0):
    """Entries ``(pe, local row, code)`` by column, cycles taken, and whether one was outside."""
    dut = Scatter(EngineConfig(pes=pes, groups=groups, accumulators=64))
    classes, extras = gaps.symbols(np.asarray(positions))
    code = iter(codes)
    symbols = [
        {
            "gap": int(gaps.BASE[c] + x),
            "skip": int(c == gaps.SKIP),
            "code": 0 if c == gaps.SKIP else int(next(code)),
        }
        for c, x in zip(classes, extras, strict=True)
    ]
    got, log = [[]], {"outside": False, "ends": []}

    async def bench(ctx):
        ctx.set(dut.rows, rows)
        ctx.set(dut.columns, columns)
        ctx.set(dut.column_base, column_base)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        await send(ctx, dut.i, symbols, idle=idle, seed=seed)
        ctx.set(dut.finish, 1)
        while not ctx.get(dut.done):
            await ctx.tick()
        # Known by then: whoever waits for `done` looks at `outside` in the same cycle.
        log["outside"] |= bool(ctx.get(dut.outside))
        log["finished"] = True

    async def monitor(ctx):
        cycle = after = 0
        while after < 3:
            await ctx.tick()
            cycle += 1
            after += "finished" in log
            if not after:
                log["outside"] |= bool(ctx.get(dut.outside))
            one_hot = ctx.get(dut.entry_valid)
            if one_hot:
                assert one_hot.bit_count() == 1 and not ctx.get(dut.column_end)
                pe = one_hot.bit_length() - 1
                got[-1].append((pe, ctx.get(dut.entry.row), ctx.get(dut.entry.code)))
            if ctx.get(dut.column_end):
                log["ends"].append((ctx.get(dut.column_end), ctx.get(dut.column)))
                got.append([])
            if not after:
                log["cycles"] = cycle

    simulate(dut, bench, monitor, limit=100_000)
    assert got.pop() == []
    return got, log


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.data())
def test_scatter(choice):
    pes, groups = choice.draw(st.sampled_from([(1, 1), (2, 1), (8, 1), (8, 4), (4, 4)]))
    rows = choice.draw(st.integers(1, 30))
    columns = choice.draw(st.integers(1, 12))
    density = choice.draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    rng = np.random.default_rng(choice.draw(st.integers(0, 2**32)))
    mask = rng.random((columns, rows)) < density
    mask[rng.random(columns) < 0.3] = False
    positions = np.flatnonzero(mask)
    codes = rng.integers(0, 128, len(positions))
    got, log = scatter(
        positions, codes, rows, columns, pes=pes, groups=groups, column_base=5,
        idle=choice.draw(st.sampled_from([0.0, 0.4])),
    )  # fmt: skip
    expected = [[] for _ in range(columns)]
    for position, code in zip(positions, codes, strict=True):
        column, row = divmod(int(position), rows)
        pe = column % groups * (pes // groups) + row % (pes // groups)
        expected[column].append((pe, row // (pes // groups), int(code)))
    assert got == expected
    assert log["ends"] == [(1 << c % groups, 5 + c // groups) for c in range(columns)]
    assert not log["outside"]


def test_entries_and_columns_are_all_it_takes():
    positions = np.flatnonzero(np.random.default_rng(2).random(40 * 50) < 0.1)
    _, log = scatter(positions, positions % 7, 50, 40, pes=4)
    assert log["cycles"] <= len(positions) + 40 + 3


@pytest.mark.parametrize("beyond", [0, 1, 20, 70_000])
def test_position_outside(beyond):
    """The first position past the layer, and far ones, with a skip too: flagged, not written."""
    got, log = scatter([3, 20 + beyond], [1, 2], 5, 4, pes=2)
    assert log["outside"]
    assert got == [[(1, 1, 1)], [], [], []]


def test_skip_crosses_many_columns():
    got, log = scatter([65535, 65536 * 2 + 9], [1, 2], 100, 1500, pes=8)
    placed = {(i, e) for i, column in enumerate(got) for e in column}
    assert placed == {(655, (35 % 8, 35 // 8, 1)), (1310, (81 % 8, 81 // 8, 2))}
    assert not log["outside"]

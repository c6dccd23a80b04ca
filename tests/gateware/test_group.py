"""A group of processing elements, and the registers on the way to it."""

import numpy as np
import pytest

from pleach.engine import EngineConfig
from pleach.engine.pipeline import accumulator_latency
from pleach_hw.buses import BroadcastBus, DrainBus, LoadBus
from pleach_hw.compute.group import PeGroup
from tests.gateware.streams import simulate
from tests.gateware.test_pe import broadcast, pause, wait_for


@pytest.mark.parametrize(("groups", "number"), [(1, 0), (2, 0), (2, 1)])
def test_a_group_s_rows_are_dealt_out_to_its_pes(groups, number):
    """Sums of all rows equal numpy's, and an entry too many in any PE is an overflow."""
    config = EngineConfig(
        pes=2 * groups, groups=groups, columns=32, entries=16, codebook=16, accumulators=4,
        queue_depth=8,
    )  # fmt: skip
    rng = np.random.default_rng(number)
    kept = rng.random((8, 3)) < 0.5
    kept[0] = True
    codes = rng.integers(0, 16, (8, 3))
    values, inputs = rng.integers(-99, 99, 16), rng.integers(-99, 99, 3)
    dut = PeGroup(config, number=number)
    load, book, drain = dut.load, dut.codebook, dut.drain

    async def entry(ctx, row, code):
        ctx.set(load.entry_valid, 1 << row % 2)
        ctx.set(load.entry, {"row": row // 2, "code": code})
        await ctx.tick()
        ctx.set(load.entry_valid, 0)

    async def fill(ctx):
        ctx.set(load.clear, 1)
        await ctx.tick()
        ctx.set(load.clear, 0)
        for column in range(3):
            for row in np.flatnonzero(kept[:, column]).tolist():
                await entry(ctx, row, int(codes[row, column]))
            ctx.set(load.column, column)
            ctx.set(load.column_end, 1)
            await ctx.tick()
            ctx.set(load.column_end, 0)
        ctx.set(book.write, 1)
        for address, value in enumerate(values.tolist()):
            ctx.set(book.address, address)
            ctx.set(book.value, value)
            await ctx.tick()
        ctx.set(book.write, 0)
        await pause(ctx, 3)

    async def bench(ctx):
        await fill(ctx)
        for column, value in enumerate(inputs.tolist()):
            await broadcast(ctx, dut, column, value)
        await pause(ctx, 3)
        await wait_for(ctx, dut.broadcast.issued)
        sums = []
        for row in range(4):
            ctx.set(drain.valid, 0b11)
            ctx.set(drain.row, row)
            await ctx.tick()
            ctx.set(drain.valid, 0)
            await pause(ctx, accumulator_latency(config))
            sums += [int(ctx.get(drain.drained[pe])) for pe in range(2)]
            await pause(ctx, 4)
        assert sums == ((values[codes] * kept) @ inputs).tolist()
        for pe in range(2):
            await fill(ctx)
            assert not ctx.get(load.overflow)
            for _ in range(config.entries + 1):
                await entry(ctx, pe, 0)
            await pause(ctx, 3)
            assert ctx.get(load.overflow)

    simulate(dut, bench)


def test_a_bus_names_fields_that_it_has():
    """Strobes are fields, and whoever drives them gives them."""
    config = EngineConfig(pes=4, groups=2)
    for bus in (BroadcastBus(config), DrainBus(config, pes=4)):
        assert bus.strobes
        assert bus.strobes <= set(bus.members)
    assert LoadBus(config, pes=4).members["column_end"].shape == 2
    assert LoadBus(config, pes=1).members["column_end"].shape == 1

"""Memories, the multiplier, delay lines."""

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module, Signal

from pleach_hw.primitives import BlockRam, LutRam, Multiplier, delay
from tests.gateware.streams import simulate


@pytest.mark.parametrize("latency", [1, 2])
def test_block_ram_reads_what_was_written_after_its_latency(latency):
    dut = BlockRam(shape=12, depth=64, latency=latency)
    rng = np.random.default_rng(1)
    model = np.zeros(64, np.int64)

    async def bench(ctx):
        expected = []
        for _ in range(500):
            read, write = (int(n) for n in rng.choice(64, 2, replace=False))
            data, enable = int(rng.integers(1 << 12)), int(rng.integers(2))
            ctx.set(dut.read_addr, read)
            ctx.set(dut.write_addr, write)
            ctx.set(dut.write_data, data)
            ctx.set(dut.write_en, enable)
            expected.append(model[read])
            if enable:
                model[write] = data
            await ctx.tick()
            if len(expected) >= latency:
                assert ctx.get(dut.read_data) == expected[-latency]

    simulate(dut, bench)
    assert np.count_nonzero(model) > 50


def test_lut_ram_reads_in_the_same_cycle_and_shows_a_write_from_the_next():
    dut = LutRam(shape=9, depth=32)
    rng = np.random.default_rng(2)
    model = np.zeros(32, np.int64)

    async def bench(ctx):
        for _ in range(500):
            address, data = int(rng.integers(32)), int(rng.integers(1 << 9))
            ctx.set(dut.read_addr, address)
            ctx.set(dut.write_addr, address)
            ctx.set(dut.write_data, data)
            ctx.set(dut.write_en, 1)
            assert ctx.get(dut.read_data) == model[address]
            model[address] = data
            await ctx.tick()
            assert ctx.get(dut.read_data) == data

    simulate(dut, bench)


@pytest.mark.parametrize(("a_bits", "b_bits"), [(16, 16), (18, 18), (2, 9)])
def test_multiplier_is_exact_at_the_extremes(a_bits, b_bits):
    dut = Multiplier(width_a=a_bits, width_b=b_bits)
    rng = np.random.default_rng(3)
    lows = -(1 << (a_bits - 1)), -(1 << (b_bits - 1))
    pairs = [lows, (-lows[0] - 1, lows[1]), (lows[0], -lows[1] - 1), (-lows[0] - 1, -lows[1] - 1)]
    pairs += [
        (int(rng.integers(lows[0], -lows[0])), int(rng.integers(*lows[1:], -lows[1])))
        for _ in range(200)
    ]

    async def bench(ctx):
        expected = []
        for a, b in pairs:
            ctx.set(dut.a, a)
            ctx.set(dut.b, b)
            expected.append(a * b)
            await ctx.tick()
            if len(expected) >= dut.latency:
                assert ctx.get(dut.product) == expected[-dut.latency]

    simulate(dut, bench)


@pytest.mark.parametrize("cycles", [0, 1, 5])
def test_delay(cycles):
    class Line(Elaboratable):
        def __init__(self):
            self.i = Signal(8)
            self.o = Signal(8)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.o.eq(delay(m, self.i, cycles, name="line"))
            return m

    dut = Line()

    async def bench(ctx):
        for time in range(30):
            ctx.set(dut.i, time)
            if time >= cycles:
                assert ctx.get(dut.o) == time - cycles
            await ctx.tick()

    simulate(dut, bench)


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="memory depth must be at least 2, not 1"):
        BlockRam(shape=8, depth=1)
    with pytest.raises(ValueError, match="latency must be 1 or 2, not 3"):
        BlockRam(shape=8, depth=4, latency=3)
    with pytest.raises(ValueError, match="multiplier widths must be at least 2, not 1 and 4"):
        Multiplier(width_a=1, width_b=4)

"""The queues, and through it the helpers of `streams`."""

from itertools import product
from random import Random

import pytest
from amaranth.hdl import Module, ResetInserter, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pleach_hw.queue import Buffer, Queue
from tests.gateware.streams import receive, send, simulate, transact

SHAPE = data.StructLayout({"row": 5, "value": signed(9)})
RATES = (0.0, 0.3, 0.9)


@pytest.mark.parametrize("depth", [None, 2, 4, 16])
@pytest.mark.parametrize(("idle", "stall"), list(product(RATES, RATES)))
def test_first_in_first_out(depth, idle, stall):
    random = Random(depth)
    payloads = [{"row": n % 32, "value": random.randint(-256, 255)} for n in range(50)]
    dut = Queue(shape=SHAPE, depth=depth) if depth else Buffer(shape=SHAPE)
    assert transact(dut, payloads, idle=idle, stall=stall, seed=depth or 1) == payloads


def test_a_buffer_keeps_what_waits_behind():
    """Two payloads wait; the first is taken while none comes, then the second."""
    dut = Buffer(shape=8)

    async def bench(ctx):
        await send(ctx, dut.i, [1, 2])
        for _ in range(3):
            assert not ctx.get(dut.i.ready)
            await ctx.tick()
        assert await receive(ctx, dut.o, 2) == [1, 2]
        assert ctx.get(dut.i.ready) and not ctx.get(dut.o.valid)

    simulate(dut, bench, checks=[dut.o])


@pytest.mark.parametrize("dut", [Queue(shape=8, depth=2), Buffer(shape=8)])
def test_one_in_and_one_out_a_cycle(dut):
    stamps = []
    transact(dut, range(100), stamps=stamps)
    assert stamps == list(range(1, 101))


def test_holds_depth_payloads():
    dut = Queue(shape=8, depth=4)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        for number in range(6):
            ctx.set(dut.i.payload, number)
            assert ctx.get(dut.i.ready) == (number < 4)
            await ctx.tick()
        # Full, `i` waits a cycle for the place that `o` frees.
        ctx.set(dut.o.ready, 1)
        assert not ctx.get(dut.i.ready)
        await ctx.tick()
        assert ctx.get(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        assert await receive(ctx, dut.o, 3) == [1, 2, 3]
        assert not ctx.get(dut.o.valid)

    simulate(dut, bench)


def test_reset_empties():
    dut = Queue(shape=8, depth=4)
    reset = Signal()

    async def bench(ctx):
        await send(ctx, dut.i, [1, 2, 3])
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert not ctx.get(dut.o.valid)
        await send(ctx, dut.i, [4])
        assert await receive(ctx, dut.o, 1) == [4]

    simulate(ResetInserter(reset)(dut), bench)


@pytest.mark.parametrize("depth", [0, 1, 12])
def test_depth_is_checked(depth):
    with pytest.raises(ValueError, match=f"a power of two from 2, not {depth}"):
        Queue(shape=8, depth=depth)


class Broken(wiring.Component):
    """Breaks a rule: `valid` of the output depends on `ready`, or the payload does not stand."""

    def __init__(self, fault):
        self._fault = fault
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        wiring.connect(m, wiring.flipped(self.i), wiring.flipped(self.o))
        count = Signal(8)
        m.d.sync += count.eq(count + 1)
        if self._fault == "valid":
            m.d.comb += self.o.valid.eq(self.i.valid & self.o.ready)
        if self._fault == "payload":
            m.d.comb += self.o.payload.eq(count)
        if self._fault == "withdrawn":
            m.d.comb += self.o.valid.eq(self.i.valid & count[0])
        return m


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("valid", "valid depends on ready"),
        ("payload", "changes before|changed before"),
        ("withdrawn", "valid fell"),
    ],
)
def test_the_helpers_see_broken_rules(fault, message):
    with pytest.raises(AssertionError, match=message):
        transact(Broken(fault), range(20), stall=0.5)

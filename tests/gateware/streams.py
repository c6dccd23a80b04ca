"""Helpers to test stream components on Amaranth's simulator.

`transact` wraps a component with one input and one output stream as a plain function; `simulate`
runs testbenches that `send`, `receive` and `check` are the parts of. All randomness comes from a
seed. Payloads are integers, or dictionaries and lists of them for structures and arrays.
"""

from __future__ import annotations

from random import Random

from amaranth.hdl import ClockDomain, Module, Value
from amaranth.lib import data
from amaranth.sim import Simulator


def plain(value):
    """A payload read from the simulator, as integers, dictionaries and lists.

    >>> plain(data.StructLayout({"a": 4, "b": data.ArrayLayout(2, 2)}).const({"a": 3, "b": [1, 2]}))
    {'a': 3, 'b': [1, 2]}
    """
    if not isinstance(value, data.Const):
        return int(value)
    layout = value.shape()
    if isinstance(layout, data.ArrayLayout):
        return [plain(value[index]) for index in range(layout.length)]
    return {key: plain(value[key]) for key, _ in layout}


async def send(ctx, stream, payloads, *, idle=0.0, seed=0, stamps=None):
    """Send `payloads`; before each, wait for another cycle with probability `idle`.

    While nothing is sent the payload is noise. The cycle of each transfer, counted from the call,
    is appended to `stamps`.
    """
    random = Random(seed)
    raw = Value.cast(stream.payload)
    cycle = 0
    for payload in payloads:
        while random.random() < idle:
            ctx.set(raw, random.getrandbits(len(raw)))
            await ctx.tick()
            cycle += 1
        ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        ready = False
        while not ready:
            *_, ready = await ctx.tick().sample(stream.ready)
            cycle += 1
        if stamps is not None:
            stamps.append(cycle - 1)
        ctx.set(stream.valid, 0)


async def receive(ctx, stream, count, *, stall=0.0, seed=0, stamps=None):
    """Receive `count` payloads, not ready in a cycle with probability `stall`.

    Fails if valid or payload depends on ready in the same cycle. The cycle of each transfer,
    counted from the call, is appended to `stamps`.
    """
    random = Random(seed + 1)
    raw = Value.cast(stream.payload)
    payloads = []
    cycle = 0
    while len(payloads) < count:
        before = ctx.get(stream.valid), ctx.get(raw)
        ready = random.random() >= stall
        ctx.set(stream.ready, ready)
        if before[0]:
            assert (ctx.get(stream.valid), ctx.get(raw)) == before, "output depends on ready"
        else:
            assert not ctx.get(stream.valid), "valid depends on ready"
        *_, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
        if valid and ready:
            payloads.append(plain(payload))
            if stamps is not None:
                stamps.append(cycle)
        cycle += 1
    ctx.set(stream.ready, 0)
    return payloads


async def check(ctx, stream):
    """Fail if an offered payload is withdrawn or changes before it was taken. Runs for ever."""
    raw = Value.cast(stream.payload)
    offered = None
    while True:
        _, reset, valid, ready, payload = await ctx.tick().sample(stream.valid, stream.ready, raw)
        if offered is not None:
            assert valid, "valid fell before the payload was taken"
            assert payload == offered, "the payload changed before it was taken"
        offered = payload if valid and not ready and not reset else None


def simulate(dut, *benches, background=(), checks=(), limit=20_000, vcd=None):
    """Run `benches`, coroutine functions of `ctx`, until all have ended.

    Those in `background` run beside them; every stream in `checks` is watched by `check`. More than
    `limit` cycles fail the test.
    """

    async def watchdog(ctx):
        for _ in range(limit):
            await ctx.tick()
        raise AssertionError(f"not finished after {limit} cycles")

    top = Module()
    top.domains.sync = ClockDomain()  # components without a register may be tested, too
    top.submodules.dut = dut
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    for bench in benches:
        simulator.add_testbench(bench)
    for bench in background:
        simulator.add_testbench(bench, background=True)
    for stream in checks:

        async def checker(ctx, stream=stream):
            await check(ctx, stream)

        simulator.add_testbench(checker, background=True)
    simulator.add_testbench(watchdog, background=True)
    if vcd is None:
        simulator.run()
    else:
        with simulator.write_vcd(vcd):
            simulator.run()


def transact(dut, payloads, count=None, *, idle=0.0, stall=0.0, seed=0, limit=20_000, stamps=None):
    """Send `payloads` to ``dut.i`` and return `count` payloads of ``dut.o``; as many, unless said.

    Waits a few cycles after the last one, so that a payload too many fails.
    """
    payloads = list(payloads)
    received = []

    async def sender(ctx):
        await send(ctx, dut.i, payloads, idle=idle, seed=seed)

    async def receiver(ctx):
        wanted = len(payloads) if count is None else count
        received.extend(await receive(ctx, dut.o, wanted, stall=stall, seed=seed, stamps=stamps))
        for _ in range(16):
            await ctx.tick()
            assert not ctx.get(dut.o.valid), "one payload too many"

    simulate(dut, sender, receiver, checks=[dut.o], limit=limit)
    return received

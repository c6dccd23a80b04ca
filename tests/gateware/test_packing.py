"""Words to vectors and vectors to words, against lists."""

from itertools import product

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal

from pleach.host import run_packet
from pleach.model import InputType
from pleach_hw.io.packing import InputUnpack, OutputPack
from tests.gateware.streams import receive, send, simulate, transact
from tests.gateware.test_drain import expected_vectors


def packet(words):
    return [{"data": int(w), "last": n == len(words) - 1} for n, w in enumerate(words)]


@pytest.mark.parametrize(("lanes", "wide"), list(product([4, 8], [0, 1])))
def test_inputs(lanes, wide):
    """Packets of every length, each followed by ones that are too short and too long."""
    dut = InputUnpack(lanes=lanes)
    rng = np.random.default_rng(lanes)
    per_word = 2 if wide else 4

    async def bench(ctx):
        for count in range(1, 14):
            inputs = rng.integers(-32768, 32768, count).astype(InputType(wide).dtype)
            words = run_packet(inputs, InputType(wide))[1:]
            for cut in (words, words[:-1], [*words, 7], [*words, 7, 7]):
                if not cut:
                    continue
                ctx.set(dut.start, 1)
                ctx.set(dut.inputs, count)
                ctx.set(dut.wide, wide)
                await ctx.tick()
                ctx.set(dut.start, 0)
                sent.append((cut, inputs))
                vectors = await receive(ctx, dut.o, min(len(cut), len(words)), stall=0.3)
                got = {}
                for vector in vectors:
                    for lane in range(lanes):
                        if vector["mask"] >> lane & 1:
                            got[vector["column"] + lane] = vector["values"][lane]
                known = min(count, per_word * len(cut))
                assert got == dict(enumerate(inputs[:known].tolist()))
                assert [v["last"] for v in vectors] == [0] * (len(vectors) - 1) + [1]
                while not ctx.get(dut.done):
                    await ctx.tick()
                assert ctx.get(dut.wrong_length) == (len(cut) != len(words))

    sent = []

    async def source(ctx):
        while True:
            await ctx.tick()
            if sent:
                await send(ctx, dut.i, packet(sent.pop()[0]), idle=0.3)

    simulate(dut, bench, background=[source])


@pytest.mark.parametrize(("lanes", "stall"), list(product([1, 2, 4, 8], [0.0, 0.5])))
def test_outputs(lanes, stall):
    """Networks of 1 to 9 outputs one after the other; what no lane holds is zero."""
    rng = np.random.default_rng(lanes)
    networks = [rng.integers(-32768, 32768, count).tolist() for count in range(1, 10)]
    vectors, words = [], []
    for outputs in networks:
        for values, mask, column, last in expected_vectors(outputs, lanes):
            noise = [-1] * (lanes - len(values))
            vectors.append(
                {"values": [*values, *noise], "mask": mask, "column": column, "last": last}
            )
        padded = np.array([*outputs, *[0] * (len(outputs) % 2)], "<i2")
        words += packet(padded.view("<u4"))
    got = transact(OutputPack(lanes=lanes), vectors, len(words), stall=stall)
    assert [bool(word["last"]) for word in got] == [word["last"] for word in words]
    assert [word["data"] for word in got] == [word["data"] for word in words]


@pytest.mark.parametrize("lanes", [1, 4])
def test_reset_drops_half_a_word(lanes):
    """Neither the half of a word nor the place in a vector is left."""
    dut, reset = OutputPack(lanes=lanes), Signal()

    def vectors(outputs):
        return [
            {"values": [*v, *[-1] * (lanes - len(v))], "mask": mask, "column": column, "last": last}
            for v, mask, column, last in expected_vectors(outputs, lanes)
        ]

    async def source(ctx):
        ctx.set(dut.i.payload, vectors([5, 6, 7])[0])
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        await ctx.tick()  # of one lane a value is held, of four a word of two was taken
        ctx.set(dut.i.valid, 0)
        ctx.set(dut.o.ready, 0)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        await send(ctx, dut.i, vectors([1, 2, 3]))

    async def sink(ctx):
        await ctx.tick().repeat(3)
        words = await receive(ctx, dut.o, 2, stall=0.3)
        assert [word["data"] for word in words] == [0x20001, 3]

    simulate(ResetInserter(reset)(dut), source, sink)


def test_a_packet_begins_anew():
    """`start` in the middle of a packet: nothing of it is left."""
    dut = InputUnpack(lanes=4)

    async def bench(ctx):
        ctx.set(dut.inputs, 9)
        ctx.set(dut.o.ready, 1)
        whole = packet([3, 4, 5])
        for words in (whole[:2], whole):
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            await send(ctx, dut.i, words)
        assert ctx.get(dut.done) and not ctx.get(dut.wrong_length)
        # What comes now is another packet's: it waits until that one begins.
        ctx.set(dut.i.valid, 1)
        assert not ctx.get(dut.i.ready) and not ctx.get(dut.o.valid)

    columns = []

    async def watch(ctx):
        async for _, _, valid, ready, vector in ctx.tick().sample(
            dut.o.valid, dut.o.ready, dut.o.payload
        ):
            if valid and ready:
                columns.append((vector["column"], vector["last"]))

    simulate(dut, bench, background=[watch])
    assert columns == [(0, 0), (4, 0), (0, 0), (4, 0), (8, 1)]

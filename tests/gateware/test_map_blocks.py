"""Blocks of the way over maps by themselves, each beside plain Python."""

from random import Random

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.cycles import pool
from pleach.engine import EngineConfig
from pleach.engine.pipeline import MAP_READ, PLACES, held_codes
from pleach_hw.layouts import vector_layout
from pleach_hw.maps.codebooks import Codebooks
from pleach_hw.maps.control import MapInput, MapOutput
from pleach_hw.maps.memory import MapMemory
from pleach_hw.maps.packer import Packer
from tests.gateware.streams import receive, send, simulate
from tests.gateware.test_pool import pool_pass, pooled, run

SEEDS = st.integers(0, 1 << 32)
few = settings(max_examples=4, deadline=None, derandomize=True)


@few
@given(neighbours=st.sampled_from([4, 8]), seed=SEEDS)
def test_memory(neighbours, seed):
    """Reads from anywhere, writes of any part of a row, in every cycle, from every port."""
    random = Random(seed)
    config = EngineConfig(pes=4, maps=32, neighbours=neighbours)
    dut = MapMemory(config, readers=2, writers=3)
    memory, due = [0] * config.maps, []

    async def bench(ctx):
        for _ in range(120):
            read, write = random.randrange(2), random.randrange(3)
            address = random.randrange(config.maps - neighbours + 1)
            row, enables = random.randrange(config.maps // neighbours), random.getrandbits(8)
            enables = enables & (1 << neighbours) - 1 if random.random() < 0.7 else 0
            values = [random.randint(-32768, 32767) if enables else 0 for _ in range(neighbours)]
            ctx.set(dut.reads[read], address)
            ctx.set(dut.writes[write].row, row if enables else 0)
            ctx.set(dut.writes[write].enables, enables)
            ctx.set(dut.writes[write].values, values)
            # What is written in the cycle of a read may show or not.
            written = {row * neighbours + n for n in range(neighbours) if enables >> n & 1}
            places = range(address, address + neighbours)
            due.append({at % neighbours: memory[at] for at in places if at not in written})
            for at in written:
                memory[at] = values[at % neighbours]
            await ctx.tick()
            ctx.set(dut.reads[read], 0)
            ctx.set(dut.writes[write].row, 0)
            ctx.set(dut.writes[write].enables, 0)
            ctx.set(dut.writes[write].values, [0] * neighbours)
            if len(due) >= MAP_READ:
                for bank, value in due[-MAP_READ].items():
                    assert ctx.get(dut.values[bank]) == value

    simulate(dut, bench)


@few
@given(groups=st.sampled_from([1, 4]), neighbours=st.sampled_from([4, 8]), seed=SEEDS)
def test_packer(groups, neighbours, seed):
    """Windows of values at any addresses: each is in the memory when its window is said to be."""
    random = Random(seed)
    lanes = random.choice([1, 2, 4])
    config = EngineConfig(
        pes=4 * groups, groups=groups, lanes=lanes, maps=256, neighbours=neighbours
    )
    number = random.randrange(groups)
    dut = Packer(config, number=number)
    places, windows, free = [], [], list(range(0, config.maps - lanes, lanes))
    random.shuffle(free)
    for _ in range(8):
        wanted = {}
        for last in [0] * random.randrange(6) + [1]:
            mask = random.getrandbits(lanes) if last else (1 << lanes) - 1
            address = free.pop() + random.choice([0] * lanes + [lanes // 2])
            values = [random.randint(-32768, 32767) for _ in range(lanes)]
            if any(address + n in wanted for n in range(lanes)):
                mask = 0
            places.append(({"address": address, "mask": mask, "last": last}, values))
            wanted |= {address + n: values[n] for n in range(lanes) if mask >> n & 1}
        windows.append(wanted)
    memory, state = {}, {"held": 0, "values": 0, "done": 0}

    async def bench(ctx):
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        came = followed = cycle = 0
        while state["done"] < len(windows):
            comes = came < len(places) and state["held"] < PLACES and random.random() < 0.7
            follows = followed < came and random.random() < 0.7
            ctx.set(dut.place_valid, comes)
            ctx.set(dut.values_valid, follows)
            if comes:
                ctx.set(dut.place, places[came][0])
            if follows:
                ctx.set(dut.values, places[followed][1])
            came, followed = came + comes, followed + follows
            await ctx.tick()
            cycle += 1
            state["held"] += comes - ctx.get(dut.back)
            assert state["held"] >= 0
            row, enables = ctx.get(dut.write.row), ctx.get(dut.write.enables)
            for n in range(neighbours):
                value = ctx.get(dut.write.values[n])
                if enables >> n & 1:
                    memory[row * neighbours + n] = value
            if enables:
                assert (cycle - 1) % groups == number, "out of its turn"
            if ctx.get(dut.written):
                for address, value in windows[state["done"]].items():
                    assert memory[address] == value
                state["done"] += 1
        assert state["held"] == 0 and followed == len(places)
        assert memory.keys() == set().union(*windows)

    simulate(dut, bench)


@few
@given(codebook=st.sampled_from([16, 256]), latency=st.sampled_from([1, 2]), seed=SEEDS)
def test_codebooks(codebook, latency, seed):
    """A copy is of the values from the base on, one behind the other; a new one ends it."""
    random = Random(seed)
    config = EngineConfig(pes=4, maps=32, codebook=codebook, codes=8, ram_latency=latency)
    dut, values, held = Codebooks(config), {}, {}

    async def bench(ctx):
        for at in random.sample(range(codebook), codebook):
            values[at] = random.randint(-32768, 32767)
            ctx.set(dut.load.write, 1)
            ctx.set(dut.load.address, at)
            ctx.set(dut.load.value, values[at])
            await ctx.tick()
        ctx.set(dut.load.write, 0)
        for _ in range(4):
            base = random.randrange(codebook - held_codes(config) + 1)
            ctx.set(dut.base, base)
            ctx.set(dut.start, 1)
            held.clear()
            cycles = random.choice([copy_time, random.randrange(1, copy_time)])
            for _ in range(cycles):
                await ctx.tick()
                ctx.set(dut.start, 0)
                if ctx.get(dut.pes.write):
                    held[ctx.get(dut.pes.address)] = ctx.get(dut.pes.value)
            if cycles == copy_time:
                assert held == {at: values[base + at] for at in range(held_codes(config))}
                assert not ctx.get(dut.pes.write)

    copy_time = held_codes(config) + latency + 3
    simulate(dut, bench)


@few
@given(lanes=st.sampled_from([4, 8]), seed=SEEDS)
def test_pools(lanes, seed):
    """Poolings of any shape, one after the other, in the cycles that the model says."""
    random = Random(seed)
    rng = np.random.default_rng(seed)
    config = EngineConfig(maps=1024, neighbours=lanes, pes=4)
    memory = rng.integers(-32768, 32768, config.maps).astype(np.int64)
    before, passes, expected = memory.copy(), [], []
    for sink in (512, 768):
        shape = random.randint(1, 4), random.randint(1, 4), random.choice([1, 3, lanes, 2 * lanes])
        kernel = random.randint(1, 3), random.randint(1, 3)
        stride = random.randint(1, 3), random.randint(1, 3)
        padding = tuple(random.randrange(0, k) for k in (*kernel, *kernel))
        padding = tuple(
            max(p, kernel[n % 2] - shape[n % 2]) if n < 2 else p for n, p in enumerate(padding)
        )
        shift = random.choice([None, 0, 3])
        passes.append(pool_pass(shape, kernel, stride, padding, shift, 0, sink, lanes))
        x = before[: int(np.prod(shape))].reshape(shape)
        expected.append((sink, pooled(x, kernel, stride, padding, shift)))
    took = run(config, passes, memory)
    for each, cycles, (sink, values) in zip(passes, took, expected, strict=True):
        got = memory[sink : sink + values.size].reshape(values.shape)
        assert np.array_equal(got, values), each
        assert cycles == pool.cycles(each)


class ThroughMemory(wiring.Component):
    """Inputs into the map memory, and out of it again."""

    def __init__(self, config):
        self.config = config
        vector = vector_layout(lanes=config.neighbours, column_width=config.maps.bit_length())
        size = range(config.maps + 1)
        super().__init__(
            {
                "i": In(stream.Signature(vector)), "o": Out(stream.Signature(vector)),
                "at": In(range(config.maps)), "number": In(size), "start": In(1), "done": Out(1),
                "put": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = MapMemory(self.config, readers=1, writers=1)
        m.submodules.input = inputs = MapInput(self.config)
        m.submodules.output = output = MapOutput(self.config, latency=MAP_READ)
        connect(m, flipped(self.i), inputs.i)
        connect(m, inputs.write, memory.writes[0])
        connect(m, output.o, flipped(self.o))
        m.d.comb += [
            inputs.at.eq(self.at), output.at.eq(self.at), output.number.eq(self.number),
            output.start.eq(self.start), memory.reads[0].eq(output.address),
            output.values.eq(memory.values), self.done.eq(output.done), self.put.eq(inputs.done),
        ]  # fmt: skip
        return m


@few
@given(lanes=st.sampled_from([4, 8]), stall=st.sampled_from([0.0, 0.6]), seed=SEEDS)
def test_inputs_to_outputs(lanes, stall, seed):
    """What is put in comes out again, in vectors of which only the last one is not whole."""
    random = Random(seed)
    config = EngineConfig(pes=4, maps=256, neighbours=lanes)
    dut = ThroughMemory(config)

    async def bench(ctx):
        for _ in range(3):
            number = random.randint(1, 60)
            at = random.randrange(0, config.maps - 64, lanes)
            values = [random.randint(-32768, 32767) for _ in range(number)]
            vectors = []
            for column in range(0, number, lanes):
                part = values[column : column + lanes]
                part += [random.randint(-9, 9)] * (lanes - len(part))
                vectors.append(
                    {
                        "values": part, "mask": (1 << min(lanes, number - column)) - 1,
                        "column": column, "last": column + lanes >= number,
                    }
                )  # fmt: skip
            ctx.set(dut.at, at)
            ctx.set(dut.number, number)
            await send(ctx, dut.i, vectors, idle=0.3, seed=random.random())
            assert ctx.get(dut.put)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            got = await receive(ctx, dut.o, len(vectors), stall=stall, seed=random.random())
            found = [
                v for each in got for n, v in enumerate(each["values"]) if each["mask"] >> n & 1
            ]
            assert found == values
            assert [each["last"] for each in got] == [0] * (len(got) - 1) + [1]

    simulate(dut, bench, checks=[dut.o])

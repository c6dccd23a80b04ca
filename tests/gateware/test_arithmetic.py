"""The arithmetic unit against sums in Python, an operation in every cycle."""

from random import Random

import pytest
from amaranth.hdl import ResetInserter, Signal

from pleach.engine import EngineConfig
from pleach.engine.pipeline import accumulator_latency
from pleach_hw.compute.arithmetic import LUT_CODEBOOK, LUT_RING, ArithmeticUnit
from tests.gateware.streams import simulate
from tests.gateware.test_pe import random_values, wrapped

ROWS = 4  # so few that neighbouring operations are often on the same one


def config_of(codebook, latency, bits=32):
    return EngineConfig(
        pes=1, columns=32, entries=32, codebook=codebook, accumulators=ROWS,
        accumulator_bits=bits, queue_depth=8, ram_latency=latency,
    )  # fmt: skip


def random_operation(random, config):
    kind = random.choice(["mac", "mac", "mac", "drain", "none"])
    codes = min(256, config.codebook)
    base = random.choice([0, 3, config.codebook - 8])
    return {
        "kind": kind,
        "activation": random_values(random, 1)[0],
        "parity": random.getrandbits(1),
        "codebook_base": base,
        "row": random.randrange(ROWS),
        "code": random.randrange(min(codes, config.codebook - base)),
    }


class Sums:
    """What the accumulators hold; the layer at the top has its addresses inverted."""

    def __init__(self, config, codebook):
        self.config, self.codebook, self.rows = config, codebook, [0] * ROWS

    def after(self, operation):
        """Do it; the sum drained if it is a drain."""
        row = ROWS - 1 - operation["row"] if operation["parity"] else operation["row"]
        if operation["kind"] == "drain":
            drained, self.rows[row] = self.rows[row], 0
            return drained
        if operation["kind"] == "mac":
            value = self.codebook[operation["codebook_base"] + operation["code"]]
            total = self.rows[row] + value * operation["activation"]
            self.rows[row] = wrapped(total, self.config.accumulator_bits)
        return None


async def fill(ctx, dut, codebook):
    ctx.set(dut.codebook.write, 1)
    for address, value in enumerate(codebook):
        ctx.set(dut.codebook.address, address)
        ctx.set(dut.codebook.value, value)
        await ctx.tick()
    ctx.set(dut.codebook.write, 0)


async def operate(ctx, dut, config, operations):
    """Begin an operation a cycle, and none at the end; what was drained, and in which cycle."""
    idle = {"kind": "none", "activation": 0, "parity": 0, "codebook_base": 0, "row": 0, "code": 0}
    end = accumulator_latency(config)
    operations = [*operations, *[idle] * (end + 1)]
    drained = []
    for cycle, operation in enumerate(operations):
        drain = operation["kind"] == "drain"
        ctx.set(dut.mac, operation["kind"] == "mac")
        ctx.set(dut.drain, drain)
        ctx.set(dut.activation, operation["activation"])
        ctx.set(dut.codebook_base, operation["codebook_base"])
        # Of the two parities and rows an operation has its own; the other is noise.
        ctx.set(dut.parity, operation["parity"] ^ drain)
        ctx.set(dut.drain_parity, operation["parity"] ^ (not drain))
        ctx.set(dut.drain_row, operation["row"] if drain else ROWS - 1 - operation["row"])
        before = operations[cycle - config.ram_latency] if cycle >= config.ram_latency else idle
        ctx.set(dut.entry, {"row": before["row"], "code": before["code"]})
        if ctx.get(dut.drained_valid):
            drained.append((cycle - end, ctx.get(dut.drained)))
        await ctx.tick()
    return drained


@pytest.mark.parametrize("codebook", [LUT_CODEBOOK, 2 * LUT_CODEBOOK])
@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize("bits", [24, 48])
def test_sums_are_those_of_the_operations_in_order(codebook, latency, bits):
    config = config_of(codebook, latency, bits)
    random = Random(latency + bits)
    values = random_values(random, codebook)
    operations = [random_operation(random, config) for _ in range(400)]
    sums = Sums(config, values)
    expected = [
        (cycle, total)
        for cycle, operation in enumerate(operations)
        if (total := sums.after(operation)) is not None
    ]
    dut = ArithmeticUnit(config)

    async def bench(ctx):
        await fill(ctx, dut, values)
        assert await operate(ctx, dut, config, operations) == expected

    simulate(dut, bench)


@pytest.mark.parametrize("latency", [1, 2])
def test_reset_drops_what_has_begun(latency):
    """Accumulators and codebook stay: drained before the reset, each row gives what it held."""
    config = config_of(16, latency)
    random = Random(3)
    values = random_values(random, 16)
    kept = [random_operation(random, config) | {"kind": "mac"} for _ in range(20)]
    dropped = [random_operation(random, config) | {"kind": "mac"} for _ in range(3)]
    drains = [
        {"kind": "drain", "activation": 0, "parity": 0, "codebook_base": 0, "row": r, "code": 0}
        for r in range(ROWS)
    ]
    sums = Sums(config, values)
    for operation in kept:
        sums.after(operation)
    dut, reset = ArithmeticUnit(config), Signal()

    async def bench(ctx):
        await fill(ctx, dut, values)
        await operate(ctx, dut, config, kept)
        for operation in dropped:
            ctx.set(dut.mac, 1)
            ctx.set(dut.activation, operation["activation"])
            await ctx.tick()
        ctx.set(dut.mac, 0)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        drained = await operate(ctx, dut, config, drains)
        assert drained == list(enumerate(sums.rows[:]))

    simulate(ResetInserter(reset)(dut), bench)


def ring_operations(random, config, words, count):
    """Operations on few of the ring's words, so that most repeat one of the last four's."""
    operations = []
    for _ in range(count):
        operation = random_operation(random, config)
        word, row = random.choice(words), random.randrange(config.named_rows)
        operations.append(operation | {"word": word, "row": row, "base": word - row})
    return operations


async def operate_on_ring(ctx, dut, config, operations):
    """As `operate` does; what of an operation the unit does not need is noise."""
    end, drained, random = accumulator_latency(config), [], Random(1)
    idle = {"kind": "none", "activation": 9, "codebook_base": 0, "row": 0, "code": 0, "word": 0}
    operations = [*operations, *[idle | {"base": 0}] * (end + 1)]
    for cycle, operation in enumerate(operations):
        drain = operation["kind"] == "drain"
        word, size = operation["word"], config.accumulators
        ctx.set(dut.mac, operation["kind"] == "mac")
        ctx.set(dut.drain, drain)
        ctx.set(dut.activation, operation["activation"])
        ctx.set(dut.codebook_base, operation["codebook_base"])
        ctx.set(dut.base, random.randrange(size) if drain else operation["base"] % size)
        ctx.set(dut.drain_row, word if drain else random.randrange(size))
        before = operations[cycle - config.ram_latency] if cycle >= config.ram_latency else idle
        ctx.set(dut.entry, {"row": before["row"], "code": before["code"]})
        if ctx.get(dut.drained_valid):
            drained.append((cycle - end, ctx.get(dut.drained)))
        await ctx.tick()
    return drained


@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize("ring", [LUT_RING, 2 * LUT_RING])
def test_a_ring_in_lut_ram_and_in_block_ram(ring, latency):
    """Operations in every cycle, most of them on a word of one to four operations before."""
    config = EngineConfig(
        pes=1, columns=32, entries=32, codebook=16, accumulators=ring, entry_rows=8, maps=64,
        queue_depth=8, ram_latency=latency,
    )  # fmt: skip
    random = Random(latency)
    values = random_values(random, 16)
    operations = ring_operations(random, config, [7, 8, ring - 1], 500)
    sums, expected = [0] * ring, []
    repeats = set()
    for cycle, operation in enumerate(operations):
        word = operation["word"]
        last = next((n for n in range(1, 5) if operations[cycle - n]["word"] == word), 0)
        repeats.add((last, operation["kind"], operations[cycle - last]["kind"]))
        if operation["kind"] == "drain":
            expected.append((cycle, sums[word]))
            sums[word] = 0
        elif operation["kind"] == "mac":
            product = values[operation["codebook_base"] + operation["code"]]
            sums[word] = wrapped(sums[word] + product * operation["activation"], 32)
    kinds = ("mac", "drain", "none")
    assert repeats >= {(n, a, b) for n in range(1, 5) for a in kinds[:2] for b in kinds[:2]}
    dut = ArithmeticUnit(config)

    async def bench(ctx):
        await fill(ctx, dut, values)
        assert await operate_on_ring(ctx, dut, config, operations) == expected

    simulate(dut, bench)

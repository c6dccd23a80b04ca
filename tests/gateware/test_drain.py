"""The drain unit, alone with a model of the PEs, and with real ones."""

from random import Random

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, ResetInserter, Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.engine import EngineConfig
from pleach.engine.pipeline import accumulator_latency
from pleach.model import Activation
from pleach.reference import Requantizer
from pleach_hw.compute.drain import DrainUnit
from pleach_hw.compute.pe import ProcessingElement
from tests.gateware.streams import receive, simulate
from tests.gateware.test_pe import broadcast, load, pause, wait_for

ARRAYS = [
    *({"pes": pes} for pes in (1, 2, 4, 8, 16)),
    {"pes": 16, "groups": 4},
    {"pes": 8, "groups": 2, "lanes": 1},
    {"pes": 8, "lanes": 8, "outputs": 128},
]
RATES = st.sampled_from([0.0, 0.3, 0.9])


def config_of(pes, accumulators=16, **array):
    return EngineConfig(
        pes=pes, columns=512, entries=64, codebook=16, accumulators=accumulators, queue_depth=8,
        **array,
    )  # fmt: skip


class Accumulators:
    """The PEs as the drain unit sees them: accumulators that drains read and clear."""

    def __init__(self, config):
        self.config = config
        self.rows = np.zeros((config.pes, config.accumulators), np.int64)
        self.drains = 0

    def fill(self, accumulators, parity):
        """Give each row to its PE, of several groups to each some of it."""
        pes, size = self.config.row_pes, self.config.accumulators
        for row, value in enumerate(accumulators):
            local = row // pes
            address = size - 1 - local if parity else local
            for group in range(1, self.config.groups):
                self.rows[group * pes + row % pes, address] = (part := value // (group + 2) + group)
                value -= part
            self.rows[row % pes, address] = value

    async def run(self, ctx, dut):
        """Answer the unit's drains after `accumulator_latency`, for ever."""
        pes, size = self.rows.shape
        pipeline = [[0] * pes for _ in range(accumulator_latency(self.config))]
        while True:
            _, _, valid, row, parity = await ctx.tick().sample(
                Cat(g.valid for g in dut.groups), dut.groups[0].row, dut.groups[0].parity
            )
            address = size - 1 - row if parity else row
            drained = [99] * pes
            for pe in range(pes):
                if valid >> pe & 1:
                    drained[pe] = int(self.rows[pe, address])
                    self.rows[pe, address] = 0
                    self.drains += 1
            pipeline.append(drained)
            ages = pipeline.pop(0)
            for number, group in enumerate(dut.groups):
                first = number * self.config.row_pes
                ctx.set(group.drained, ages[first : first + self.config.row_pes])


def taken_at_once(dut):
    """Around a drain unit, one that gives the place of a vector back when the vector is taken."""
    top = Module()
    top.submodules.drain = dut
    top.d.comb += dut.back.eq(dut.o.valid & dut.o.ready)
    return top


def expected_vectors(outputs, lanes):
    vectors = []
    for column in range(0, len(outputs), lanes):
        values = outputs[column : column + lanes]
        vectors.append(
            (values, (1 << len(values)) - 1, column, int(column + lanes >= len(outputs)))
        )
    return vectors


def observed(vector):
    lanes = vector["mask"].bit_count()
    return vector["values"][:lanes], vector["mask"], vector["column"], vector["last"]


def drain_layers(config, layers, *, stall=0.0, seed=0, stamps=None):
    """Drain layers of ``(accumulators, shift, activation)``, parities in turn.

    Checks the vectors; returns the model and each layer's cycles from `start` to `done`.
    """
    dut = DrainUnit(config)
    pes = Accumulators(config)
    cycles = []

    async def control(ctx):
        for number, (accumulators, shift, activation) in enumerate(layers):
            pes.fill(accumulators, number % 2)
            ctx.set(dut.command.start, 1)
            ctx.set(dut.command.last_row, len(accumulators) - 1)
            ctx.set(dut.command.shift, shift)
            ctx.set(dut.command.relu, activation == Activation.RELU)
            ctx.set(dut.command.parity, number % 2)
            assert not ctx.get(dut.busy)
            await ctx.tick()
            ctx.set(dut.command.start, 0)
            assert ctx.get(dut.busy)
            cycles.append(1 + await wait_for(ctx, dut.command.done))
            await ctx.tick()
            assert not ctx.get(dut.command.done)

    async def model(ctx):
        await pes.run(ctx, dut)

    async def consumer(ctx):
        for accumulators, shift, activation in layers:
            outputs = Requantizer(shift=shift, activation=activation)(np.array(accumulators))
            expected = expected_vectors(outputs.tolist(), config.drained)
            vectors = await receive(
                ctx, dut.o, len(expected), stall=stall, seed=seed, stamps=stamps
            )
            assert [observed(vector) for vector in vectors] == expected
        await pause(ctx, 20)
        assert not ctx.get(dut.o.valid) and not ctx.get(dut.busy)

    simulate(taken_at_once(dut), control, consumer, checks=[dut.o], background=[model])
    assert not pes.rows.any()
    return pes, cycles


def random_layer(random, most):
    accumulators = [
        random.choice([0, random.getrandbits(32) - (1 << 31), random.randint(-99999, 99999)])
        for _ in range(random.randint(1, most))
    ]
    return (
        accumulators,
        random.choice([0, 1, 9, 31]),
        random.choice([Activation.NONE, Activation.RELU]),
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(array=st.sampled_from(ARRAYS), stall=RATES, seed=st.integers(0, 1 << 32))
def test_vectors_are_the_requantised_rows_in_order(array, stall, seed):
    config = config_of(accumulators=8, **array)
    random = Random(seed)
    layers = [random_layer(random, 8 * config.row_pes) for _ in range(3)]
    drain_layers(config, layers, stall=stall, seed=seed)


def test_every_layer_begins_with_the_first_pe():
    # One, two, three vectors and a whole row of them: each leaves off at another PE.
    layers = [(list(range(1, rows + 1)), 0, Activation.NONE) for rows in (3, 8, 9, 16, 1)]
    drain_layers(config_of(16), layers)


@pytest.mark.parametrize(("latency", "groups"), [(1, 1), (2, 1), (1, 4)])
def test_one_vector_a_cycle(latency, groups):
    config, stamps = config_of(8 * groups, 32, groups=groups, ram_latency=latency), []
    _, cycles = drain_layers(config, [([7] * 256, 0, Activation.NONE)], stamps=stamps)
    first = DrainUnit(config).latency
    assert stamps == list(range(first, first + 64))
    assert cycles == [first - 1 + 63]


def test_no_more_is_drained_than_has_room():
    dut = DrainUnit(config_of(4, 64))
    pes = Accumulators(config_of(4, 64))

    async def bench(ctx):
        ctx.set(dut.command.last_row, 255)
        ctx.set(dut.command.start, 1)
        await ctx.tick()
        ctx.set(dut.command.start, 0)
        await pause(ctx, 60)
        held = pes.drains
        assert held == 4 * 32 and ctx.get(dut.busy) and not ctx.get(dut.groups[0].valid)
        await receive(ctx, dut.o, 3)
        await pause(ctx, 60)
        assert pes.drains == held + 4 * 3

    async def model(ctx):
        await pes.run(ctx, dut)

    simulate(taken_at_once(dut), bench, checks=[dut.o], background=[model])


@pytest.mark.parametrize("pes", [1, 8])
def test_clear_sweeps_every_accumulator(pes):
    config = config_of(pes)
    dut = DrainUnit(config)
    model = Accumulators(config)
    model.rows[:] = 5

    async def bench(ctx):
        ctx.set(dut.command.clear, 1)
        await ctx.tick()
        ctx.set(dut.command.clear, 0)
        assert await wait_for(ctx, ~dut.command.clear_busy) == config.accumulators
        await pause(ctx, 30)
        assert not ctx.get(dut.o.valid) and not ctx.get(dut.groups[0].valid)

    async def run_model(ctx):
        await model.run(ctx, dut)

    simulate(taken_at_once(dut), bench, background=[run_model])
    assert not model.rows.any() and model.drains == pes * config.accumulators


def test_reset_in_the_middle_of_a_layer():
    config = config_of(8)
    dut = DrainUnit(config)
    reset = Signal()
    pes = Accumulators(config)

    async def bench(ctx):
        for rows, cycles in ((60, 9), (60, 15), (60, 24), (13, 80)):
            pes.rows[:] = 3
            ctx.set(dut.command.last_row, rows - 1)
            ctx.set(dut.command.start, 1)
            await ctx.tick()
            ctx.set(dut.command.start, 0)
            await pause(ctx, cycles)
            if cycles < 80:
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)
                assert not ctx.get(dut.busy) and not ctx.get(dut.o.valid)
                await pause(ctx, cycles % 2)
        vectors = [observed(vector) for vector in await receive(ctx, dut.o, 4)]
        assert vectors == expected_vectors([3] * 13, 4)

    async def model(ctx):
        await pes.run(ctx, dut)

    simulate(ResetInserter(reset)(taken_at_once(dut)), bench, background=[model])


@pytest.mark.parametrize("pes", [1, 2, 8])
def test_a_layer_through_real_processing_elements(pes):
    config = config_of(pes, 4)
    dut = DrainUnit(config)
    elements = [ProcessingElement(config) for _ in range(pes)]
    top = taken_at_once(dut)
    for number, element in enumerate(elements):
        top.submodules[f"pe_{number}"] = element
        top.d.comb += [
            element.drain.valid.eq(dut.groups[0].valid[number]),
            element.drain.row.eq(dut.groups[0].row),
            element.drain.parity.eq(dut.groups[0].parity),
            dut.groups[0].drained[number].eq(element.drain.drained[0]),
        ]
    rng = np.random.default_rng(5)
    rows = 4 * pes - (pes > 1)
    weights = rng.integers(-100, 100, 16)
    codes = rng.integers(0, 16, (rows, 6))
    kept = rng.random((rows, 6)) < 0.6
    inputs = rng.integers(-50, 50, 6)

    async def bench(ctx):
        for number, element in enumerate(elements):
            columns = [
                [
                    (row // pes, int(codes[row, column]))
                    for row in range(number, rows, pes)
                    if kept[row, column]
                ]
                for column in range(6)
            ]
            await load(ctx, element, columns, weights.tolist())
        for element in elements:
            for column in range(6):
                await broadcast(ctx, element, column, int(inputs[column]))
        for element in elements:
            await wait_for(ctx, element.broadcast.issued)
        ctx.set(dut.command.last_row, rows - 1)
        ctx.set(dut.command.shift, 3)
        ctx.set(dut.command.start, 1)
        await ctx.tick()
        ctx.set(dut.command.start, 0)
        outputs = Requantizer(shift=3, activation=Activation.NONE)((weights[codes] * kept) @ inputs)
        expected = expected_vectors(outputs.tolist(), config.drained)
        vectors = await receive(ctx, dut.o, len(expected), stall=0.3)
        assert [observed(vector) for vector in vectors] == expected

    simulate(top, bench, checks=[dut.o])

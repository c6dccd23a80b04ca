"""The whole engine on Amaranth's simulator: small random models, all equal to the reference.

The same under AXI4-Stream models, on Verilator and at size is in tests/cocotb.
"""

import zlib
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Fragment, Value

from pleach.cycles import CycleModel
from pleach.engine import EngineConfig
from pleach.engine.pipeline import copy_wait, held_codes
from pleach.engine.plan import check, fitted, lower
from pleach.engine.protocol import GATEWARE_VERSION, EngineError, Resource
from pleach.errors import CapacityError
from pleach.format import dumps, loads
from pleach.host import Answer, load_packet, run_packet, status_packet
from pleach.host.packets import plan_packet
from pleach.model import Activation, CompressedModel, Convolution, InputType
from pleach.numbers import INT16
from pleach.reference import Reference
from pleach_hw.engine import Engine
from pleach_hw.layouts import block_layout, entry_layout
from pleach_sim.bulk import ENTRIES, POINTERS, contents
from tests.gateware.streams import simulate
from tests.strategies import random_inputs, random_layer, random_model

ARRAYS = [
    {"pes": 1},
    {"pes": 2, "block": 2, "outputs": 256},
    {"pes": 4, "groups": 2, "block": 4},
    {"pes": 8, "lanes": 8},
    {"pes": 4, "groups": 4, "lanes": 1},
]
SMALL = {"columns": 256, "entries": 1024, "codebook": 1024, "accumulators": 64, "layers": 4}


class Memories:
    """A platform that keeps the memories of a design in the order in which they are built, which
    is that of groups and PEs."""

    def __init__(self):
        self._kept, self.words = [], []

    def get_memory(self, memory):
        self._kept.append(memory)
        return memory.elaborate(None)

    def read(self, ctx):
        self.words = [
            (memory.shape, [ctx.get(Value.cast(memory.data[at])) for at in range(memory.depth)])
            for memory in self._kept
        ]


def exchange(
    config, packets, *, seed=0, idle=0.0, stall=0.0, limit=15_000, stamps=None, memories=None
):
    """Send packets, lists of words, and return the answers to them.

    `stamps` gets, for each packet, the cycles in which its second word was taken and in which the
    first and the last word of its answer were. `memories` gets what they hold in the end.
    """
    dut = Engine(config)
    rng = np.random.default_rng(seed)
    answers, begun = [], {}

    async def sender(ctx):
        cycle = 0
        for place, packet in enumerate(packets):
            for number, word in enumerate(packet):
                while rng.random() < idle:
                    await ctx.tick()
                    cycle += 1
                ctx.set(dut.s_axis_tdata, int(word))
                ctx.set(dut.s_axis_tlast, number == len(packet) - 1)
                ctx.set(dut.s_axis_tvalid, 1)
                taken = False
                while not taken:
                    *_, taken = await ctx.tick().sample(dut.s_axis_tready)
                    cycle += 1
                ctx.set(dut.s_axis_tvalid, 0)
                if number < 2:
                    begun[place] = cycle

    async def receiver(ctx):
        cycle, first, answer = 0, 0, []
        while len(answers) < len(packets):
            ready = rng.random() >= stall
            ctx.set(dut.m_axis_tready, bool(ready))
            *_, valid, word, last = await ctx.tick().sample(
                dut.m_axis_tvalid, dut.m_axis_tdata, dut.m_axis_tlast
            )
            cycle += 1
            if valid and ready:
                first = first if answer else cycle
                answer.append(word)
                if last:
                    if stamps is not None:
                        stamps.append((begun[len(answers)], first, cycle))
                    answers.append(Answer.unpack(answer))
                    answer = []
        if memories is not None:
            memories.read(ctx)

    elaborated = Fragment.get(dut, memories)
    simulate(elaborated, sender, receiver, limit=limit)
    return answers


@pytest.mark.parametrize("number", range(len(ARRAYS)))
def test_outputs_equal_the_reference(number):
    """Networks of every kind in turn, dense to empty, one code to many, with and without bias.

    Where the host never pauses, the cycles are those of the model, too.
    """
    config = EngineConfig(**ARRAYS[number], accumulator_bits=48, **SMALL)
    idle, stall = ((0.0, 0.0), (0.0, 0.4), (0.0, 0.0), (0.4, 0.4), (0.0, 0.0))[number]
    rng = np.random.default_rng(number)
    packets, expected, cycles = [], [], []
    for density, codebook, layers in zip(
        rng.permutation([0.0, 0.2, 1.0]), rng.permutation([1, 7, 200]), (3, 1, 2), strict=True
    ):
        model = random_model(
            rng,
            rng.integers(1, 21, layers + 1).tolist(),
            input_type=InputType(int(rng.integers(2))),
            density=density,
            codebook=codebook,
            bias=bool(density == 1 or rng.integers(2)),
            empty_columns=density / 2,
        )
        inputs = random_inputs(rng, model, 2, float(rng.choice([0.3, 1.0])))
        packets += [load_packet(dumps(model))]
        expected += [()]
        for image, outputs in zip(inputs, Reference(model).run(inputs).tolist(), strict=True):
            packets += [run_packet(image, model.input_type), status_packet()]
            expected += [outputs, None]
        counted = CycleModel(model, config).run(inputs)
        cycles += zip(counted.latency.tolist(), counted.compute.tolist(), strict=True)
    answers = exchange(config, packets, seed=number, idle=idle, stall=stall)
    for answer, outputs in zip(answers, expected, strict=True):
        assert answer.error == EngineError.OK
        if outputs is not None:
            assert len(answer.words) == -(-len(outputs) // 2)
            assert answer.outputs(len(outputs)).tolist() == list(outputs)
        elif not (idle or stall):
            status = answer.status()
            latency, compute = cycles.pop(0)
            assert status.latency_cycles == latency
            assert list(status.compute_cycles[: len(compute)]) == compute


def test_an_engine_of_one_layer():
    config = EngineConfig(pes=1, **SMALL | {"layers": 1})
    rng = np.random.default_rng(3)
    model = random_model(rng, [9, 5])
    inputs = random_inputs(rng, model, 2, 0.7)
    packets = [load_packet(dumps(model)), *(run_packet(x, model.input_type) for x in inputs)]
    _, *answers = exchange(config, packets)
    expected = Reference(model).run(inputs)
    assert [answer.outputs(5).tolist() for answer in answers] == expected.tolist()


def test_a_convolution_is_refused_without_a_map_memory():
    rng = np.random.default_rng(4)
    shape = Convolution(channels=1, height=4, width=4, kernel_height=2, kernel_width=2)
    layer = replace(random_layer(rng, 4, 3), convolution=shape)
    convolutional = CompressedModel((layer, random_layer(rng, 27, 5, bias=False)))
    model = random_model(rng, [9, 5])
    packets = [
        load_packet(dumps(convolutional)),
        run_packet(np.ones(16, np.uint8), convolutional.input_type),
        load_packet(dumps(model)),
        run_packet(np.ones(9, np.uint8), model.input_type),
    ]
    answers = exchange(EngineConfig(pes=1, **SMALL), packets)
    error = EngineError
    assert [a.error for a in answers] == [error.UNSUPPORTED, error.NO_MODEL, error.OK, error.OK]


def test_status():
    """What the engine says of itself, and cycles: queues are short and fill up, and a layer drains
    while the next one works."""
    config = EngineConfig(pes=2, queue_depth=8, **SMALL)
    model = random_model(np.random.default_rng(1), [60, 100, 20], density=0.1)
    inputs = np.ones(60, np.uint8)
    data = dumps(model)
    packets = [
        status_packet(),
        load_packet(data),
        run_packet(inputs, model.input_type),
        status_packet(),
    ]
    stamps = []
    before, _, _, after = exchange(config, packets, stamps=stamps)
    before, after = before.status(), after.status()
    assert (before.version, before.model_held, before.load_error) == (
        GATEWARE_VERSION,
        0,
        EngineError.OK,
    )
    for name in (
        "pes",
        "groups",
        "block",
        "layers",
        "columns",
        "entries",
        "codebook",
        "accumulators",
    ):
        assert getattr(before, name) == getattr(config, name)
    assert before.lanes == config.drained
    assert after.model_held and after.load_cycles > len(data) // 4
    counted = CycleModel(model, config).run(inputs[None])
    assert list(after.compute_cycles[:2]) == counted.compute[0].tolist()
    assert after.latency_cycles == counted.latency[0] > max(after.compute_cycles)
    assert len(after.compute_cycles) == config.layers
    # From the first word of the file, or of the inputs, to the model held, or the last output.
    (_, (first, held, _), (accepted, _, taken), _) = stamps
    assert after.load_cycles == held - first
    assert after.latency_cycles == taken - accepted + 1


def test_outputs_wait_for_nobody_where_places_are_scarce():
    """A word for each vector, and more of them than the drain's queue has places."""
    config = EngineConfig(
        **SMALL | {"accumulators": 32}, pes=4, groups=2, lanes=2, block=2, outputs=32,
        ram_latency=1,
    )  # fmt: skip
    model = random_model(np.random.default_rng(7), [3, 60], density=0.3)
    (inputs,) = random_inputs(np.random.default_rng(8), model, 1)
    packets = [load_packet(dumps(model)), run_packet(inputs, model.input_type), status_packet()]
    *_, run, status = exchange(config, packets)
    cycles = CycleModel(model, config).run(inputs[None])
    assert run.outputs(60).tolist() == Reference(model).run(inputs[None])[0].tolist()
    counted = status.status()
    assert counted.latency_cycles == cycles.latency[0]
    assert counted.compute_cycles[0] == cycles.compute[0, 0]


def test_an_engine_and_its_check_go_by_what_a_file_claims():
    config = EngineConfig(pes=1, **SMALL)
    data = dumps(random_model(np.random.default_rng(0), [3, 2]))
    for bits, error in ((config.accumulator_bits, EngineError.OK), (33, EngineError.CAPACITY)):
        words = np.frombuffer(data, "<u4").copy()
        words[8] = words[8] & ~np.uint32(63 << 13) | np.uint32(bits << 13)
        words[-1] = zlib.crc32(words[5:-1].tobytes())
        claimed = loads(words.tobytes())
        assert claimed.layers[0].claimed_bits == bits > claimed.accumulator_bits()[0]
        (answer,) = exchange(config, [load_packet(words.tobytes())])
        assert answer.error == error
        with nullcontext() if error == EngineError.OK else pytest.raises(CapacityError):
            config.check(claimed)


def test_a_network_over_maps():
    """A convolution that pools, one by one in two teams, and a layer of one pixel; a wide network
    whose passes are short: outputs, and cycles where records come while passes run, and codebooks
    so large that passes wait for them. What LOAD left in the PEs' memories is what weights past
    LOAD are."""
    rng = np.random.default_rng(5)
    config = EngineConfig(
        pes=4, groups=2, lanes=2, maps=256, columns=64, entries=128, codebook=128, codes=32,
        accumulators=16, queue_depth=16, vectors=4, accumulator_bits=40, scales=4,
    )  # fmt: skip
    assert (held_codes(config), copy_wait(config)) == (32, 16)

    def conv(inputs, outputs, bias=True, **geometry):
        made = random_layer(rng, inputs, outputs, density=0.5, bias=bias)
        return replace(made, convolution=Convolution(**geometry))

    first = conv(
        4, 3, channels=1, height=5, width=6, kernel_height=2, kernel_width=2, stride=(1, 1),
        padding=(1, 1, 0, 0), pool=2,
    )  # fmt: skip
    second = conv(3, 5, channels=3, height=2, width=3, kernel_height=1, kernel_width=1)
    scales = rng.integers(*INT16, 4)
    last = random_layer(rng, 30, 4, shift=18, name="three")
    maps = CompressedModel(
        (
            replace(first, activation=Activation(-9, 30, sign=True), scales=scales[:3], shift=20),
            replace(second, name="two", activation=Activation(-900, 9000)),
            replace(last, scales=scales, activation=Activation.NONE),
        )
    )
    packets, expected, counted = [], [], []
    for model in (random_model(rng, [1, 2, 1]), maps):
        inputs = random_inputs(rng, model, 1, 0.6)
        packets += [plan_packet(lower(model, config), config), load_packet(dumps(model))]
        expected += [None, None]
        for image, outputs in zip(inputs, Reference(model).run(inputs).tolist(), strict=True):
            packets += [run_packet(image, model.input_type), status_packet()]
            expected += [outputs, "status"]
        cycles = CycleModel(model, config).run(inputs)
        counted += zip(cycles.latency.tolist(), cycles.compute.tolist(), strict=True)
    memories = Memories()
    answers = exchange(config, packets, memories=memories)
    for answer, outputs in zip(answers, expected, strict=True):
        assert answer.error == EngineError.OK
        if outputs == "status":
            status, (latency, compute) = answer.status(), counted.pop(0)
            assert list(status.compute_cycles[: len(compute)]) == compute
            assert status.latency_cycles == latency
        elif outputs is not None:
            assert answer.outputs(len(outputs)).tolist() == outputs
    held = contents(loads(dumps(maps)), config)
    for name, shape in ((POINTERS, block_layout(config)), (ENTRIES, entry_layout(config))):
        words = [each for of, each in memories.words if of == shape]
        for written, wanted in zip(words, held[name].tolist(), strict=True):
            assert written[: len(wanted)] == wanted and any(wanted)


def test_scales_that_an_engine_has_no_place_for():
    """The engine says so, and the software before it; of none at all test_fields.py knows."""
    rng = np.random.default_rng(6)
    config = EngineConfig(
        pes=2, groups=2, maps=32, columns=32, entries=32, codebook=32, accumulators=4,
        queue_depth=16, vectors=4, accumulator_bits=40, scales=4,
    )  # fmt: skip
    layers = [random_layer(rng, 3, 3, name=name, codebook=4) for name in ("a", "b")]
    model = CompressedModel([replace(each, scales=[1, 2, 3]) for each in layers])
    packets = [plan_packet(lower(model, config), config), load_packet(dumps(model))]
    _, answer = exchange(replace(config, scales=2), packets)
    assert (answer.error, answer.detail) == (EngineError.CAPACITY, Resource.SCALES)
    for scales in (2, 0):
        with pytest.raises(CapacityError, match=f"scales 4 of {scales}: give scales=4"):
            check(model, None, replace(config, scales=scales))
    assert fitted(model, replace(config, scales=0)).scales == 4

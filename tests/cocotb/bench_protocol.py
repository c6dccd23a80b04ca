"""cocotb: the packets of docs/engine.md, what is refused, resets. Run by test_engine.py.

The parameters name two models, ``a`` and ``b``, each with a ``.pleach`` file and an ``.npz`` of
inputs and outputs, the damaged files with the errors to expect, and the engine's capacities.
"""

from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from pleach.engine.protocol import GATEWARE_VERSION, Command, EngineError, command_word
from pleach.host import load_packet, run_packet, status_packet
from pleach.model import InputType
from pleach_sim.bench import EngineBench
from pleach_sim.runner import parameters, report


class Network:
    """A model's file, its inputs and the outputs to expect."""

    def __init__(self, name):
        given = parameters()[name]
        self.data = Path(given["model"]).read_bytes()
        with np.load(given["data"], allow_pickle=False) as arrays:
            self.inputs, self.outputs = arrays["inputs"], arrays["outputs"]
        self.type = InputType.UINT8 if self.inputs.dtype == np.uint8 else InputType.INT16

    def packet(self, image):
        return run_packet(self.inputs[image], self.type)

    def check(self, answer, image, what=""):
        assert answer.command == Command.RUN
        assert answer.error == EngineError.OK, f"RUN{what} was answered with {answer.error.name}"
        wanted = self.outputs[image]
        assert len(answer.words) == -(-len(wanted) // 2)
        assert np.array_equal(answer.outputs(len(wanted)), wanted), f"image {image}{what}"

    async def load_on(self, bench):
        answer = await bench.load(self.data)
        assert (answer.command, answer.error) == (Command.LOAD, EngineError.OK)
        assert answer.words == ()

    async def run_on(self, bench, image=0, what=""):
        self.check(await bench.run(self.inputs[image], self.type), image, what)


async def expect(bench, words, error, what, command=None):
    """Send a packet that must be refused; returns the answer's detail."""
    answer = await bench.request(words, what, 20_000 + 64 * len(words))
    assert answer.error == error, f"{what}: {answer.error.name}, not {error.name}"
    assert answer.words == (), f"{what}: {len(answer.words)} words with an error"
    if command is not None:
        assert answer.command == command, what
    return answer.detail


async def holds(bench):
    return bool((await bench.status()).model_held)


async def nothing_follows(bench, cycles=200):
    """There was exactly one answer."""
    await ClockCycles(bench.dut.clk, cycles)
    assert bench.sink.empty() and not bench.dut.m_axis_tvalid.value, "an answer too many"


@cocotb.test()
async def status_before_load(dut):
    bench = await EngineBench.start(dut)
    status = await bench.status()
    for name, value in parameters()["engine"].items():
        assert getattr(status, name) == value, name
    assert status.version == GATEWARE_VERSION
    assert (status.model_held, status.load_error) == (0, EngineError.OK)
    assert len(status.compute_cycles) == status.layers
    for length in (1, 30):
        packet = status_packet() + [0] * length
        await expect(bench, packet, EngineError.LENGTH, "STATUS with data", Command.STATUS)
    assert await bench.status() == status
    await nothing_follows(bench)


@cocotb.test()
async def run_before_load(dut):
    bench, a = await EngineBench.start(dut), Network("a")
    await expect(bench, a.packet(0), EngineError.NO_MODEL, "RUN", Command.RUN)
    await expect(bench, a.packet(0)[:1], EngineError.NO_MODEL, "RUN without data", Command.RUN)
    await nothing_follows(bench)
    await a.load_on(bench)
    await a.run_on(bench)


@cocotb.test()
async def bad_commands(dut):
    bench, a = await EngineBench.start(dut), Network("a")
    await a.load_on(bench)
    good = command_word(Command.RUN)
    for word in (
        0,
        0xFFFFFFFF,
        good & ~0xFF,
        good + 2,
        good ^ 0x100,
        good ^ 0x80000000,
        good + 254,
    ):
        for length in (0, 1, 50):
            packet = [word] + [good] * length
            await expect(bench, packet, EngineError.BAD_COMMAND, f"{word:#010x} + {length}", 0)
    await nothing_follows(bench)
    assert await holds(bench)
    await a.run_on(bench)


@cocotb.test()
async def input_length(dut):
    bench, a = await EngineBench.start(dut), Network("a")
    await a.load_on(bench)
    packet = a.packet(0)
    for words in (packet[:1], packet[:2], packet[:-1], [*packet, 0], packet * 3):
        what = f"RUN with {len(words) - 1} words"
        await expect(bench, words, EngineError.INPUT_LENGTH, what, Command.RUN)
        latency = (await bench.status()).latency_cycles
        await nothing_follows(bench)
        status = await bench.status()
        assert status.model_held
        assert status.latency_cycles == latency, f"{what} goes on being counted"
        await a.run_on(bench, 1, f" after {what}")


@cocotb.test()
async def models_in_turn(dut):
    """Two models take turns on the engine; neither leaves anything behind for the other."""
    bench, a, b = await EngineBench.start(dut), Network("a"), Network("b")
    for turn in range(3):
        for network in (a, b):
            await network.load_on(bench)
            status = await bench.status()
            assert status.model_held and status.load_error == EngineError.OK
            assert status.load_cycles >= len(network.data) // 4
            for image in range(len(network.inputs)):
                await network.run_on(bench, image, f", turn {turn}")


@cocotb.test()
async def same_image_again(dut):
    """A RUN leaves nothing behind: every other image in between, the same cycles and outputs."""
    bench, a = await EngineBench.start(dut), Network("a")
    await a.load_on(bench)
    latencies = []
    for image in (0, 1, 0, 0, 2, 0):
        await a.run_on(bench, image)
        status = await bench.status()
        assert status.latency_cycles == bench.latency
        if image == 0:
            latencies.append((bench.latency, status.compute_cycles))
    assert len(latencies) == 4 and len(set(latencies)) == 1
    assert all(latencies[0][1][: parameters()["a"]["layers"]])


@cocotb.test()
async def packets_back_to_back(dut):
    """All packets are sent before the first answer is awaited; answers come in order."""
    bench, a, b = await EngineBench.start(dut), Network("a"), Network("b")
    packets = [
        a.packet(0),
        load_packet(a.data),
        *[a.packet(image) for image in range(len(a.inputs))],
        status_packet(),
        [0xDEAD, 0xBEEF],
        load_packet(b.data),
        b.packet(1),
        status_packet(),
    ]
    for packet in packets:
        await bench.send(packet)
    answers = [await bench.answer(f"packet {n}", 300_000) for n in range(len(packets))]
    await nothing_follows(bench)
    images = len(a.inputs)
    assert answers[0].error == EngineError.NO_MODEL
    assert answers[1].error == EngineError.OK
    for image in range(images):
        a.check(answers[2 + image], image)
    assert answers[2 + images].status().model_held
    assert answers[3 + images].error == EngineError.BAD_COMMAND
    b.check(answers[5 + images], 1)
    assert answers[6 + images].command == Command.STATUS


@cocotb.test()
async def refused_files(dut):
    """Every damaged file gets its error, leaves no model, and the next LOAD works."""
    bench, a = await EngineBench.start(dut), Network("a")
    await a.load_on(bench)
    refused = 0
    for bad in parameters()["bad_files"]:
        answer = await bench.load(Path(bad["data"]).read_bytes())
        assert answer.command == Command.LOAD
        assert answer.error in bad["errors"], f"{bad['name']}: {answer.error.name}"
        if bad["detail"] is not None:
            assert answer.detail == bad["detail"], f"{bad['name']}: detail {answer.detail}"
        status = await bench.status()
        assert (status.model_held, status.load_error) == (0, answer.error), bad["name"]
        await expect(bench, a.packet(0), EngineError.NO_MODEL, f"RUN after {bad['name']}")
        await a.load_on(bench)
        await a.run_on(bench, 0, f" after {bad['name']}")
        refused += 1
    await expect(bench, load_packet(b""), EngineError.LENGTH, "LOAD of nothing", Command.LOAD)
    status = await bench.status()
    assert (status.model_held, status.load_error) == (0, EngineError.LENGTH)
    await expect(bench, a.packet(0), EngineError.NO_MODEL, "RUN after a LOAD of nothing")
    await a.load_on(bench)
    report(refused=refused)


@cocotb.test()
async def bit_flips(dut):
    """Files with one wrong bit: always an error, within bounds, and never a model."""
    bench, a = await EngineBench.start(dut), Network("a")
    flips = np.load(parameters()["flips"], allow_pickle=False)
    errors = dict.fromkeys((error.name for error in EngineError), 0)
    for number, data in enumerate(flips):
        answer = await bench.load(data.tobytes())
        assert answer.error != EngineError.OK, f"flip {number} was not noticed"
        errors[answer.error.name] += 1
        assert not await holds(bench), f"flip {number}"
        if number % 20 == 0:
            await a.load_on(bench)
            await a.run_on(bench, 0, f" after flip {number}")
    report(flips=len(flips), errors=errors)


@cocotb.test()
async def reset_in_a_load(dut):
    """Reset at several words of a LOAD; the host goes on with the packet, or with a new one."""
    bench, a, b = await EngineBench.start(dut), Network("a"), Network("b")
    await b.load_on(bench)
    packet = load_packet(a.data)
    for number, cut in enumerate((1, 2, 5, 12, len(packet) // 2, len(packet) - 4)):
        await bench.send(packet)
        await ClockCycles(dut.clk, cut + 1)
        assert not bench.source.idle(), "the reset came too late to cut the packet"
        await bench.reset()
        assert not await holds(bench)
        if number % 2:
            await expect(bench, packet[cut:], EngineError.BAD_COMMAND, f"the rest from {cut}", 0)
        await expect(bench, a.packet(0), EngineError.NO_MODEL, "RUN after a reset")
        await a.load_on(bench)
        await a.run_on(bench, number % len(a.inputs), f" after a reset at word {cut}")
        await nothing_follows(bench)


@cocotb.test()
async def reset_in_a_run(dut):
    """Reset at several cycles of a RUN: no old partial sum may show in the next one."""
    bench, a = await EngineBench.start(dut), Network("a")
    await a.load_on(bench)
    await a.run_on(bench)
    latency = bench.latency
    assert latency > 30
    for cycles in (3, latency // 4, latency // 2, 3 * latency // 4, latency - 2):
        await bench.send(a.packet(0))
        await ClockCycles(dut.clk, cycles)
        assert bench.sink.empty(), "the reset came too late to cut the run"
        await bench.reset()
        await nothing_follows(bench)
        await expect(bench, a.packet(1), EngineError.NO_MODEL, "RUN after a reset")
        await a.load_on(bench)
        await a.run_on(bench, 1, f" after a reset in cycle {cycles} of a run")
        await a.run_on(bench, 2)


@cocotb.test()
async def garbage_then_good(dut):
    """Random packets, some with a command in front, never stop the engine."""
    bench, a = await EngineBench.start(dut), Network("a")
    rng = np.random.default_rng(7)
    errors = set()
    for _ in range(40):
        words = rng.integers(0, 2**32, rng.integers(1, 120)).tolist()
        if rng.random() < 0.7:
            words[0] = command_word(rng.choice([Command.LOAD, Command.RUN]))
        if words[0] == command_word(Command.LOAD) and rng.random() < 0.7 and len(words) > 5:
            head = load_packet(a.data)[1:]
            words[1:] = (head[: rng.integers(1, len(head))] + words)[: len(words) - 1]
        answer = await bench.request(words, "garbage", 40_000)
        assert answer.error != EngineError.OK
        errors.add(answer.error)
    assert len(errors) >= 3, errors
    await a.load_on(bench)
    await a.run_on(bench)


@cocotb.test()
async def answers_wait_for_the_host(dut):
    """A host that takes nothing: the answer stays as it is, word by word."""
    bench, a = await EngineBench.start(dut), Network("a")
    await a.load_on(bench)
    bench.sink.pause = True
    await bench.send(a.packet(0))
    await ClockCycles(dut.clk, 20_000)
    assert dut.m_axis_tvalid.value, "no answer was ready after 20000 cycles"
    held = (dut.m_axis_tdata.value, dut.m_axis_tlast.value)
    await ClockCycles(dut.clk, 100)
    assert dut.m_axis_tvalid.value and held == (dut.m_axis_tdata.value, dut.m_axis_tlast.value)
    bench.sink.pause = False
    a.check(await bench.answer("RUN", 1000), 0)

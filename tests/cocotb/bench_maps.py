"""cocotb: an engine with a map memory that is reset in the middle of things, and plans that are
wrong. Run by test_maps.py.

The parameters name networks, each with its plan, its ``.pleach`` file and an ``.npz`` of inputs and
outputs, and plans that a bit or a word is wrong of.
"""

from __future__ import annotations

from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from pleach.engine.protocol import Command, EngineError
from pleach.host import load_packet, run_packet
from pleach.model import InputType
from pleach_sim.bench import EngineBench
from pleach_sim.runner import parameters, report

#: cycles in which whatever a plan makes the engine do has ended
ENDED = 400_000


class Network:
    """A network, its plan, its inputs and the outputs to expect."""

    def __init__(self, given):
        self.name = given["name"]
        self.plan = given["plan"]
        self.file = load_packet(Path(given["model"]).read_bytes())
        with np.load(given["data"], allow_pickle=False) as arrays:
            self.inputs, self.outputs = arrays["inputs"], arrays["outputs"]
        self.type = InputType.UINT8 if self.inputs.dtype == np.uint8 else InputType.INT16

    def packet(self, image):
        return run_packet(self.inputs[image], self.type)

    async def load_on(self, bench, what):
        for packet in (self.plan, self.file):
            answer = await bench.request(packet, f"{self.name}{what}", ENDED)
            assert answer.error == EngineError.OK, f"{self.name}{what}: {answer.error.name}"

    async def run_on(self, bench, what, image=0):
        answer = await bench.request(self.packet(image), f"RUN of {self.name}{what}", ENDED)
        self.check(answer, what, image)

    def check(self, answer, what, image=0):
        assert answer.error == EngineError.OK, f"{self.name}{what}: {answer.error.name}"
        wanted = self.outputs[image]
        got = answer.outputs(len(wanted))
        assert np.array_equal(got, wanted), f"{self.name}{what}: outputs differ"


async def refused(bench, packet, error, what):
    answer = await bench.request(packet, what, ENDED)
    assert answer.error == error, f"{what}: {answer.error.name}, not {error.name}"


def cuts(cycles, seed):
    """Cycles of something that takes so many, its first and last among them."""
    rng = np.random.default_rng(seed)
    return [1, *sorted(rng.integers(2, cycles - 2, parameters()["resets"]).tolist()), cycles - 2]


@cocotb.test()
async def reset_in_a_run(dut):
    """A reset in any cycle of a RUN, the host pausing or not: no ring, queue, window or partial sum
    of it shows in the next one, and nothing is left of the model."""
    bench = await EngineBench.start(dut)
    resets = 0
    for number, given in enumerate(parameters()["networks"]):
        network = Network(given)
        await network.load_on(bench, "")
        await network.run_on(bench, "", 1)
        latency = bench.latency
        for turn, cut in enumerate(cuts(latency, number)):
            what = f" after a reset in cycle {cut} of {latency}"
            if turn % 2:
                bench.pause("random", "bursts", cut)
            await bench.send(network.packet(1))
            await ClockCycles(dut.clk, cut)
            assert bench.sink.empty(), "the reset came too late to cut the run"
            await bench.reset()
            bench.pause()
            await refused(bench, network.packet(0), EngineError.NO_MODEL, f"RUN{what}")
            await network.load_on(bench, what)
            await network.run_on(bench, what, turn % len(network.inputs))
            resets += 1
    report(resets_in_a_run=resets)


@cocotb.test()
async def reset_in_a_packet(dut):
    """A reset at any word of a PLAN or a LOAD; the host goes on with the packet, or anew."""
    bench = await EngineBench.start(dut)
    resets = 0
    for number, given in enumerate(parameters()["networks"]):
        network = Network(given)
        for what, packet in (("PLAN", network.plan), ("LOAD", network.file)):
            for turn, cut in enumerate(cuts(len(packet), number)):
                for before in (network.plan,) if what == "LOAD" else ():
                    await refused(bench, before, EngineError.OK, "PLAN")
                if turn % 2:
                    bench.pause("random", "none", cut)
                await bench.send(packet)
                await ClockCycles(dut.clk, cut + 1)
                assert bench.sink.empty() and not bench.source.idle(), "the reset came too late"
                await bench.reset()
                bench.pause()
                said = f"{what} cut at word {cut}"
                if turn % 3 == 1:
                    await refused(bench, packet[cut:], EngineError.BAD_COMMAND, f"rest of {said}")
                await refused(bench, network.file, EngineError.PLAN, f"LOAD after {said}")
                await refused(bench, network.packet(0), EngineError.NO_MODEL, f"RUN after {said}")
                await network.load_on(bench, f" after {said}")
                await network.run_on(bench, f" after {said}")
                resets += 1
    report(resets_in_a_packet=resets)


@cocotb.test()
async def wrong_plans(dut):
    """Every plan that is wrong is refused, or what is run by it comes to an end; then the next
    command is heeded, and the right plan gives the right outputs."""
    bench = await EngineBench.start(dut)
    networks = [Network(given) for given in parameters()["networks"]]
    found = {"refused": [], "load": [], "ran": []}
    for number, given in enumerate(parameters()["wrong_plans"]):
        network = networks[given["network"]]
        what = f"{network.name} with {given['name']}"
        answer = await bench.request(given["packet"], f"PLAN of {what}", 1000)
        assert answer.command == Command.PLAN and answer.words == (), what
        result = "refused"
        if answer.error == EngineError.LENGTH:  # nothing came: the plan before stands, no model
            assert len(given["packet"]) == 1, what
            await refused(bench, network.packet(0), EngineError.NO_MODEL, f"RUN of {what}")
        elif answer.error != EngineError.OK:
            assert answer.error == EngineError.PLAN, what
            await refused(bench, network.file, EngineError.PLAN, f"LOAD of {what}")
        else:
            answer = await bench.request(network.file, f"LOAD of {what}", ENDED)
            result = "load"
            if answer.error == EngineError.OK:
                result = "ran"
                await bench.request(network.packet(0), f"RUN of {what}", ENDED)
            else:
                await refused(bench, network.packet(0), EngineError.NO_MODEL, f"RUN of {what}")
        found[result].append(given["name"])
        if number % 4 == 0 or result == "ran":
            await network.load_on(bench, f" after {what}")
            await network.run_on(bench, f" after {what}", number % len(network.inputs))
    report(wrong_plans=found)

"""cocotb: the golden vectors of tests/golden, word for word over a link, then by a `Driver`. Run by
test_golden.py."""

from pathlib import Path

import cocotb
import numpy as np
from cocotb.task import bridge

from pleach.engine.protocol import EngineError
from pleach.errors import EngineRefused
from pleach.host import Driver
from pleach_sim.bench import EngineBench, SimulatedLink
from pleach_sim.runner import parameters, report


def packets(path):
    """Packets of a file of 33-bit words, tlast on top, in hexadecimal."""
    packet = []
    for line in Path(path).read_text().split():
        word = int(line, 16)
        packet.append(word & 0xFFFFFFFF)
        if word >> 32:
            yield packet
            packet = []


@cocotb.test()
async def replay(dut):
    link = SimulatedLink(await EngineBench.start(dut))
    sent = list(packets(parameters()["sent"]))
    wanted = list(packets(parameters()["answers"]))

    def exchange():
        for packet, answer in zip(sent, wanted, strict=True):
            assert link.exchange(packet, 1e-3) == answer

    await bridge(exchange)()
    report(packets=len(sent))


@cocotb.test()
async def drive(dut):
    """The driver's reasons and outputs on the RTL."""
    driver = Driver(SimulatedLink(await EngineBench.start(dut)), timeout=1e-3)
    model = Path(parameters()["model"])
    inputs = np.loadtxt(model.with_name("inputs.txt"), np.int16)
    outputs = np.loadtxt(model.with_name("outputs.txt"), np.int16)

    def run():
        assert not driver.status().model_held
        found = driver.load(model)
        assert (found.inputs, found.outputs) == (inputs.shape[1], outputs.shape[1])
        assert np.array_equal(driver.run(inputs), outputs)
        assert np.array_equal(driver.run(inputs[0]), outputs[0])
        assert driver.status().model_held
        try:
            driver.load(Path(parameters()["large"]))
        except EngineRefused as refused:
            report(error=EngineError(refused.error).name, reason=str(refused))
        status = driver.status()
        assert not status.model_held and status.load_error == EngineError.CAPACITY

    await bridge(run)()

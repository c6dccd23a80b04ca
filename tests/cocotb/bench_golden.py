"""cocotb: replay the golden vectors of tests/golden word for word. Run by test_golden.py."""

from pathlib import Path

import cocotb

from pleach_sim.bench import EngineBench
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
    bench = await EngineBench.start(dut)
    sent = list(packets(parameters()["sent"]))
    wanted = list(packets(parameters()["answers"]))
    assert len(sent) == len(wanted) > 2
    for packet, answer in zip(sent, wanted, strict=True):
        await bench.send(packet)
        await bench.answer("a golden packet", 100_000)
        assert bench.frame == answer
    report(packets=len(sent))

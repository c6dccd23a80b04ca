"""cocotb: the bank that PeakRDL makes of our SystemRDL, against the table of registers that ours is
held to. Run by test_system_export.py; the parameters have the value of each register that software
only reads, by its name."""

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiResp

from pleach.engine.registers import ADDRESS_BITS, BY_NAME, REGISTERS, Access
from pleach_sim.bench import PERIOD_NS
from pleach_sim.runner import parameters
from tests.cocotb.bench_system import Bus

#: register and number of it at each offset
THERE = {r.offset + 4 * at: (r, at) for r in REGISTERS for at in range(r.count)}


async def start(dut):
    dut.rst.value, dut.happened.value = 1, 0
    bus = Bus(dut)
    Clock(dut.clk, PERIOD_NS, unit="ns").start()
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    return bus


@cocotb.test()
async def every_register(dut):
    """Each has its value and takes what it may; what it may not, and addresses between them, are
    errors."""
    bus, values = await start(dut), parameters()["values"]
    for offset in range(0, 1 << ADDRESS_BITS, 4):
        word, response = await bus.raw_read(offset)
        written = await bus.raw_write(offset, 0)
        if offset not in THERE:
            assert AxiResp.OKAY not in (response, written), hex(offset)
            continue
        register, at = THERE[offset]
        assert (response == AxiResp.OKAY) == (register.access is not Access.WRITE), register.name
        assert (written == AxiResp.OKAY) == (register.access is not Access.READ), register.name
        if register.access is Access.READ:
            assert word == values[register.name][at], register.name


@cocotb.test()
async def what_is_written(dut):
    """Interrupts, what enables them, the strobe of the reset, and the words of packets."""
    bus = await start(dut)
    enable, events = BY_NAME["interrupt_enable"], BY_NAME["interrupt"]
    await bus.write("interrupt_enable", 0xFFFFFFFF)
    assert await bus.read("interrupt_enable") == 0b111 == int(dut.enabled.value)
    assert await bus.raw_write(enable.offset + 1, 0, 1) == AxiResp.OKAY
    assert await bus.read("interrupt_enable") == 0b111
    assert await bus.raw_write(enable.offset, 0b010, 1) == AxiResp.OKAY
    assert await bus.fields("interrupt_enable") == {"answer": 0, "error": 1, "boot": 0}

    dut.happened.value = events.word.pack(answer=1, error=0, boot=1)
    await ClockCycles(dut.clk, 1)
    dut.happened.value = 0
    assert await bus.fields("interrupt") == {"answer": 1, "error": 0, "boot": 1}
    await bus.write("interrupt", events.word.pack(answer=1, error=1, boot=0))
    assert await bus.fields("interrupt") == {"answer": 0, "error": 0, "boot": 1}

    before = int(dut.resets.value)
    await bus.write("control", 0)
    await bus.write("control", 1)
    await ClockCycles(dut.clk, 3)
    assert int(dut.resets.value) == before + 1
    await bus.write("packet_word", 0x12345678)
    await bus.write("packet_last", 0x9ABCDEF0)
    assert int(dut.words.value) == 0x9ABCDEF0_12345678

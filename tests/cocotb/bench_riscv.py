"""cocotb: let the processor of docs/riscv run, and give what its firmware wrote to the console."""

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout

from pleach_sim.runner import parameters, report


@cocotb.test()
async def run(dut):
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    written = []
    while len(written) < parameters()["words"]:
        await with_timeout(RisingEdge(dut.m_axis_tvalid), 3, "ms")
        written.append(dut.m_axis_tdata.value.to_unsigned())
    assert not dut.m_axis_trap.value
    report(written=written)

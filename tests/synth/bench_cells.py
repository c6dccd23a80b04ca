"""cocotb: let the comparison of test_cells.py run."""

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from pleach_sim.runner import report


@cocotb.test()
async def run(dut):
    dut.rst.value = 0
    Clock(dut.clk, 10, unit="ns").start()
    await ClockCycles(dut.clk, 5000)
    report(
        differed=dut.m_axis_differed.value.to_unsigned(),
        changed=dut.m_axis_changed.value.to_unsigned(),
    )

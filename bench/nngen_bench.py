"""NNgen's engine on an AXI bus without waits; a cocotb test that `bench/peers.py` runs."""

from __future__ import annotations

import logging
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from pleach_sim.runner import parameters, report

NS = 10


@cocotb.test()
async def one_image(dut):
    """Cycles from the register that starts it to its interrupt; the outputs are as computed."""
    given = parameters()
    logging.getLogger("cocotb.top").setLevel(logging.WARNING)
    dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, NS, "ns").start())
    memory = AxiRam(AxiBus.from_prefix(dut, "maxi"), dut.clk, dut.rst, size=1 << 20)
    host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "saxi"), dut.clk, dut.rst)
    await ClockCycles(dut.clk, 20)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 20)
    memory.write(0, Path(given["memory"]).read_bytes())
    for register, value in given["registers"]:
        await host.write_dword(4 * register, value)
    start = get_sim_time("ns")
    cocotb.start_soon(host.write_dword(4 * given["start"], 1))
    await with_timeout(RisingEdge(dut.irq), 20, "ms")
    cycles = (get_sim_time("ns") - start) / NS
    found = np.frombuffer(memory.read(given["output"], 2 * len(given["wanted"])), "<i2")
    assert found.tolist() == given["wanted"], found
    report(cycles=round(cycles))

"""cocotb: give a plan and a file to `pleach_hw.load.readback.Readback`, keep all that it says."""

from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from pleach_hw.load.readback import VERDICT
from pleach_sim.runner import parameters


@cocotb.test()
async def load(dut):
    given = parameters()
    packets = [np.fromfile(file, "<u4").tolist() for file in given["packets"]]
    Clock(dut.clk, 10, unit="ns").start()
    edge = RisingEdge(dut.clk)
    dut.s_axis_tvalid.value = 0
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0

    async def send():
        for words in packets:
            for number, word in enumerate(words):
                dut.s_axis_tdata.value = word
                dut.s_axis_tlast.value = number == len(words) - 1
                dut.s_axis_tvalid.value = 1
                await edge
                while not dut.s_axis_tready.value:
                    await edge
        dut.s_axis_tvalid.value = 0

    cocotb.start_soon(send())
    words = []
    for _ in range(given["limit"]):
        await edge
        if dut.m_axis_tvalid.value:
            words.append(int(dut.m_axis_tdata.value))
            if words[-1] & 3 == VERDICT:
                break
    else:
        raise AssertionError(f"no verdict within {given['limit']} cycles")
    np.save(Path(given["words"]), np.array(words, np.int64))

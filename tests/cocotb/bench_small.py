"""cocotb: what test_runner.py wants to see pass, fail, hang and die."""

import os

import cocotb

from pleach_sim.bench import EngineBench
from pleach_sim.runner import parameters, report


@cocotb.test()
async def passes(dut):
    bench = await EngineBench.start(dut)
    bench.pause("random", "bursts", seed=parameters()["seed"])
    words = list(range(200))
    await bench.send(words)
    frame = await bench.sink.recv()
    assert frame.tdata == [~word & 0xFFFFFFFF for word in words]
    report(words=len(frame.tdata), waits=bench.waits)


@cocotb.test()
async def fails(dut):
    bench = await EngineBench.start(dut)
    await bench.send([1, 2])
    frame = await bench.sink.recv()
    assert frame.tdata == [1, 2], "inverted words are not the words"


@cocotb.test()
async def waits_for_ever(dut):
    bench = await EngineBench.start(dut)
    bench.sink.pause = True
    await bench.request([5, 6], "two words", 50)


@cocotb.test()
async def takes_too_long(dut):
    await EngineBench.start(dut)
    while True:
        await cocotb.triggers.Timer(1, "us")


@cocotb.test()
async def dies(dut):
    os._exit(3)

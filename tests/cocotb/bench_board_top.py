"""The top of a ULX3S at its pins, with a network in the flash; run by test_board_top.py."""

from types import SimpleNamespace

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, Timer, with_timeout

from pleach.engine.flash import READ, WAKE, flash_image
from pleach.engine.protocol import Boot, Command, EngineError
from pleach.host.frames import Deframer, DeviceFrame, HostFrame, Unpacker, frame, pack_packet
from pleach.host.packets import Answer, run_packet, status_packet
from pleach.model import InputType
from pleach_hw.boards import board
from pleach_sim.runner import parameters
from tests.cocotb.flash_model import Flash
from tests.golden.make import HERE

NS, BIT = 40, 160  # of the oscillator's cycle, and of a bit on the wire
FILE = (HERE / "model.pleach").read_bytes()
INPUTS = np.loadtxt(HERE / "inputs.txt", np.int16)
OUTPUTS = np.loadtxt(HERE / "outputs.txt", np.int16)


class Host:
    """At the serial pins: a packet at a time, with the bytes of a link that loses nothing."""

    def __init__(self, dut):
        self.dut, self.sent, self.heard = dut, 0, 0
        self.frames, self.packets = Deframer(), Unpacker()
        self.answers: list[Answer] = []
        dut.uart_0__rx__io.value = 1
        cocotb.start_soon(self._listen())

    async def connect(self):
        self.sent = self.heard = 0
        await self._put(HostFrame(session=7, hello=True))

    async def request(self, words):
        data = pack_packet(words)
        await self._put(HostFrame(session=7, offset=self.sent, acknowledged=self.heard, data=data))
        self.sent += len(data)
        while not self.answers:
            await Timer(NS, "us")
        return self.answers.pop()

    async def _put(self, content):
        for byte in frame(content.pack()):
            for level in (0, *(byte >> bit & 1 for bit in range(8)), 1):
                self.dut.uart_0__rx__io.value = level
                await Timer(BIT, "ns")

    async def _listen(self):
        pin = self.dut.uart_0__tx__io
        while True:
            await FallingEdge(pin)
            await Timer(BIT + BIT // 2, "ns")
            byte = 0
            for bit in range(8):
                byte |= int(pin.value) << bit
                await Timer(BIT, "ns")
            for content in self.frames.feed(bytes([byte])):
                found = DeviceFrame.unpack(content)
                assert found.session == 7 and found.offset == self.heard, found
                self.heard += len(found.data)
                self.answers += map(Answer.unpack, self.packets.feed(found.data))


def run(number):
    return run_packet(INPUTS[number], InputType.INT16)


def lights(dut):
    """Whether a model is held, and whether something failed."""
    return int(dut.led_1__io.value), int(dut.led_2__io.value)


@cocotb.test()
async def boots_from_flash(dut):
    """With no host it holds the network and answers RUN; a damaged image is refused and said, by
    the light and by the status words."""
    cocotb.start_soon(Clock(dut.clk25_0__io, NS, "ns").start())
    dut.button_0__io.value = 0
    pins = SimpleNamespace(
        cs_n=dut.spi_flash_0__cs__io,
        sck=dut.flash_clock.USRMCLKI,
        copi=dut.spi_flash_0__copi__io,
        cipo=dut.spi_flash_0__cipo__io,
    )
    image = flash_image(FILE)
    flash, host = Flash(pins, image, board("ulx3s-85f").flash.address), Host(dut)

    async def booted(wanted):
        while lights(dut) != wanted:
            await Timer(NS, "us")

    await with_timeout(booted((1, 0)), 2, "ms")
    assert flash.commands == [WAKE, READ] * 2
    assert dut.spi_flash_0__wp__io.value and dut.spi_flash_0__hold__io.value
    await host.connect()
    answer = await with_timeout(host.request(run(0)), 1, "ms")
    assert (answer.command, answer.error) == (Command.RUN, EngineError.OK)
    assert np.array_equal(answer.outputs(OUTPUTS.shape[1]), OUTPUTS[0])

    flash.contents = bytes([*image[:60], image[60] ^ 8, *image[61:]])
    dut.button_0__io.value = 1
    await ClockCycles(dut.clk25_0__io, 20)
    dut.button_0__io.value = 0
    await ClockCycles(dut.clk25_0__io, 20)
    assert lights(dut) == (0, 0)
    await with_timeout(booted((0, 1)), 2, "ms")
    await host.connect()
    answer = await with_timeout(host.request(run(0)), 1, "ms")
    assert answer.error == EngineError.NO_MODEL
    status = (await with_timeout(host.request(status_packet()), 1, "ms")).status()
    assert (status.version, status.model_held, status.boot) == (
        parameters()["version"], 0, Boot.DAMAGED
    )  # fmt: skip

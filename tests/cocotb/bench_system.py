"""cocotb: an engine in a system, by its registers, its streams and its flash. Run by
test_system.py; the parameters name a ``.pleach`` file, images and their outputs."""

import sys
import zlib
from pathlib import Path
from random import Random
from types import ModuleType

import cocotb
import numpy as np
import pytest
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles, RisingEdge, Timer, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from pleach.engine.flash import READ, WAKE, flash_image
from pleach.engine.protocol import (
    GATEWARE_VERSION,
    RESPONSE_WORD,
    STATUS_WORDS,
    Boot,
    Command,
    EngineError,
    Status,
    command_word,
)
from pleach.engine.registers import ADDRESS_BITS, BANK_VERSION, BY_NAME, IDENTITY, REGISTERS, Access
from pleach.host import Answer, Driver, load_packet, run_packet, status_packet
from pleach.model import InputType
from pleach_sim.bench import EngineBench
from pleach_sim.patterns import pauses
from pleach_sim.runner import parameters
from tests.cocotb.flash_model import Flash
from tests.cocotb.system import FLASH_AT

LIMIT = 40_000
NEVER = 10**6


class Network:
    def __init__(self):
        given = parameters()
        self.file = Path(given["model"]).read_bytes()
        with np.load(given["data"], allow_pickle=False) as arrays:
            self.inputs, self.outputs = arrays["inputs"], arrays["outputs"]

    def run(self, image):
        return run_packet(self.inputs[image], InputType.UINT8)

    def right(self, answer, image):
        assert (answer.command, answer.error) == (Command.RUN, EngineError.OK), answer
        return np.array_equal(answer.outputs(self.outputs.shape[1]), self.outputs[image])


class Bus:
    """The registers by their names."""

    def __init__(self, dut):
        self.dut = dut
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        for side in (self.master.write_if, self.master.read_if):
            side.log.setLevel("ERROR")

    def pause(self, pattern, seed=1):
        write, read = self.master.write_if, self.master.read_if
        channels = (write.aw_channel, write.w_channel, write.b_channel)
        for number, channel in enumerate((*channels, read.ar_channel, read.r_channel)):
            channel.set_pause_generator(pauses(pattern, seed + number))
            channel.pause = False

    async def raw_read(self, offset):
        done = await with_timeout(self.master.read(offset, 4), NEVER, "ns")
        return int.from_bytes(done.data, "little"), done.resp

    async def raw_write(self, offset, word, size=4):
        data = word.to_bytes(size, "little")
        return (await with_timeout(self.master.write(offset, data), NEVER, "ns")).resp

    async def read(self, name, at=0):
        word, response = await self.raw_read(BY_NAME[name].offset + 4 * at)
        assert response == AxiResp.OKAY, (name, response)
        return word

    async def fields(self, name):
        return BY_NAME[name].word.unpack(await self.read(name))

    async def write(self, name, word):
        assert await self.raw_write(BY_NAME[name].offset, word) == AxiResp.OKAY, name

    async def put(self, words):
        """A packet, as software does it: a word whenever there is room."""
        for number, word in enumerate(words):
            while not (await self.fields("state"))["packet_ready"]:
                pass
            await self.write("packet_last" if number == len(words) - 1 else "packet_word", word)

    async def get(self):
        words, last = [], False
        while not last:
            state = await self.fields("state")
            if state["answer_valid"]:
                last = state["answer_last"]
                words.append(await self.read("answer_word"))
        return Answer.unpack(words)

    async def request(self, words):
        await self.put(words)
        return await self.get()


async def start(dut, contents=b"", *, boot=Boot.EMPTY):
    """Bus and stream of a system that has looked into its flash."""
    dut.rst.value = 1
    flash = Flash(dut, contents, FLASH_AT)
    bench, bus = await EngineBench.start(dut), Bus(dut)
    await until_booted(bus, boot)
    return bench, bus, flash


async def until_booted(bus, boot):
    while (found := (await bus.fields("status_0"))["boot"]) == Boot.BUSY:
        await ClockCycles(bus.dut.clk, 100)
    assert found == boot, Boot(found).name


@cocotb.test()
async def every_register(dut):
    """Each has its value and takes what it may; addresses between them have none."""
    bench, bus, _ = await start(dut)
    layers = parameters()["layers"]
    (status,) = [await bench.request(status_packet(), "STATUS", LIMIT)]
    words = {"compute_cycles": status.words[-layers:]} | {
        f"status_{number}": [word] for number, word in enumerate(status.words[:-layers])
    }
    values = {
        "identity": IDENTITY,
        "version": BY_NAME["version"].word.pack(gateware=GATEWARE_VERSION, bank=BANK_VERSION),
        "state": BY_NAME["state"].word.pack(packet_ready=1, answer_valid=0, answer_last=0, busy=0),
        "interrupt": BY_NAME["interrupt"].word.pack(answer=0, error=0, boot=1),
        "interrupt_enable": 0,
        "last_answer": RESPONSE_WORD.pack(command=Command.STATUS, error=0, detail=0),
        "answers": 1,
        "errors": 0,
    }
    there = {}
    for register in REGISTERS:
        count = layers if register.name == "compute_cycles" else register.count
        there |= {register.offset + 4 * at: (register, at) for at in range(count)}
    for pattern in ("none", "random", "mostly"):
        bus.pause(pattern)
        for offset in range(0, 1 << ADDRESS_BITS, 4):
            if pattern != "none" and offset not in there and offset % 64:
                continue
            word, response = await bus.raw_read(offset)
            if offset not in there:
                assert (word, response) == (0, AxiResp.DECERR), hex(offset)
                assert await bus.raw_write(offset, 0xFFFFFFFF) == AxiResp.DECERR, hex(offset)
                continue
            register, at = there[offset]
            if register.name == "answer_word":  # nothing is there
                assert response == AxiResp.SLVERR
            elif register.access is Access.WRITE:
                assert (word, response) == (0, AxiResp.SLVERR), register.name
            else:
                assert response == AxiResp.OKAY, register.name
                if register.name in words:
                    assert word == words[register.name][at], register.name
                elif register.name in values:
                    assert word == values[register.name], (register.name, word)
                else:
                    assert register.name == "busy_cycles" and 10 < word < 100, word
            if register.access is Access.READ:
                assert await bus.raw_write(offset, 0xFFFFFFFF) == AxiResp.SLVERR, register.name
    bus.pause("none")
    # A byte of a register is a byte; of a word of a packet it is refused.
    assert await bus.raw_write(BY_NAME["interrupt_enable"].offset + 1, 0xFF, 1) == AxiResp.OKAY
    assert await bus.read("interrupt_enable") == 0
    await bus.write("interrupt_enable", 0xFFFFFFFF)
    assert await bus.read("interrupt_enable") == 0b111 and dut.irq.value
    assert await bus.raw_write(BY_NAME["interrupt_enable"].offset, 0, 1) == AxiResp.OKAY
    assert await bus.read("interrupt_enable") == 0 and not dut.irq.value
    for name in ("packet_word", "packet_last"):
        assert await bus.raw_write(BY_NAME[name].offset, 0x5A, 2) == AxiResp.SLVERR
    assert (await bus.request(status_packet())).error == EngineError.OK


@cocotb.test()
async def a_network_by_the_registers(dut):
    """LOAD and RUN word by word, polled and by interrupt; the bus stalls in every channel."""
    network = Network()
    _, bus, _ = await start(dut)
    await bus.write("interrupt", 0b111)
    await bus.write("interrupt_enable", BY_NAME["interrupt"].word.pack(answer=1, error=0, boot=0))
    refused = await bus.request(network.run(0))
    assert refused.error == EngineError.NO_MODEL and await bus.read("errors") == 1
    assert await bus.fields("interrupt") == {"answer": 1, "error": 1, "boot": 0}
    assert await bus.fields("last_answer") == {
        "command": Command.RUN, "error": EngineError.NO_MODEL, "detail": 0,
    }  # fmt: skip
    await bus.write("interrupt", BY_NAME["interrupt"].word.pack(answer=0, error=1, boot=0))
    assert await bus.fields("interrupt") == {"answer": 1, "error": 0, "boot": 0} and dut.irq.value
    await bus.write("interrupt", 0b111)
    assert not dut.irq.value
    answer = await bus.request(load_packet(network.file))
    assert (answer.command, answer.error) == (Command.LOAD, EngineError.OK), answer
    for image, pattern in enumerate(("none", "alternate", "random")):
        bus.pause(pattern, image)
        await bus.write("interrupt", 0b111)
        await bus.put(network.run(image))
        if not dut.irq.value:
            await with_timeout(RisingEdge(dut.irq), NEVER, "ns")
        assert (await bus.fields("state"))["answer_valid"]
        assert network.right(await bus.get(), image)
    words = [await bus.read(f"status_{number}") for number in range(len(STATUS_WORDS))]
    status = Status.unpack(words)
    assert status.model_held and status.boot == Boot.EMPTY
    assert await bus.read("compute_cycles", 1) > 0
    assert await bus.read("answers") == 5 and await bus.read("errors") == 1


@cocotb.test()
async def two_hosts_at_once(dut):
    """Stream and registers side by side: each gets its own answers, and all of them."""
    network = Network()
    bench, bus, _ = await start(dut)
    assert (await bus.request(load_packet(network.file))).error == EngineError.OK
    bench.pause("random", "random", 3)

    async def stream():
        for image in range(4):
            answer = await bench.request(network.run(image), "RUN", LIMIT)
            assert network.right(answer, image)

    async def registers():
        for image in range(7, 4, -1):
            assert network.right(await bus.request(network.run(image)), image)
            # Registers are read while the other one's answer goes out.
            assert (await bus.request(status_packet())).status().version == GATEWARE_VERSION
            assert (await bus.fields("status_0"))["version"] == GATEWARE_VERSION

    both = [cocotb.start_soon(stream()), cocotb.start_soon(registers())]
    for each in both:
        await with_timeout(each, NEVER, "ns")
    assert await bus.read("answers") == 1 + 4 + 6


@cocotb.test()
async def full_and_empty_queues(dut):
    """What finds no room is refused, and what was taken before comes to the engine whole."""
    bench, bus, _ = await start(dut)
    await bench.source.send(status_packet())
    bench.sink.pause = True  # it holds the engine until its answer has gone
    packet = [command_word(Command.RUN), *range(15)]
    for word in packet:
        await bus.write("packet_word", word)
    assert not (await bus.fields("state"))["packet_ready"]
    assert (await bus.fields("state"))["busy"]
    for name in ("packet_word", "packet_last"):
        assert await bus.raw_write(BY_NAME[name].offset, 1) == AxiResp.SLVERR
    # The status words can be read though an answer to STATUS waits for its host.
    assert (await bus.fields("status_0"))["version"] == GATEWARE_VERSION
    bench.sink.pause = False
    assert (await bench.answer("STATUS", LIMIT)).error == EngineError.OK
    await bus.put([99])
    answer = await bus.get()
    assert (answer.command, answer.error) == (Command.RUN, EngineError.NO_MODEL)
    word, response = await bus.raw_read(BY_NAME["answer_word"].offset)
    assert (word, response) == (0, AxiResp.SLVERR)


@cocotb.test()
async def resets(dut):
    """By the register in the middle of packets of both hosts, and by the pin at any time."""
    network = Network()
    bench, bus, _ = await start(dut)
    half = load_packet(network.file)
    assert (await bus.request(half)).error == EngineError.OK
    await bus.put([*half[:40], 0])  # refused, which ends in an answer that nobody takes
    while not (await bus.fields("state"))["answer_valid"]:
        pass
    for word in half[:5]:
        await bus.write("packet_word", word)
    await bus.write("interrupt", 0b111)
    await bus.write("control", 0)
    assert (await bus.fields("state"))["answer_valid"]
    await bus.write("control", 1)
    assert not (await bus.fields("state"))["answer_valid"]
    assert await bus.fields("status_0") == {
        "version": GATEWARE_VERSION, "model_held": 0, "boot": Boot.BUSY, "_": 0, "load_error": 0,
    }  # fmt: skip
    await until_booted(bus, Boot.EMPTY)
    assert (await bus.fields("interrupt"))["boot"]
    await bus.put(half[5:9])  # what is left of it is a packet of its own
    assert (await bus.get()).error == EngineError.BAD_COMMAND
    assert (await bus.request(network.run(0))).error == EngineError.NO_MODEL

    random = Random(5)
    traffic = None
    for _ in range(6):
        traffic = cocotb.start_soon(hammer(bus, half))
        await Timer(random.randrange(1000, 9000), "ps")
        await Timer(random.randrange(2000), "ns")
        dut.rst.value = 1  # between the clock's edges
        traffic.cancel()
        await ClockCycles(dut.clk, 3)
        await Timer(random.randrange(1, 9), "ns")
        dut.rst.value = 0
        await ClockCycles(dut.clk, 2)
        assert await bus.read("identity") == IDENTITY
        assert await bus.read("answers") == 0
        assert await bus.read("interrupt_enable") == 0
    await until_booted(bus, Boot.EMPTY)
    assert (await bus.request(half)).error == EngineError.OK
    assert network.right(await bus.request(network.run(3)), 3)
    assert bench.sink.empty()


async def hammer(bus, words):
    await bus.write("interrupt_enable", 0b111)
    await bus.put(words)
    await bus.get()


@cocotb.test()
async def boots_from_flash(dut):
    """No host has loaded anything, and it answers RUN: also one that was sent before."""
    network = Network()
    image = flash_image(network.file)
    dut.rst.value = 1
    flash = Flash(dut, image, FLASH_AT)
    bench, bus = await EngineBench.start(dut), Bus(dut)
    await bench.send(network.run(1))
    await until_booted(bus, Boot.LOADED)
    assert flash.commands == [WAKE, READ] * 2
    assert flash.read >= 2 * len(image) - 12
    assert (await bus.fields("interrupt"))["boot"]
    assert network.right(await bench.answer("RUN", LIMIT), 1)
    for number in range(2, 4):
        answer = await bench.request(network.run(number), "RUN", LIMIT)
        assert network.right(answer, number)
    assert await bus.read("answers") == 3  # that to the flash's LOAD is nobody's
    status = (await bench.request(status_packet(), "STATUS", LIMIT)).status()
    assert (status.model_held, status.boot, status.load_error) == (1, Boot.LOADED, 0)


@cocotb.test()
async def damaged_flash(dut):
    """Each is refused and said; the engine holds nothing, and takes what a host loads."""
    network = Network()
    image = flash_image(network.file)

    def flipped(byte, bit=0):
        return bytes(b ^ (1 << bit if at == byte else 0) for at, b in enumerate(image))

    # A whole image, of a file that the engine refuses: its own CRC is right.
    wrong = bytearray(network.file)
    wrong[40] ^= 4
    foreign = flash_image(bytes(wrong))
    assert zlib.crc32(wrong).to_bytes(4, "little") == foreign[-4:]
    cases = [
        (b"", Boot.EMPTY),
        (bytes(64), Boot.EMPTY),
        (flipped(1), Boot.EMPTY),
        (flipped(4), Boot.DAMAGED),  # no whole words
        (flipped(7, 5), Boot.DAMAGED),
        (image[:4] + bytes(8), Boot.DAMAGED),
        (flipped(300, 6), Boot.DAMAGED),
        (flipped(len(image) - 1, 7), Boot.DAMAGED),
        (image[:-100], Boot.DAMAGED),
        (foreign, Boot.REFUSED),
    ]
    bench, bus, flash = await start(dut, cases[0][0])
    for contents, boot in cases[1:]:
        flash.contents = contents
        await bench.reset()
        await until_booted(bus, boot)
        status = await bus.fields("status_0")
        assert not status["model_held"]
        assert bool(status["load_error"]) == (boot == Boot.REFUSED), status
        answer = await bench.request(network.run(0), "RUN", LIMIT)
        assert answer.error == EngineError.NO_MODEL
    assert (await bench.request(load_packet(network.file), "LOAD", LIMIT)).error == EngineError.OK
    assert network.right(await bench.request(network.run(0), "RUN", LIMIT), 0)
    assert (await bus.fields("status_0"))["boot"] == Boot.REFUSED


@cocotb.test()
async def by_the_class_for_pynq(dut):
    """As it is exported, with PYNQ's part of it on the simulated bus."""
    network = Network()
    _, bus, _ = await start(dut)

    class DefaultIP:
        def __init__(self, description):
            self.description = description

        def read(self, offset):
            return resume(bus.raw_read)(offset)[0]

        def write(self, offset, value):
            assert resume(bus.raw_write)(offset, value) == AxiResp.OKAY

    sys.modules["pynq"] = module = ModuleType("pynq")
    module.DefaultIP = DefaultIP
    exec(parameters()["pynq"], exported := {"__name__": "pleach_pynq"})

    def host():
        engine = exported["PleachSystem"]({})
        error = exported["PleachError"]
        with pytest.raises(error, match="NO_MODEL, RUN: no model is loaded"):
            engine.run(bytes(64))
        engine.load(network.file)
        assert engine.run(network.inputs[0].tobytes()) == network.outputs[0].tolist()
        assert engine.status()[0] == engine.register("status_0")
        assert engine.register("compute_cycles", 1) > 0
        # It is the link of a driver, too.
        driver = Driver(engine)
        driver.load(network.file)
        assert np.array_equal(driver.run(network.inputs[1:3]), network.outputs[1:3])
        with pytest.raises(error, match="did not answer in time"):
            engine.exchange([command_word(Command.LOAD)] * 200, timeout=0)
        engine.reset()
        with pytest.raises(error, match="NO_MODEL"):
            engine.run(bytes(64))

    await bridge(host)()

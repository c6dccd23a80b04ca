"""The serial link's blocks: the wire, the frames, the streams of bytes and the packets in them."""

import zlib
from random import Random

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.host.frames import (
    ESCAPE,
    FLAG,
    Deframer,
    DeviceFrame,
    HostFrame,
    Unpacker,
    frame,
    pack_packet,
)
from pleach_hw.layouts import PACKET_WORD
from pleach_hw.link import UartLink
from pleach_hw.link.crc import POLYNOMIAL, SerialCrc
from pleach_hw.link.packets import PacketReader, PacketWriter
from pleach_hw.link.receive import FrameReceiver
from pleach_hw.link.uart import UartReceiver, UartTransmitter, phase_step
from pleach_hw.primitives import BlockRam
from tests.gateware.streams import receive, send, simulate, transact

DEPTH = 512


async def put(ctx, pin, data: bytes, bit: float = 4, glitch: int | None = None):
    """Bytes on a pin, `bit` cycles a bit, of which one in the middle of bit `glitch` is wrong."""
    now = sent = 0.0
    for byte in data:
        for number, level in enumerate([0, *((byte >> n) & 1 for n in range(8)), 1]):
            now += bit
            ctx.set(pin, level)
            for cycle in range(round(now - sent)):
                if number == glitch:
                    ctx.set(pin, level ^ (cycle == bit // 2))
                await ctx.tick()
                sent += 1


async def listen(ctx, pin, heard: bytearray, bit: int = 4):
    """What a pin says, for ever."""
    while True:
        while ctx.get(pin):
            await ctx.tick()
        await ctx.tick().repeat(bit // 2)
        byte = 0
        for number in range(8):
            await ctx.tick().repeat(bit)
            byte |= ctx.get(pin) << number
        await ctx.tick().repeat(bit)
        assert ctx.get(pin), "no stop bit"
        heard.append(byte)


@pytest.mark.parametrize(
    ("clock", "bit", "glitch"),
    [
        (4, 4.0, None),
        (4, 4.08, None),  # 2 % slow
        (4, 3.92, None),
        (25 / 3, 25 / 3, None),
        (25, 25.0, 3),
        (12, 12.0, 0),  # in the start bit
    ],
)
def test_receiver(clock, bit, glitch):
    data = bytes(Random(1).randbytes(10)) + b"\x00\xff\x55\xaa"
    dut = UartReceiver(clock_hz=round(clock * 3e6), baud=3_000_000)
    got = bytearray()

    async def host(ctx):
        await ctx.tick().repeat(20)
        await put(ctx, dut.rx, data, bit, glitch)
        await ctx.tick().repeat(60)

    async def keep(ctx):
        while True:
            *_, valid, byte = await ctx.tick().sample(dut.valid, dut.data)
            if valid:
                got.append(byte)

    simulate(dut, host, background=[keep])
    assert bytes(got) == data


def test_receiver_drops_what_has_no_stop_bit():
    dut = UartReceiver(clock_hz=4, baud=1)
    got = bytearray()

    async def host(ctx):
        await ctx.tick().repeat(20)
        await put(ctx, dut.rx, b"a")
        ctx.set(dut.rx, 0)  # a break
        await ctx.tick().repeat(57)
        ctx.set(dut.rx, 1)
        await ctx.tick()  # a pulse of one cycle is no start bit
        await ctx.tick().repeat(80)
        ctx.set(dut.rx, 0)
        await ctx.tick()
        ctx.set(dut.rx, 1)
        await ctx.tick().repeat(30)
        await put(ctx, dut.rx, b"b")
        await ctx.tick().repeat(20)

    async def keep(ctx):
        while True:
            *_, valid, byte = await ctx.tick().sample(dut.valid, dut.data)
            if valid:
                got.append(byte)

    simulate(dut, host, background=[keep])
    assert got[:1] == b"a" and got[-1:] == b"b" and len(got) <= 3


def test_transmitter():
    """Back to back, every byte takes ten bits; and what it says the receiver hears."""
    data = Random(2).randbytes(40)
    dut = UartTransmitter(clock_hz=4, baud=1)
    heard, stamps = bytearray(), []

    async def sender(ctx):
        await send(ctx, dut.i, data, stamps=stamps)
        await ctx.tick().repeat(50)

    async def listener(ctx):
        await listen(ctx, dut.tx, heard)

    simulate(dut, sender, background=[listener])
    assert bytes(heard) == data
    assert set(np.diff(stamps)) == {40}


def test_any_clock_has_a_step():
    for clock in (12, 25, 27, 48, 50, 100):
        for baud in (115_200, 1_000_000, 2_000_000, 3_000_000):
            width, step = phase_step(clock * 1_000_000, baud)
            assert abs(step / 2**width * clock * 1e6 / baud - 1) <= 1 / 400 and width <= 17
    with pytest.raises(ValueError, match="3000000 baud need a clock of 12000000 Hz or more, not 8"):
        phase_step(8_000_000, 3_000_000)
    with pytest.raises(ValueError, match="depth must be a power of two from 512 to 2048, not 500"):
        UartLink(clock_hz=4, baud=1, depth=500)


def test_a_crc_is_compared_in_every_bit():
    """Errors of the CRC that leave the register wrong in one bit each."""
    content, wires = b"frame", []
    for bit in range(32):
        error = 1 << bit
        for _ in range(32):  # back to what the register had before the CRC's bits went in
            error = ((error ^ POLYNOMIAL) << 1 | 1) if error >> 31 else error << 1
        wires.append(content + (zlib.crc32(content) ^ error).to_bytes(4, "little"))
    wires.append(content + zlib.crc32(content).to_bytes(4, "little"))
    dut, good = SerialCrc(), []

    async def host(ctx):
        for wire in wires:
            for byte in wire:
                ctx.set(dut.data, byte)
                ctx.set(dut.take, 1)
                await ctx.tick()
                ctx.set(dut.take, 0)
                await ctx.tick().repeat(9)
            good.append(ctx.get(dut.good))
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)

    simulate(dut, host)
    assert good == [0] * 32 + [1]


class Frames(wiring.Component):
    """The receiver of frames, a byte every ten cycles, and what is in its buffer."""

    def __init__(self):
        self.frames = FrameReceiver(depth=DEPTH)
        super().__init__({"i": In(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.frames = self.frames
        return m


def received(data: bytes) -> tuple[list, bytes]:
    """What the receiver makes of bytes: each frame's verdict, and the bytes that it accepted."""
    dut = Frames()
    frames, verdicts, buffer = dut.frames, [], bytearray(DEPTH)

    async def host(ctx):
        for byte in data:
            ctx.set(frames.valid, 1)
            ctx.set(frames.data, byte)
            await ctx.tick()
            ctx.set(frames.valid, 0)
            await ctx.tick().repeat(9)
        await ctx.tick().repeat(3)

    async def keep(ctx):
        while True:
            _, _, good, bad, hello, again, session, acknowledged, write, addr, byte = (
                await ctx.tick().sample(
                    frames.good, frames.bad, frames.hello, frames.again, frames.session,
                    frames.acknowledged, frames.write_en, frames.write_addr, frames.write_data,
                )
            )  # fmt: skip
            if write:
                buffer[addr] = byte
            if good:
                verdicts.append((session, bool(hello), bool(again), acknowledged))
            if bad:
                verdicts.append(None)

    end = []

    async def whole(ctx):
        await host(ctx)
        end.append(ctx.get(frames.accepted))

    simulate(dut, whole, background=[keep], limit=200_000)
    return verdicts, bytes(buffer[: end[0]])


contents = st.binary(max_size=40) | st.lists(
    st.sampled_from([FLAG, ESCAPE, 0x5D, 0x5E, 0]), max_size=12
).map(bytes)


@settings(max_examples=6, deadline=None)
@given(st.lists(st.tuples(contents, st.integers(0, 1023), st.integers(0, 63)), max_size=5))
def test_frames_in_order_are_accepted(pieces):
    wire, wanted, place = b"", [], 0
    for data, acknowledged, session in pieces:
        content = HostFrame(session=session, offset=place, acknowledged=acknowledged, data=data)
        wire += frame(content.pack())
        place += len(data)
        wanted.append((session, False, False, acknowledged))
    assert received(wire) == (wanted, b"".join(data for data, *_ in pieces))


@settings(max_examples=10, deadline=None)
@given(st.binary(min_size=1, max_size=30), st.data())
def test_a_damaged_frame_is_noticed(data, drawn):
    """And the next one is whole, whatever became of a byte of this one."""
    wire = frame(HostFrame(session=1, data=b"ab").pack())
    bad = bytearray(frame(HostFrame(session=2, offset=2, data=data).pack()))
    place = drawn.draw(st.integers(1, len(bad) - 2))
    match drawn.draw(st.sampled_from(["drop", "double", "flip"])):
        case "drop":
            del bad[place]
        case "double":
            bad.insert(place, bad[place])
        case "flip":
            bad[place] ^= 1 << drawn.draw(st.integers(0, 7))
    after = HostFrame(session=3, offset=2, again=True, acknowledged=5, data=b"cd")
    verdicts, accepted = received(wire + bytes(bad) + frame(after.pack()))
    assert verdicts[0] == (1, False, False, 0) and verdicts[-1] == (3, False, True, 5)
    assert accepted == b"abcd"
    # The reference hears the same. Two escapes in a row are one to the gateware.
    heard = [each is not None for each in Deframer().feed(wire + bytes(bad) + frame(after.pack()))]
    if verdicts[1:-1] != [(2, False, False, 0)]:
        assert set(verdicts[1:-1]) <= {None}
        assert sum(heard) == 2


def test_frames_out_of_order_and_too_large():
    first = HostFrame(session=1, data=b"abc")
    second = HostFrame(session=1, offset=3, data=b"def")
    late = HostFrame(session=1, offset=9, data=b"xyz")
    far = HostFrame(session=1, offset=3 + 256, data=b"xyz")  # it differs in the high byte alone
    sent = late, first, first, far, second
    verdicts, accepted = received(b"".join(frame(f.pack()) for f in sent))
    assert len(verdicts) == 5 and None not in verdicts and accepted == b"abcdef"
    large = HostFrame(session=1, data=bytes(range(1, 129)) * 5)
    verdicts, accepted = received(frame(large.pack()) + frame(first.pack()))
    assert verdicts == [None, (1, False, False, 0)] and accepted == b"abc"
    hello = HostFrame(session=9, hello=True)
    verdicts, accepted = received(b"".join(frame(f.pack()) for f in (first, hello, first)))
    assert verdicts[1] == (9, True, False, 0) and accepted == b"abc"
    assert received(b"\x7e\x7e\x7e\0\0\0\0\x7e")[0] == [None]  # an empty CRC of an empty frame


class Reading(wiring.Component):
    """A buffer, filled as fast as there is room, and what reads packets out of it."""

    def __init__(self, latency: int):
        self._latency = latency
        self.reader = PacketReader(depth=DEPTH, ram_latency=latency)
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(PACKET_WORD))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = self.reader
        m.submodules.ram = ram = BlockRam(shape=8, depth=DEPTH, latency=self._latency)
        # As from frames, a byte is in the buffer for some cycles before the reader hears of it.
        written, later = Signal.like(reader.accepted), Signal.like(reader.accepted)
        wiring.connect(m, wiring.flipped(self.o), reader.o)
        m.d.comb += [
            self.i.ready.eq((written ^ reader.taken) != DEPTH),
            ram.write_en.eq(self.i.valid & self.i.ready),
            ram.write_addr.eq(written),
            ram.write_data.eq(self.i.payload),
            ram.read_addr.eq(reader.read_addr),
            reader.read_data.eq(ram.read_data),
        ]
        m.d.sync += [later.eq(written), reader.accepted.eq(later)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += written.eq(written + 1)
        return m


packets = st.lists(st.sampled_from([0, 0, 1, 0xFF00, 0xFFFFFFFF]), min_size=1, max_size=40)


@settings(max_examples=8, deadline=None)
@given(st.lists(packets, min_size=1, max_size=4), st.sampled_from([1, 2]), st.integers(0, 9))
def test_packets_of_runs(sent, latency, seed):
    data = b"".join(map(pack_packet, sent))
    assert list(Unpacker().feed(data)) == sent
    wanted = [
        {"data": word, "last": int(number == len(packet) - 1)}
        for packet in sent
        for number, word in enumerate(packet)
    ]
    idle, stall = (0.0, 0.4, 0.9)[seed % 3], (0.0, 0.5)[seed % 2]
    got = transact(Reading(latency), data, len(wanted), idle=idle, stall=stall, seed=seed)
    assert got == wanted


def test_a_writer_waits_for_room():
    """What is not acknowledged stays in its buffer."""
    dut, buffer = PacketWriter(depth=DEPTH), bytearray(DEPTH)
    words = list(range(1, 151))  # of five bytes each, in a buffer of 512

    async def engine(ctx):
        for number, word in enumerate(words):
            await send(ctx, dut.i, [{"data": word, "last": int(number == len(words) - 1)}])

    async def keep(ctx):
        while True:
            _, _, write, place, byte = await ctx.tick().sample(
                dut.write_en, dut.write_addr, dut.write_data
            )
            if write:
                buffer[place] = byte

    async def host(ctx):
        read = b""
        for _ in range(2):
            await ctx.tick().repeat(700)
            read += bytes(buffer[: ctx.get(dut.written) - len(read)])
            if len(read) == DEPTH:  # it is full, and goes on
                ctx.set(dut.acknowledged, DEPTH)
        assert list(Unpacker().feed(read)) == [words]

    simulate(dut, host, engine, background=[keep])


class Engineless:
    """A link with a host on its pins and, for an engine, a test that takes and gives words."""

    def __init__(self):
        self.dut = UartLink(clock_hz=4, baud=1, depth=DEPTH, ram_latency=1)
        self.heard, self.frames = bytearray(), []
        self._deframer = Deframer()

    async def say(self, ctx, *contents: HostFrame, quiet: int = 24):
        """Frames to the link, then silence of so many bytes: the frames that came back."""
        for content in contents:
            await put(ctx, self.dut.rx, frame(content.pack()))
        await ctx.tick().repeat(40 * quiet)
        came = [DeviceFrame.unpack(each) for each in self._deframer.feed(bytes(self.heard))]
        self.heard.clear()
        return came

    def run(self, *benches):
        async def listener(ctx):
            await listen(ctx, self.dut.tx, self.heard)

        simulate(self.dut, *benches, background=[listener], checks=[self.dut.o], limit=200_000)


def test_an_answer_is_sent_again_until_it_was_heard():
    link = Engineless()
    answer = [{"data": 2, "last": 0}, {"data": 0x7E7D0000, "last": 1}]
    data = bytes([3, 2, 0, 0, 0, 0x43, 0, 0, ESCAPE, FLAG])

    async def host(ctx):
        (came,) = await link.say(ctx, HostFrame(session=7, hello=True))
        assert came == DeviceFrame(session=7, hello=True, depth_bits=9)
        packet = pack_packet([1, 2])
        came = await link.say(ctx, HostFrame(session=7, data=packet), quiet=60)
        assert came[-1] == DeviceFrame(
            session=7, accepted=len(packet), taken=len(packet), depth_bits=9, offset=0, data=data
        )
        # The same again is not executed again, and nothing is said twice without being asked.
        (came,) = await link.say(ctx, HostFrame(session=7, data=packet), quiet=60)
        assert not came.data and came.offset == 10
        (came,) = await link.say(ctx, HostFrame(session=7, again=True), quiet=60)
        assert came.data == data and came.offset == 0
        (came,) = await link.say(ctx, HostFrame(session=7, again=True, acknowledged=6), quiet=60)
        assert came.data == data[6:] and came.offset == 6
        (came,) = await link.say(ctx, HostFrame(session=7, again=True, acknowledged=10))
        assert not came.data and came.offset == 10
        damaged = HostFrame(session=7, offset=len(packet), data=b"\x43")
        await put(ctx, link.dut.rx, frame(damaged.pack()).replace(b"\x43", b"\x41"))
        (came,) = await link.say(ctx)
        assert came.bad and came.accepted == len(packet)
        (came,) = await link.say(ctx, HostFrame(session=7, offset=len(packet), acknowledged=10))
        assert not came.bad and came.taken == len(packet)

    async def engine(ctx):
        words = await receive(ctx, link.dut.o, 2)
        assert words == [{"data": 1, "last": 0}, {"data": 2, "last": 1}]
        await send(ctx, link.dut.i, answer)

    link.run(host, engine)


def test_a_hello_ends_the_packet_that_was_begun():
    """The answer to it is no answer to what comes behind the hello."""
    link = Engineless()

    async def host(ctx):
        unfinished = pack_packet([1, 2, 3])[:6]
        await link.say(ctx, HostFrame(session=3, data=unfinished))
        packet = pack_packet([8, 9])
        (first, *_, last) = await link.say(
            ctx, HostFrame(session=4, hello=True), HostFrame(session=4, data=packet), quiet=70
        )
        assert first.hello and first.session == last.session == 4
        assert list(Unpacker().feed(last.data)) == [[6]] and last.offset == 0
        # Nothing is under way now: another one finds nothing to end.
        (last,) = await link.say(ctx, HostFrame(session=5, hello=True), quiet=30)
        assert last.hello and last.session == 5 and not last.data

    async def engine(ctx):
        words = await receive(ctx, link.dut.o, 3)
        assert [word["last"] for word in words] == [0, 0, 1] and words[0]["data"] == 1
        await send(ctx, link.dut.i, [{"data": 77, "last": 0}, {"data": 78, "last": 1}])
        words = await receive(ctx, link.dut.o, 2)
        assert words == [{"data": 8, "last": 0}, {"data": 9, "last": 1}]
        await send(ctx, link.dut.i, [{"data": 6, "last": 1}])

    link.run(host, engine)


def test_a_hello_ends_the_frame_that_is_being_sent():
    """It is of the connection before; the new one begins with nothing to be sent."""
    link = Engineless()

    async def host(ctx):
        packet = frame(HostFrame(session=3, data=pack_packet([1])).pack())
        await put(ctx, link.dut.rx, packet)
        while len(link.heard) < 40:  # well within the answer
            await ctx.tick()
        (*before, last) = await link.say(ctx, HostFrame(session=4, hello=True), quiet=60)
        assert last == DeviceFrame(session=4, hello=True, depth_bits=9)
        assert before and all(each.session == 0 for each in before)
        assert before[-1].data and not await link.say(ctx, quiet=20)

    async def engine(ctx):
        await receive(ctx, link.dut.o, 1)
        await send(ctx, link.dut.i, [{"data": n, "last": int(n == 39)} for n in range(40)])

    link.run(host, engine)

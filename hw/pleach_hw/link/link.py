"""The link: all of it between the pins and the engine's two streams."""

from __future__ import annotations

import operator

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.host.frames import DEFAULT_BAUD, DEPTH_BITS
from pleach_hw.layouts import PACKET_WORD
from pleach_hw.link.packets import PacketReader, PacketWriter
from pleach_hw.link.receive import FrameReceiver
from pleach_hw.link.send import FrameSender
from pleach_hw.link.uart import UartReceiver, UartTransmitter
from pleach_hw.primitives import BlockRam


class UartLink(wiring.Component):
    """An engine's packets over a serial cable, as docs/protocol.md has them.

    Words go to the engine only from frames whose CRC matched, in order and once each. It sends when
    it was sent something or has an answer, and an answer again when it is asked to. A word on the
    wire takes 40 bits and less; the link itself takes a word every 17 cycles, or 5 where all of it
    is zero.

    It builds on one answer to each packet: after the packet's last word, and before the engine
    takes the next one.

    Args:
        clock_hz: of the domain that it is in; four cycles a bit at least.
        baud: bits a second.
        depth: bytes of each of its two buffers: 512, 1024 or 2048.
        ram_latency: of the buffers, as `BlockRam` has it.

    Ports:
        rx, tx: the pins.
        o: packets to the engine.
        i: its answers.
        error: a frame was damaged on its way here.

    Raises:
        ValueError: fewer than four cycles a bit, or another depth.
    """

    def __init__(
        self,
        *,
        clock_hz: int,
        baud: int = DEFAULT_BAUD,
        depth: int = 1 << DEPTH_BITS[-1],
        ram_latency: int = 2,
    ):
        self._depth = operator.index(depth)
        if self._depth not in [1 << bits for bits in DEPTH_BITS]:
            raise ValueError(
                f"depth must be a power of two from {1 << DEPTH_BITS[0]} to "
                f"{1 << DEPTH_BITS[-1]}, not {self._depth}"
            )
        self._ram_latency = ram_latency
        self._receiver = UartReceiver(clock_hz=clock_hz, baud=baud)
        self._transmitter = UartTransmitter(clock_hz=clock_hz, baud=baud)
        packet = stream.Signature(PACKET_WORD)
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "o": Out(packet),
                "i": In(packet),
                "error": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth, latency = self._depth, self._ram_latency
        m.submodules.receiver = receiver = self._receiver
        m.submodules.transmitter = transmitter = self._transmitter
        m.submodules.frames = frames = FrameReceiver(depth=depth)
        m.submodules.reader = reader = PacketReader(depth=depth, ram_latency=latency)
        m.submodules.writer = writer = PacketWriter(depth=depth)
        m.submodules.sender = sender = FrameSender(depth=depth)
        m.submodules.received = received = BlockRam(shape=8, depth=depth, latency=latency)
        m.submodules.answers = answers = BlockRam(shape=8, depth=depth, latency=latency)
        for ram, source, sink in ((received, frames, reader), (answers, writer, sender)):
            m.d.comb += [
                ram.write_en.eq(source.write_en),
                ram.write_addr.eq(source.write_addr),
                ram.write_data.eq(source.write_data),
                ram.read_addr.eq(sink.read_addr),
                sink.read_data.eq(ram.read_data),
            ]
        clear = frames.good & frames.hello
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            self.error.eq(frames.bad),
            frames.valid.eq(receiver.valid),
            frames.data.eq(receiver.data),
            frames.taken.eq(reader.taken),
            reader.accepted.eq(frames.accepted),
            reader.clear.eq(clear),
            reader.answered.eq(self.i.valid & self.i.ready & self.i.p.last),
            writer.acknowledged.eq(sender.held),
            writer.clear.eq(clear),
            writer.drop.eq(reader.clearing),
            sender.accepted.eq(frames.accepted),
            sender.taken.eq(reader.taken),
            sender.written.eq(writer.written),
        ]
        m.d.comb += [
            getattr(sender, name).eq(getattr(frames, name))
            for name in ("good", "bad", "hello", "again", "session", "acknowledged")
        ]
        wiring.connect(m, wiring.flipped(self.o), reader.o)
        wiring.connect(m, wiring.flipped(self.i), writer.i)
        wiring.connect(m, sender.o, transmitter.i)
        return m

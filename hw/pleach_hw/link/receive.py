"""Frames from the host: what they say, and their bytes into a buffer."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pleach.host.frames import CRC_BYTES, ESCAPE, FLAG, FLAGS, FLIPPED, HostFrame
from pleach_hw.link.crc import SerialCrc


class FrameReceiver(wiring.Component):
    """Takes bytes from the wire and says what each frame was. Data that is next in the stream is in
    the buffer then; that of any other frame is written where nothing is held, and forgotten.

    Args:
        depth: bytes of the buffer, a power of two.

    Ports:
        valid, data: a byte, ten cycles or more after the one before.
        taken: position of the next byte that leaves the buffer.
        write_en, write_addr, write_data: into the buffer.
        accepted: position behind the last byte that came in order.
        good: a frame came; `hello`, `again`, `session` and `acknowledged` are what it says in this
            cycle.
        bad: a frame was damaged, or larger than the buffer's room.
    """

    def __init__(self, *, depth: int):
        self._depth = depth
        position = range(2 * depth)
        super().__init__(
            {
                "valid": In(1),
                "data": In(8),
                "taken": In(position),
                "write_en": Out(1),
                "write_addr": Out(range(depth)),
                "write_data": Out(8),
                "accepted": Out(position),
                "good": Out(1),
                "bad": Out(1),
                "hello": Out(1),
                "again": Out(1),
                "session": Out(FLAGS.fields["session"]),
                "acknowledged": Out(position),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = SerialCrc()
        escaped = Signal()
        place = Signal(range(HostFrame.HEADER_BYTES + 1))  # in the header; its length behind it
        behind = place == HostFrame.HEADER_BYTES
        flags = Signal(data.StructLayout(FLAGS.fields))
        next_in_order = Signal()
        lost = Signal()  # there was no room
        full = Signal()
        end = Signal.like(self.accepted)  # behind the last byte that is written
        ended, restart = Signal(), Signal()

        byte = Mux(escaped, self.data ^ FLIPPED, self.data)
        is_flag, is_escape = self.data == FLAG, self.data == ESCAPE
        content = self.valid & ~is_flag & ~is_escape
        m.d.comb += [
            crc.take.eq(content),
            crc.data.eq(byte),
            crc.clear.eq(ended),
            self.write_en.eq(content & behind & ~full),
            self.write_addr.eq(end),
            self.write_data.eq(byte),
        ]
        m.d.comb += [
            self.good.eq(ended & behind & crc.good & ~lost),
            self.bad.eq(ended & ~self.good),
            self.hello.eq(flags.hello),
            self.again.eq(flags.again),
            self.session.eq(flags.session),
        ]
        m.d.sync += [
            full.eq((end ^ self.taken) == self._depth),
            ended.eq(self.valid & is_flag & (place != 0)),
            restart.eq(ended),
        ]
        with m.If(self.valid):
            m.d.sync += escaped.eq(is_escape)
        with m.If(content):
            with m.Switch(place):
                low, high = self.accepted[:8], self.accepted[8:]
                with m.Case(0):
                    m.d.sync += flags.eq(byte)
                with m.Case(1):
                    m.d.sync += next_in_order.eq(byte == low)
                with m.Case(2), m.If(byte != high):
                    m.d.sync += next_in_order.eq(0)
                with m.Case(3):
                    m.d.sync += self.acknowledged[:8].eq(byte)
                with m.Case(4):
                    m.d.sync += self.acknowledged[8:].eq(byte)
            with m.If(~behind):
                m.d.sync += place.eq(place + 1)
            with m.Elif(full):
                m.d.sync += lost.eq(1)
            with m.Else():
                m.d.sync += end.eq(end + 1)
        with m.If(ended):
            m.d.sync += [place.eq(0), lost.eq(0)]
            with m.If(self.good & next_in_order):
                m.d.sync += self.accepted.eq(end - CRC_BYTES)
            with m.If(self.good & self.hello):
                m.d.sync += self.accepted.eq(0)
        with m.If(restart):
            m.d.sync += end.eq(self.accepted)
        return m

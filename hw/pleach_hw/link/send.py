"""Frames to the host: what came of its own, and bytes of the answers from their buffer."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.host.frames import (
    ACCEPTED,
    CRC_BYTES,
    ESCAPE,
    FLAG,
    FLAGS,
    FLIPPED,
    LINK_VERSION,
    POSITION_BITS,
    TAKEN,
    DeviceFrame,
)
from pleach_hw.link.crc import SerialCrc

# A frame's bytes by their place: a flag, the header, data, of which there may be many or none, the
# CRC, a flag.
_DATA = 1 + DeviceFrame.HEADER_BYTES
_CLOSE = _DATA + 1 + CRC_BYTES
#: bytes of data in a frame at most; one ends where the position is a multiple of it
LONGEST = 64
#: the host hears of it when so large a part of the buffer has become free
REPORTED = 4


class FrameSender(wiring.Component):
    """Sends a frame whenever there is something to say: a frame came, good or bad; a good part of
    the receiving buffer has become free; or there are bytes of answers that were not sent yet.

    Args:
        depth: bytes of each buffer, a power of two.

    Ports:
        good, bad, hello, again, session, acknowledged: what came, as of `FrameReceiver`.
        accepted, taken: positions in the stream to the engine.
        written: position behind the last byte in the buffer of answers.
        held: position of the first byte that the host may still ask for.
        read_addr, read_data: of the buffer.
        o: bytes for the wire, of which one is taken every 24 cycles or less often.
    """

    def __init__(self, *, depth: int):
        self._depth = depth
        position = range(2 * depth)
        super().__init__(
            {
                "good": In(1),
                "bad": In(1),
                "hello": In(1),
                "again": In(1),
                "session": In(FLAGS.fields["session"]),
                "acknowledged": In(position),
                "accepted": In(position),
                "taken": In(position),
                "written": In(position),
                "held": Out(position),
                "read_addr": Out(range(depth)),
                "read_data": In(8),
                "o": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = SerialCrc()
        flags = Signal(data.StructLayout(FLAGS.fields))  # of the next frame
        again = Signal()  # begin at `held`
        news = Signal()
        reported = Signal()
        part = self.taken[(self._depth // REPORTED).bit_length() - 1]
        sent = Signal.like(self.held)  # position of the next byte to send
        busy = Signal()
        place = Signal(range(_CLOSE + 1))
        fresh = Signal()  # `place` is new
        escaped = Signal()  # the byte's escape went
        byte = self._byte(m, place, fresh, flags, sent, crc)

        is_flag, in_crc, special = Signal(), Signal(), Signal()
        m.d.comb += is_flag.eq((place == 0) | (place == _CLOSE))
        m.d.sync += [
            special.eq(((byte == FLAG) | (byte == ESCAPE)) & ~is_flag),
            in_crc.eq(place > _DATA),
        ]
        went = busy & self.o.ready & (escaped | ~special)
        m.d.comb += [
            self.o.valid.eq(busy),
            self.o.payload.eq(byte),
            crc.clear.eq(~busy),
            crc.take.eq(went & ~is_flag),
            crc.data.eq(byte ^ in_crc.replicate(8)),
        ]
        with m.If(escaped):
            m.d.comb += self.o.payload.eq(byte ^ FLIPPED)
        with m.Elif(special):
            m.d.comb += self.o.payload.eq(ESCAPE)

        m.d.sync += fresh.eq(went)
        with m.If(busy & self.o.ready):
            m.d.sync += escaped.eq(special & ~escaped)
        with m.If(~busy):
            m.d.sync += [
                busy.eq(news | (sent != self.written) | (part != reported)),
                news.eq(0),
                again.eq(0),
            ]
            with m.If(again):
                m.d.sync += sent.eq(self.held)
        with m.If(went):
            m.d.sync += place.eq(place + 1)
            # Once a new connection began the frame ends, behind the byte that is being sent.
            with m.If((place == _DATA) & ~flags.hello):
                m.d.sync += sent.eq(sent + 1)
                with m.If((sent + 1) % LONGEST != 0):
                    m.d.sync += place.eq(_DATA)
            with m.If(place == _CLOSE):
                m.d.sync += [place.eq(0), busy.eq(0)]
        with m.Elif(fresh):
            with m.Switch(place):
                with m.Case(1):
                    m.d.sync += [flags.hello.eq(0), flags.again.eq(0)]
                with m.Case(4):
                    m.d.sync += reported.eq(part)
                with m.Case(_DATA), m.If(sent == self.written):
                    m.d.sync += place.eq(_DATA + 1)

        with m.If(self.bad):
            m.d.sync += [flags.again.eq(1), news.eq(1)]
        with m.If(self.good):
            m.d.sync += news.eq(1)
            with m.If(self.hello):
                m.d.sync += [
                    flags.hello.eq(1),
                    flags.again.eq(0),
                    flags.session.eq(self.session),
                    again.eq(place == _DATA),
                    self.held.eq(0),
                ]
                with m.If(place != _DATA):
                    m.d.sync += sent.eq(0)
            with m.Else():
                m.d.sync += self.held.eq(self.acknowledged)
                with m.If(self.again):
                    m.d.sync += again.eq(1)
        return m

    def _byte(self, m: Module, place, fresh, flags, sent, crc) -> Signal:
        """The byte at `place`, from two cycles after it is new on. What may change meanwhile is
        looked at once."""
        byte = Signal(8, init=FLAG)
        upper = Signal(POSITION_BITS - 8)
        depth_bits = Const((self._depth - 1).bit_length(), TAKEN.fields["depth_bits"])
        chosen = Signal(8)
        m.d.comb += self.read_addr.eq(sent)
        with m.Switch(place):
            with m.Case(0, _CLOSE):
                m.d.comb += chosen.eq(FLAG)
            with m.Case(1):
                m.d.comb += chosen.eq(flags)
            with m.Case(2):
                m.d.comb += chosen.eq(self.accepted[:8])
            with m.Case(3):
                version = Const(LINK_VERSION, ACCEPTED.fields["version"])
                m.d.comb += chosen.eq(Cat(upper, version))
            with m.Case(4):
                m.d.comb += chosen.eq(self.taken[:8])
            with m.Case(5):
                m.d.comb += chosen.eq(Cat(upper, depth_bits))
            with m.Case(6):
                m.d.comb += chosen.eq(sent[:8])
            with m.Case(7):
                m.d.comb += chosen.eq(sent[8:])
            with m.Case(_DATA):
                m.d.comb += chosen.eq(self.read_data)
            with m.Default():
                m.d.comb += chosen.eq(~crc.low)
        with m.If(fresh & ~place[0]):
            m.d.sync += upper.eq(Mux(place[2], self.taken[8:], self.accepted[8:]))
        with m.If(fresh | (place >= _DATA) | (place == 0)):
            m.d.sync += byte.eq(chosen)
        return byte

"""The serial link's buffers and its frames."""

from __future__ import annotations

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.host.frames import CRC_BYTES, ESCAPE, FLAG, FLIPPED, DeviceFrame
from tests.formal.harness import proof

DEPTH = 4
#: bytes of data in a frame, at most
LONGEST = 4


@proof(
    "link.packets.PacketWriter", "no byte that the host may still ask for is overwritten; a word "
    "is taken with the last of its five bytes, which are its own, one behind the other",
    broken=("room & (place == 4)", "(place == 4)"),
)  # fmt: skip
def test_packet_writer(bench, blocks):
    m = bench.m
    m.submodules.dut = dut = blocks["link.packets"].PacketWriter(depth=DEPTH)
    i = dut.i
    held = bench.before(i.valid & ~i.ready)
    m.d.comb += [
        i.valid.eq(bench.any() | held),
        i.payload.eq(Mux(held, bench.before(i.payload.as_value()), bench.any(33))),
        dut.clear.eq(bench.any()),
        dut.drop.eq(bench.any()),
    ]
    freed = bench.any(3)
    behind = (dut.written - dut.acknowledged)[:3]
    with m.If(dut.clear):
        m.d.sync += dut.acknowledged.eq(0)
    with m.Else():
        m.d.sync += dut.acknowledged.eq(dut.acknowledged + freed)
    bench.given(freed <= behind)
    bench.show(behind <= DEPTH)
    bench.show(behind != DEPTH, when=dut.write_en)
    place = Signal(3)
    with m.If(dut.clear):
        m.d.sync += place.eq(0)
    with m.Elif(dut.write_en):
        m.d.sync += place.eq(Mux(place == 4, 0, place + 1))
    taken = i.valid & i.ready & ~dut.drop
    bench.show(taken == (dut.write_en & (place == 4)))
    byte = i.p.data.word_select((place - 1)[:2], 8)
    bench.show(dut.write_data == byte, when=dut.write_en & (place != 0))
    bench.show(dut.write_addr == dut.written[:2], when=dut.write_en)
    bench.show(place <= 4)
    bench.reached(taken & (behind == DEPTH - 1))


@proof(
    "link.packets.PacketReader", "no byte is read before it came, nor twice; a word that is "
    "offered stays until it is taken; after `clear` the packet that was begun ends, and there is "
    "an end to it when its answer went",
    broken=("(self.taken != self.accepted) & ~stale[0]", "~stale[0]"),
)  # fmt: skip
def test_packet_reader(bench, blocks):
    m = bench.m
    dut = blocks["link.packets"].PacketReader(depth=DEPTH, ram_latency=2)
    inside = bench.inside(dut)
    more = bench.any(3)
    waiting = (dut.accepted - dut.taken)[:3]
    o = dut.o
    m.d.comb += [
        dut.read_data.eq(bench.any(8)), o.ready.eq(bench.any()), dut.clear.eq(bench.any())
    ]  # fmt: skip
    with m.If(dut.clear):
        m.d.sync += dut.accepted.eq(0)
    with m.Else():
        m.d.sync += dut.accepted.eq(dut.accepted + more)
    bench.given(waiting + more <= DEPTH)
    asked = Signal()  # a packet went, its answer did not
    ends = o.valid & o.ready & o.p.last
    m.d.comb += dut.answered.eq(bench.any() & asked)
    m.d.sync += asked.eq((asked & ~dut.answered) | ends)
    bench.given(~(ends & asked))  # a packet is taken when the one before was answered
    bench.show(waiting <= DEPTH)
    bench.show(waiting != 0, when=inside["get"])
    kept = bench.before(o.valid & ~o.ready)
    bench.show(o.valid & (o.payload.as_value() == bench.before(o.payload.as_value())), when=kept)
    bench.show(~inside.begun & ~asked, when=bench.before(dut.clearing) & ~dut.clearing)
    bench.show(dut.clearing, when=bench.before(dut.clear))
    bench.within(dut.clearing & o.ready & ~asked & ~dut.clear, 4)
    bench.within((waiting != 0) & o.ready & ~dut.clearing & ~inside["get"] & ~o.valid, 260)
    bench.reached(ends & dut.clearing)
    bench.reached(ends & ~dut.clearing & (waiting == DEPTH))


class AnyCrc(wiring.Component):
    """Stands for the CRC of a frame, which may be right or wrong."""

    def __init__(self):
        ports = {"take": In(1), "data": In(8), "clear": In(1), "good": Out(1), "low": Out(8)}
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.good.eq(AnySeq(1)), self.low.eq(AnySeq(8))]
        return m


@proof(
    "link.receive.FrameReceiver", "a byte is written only where none is held, whatever the host "
    "sends; what is held is never more than there is room for",
    broken=("m.d.sync += end.eq(self.accepted)", "m.d.sync += end.eq(0)"),
    cycles=44,
    depth=60,
)  # fmt: skip
def test_frame_receiver(bench, blocks):
    """Bytes come every four cycles; in the engine they do every ten or less often."""
    m = bench.m
    module = blocks["link.receive"]
    module.SerialCrc = AnyCrc
    module.CRC_BYTES = crc_bytes = 1
    dut = module.FrameReceiver(depth=512)
    inside = bench.inside(dut)
    size = len(dut.taken)
    since = Signal(2)
    m.d.sync += since.eq(since + 1)
    m.d.comb += [dut.valid.eq(bench.any() & (since == 3)), dut.data.eq(bench.any(8))]
    held = (dut.accepted - dut.taken)[:size]
    beyond = (inside.end - dut.accepted)[:size]  # bytes of the frame that comes
    freed = bench.any(size)
    bench.given(freed <= held)
    bench.given(~dut.good | (beyond >= crc_bytes))  # a frame has its CRC
    m.d.sync += dut.taken.eq(Mux(dut.good & dut.hello, 0, dut.taken + freed))
    calm = ~inside.restart
    bench.show(held <= 512)
    bench.show(held + beyond <= 512, when=calm)
    bench.show(held + beyond < 512, when=dut.write_en)
    bench.show(since == 0, when=inside.ended)
    bench.show(since == 1, when=inside.restart)
    bench.show(inside.full | (held + beyond != 512), when=since != 0)
    bench.reached(dut.good & ~dut.hello & inside.next_in_order)


class OneCrc(wiring.Component):
    """Stands for the CRC of a frame: any byte, the same all along."""

    def __init__(self):
        super().__init__({"take": In(1), "data": In(8), "clear": In(1), "low": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.low.eq(AnyConst(8))
        return m


@proof(
    "link.send.FrameSender", "flags come in pairs, and none between them, escaped or not; the "
    "bytes of an answer in a frame are those from the position on that it says, and were written; "
    "a frame ends; whatever there is to say begins one",
    broken=("(byte == FLAG) | (byte == ESCAPE)", "(byte == ESCAPE)"),
    depth=140,
)  # fmt: skip
def test_frame_sender(bench, blocks):
    m = bench.m
    module = blocks["link.send"]
    module.SerialCrc, module.LONGEST = OneCrc, LONGEST
    dut = module.FrameSender(depth=DEPTH)
    inside = bench.inside(dut)
    o, sent, written, held = dut.o, inside.sent, dut.written, dut.held
    # The wire takes a byte every six cycles, in the engine every 24 or less often.
    again = inside["again"]
    since = Signal(3)
    m.d.comb += o.ready.eq(bench.any() & (since == 6))
    m.d.sync += since.eq(Mux(o.ready, 0, Mux(since == 6, 6, since + 1)))
    good, hello = dut.good & ~dut.bad, dut.good & dut.hello
    m.d.comb += [
        dut.good.eq(bench.any()), dut.bad.eq(bench.any() & ~dut.good), dut.hello.eq(bench.any()),
        dut.again.eq(bench.any()), dut.session.eq(bench.one(6)), dut.acknowledged.eq(bench.any(3)),
        dut.accepted.eq(bench.any(3)), dut.taken.eq(bench.any(3)),
    ]  # fmt: skip
    ahead = (written - held)[:3]
    grows = bench.any() & (ahead != DEPTH)
    m.d.sync += written.eq(Mux(hello, 0, written + grows))
    # A host acknowledges what was sent to it, and nothing that it asks for again.
    most = Mux(again, 0, (sent - held)[:3])
    bench.given(~good | dut.hello | ((dut.acknowledged - held)[:3] <= most))
    bench.show(ahead <= DEPTH)
    bench.show(((sent - held)[:3] <= ahead) | (inside.flags.hello & again))
    # The buffer has a byte at one place, and another at all others.
    place, values = bench.one(2), (bench.one(8), bench.one(8))
    read = bench.before(bench.before(dut.read_addr))
    m.d.comb += dut.read_data.eq(Mux(read == place, *values))

    sends = o.valid & o.ready
    flag, escape = o.payload == FLAG, o.payload == ESCAPE
    opened, escaped, number = Signal(), Signal(), Signal(4)
    first = Signal(3)  # position that the frame says
    stale = Signal()  # a connection began meanwhile: the host has no use for this frame
    byte = Mux(escaped, o.payload ^ FLIPPED, o.payload)
    longest = DeviceFrame.HEADER_BYTES + LONGEST + CRC_BYTES
    bench.show(~flag & ~escape, when=sends & escaped)
    with m.If(sends):
        m.d.sync += escaped.eq(escape)
        with m.If(flag):
            m.d.sync += [opened.eq(~opened), number.eq(0)]
        with m.Elif(~escape):
            m.d.sync += number.eq(number + 1)
    bench.show(opened, when=sends & ~flag)
    least = DeviceFrame.HEADER_BYTES + CRC_BYTES
    bench.show(number >= least, when=sends & flag & opened)
    bench.show(number <= longest)
    bench.show(number != longest, when=sends & ~flag & ~escape)
    with m.If(sends & ~escape & opened & (number == 5)):
        m.d.sync += first.eq(byte)
    m.d.sync += stale.eq((stale | hello) & opened)
    at = (first + number - DeviceFrame.HEADER_BYTES)[:3]
    data = sends & ~escape & (inside.place == 1 + DeviceFrame.HEADER_BYTES) & ~stale
    bench.show(
        (byte == Mux(at[:2] == place, *values)) & (at == sent) & (sent != written), when=data
    )
    news = inside.news | (sent != written) | again
    bench.within(news & ~o.valid & ~hello, 2)
    bench.reached(data & (number == DeviceFrame.HEADER_BYTES + 2) & escaped)
    bench.reached(sends & flag & opened & (sent == written) & (ahead == DEPTH))

"""The serial link's buffers, and who shares an engine."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tests.formal.harness import proof

DEPTH = 4


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
        from amaranth.asserts import AnySeq

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


@proof(
    "system.arbiter.PacketArbiter", "each host's packet goes whole to the engine, and the answer "
    "to it whole to that host; while nothing is on its way a host that asks alone is heard within "
    "a turn",
    broken=("o.valid & o.ready & self.answers.p.last", "o.valid & self.answers.p.last"),
)  # fmt: skip
def test_arbiter(bench, blocks):
    m = bench.m
    hosts = 3
    m.submodules.dut = dut = blocks["system.arbiter"].PacketArbiter(hosts)
    for host in dut.i:
        m.d.comb += [host.valid.eq(bench.any()), host.p.last.eq(bench.any())]
        m.d.comb += host.p.data.eq(bench.any(1))
    for host in dut.o:
        m.d.comb += host.ready.eq(bench.any())
    answer = Signal()
    packets, answers = dut.packets, dut.answers
    m.d.comb += [
        packets.ready.eq(bench.any() & ~answer), answers.valid.eq(bench.any() & answer),
        answers.p.last.eq(bench.any()), answers.p.data.eq(bench.any(1)),
    ]  # fmt: skip
    went = packets.valid & packets.ready
    came = answers.valid & answers.ready
    m.d.sync += answer.eq((answer | (went & packets.p.last)) & ~(came & answers.p.last))
    owner, within = Signal(hosts), Signal()  # whose packet it is; its end was not there
    each = Cat(host.valid & host.ready for host in dut.i)
    got = Cat(host.valid & host.ready for host in dut.o)
    bench.show((each != 0) == went)
    bench.show((each & (each - 1))[:hosts] == 0)
    bench.show((each == owner) | ~within, when=went)
    bench.show(got == owner, when=came)
    bench.show(came | (got == 0))
    with m.If(went):
        m.d.sync += [owner.eq(each), within.eq(~packets.p.last)]
    bench.show(dut.busy, when=answer)
    waits = dut.i[0].valid & ~dut.busy
    bench.within(waits & ~Cat(host.valid for host in dut.i[1:]).any(), hosts)
    bench.show(bench.before(~came | ~answers.p.last) | (dut.busy == 0))
    bench.reached(came & answers.p.last & owner[2])

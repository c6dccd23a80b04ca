"""Who shares an engine, what its registers say of it, and who loads it from the board's flash."""

from __future__ import annotations

from amaranth.asserts import AnySeq
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine.flash import IMAGE_MAGIC
from pleach.engine.protocol import Boot, Command, command_word
from pleach.engine.registers import BY_NAME
from pleach_hw.system.axi_lite import Response
from tests.formal.harness import proof
from tests.formal.small import small


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


class AnyReader(wiring.Component):
    """Stands for the reader of the flash: words, when they like."""

    def __init__(self, *, divider):
        pins = {"cs_n": Out(1), "sck": Out(1), "copi": Out(1), "cipo": In(1)}
        ports = {"start": In(1), "stop": In(1), "address": In(24), "o": Out(stream.Signature(32))}
        super().__init__(ports | pins)

    def elaborate(self, platform):
        m = Module()
        runs, waits, word = Signal(), Signal(), Signal(32)
        m.d.sync += [
            runs.eq((runs | self.start) & ~self.stop),
            waits.eq(self.o.valid & ~self.o.ready & ~self.start & ~self.stop),
            word.eq(self.o.payload),
        ]
        m.d.comb += [
            self.o.valid.eq(runs & (waits | AnySeq(1))),
            self.o.payload.eq(Mux(waits, word, AnySeq(32))),
        ]
        return m


class AnyWordCrc(wiring.Component):
    """Stands for the CRC of words."""

    def __init__(self, bits):
        super().__init__(
            {"word": In(32), "take": In(1), "begin": In(1), "busy": Out(1), "wrong": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.busy.eq(AnySeq(1)), self.wrong.eq(AnySeq(1))]
        return m


@proof(
    "system.flash.FlashBoot", "no host is heard before it is known what became of the image, which "
    "is said once; LOAD is sent only of an image that was read whole and right before, as many "
    "words as that had, each once; its answer goes to nobody; it never locks up",
    broken=("self.packets.p.last.eq(left == 1)", "self.packets.p.last.eq(left == 2)"),
)  # fmt: skip
def test_flash_boot(bench, blocks):
    m = bench.m
    module = blocks["system.flash"]
    module.SpiReader, module.WordCrc = AnyReader, AnyWordCrc
    dut = module.FlashBoot(address=0)
    inside = bench.inside(dut)
    reader, crc, packets = inside.reader, inside.crc, dut.packets
    m.d.comb += [
        dut.i.valid.eq(bench.any()), dut.i.p.last.eq(bench.any()), dut.o.ready.eq(bench.any()),
        packets.ready.eq(bench.any()), dut.answers.valid.eq(bench.any()),
        dut.answers.p.data.eq(bench.any(32)),
    ]  # fmt: skip
    busy = dut.boot == Boot.BUSY
    bench.show(~dut.i.ready & ~dut.o.valid, when=busy)
    bench.count(dut.booted, 0, 1)
    bench.show(busy, when=dut.booted)
    # Words of an image of up to three: its first reading, and what is sent of the second.
    word, takes = reader.o.payload, reader.o.valid & reader.o.ready
    turn, number, length = Signal(2), Signal(3), Signal(2)
    right = Signal()
    bench.given((word[2:24] <= 3) | (number != 1))
    with m.If(reader.start):
        m.d.sync += [turn.eq(turn + 1), number.eq(0)]
    with m.Elif(takes & (number != 7)):
        m.d.sync += number.eq(number + 1)
    with m.If(takes & (number == 1) & (turn == 1)):
        m.d.sync += length.eq(word[2:4])
    m.d.sync += right.eq(right | (reader.start & (turn == 1)))
    bench.show(bench.before(~crc.wrong), when=reader.start & (turn == 1))
    bench.show((turn <= 2) & (right == (turn == 2)))
    bench.show(word == IMAGE_MAGIC, when=takes & (number == 0) & ~dut.booted)
    bench.show(number == length + 2, when=reader.start & (turn == 1))
    told = (turn != 0) & (number >= 2)
    bench.show(inside.length == length, when=told)
    bench.show(inside.left == (length + 2 - number)[:3], when=told & busy)
    bench.show((length != 0) & (number <= length + 2), when=told & busy)
    bench.show(inside.known == (right | (reader.start & (turn == 1))))
    sends, sent = packets.valid & packets.ready & busy, Signal(3)
    bench.show(sent == Mux(right & told, number - 1, 0)[:3], when=busy & (sent != 0))
    bench.show(right | (sent == 0))
    m.d.sync += sent.eq(sent + sends)
    bench.show(right & (sent <= length), when=sends)
    bench.show(packets.p.last == (sent == length), when=sends & (sent != 0))
    load = (packets.p.data == command_word(Command.LOAD)) & ~packets.p.last
    bench.show(load, when=sends & (sent == 0))
    bench.show(takes & (packets.p.data == word), when=sends & (sent != 0))
    bench.show(sends, when=takes & (number >= 2) & (turn == 2) & busy)
    kept = bench.before(packets.valid & ~packets.ready & busy)
    kinds = Cat(packets.p.data[0], packets.p.last)
    bench.show(packets.valid & (kinds == bench.before(kinds)), when=kept)
    bench.show(sent == length + 1, when=dut.answers.ready & busy)
    waits = (~reader.o.valid | crc.busy) & ~packets.valid & ~dut.answers.ready
    bench.within(busy & ~waits & ~takes & ~sends & ~packets.valid & ~dut.answers.ready, 4)
    bench.reached((dut.boot == Boot.LOADED) & (length == 3))


@proof(
    "system.bank.RegisterBank", "each access is answered once, and an answer stays until it is "
    "taken; a word of a packet is taken where its write was answered with OKAY, and no other; of "
    "an answer each word is read once; what happened stays until it is cleared",
    broken=("with m.If(~whole | ~queue.ready):", "with m.If(~whole):"),
    depth=24,
)  # fmt: skip
def test_register_bank(bench, blocks):
    m = bench.m
    module = blocks["system.bank"]
    module.QUEUED = 2
    dut = module.RegisterBank(small())
    inside = bench.inside(dut)
    for name in (
        "awvalid", "awaddr", "wvalid", "wdata", "wstrb", "bready", "arvalid", "araddr", "rready",
    ):  # fmt: skip
        signal = getattr(dut, f"s_axil_{name}")
        m.d.comb += signal.eq(bench.any(len(signal)))
    m.d.comb += [
        dut.packets.ready.eq(bench.any()), dut.answers.valid.eq(bench.any()),
        dut.answers.payload.eq(bench.any(33)), dut.status.word.eq(bench.any(32)),
        dut.status_ready.eq(bench.any()), dut.busy.eq(bench.any()), dut.booted.eq(bench.any()),
        dut.answered.taken.eq(bench.any()), dut.answered.word.eq(bench.any(33)),
    ]  # fmt: skip

    def goes(channel):
        return getattr(dut, f"s_axil_{channel}valid") & getattr(dut, f"s_axil_{channel}ready")

    addresses = bench.count(goes("aw"), goes("b"), 2)
    data = bench.count(goes("w"), goes("b"), 2)
    reads = bench.count(goes("ar"), goes("r"), 2)
    bench.show((addresses != 0) & (data != 0), when=dut.s_axil_bvalid)
    bench.show(reads != 0, when=dut.s_axil_rvalid)
    for channel, says in (("b", dut.s_axil_bresp), ("r", dut.s_axil_rdata)):
        valid, ready = (getattr(dut, f"s_axil_{channel}{name}") for name in ("valid", "ready"))
        held = bench.before(valid & ~ready)
        bench.show(valid & (says == bench.before(says)), when=held)
    both = (addresses > dut.s_axil_bvalid) & (data > dut.s_axil_bvalid)
    bench.within(both & (~dut.s_axil_bvalid | dut.s_axil_bready), 1)
    bench.within((reads > dut.s_axil_rvalid) & dut.s_axil_rready & dut.status_ready, 2)
    # A write acts in the cycle before its answer; so does a read.
    queue_in, queue_out = inside["self"]._in, inside["self"]._out
    b_new = dut.s_axil_bvalid & bench.before(~dut.s_axil_bvalid | dut.s_axil_bready)
    r_new = dut.s_axil_rvalid & bench.before(~dut.s_axil_rvalid | dut.s_axil_rready)
    put, got = (q.valid & q.ready for q in (queue_in.i, queue_out.o))
    came = []
    for channel, name in (("aw", "addr"), ("w", "data"), ("w", "strb"), ("ar", "addr")):
        now = getattr(dut, f"s_axil_{channel}{name}")
        came.append(kept := Signal.like(now))
        with m.If(goes(channel)):
            m.d.sync += kept.eq(now)
    to, data, strobes, at = map(bench.before, came)
    last = BY_NAME["packet_last"].offset
    packet = (to[2:] == BY_NAME["packet_word"].offset // 4) | (to[2:] == last // 4)
    okay = b_new & packet & (dut.s_axil_bresp == Response.OKAY)
    bench.show(bench.before(put) == okay)
    word = bench.before(queue_in.i.payload.as_value())
    bench.show(word == Cat(data, to[2:] == last // 4), when=okay)
    bench.show(strobes == 15, when=okay)
    answer = at[2:] == BY_NAME["answer_word"].offset // 4
    read = r_new & answer & (dut.s_axil_rresp == Response.OKAY)
    bench.show(bench.before(got) == read)
    bench.show(dut.s_axil_rdata == bench.before(queue_out.o.p.data), when=read)
    # Events, each by itself.
    events, enabled = inside["values"]["interrupt"], inside["values"]["interrupt_enable"]
    happens = {
        "answer": dut.answers.valid & dut.answers.ready & dut.answers.p.last, "boot": dut.booted,
    }  # fmt: skip
    clears = b_new & (to[2:] == BY_NAME["interrupt"].offset // 4)
    for name, event in happens.items():
        stands, bit = events[name], list(BY_NAME["interrupt"].word.fields).index(name)
        bench.show(stands, when=bench.before(event))
        cleared = clears & data[bit] & strobes[0]
        bench.show(stands | cleared, when=bench.before(stands))
        bench.show(bench.before(stands | event), when=stands)
        bench.show(dut.irq, when=stands & enabled[name])
    bench.reached(okay & (dut.packets.valid & ~dut.packets.ready))
    bench.reached(read)
    bench.reached(b_new & packet & (dut.s_axil_bresp == Response.SLVERR) & (strobes == 15))

"""From the words of a packet to those of its sections: magic, lengths, CRCs, the packet's end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from amaranth.hdl import Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from pleach.engine import words
from pleach.engine.protocol import EngineError, Resource
from pleach_hw.layouts import PACKET_WORD, layout
from pleach_hw.queue import Buffer

#: Why a section is refused, and of CAPACITY what it is that the engine has too little of.
REFUSAL = data.StructLayout({"error": EngineError, "resource": Resource})

SECTION_HEAD = layout(words.SECTION_HEAD)


class PacketBuffer(wiring.Component):
    """A register in front of a reader of packets; what comes behind a packet stays outside.

    Ports:
        open: strobe, let a packet in.
        i, o: its words.
    """

    def __init__(self) -> None:
        packet = stream.Signature(PACKET_WORD)
        super().__init__({"open": In(1), "i": In(packet), "o": Out(packet)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.buffer = buffer = Buffer(shape=PACKET_WORD)
        closed = Signal(init=1)
        m.d.comb += [
            buffer.i.payload.eq(self.i.payload),
            buffer.i.valid.eq(self.i.valid & ~closed),
            self.i.ready.eq(buffer.i.ready & ~closed),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += closed.eq(self.i.p.last)
        with m.If(self.open):
            m.d.sync += closed.eq(0)
        wiring.connect(m, buffer.o, wiring.flipped(self.o))
        return m


class WordCrc(wiring.Component):
    """CRC-32 of words, a number of bits a cycle.

    Args:
        bits: a cycle, a power of two to 32.

    Ports:
        word: looked at in every cycle.
        take: strobe, it counts; only while not `busy`.
        begin: strobe, it is the first one that does.
        busy: a word is still worked on.
        wrong: the word of the cycle before is not the CRC of what counted before it; known one
            cycle later than that, two after it was shown.
    """

    def __init__(self, bits: int):
        self._bits = bits
        super().__init__(
            {"word": In(32), "take": In(1), "begin": In(1), "busy": Out(1), "wrong": Out(1)}
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=self._bits).create()
        before = Signal(32, reset_less=True)
        m.d.comb += crc.data.eq(before)
        m.d.sync += [
            crc.valid.eq(self.take),
            crc.start.eq(self.begin),
            before.eq(self.word),
            self.wrong.eq(before != crc.crc),
        ]
        if self._bits < 32:
            left = Signal(range(32 // self._bits))
            m.d.comb += self.busy.eq(crc.valid)
            with m.If(crc.valid):
                m.d.sync += [
                    before.eq(before >> self._bits),
                    left.eq(left - 1),
                    crc.valid.eq(left != 1),
                ]
        return m


class Framing(wiring.Component):
    """Takes a file apart: checks all that is not a layer's, and gives out the words of each section
    that it does not skip.

    A word a cycle, as far as `crc` and the reader of the sections keep up. Whatever is wrong ends
    in `done` with an error, after the packet's last word was taken. The reader of the sections may
    refuse one, too.

    Args:
        layers: sections that are not skipped, at most.
        crc_bits: of `WordCrc`.
        settle: cycles from a section's last word until `full` may be asked for, beyond those that
            its CRC takes.

    Ports:
        start: a packet begins.
        i: its words after the command word.
        done: strobe, the packet was taken; `error` and `detail` stand until the next start.
        abandon: what was begun is void, or everything is done; two cycles behind.
        input_type, version: of the header.
        layers: sections that were committed; `last` says that the next one is the last.
        begin: strobe, a section begins; `section` stands until the next one.
        o: words of its payload.
        exhausted: there are no more.
        finish: strobe, the reader wants no more; the rest is dropped.
        refuse, refusal: the section is not what it should be; heeded from `begin` to `finish`.
        full: there was no room for it in the PEs; heeded once its CRC is known.
        commit: strobe, the section stands.
    """

    def __init__(self, *, layers: int, crc_bits: int, settle: int = 1):
        self._layers = layers
        self._crc_bits = crc_bits
        self._settle = settle
        super().__init__(
            {
                "start": In(1),
                "i": In(stream.Signature(PACKET_WORD)),
                "done": Out(1),
                "error": Out(EngineError),
                "detail": Out(16),
                "abandon": Out(1),
                "input_type": Out(1),
                "version": Out(8),
                "layers": Out(range(layers + 1)),
                "last": Out(1),
                "begin": Out(1),
                "section": Out(SECTION_HEAD),
                "o": Out(stream.Signature(32)),
                "exhausted": Out(1),
                "finish": In(1),
                "refuse": In(1),
                "refusal": In(REFUSAL),
                "full": In(1),
                "commit": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        taking = _Taking(m, self, self._crc_bits)
        header = _Header(m, taking)
        payload = _Payload(m, taking)
        m.d.sync += self.abandon.eq(0)
        m.d.comb += [
            self.input_type.eq(header.info.input_type),
            self.version.eq(header.info.version),
            self.last.eq(self.layers + 1 == header.info.layers),
            self.o.payload.eq(taking.data),
        ]
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += [self.error.eq(EngineError.OK), self.detail.eq(0), self.layers.eq(0)]
                taking.begin()
                m.next = "magic"
            self._header_states(m, taking, header)
            self._section_states(m, taking, header, payload)
            with m.State("discard"):
                m.d.comb += self.i.ready.eq(~taking.ended)
                m.d.sync += self.abandon.eq(1)
                with m.If(taking.ended):
                    m.d.comb += self.done.eq(1)
                    m.next = "idle"
        return m

    def _header_states(self, m: Module, taking: _Taking, header: _Header) -> None:
        """From "magic" to "head"."""
        with taking.state("magic"), taking.word(counts=True, begins=True):
            m.next = "magic taken"
        with taking.state("magic taken"):
            m.next = "info"
            with m.If(header.wrong_magic):
                taking.fail(EngineError.BAD_HEADER)
        # Words are kept whether one is there or not: the last that a state sees is taken.
        with taking.state("info"):
            header.keep()
            with taking.word(counts=True):
                m.next = "size"
        with taking.state("size"), taking.word(counts=True):
            taking.length_known()
            m.next = "original"
        with taking.state("original"), taking.word(counts=True):
            m.next = "header CRC"
        with taking.state("header CRC"), taking.word(counts=False):
            m.next = "header read"
        with taking.state("header read"):
            m.next = "header"
        with taking.state("header"):
            m.next = "head"
            with m.If(taking.crc.wrong):
                taking.fail(EngineError.HEADER_CRC)
            with m.Elif(header.bad_info):
                taking.fail(EngineError.BAD_HEADER)
            with m.Elif(taking.none_left):
                taking.fail(EngineError.SECTION_TYPE)
            with m.Elif(header.info.layers > self._layers):
                taking.fail(EngineError.CAPACITY, Resource.LAYERS)

    def _section_states(
        self, m: Module, taking: _Taking, header: _Header, payload: _Payload
    ) -> None:
        """From "head" to "next", and from there to "head" or "discard"."""
        skipped = self.section.type[7]

        def may_be_refused() -> None:
            short = self.refusal.error == EngineError.CAPACITY
            with m.If(self.refuse):
                taking.fail(self.refusal.error, Mux(short, self.refusal.resource, self.layers))

        with taking.state("head"):
            m.d.sync += self.section.eq(taking.data)
            payload.begin(SECTION_HEAD(taking.data).length)
            with taking.word(counts=True, begins=True):
                m.next = "section"
        with taking.state("section"):
            m.next = "section measured"
        with taking.state("section measured"):
            with m.If(payload.too_long):
                taking.fail(EngineError.LENGTH)
            with m.Elif(skipped):
                m.next = "padding"
            with m.Elif(self.layers == header.info.layers):
                taking.fail(EngineError.SECTION_TYPE)
            with m.Else():
                m.d.comb += self.begin.eq(1)
                m.next = "payload"
                may_be_refused()
        with taking.state("payload"):
            there = taking.allowed & ~self.exhausted
            m.d.comb += [
                self.o.valid.eq(self.i.valid & there),
                self.i.ready.eq(self.o.ready & there),
            ]
            payload.word()
            with m.If(self.finish):
                m.next = "padding"
            may_be_refused()
        with taking.state("padding"):
            with m.If(self.exhausted):
                m.next = "written 0"
            with m.Else():
                m.d.comb += self.i.ready.eq(taking.allowed)
                payload.word()
        for cycle in range(self._settle):  # by the commit it is known whether there was room
            with taking.state(f"written {cycle}"):
                last = cycle + 1 == self._settle
                m.next = "section CRC" if last else f"written {cycle + 1}"
        with taking.state("section CRC"), taking.word(counts=False):
            m.next = "section read"
        with taking.state("section read"):
            m.next = "section checked"
        with taking.state("section checked"):
            m.next = "next"
            with m.If(taking.crc.wrong):
                taking.fail(EngineError.SECTION_CRC)
            with m.Elif(~skipped):
                m.next = "commit"
                with m.If(self.full):
                    taking.fail(EngineError.CAPACITY, Resource.ENTRIES)
        with taking.state("commit"):
            m.d.comb += self.commit.eq(1)
            m.d.sync += self.layers.eq(self.layers + 1)
            m.next = "next"
        with taking.state("next"):
            m.next = "head"
            with m.If(taking.none_left):
                m.next = "discard"
                with m.If(self.layers != header.info.layers):
                    taking.fail(EngineError.SECTION_TYPE)


class _Taking:
    """In `Framing`: takes words, counts them, and sees to it that packet and file end together."""

    def __init__(self, m: Module, framing: Framing, crc_bits: int):
        self.m = m
        self.framing = framing
        m.submodules.crc = self.crc = WordCrc(crc_bits)
        self.data = framing.i.p.data
        self.take = Signal()
        self.allowed = Signal()  # a word may be taken
        self.ended = Signal(init=1)  # the packet's last word was taken
        self.left = Signal(32)  # words of the file that are not taken yet
        self.known = Signal()  # … is known
        self.one_left, self.none_left = Signal(), Signal()
        self.wrong_end = Signal()  # the packet ended before the file, or the file before the packet
        last = framing.i.p.last
        m.d.comb += [
            self.allowed.eq(~self.ended & ~self.crc.busy),
            self.take.eq(framing.i.valid & framing.i.ready),
            self.crc.word.eq(self.data),
        ]
        with m.If(self.take):
            m.d.sync += [
                self.left.eq(self.left - 1),
                self.one_left.eq(self.known & (self.left == 2)),
                self.ended.eq(last),
                self.wrong_end.eq(self.wrong_end | (last != self.one_left)),
            ]
        m.d.sync += self.none_left.eq(self.left == 0)

    def begin(self) -> None:
        """In a state: a packet begins."""
        state = (self.ended, self.known, self.one_left, self.wrong_end)
        self.m.d.sync += [signal.eq(0) for signal in state]

    def length_known(self) -> None:
        """In a state: this word, the third one, is the length of the file."""
        self.m.d.sync += [
            self.left.eq(self.data - 3),
            self.one_left.eq(self.data == 4),
            self.known.eq(1),
        ]

    def fail(self, error: ValueLike, detail: ValueLike | None = None) -> None:
        """In a state: the file is refused."""
        detail = self.framing.layers if detail is None else detail
        self.m.d.sync += [self.framing.error.eq(error), self.framing.detail.eq(detail)]
        self.m.next = "discard"

    @contextmanager
    def state(self, name: str) -> Iterator[None]:
        """A state that is left for "discard" when packet and file do not end together."""
        with self.m.State(name):
            with self.m.If(self.wrong_end):
                self.fail(EngineError.LENGTH)
            with self.m.Else():
                yield

    @contextmanager
    def word(self, *, counts: bool, begins: bool = False) -> Iterator[None]:
        """In a state: take a word as soon as there is one, for the CRC if it counts, and then …"""
        self.m.d.comb += self.framing.i.ready.eq(self.allowed)
        with self.m.If(self.take):
            self.m.d.comb += [self.crc.take.eq(counts), self.crc.begin.eq(begins)]
            yield


class _Header:
    """In `Framing`: what the header says."""

    def __init__(self, m: Module, taking: _Taking):
        self.m = m
        self.word = taking.data
        self.info = Signal(layout(words.HEADER_INFO))
        self.bad_info = Signal()
        self.wrong_magic = Signal()  # the word of the cycle before is not it
        m.d.sync += self.wrong_magic.eq(taking.data != words.MAGIC)

    def keep(self) -> None:
        """In a state: this is the second word."""
        info = layout(words.HEADER_INFO)(self.word)
        self.m.d.sync += [
            self.info.eq(self.word),
            self.bad_info.eq(
                ((info.version != words.VERSIONS[0]) & (info.version != words.VERSIONS[1]))
                | (info.layers == 0)
                | ((self.word & words.HEADER_INFO.reserved()) != 0)
            ),
        ]


class _Payload:
    """In `Framing`: the words of a section's payload."""

    def __init__(self, m: Module, taking: _Taking):
        self.m = m
        self.taking = taking
        self.left = Signal(24)  # the one of the cycle before still counted
        self.taken = Signal()  # there was one
        self.too_long = Signal()
        m.d.sync += [
            self.taken.eq(0),
            # With the CRC it is more than the words left.
            self.too_long.eq(
                ~taking.left[24:].any() & (taking.left[:24] <= taking.framing.section.length)
            ),
        ]
        with m.If(self.taken):
            m.d.sync += self.left.eq(self.left - 1)

    def begin(self, length: Value) -> None:
        """In a state: so many words come."""
        self.m.d.sync += [self.left.eq(length), self.taking.framing.exhausted.eq(length == 0)]

    def word(self) -> None:
        """In a state: if a word is taken, it is one of these."""
        with self.m.If(self.taking.take):
            self.m.d.comb += self.taking.crc.take.eq(1)
            self.m.d.sync += [
                self.taken.eq(1),
                self.taking.framing.exhausted.eq(self.left == Mux(self.taken, 2, 1)),
            ]

"""From the words of a packet to those of its sections: magic, lengths, CRCs, the packet's end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from amaranth.hdl import Module, Mux, Signal, Value
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
        begin: it is the first one that does, if it counts; nothing that counts is in between.
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
        # Which refusal it was is sorted out behind registers: what says that there is one comes
        # late.
        why = REFUSAL(Mux(taking.refused, taking.refusal, taking.failure))
        with m.If(~taking.refused):
            m.d.sync += taking.refusal.eq(self.refusal)
        m.d.comb += self.error.eq(why.error)
        with m.If(self.error == EngineError.CAPACITY):
            m.d.comb += self.detail.eq(why.resource)
        with m.Elif(self.error != EngineError.OK):
            m.d.comb += self.detail.eq(self.layers)
        m.d.sync += self.abandon.eq(0)
        m.d.comb += [
            self.input_type.eq(header.info.input_type),
            self.version.eq(header.info.version),
            self.last.eq(self.layers + 1 == header.info.layers),
            self.o.payload.eq(taking.data),
        ]
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += self.layers.eq(0)
                taking.begin()
                taking.go("magic")
            self._header_states(m, taking, header)
            self._section_states(m, taking, header, payload)
            with m.State("discard"):
                m.d.sync += self.abandon.eq(1)
                with m.If(taking.ended):
                    m.d.comb += self.done.eq(1)
                    taking.go("idle")
        return m

    def _header_states(self, m: Module, taking: _Taking, header: _Header) -> None:
        """From "magic" to "head"."""
        with taking.state("magic"), taking.word():
            taking.go("magic taken")
        with taking.state("magic taken"):
            taking.go("info")
            with m.If(header.wrong_magic):
                taking.fail(EngineError.BAD_HEADER)
        # Words are kept whether one is there or not: the last that a state sees is taken.
        with taking.state("info"):
            header.keep()
            with taking.word():
                taking.go("size")
        with taking.state("size"), taking.word():
            taking.go("original")
        with taking.state("original"), taking.word():
            taking.go("header CRC")
        with taking.state("header CRC"), taking.word():
            taking.go("header read")
        with taking.state("header read"):
            taking.go("header")
        with taking.state("header"):
            taking.go("head")
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
            with m.If(self.refuse):
                m.d.sync += taking.refused.eq(1)
                taking.go("discard")

        with taking.state("head"):
            m.d.sync += self.section.eq(taking.data)
            payload.begin(SECTION_HEAD(taking.data).length)
            with taking.word():
                taking.go("section")
        with taking.state("section"):
            taking.go("section measured")
        with taking.state("section measured"):
            with m.If(payload.too_long):
                taking.fail(EngineError.LENGTH)
            with m.Elif(skipped):
                taking.go("padding")
            with m.Elif(self.layers == header.info.layers):
                taking.fail(EngineError.SECTION_TYPE)
            with m.Else():
                m.d.comb += self.begin.eq(1)
                taking.go("payload")
                may_be_refused()
        with taking.state("payload"):
            with m.If(self.finish):
                taking.go("padding")
            may_be_refused()
        with taking.state("padding"):
            with m.If(self.exhausted):
                taking.go("written 0")
        for cycle in range(self._settle):  # by the commit it is known whether there was room
            with taking.state(f"written {cycle}"):
                last = cycle + 1 == self._settle
                taking.go("section CRC" if last else f"written {cycle + 1}")
        with taking.state("section CRC"), taking.word():
            taking.go("section read")
        with taking.state("section read"):
            taking.go("section checked")
        with taking.state("section checked"):
            taking.go("next")
            with m.If(taking.crc.wrong):
                taking.fail(EngineError.SECTION_CRC)
            with m.Elif(~skipped):
                taking.go("commit")
                with m.If(self.full):
                    taking.fail(EngineError.CAPACITY, Resource.ENTRIES)
        with taking.state("commit"):
            m.d.comb += self.commit.eq(1)
            m.d.sync += self.layers.eq(self.layers + 1)
            taking.go("next")
        with taking.state("next"):
            taking.go("head")
            with m.If(taking.none_left):
                taking.go("discard")
                with m.If(self.layers != header.info.layers):
                    taking.fail(EngineError.SECTION_TYPE)


class _Taking:
    """In `Framing`: takes words, counts them, and sees to it that packet and file end together."""

    #: States by what is done with words: one is taken; it counts for the CRC, and is its first one;
    #: it is the file's length. Payloads are taken until they are exhausted.
    KINDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "word": ("magic", "info", "size", "original", "header CRC", "head", "section CRC"),
        "counts": ("magic", "info", "size", "original", "head", "payload", "padding"),
        "first": ("magic", "head"),
        "length": ("size",),
        "payload": ("payload",),
        "padding": ("padding",),
        "discard": ("discard",),
    }

    def __init__(self, m: Module, framing: Framing, crc_bits: int):
        self.m = m
        self.framing = framing
        m.submodules.crc = self.crc = WordCrc(crc_bits)
        self.data = framing.i.p.data
        self.take = Signal()
        self.ended = Signal(init=1)  # the packet's last word was taken
        self.left = Signal(32)  # words of the file that are not taken yet
        self.known = Signal()  # … is known
        self.one_left, self.none_left = Signal(), Signal()
        self.wrong_end = Signal()  # the packet ended before the file, or the file before the packet
        self.failure = Signal(REFUSAL)  # what this block found wrong itself
        self.refused = Signal()  # or the reader of the sections did
        self.refusal = Signal(REFUSAL)
        # Of the state, what says whether a word is taken, and what it is: so much hangs on it that
        # each has a register.
        self.among = {kind: Signal(name="_".join(("in", *kind.split()))) for kind in _Taking.KINDS}
        among = self.among
        last = framing.i.p.last
        allowed = ~self.ended & ~self.wrong_end & ~self.crc.busy
        payload = allowed & ~framing.exhausted
        m.d.comb += [
            framing.o.valid.eq(framing.i.valid & among["payload"] & payload),
            framing.i.ready.eq(
                (allowed & among["word"])
                | (payload & (among["padding"] | (among["payload"] & framing.o.ready)))
                | (~self.ended & among["discard"])
            ),
            self.take.eq(framing.i.valid & framing.i.ready),
            self.crc.word.eq(self.data),
            self.crc.take.eq(self.take & among["counts"]),
            self.crc.begin.eq(among["first"]),
        ]
        with m.If(self.take):
            m.d.sync += [
                # The third word is the length of the file.
                self.left.eq(Mux(among["length"], self.data - 3, self.left - 1)),
                # Never of a file of four words, which are fewer than a header has.
                self.one_left.eq(self.known & (self.left == 2)),
                self.known.eq(self.known | among["length"]),
                self.ended.eq(last),
                self.wrong_end.eq(self.wrong_end | (last != self.one_left)),
            ]
        m.d.sync += self.none_left.eq(self.left == 0)

    def begin(self) -> None:
        """In a state: a packet begins."""
        state = (self.ended, self.known, self.one_left, self.wrong_end, self.refused)
        self.m.d.sync += [signal.eq(0) for signal in state]
        self.m.d.sync += self.failure.error.eq(EngineError.OK)

    def go(self, name: str) -> None:
        """In a state: go on to another one."""
        self.m.next = name
        self.m.d.sync += [
            self.among[kind].eq(name in states) for kind, states in self.KINDS.items()
        ]

    def fail(self, error: EngineError, resource: Resource | None = None) -> None:
        """In a state: the file is refused."""
        self.m.d.sync += self.failure.error.eq(error)
        if resource is not None:
            self.m.d.sync += self.failure.resource.eq(resource)
        self.go("discard")

    @contextmanager
    def state(self, name: str) -> Iterator[None]:
        """A state that is left for "discard" when packet and file do not end together."""
        with self.m.State(name):
            with self.m.If(self.wrong_end):
                self.fail(EngineError.LENGTH)
            with self.m.Else():
                yield

    @contextmanager
    def word(self) -> Iterator[None]:
        """In a state that takes a word as soon as there is one: when it does, …"""
        with self.m.If(self.take):
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
        with m.If(taking.take & (taking.among["payload"] | taking.among["padding"])):
            m.d.sync += [
                self.taken.eq(1),
                taking.framing.exhausted.eq(self.left == Mux(self.taken, 2, 1)),
            ]

    def begin(self, length: Value) -> None:
        """In a state: so many words come."""
        self.m.d.sync += [self.left.eq(length), self.taking.framing.exhausted.eq(length == 0)]

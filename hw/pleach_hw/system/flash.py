"""A network in the board's SPI flash, loaded at power-up."""

import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from pleach.engine.flash import IMAGE_MAGIC, READ, READ_DUMMY_BITS, WAKE
from pleach.engine.protocol import RESPONSE_WORD, Boot, Command, EngineError, command_word
from pleach_hw.layouts import PACKET_WORD, layout
from pleach_hw.load.framing import WordCrc

#: pins of a flash, of whoever reads it: select, clock, to the flash, from the flash
PINS = {"cs_n": Out(1, init=1), "sck": Out(1), "copi": Out(1), "cipo": In(1)}
#: cycles that a flash has to wake up, 40 µs at 100 MHz
WAKING = 4096
#: and for which its select is high between two commands
APART = 16


class Step(enum.Enum):
    """What an `SpiReader` does."""

    IDLE = 0
    APART = 1
    WAKE = 2
    WAIT = 3
    COMMAND = 4
    WORD = 5
    OFFER = 6


class SpiReader(wiring.Component):
    """Reads an SPI flash, words one after the other from an address on.

    It wakes the flash up (0xAB), for the chip's own loader may have put it to sleep, waits, and
    gives the command fast read (0x0B), which goes on for as long as there is a clock. A word has
    its first byte lowest. It takes ``64 * divider`` cycles, and the flash's clock stands while
    nobody takes the word. SPI's mode is 0: a bit stands from falling to falling edge.

    Args:
        divider: cycles of half a period of the flash's clock, from 1.

    Ports:
        start: strobe, a read begins at `address`; what was read before ends.
        stop: strobe, it ends.
        o: the words.
        cs_n, sck, copi, cipo: the flash's pins.

    Raises:
        ValueError: a divider below 1.
    """

    def __init__(self, *, divider: int):
        self._divider = operator.index(divider)
        if self._divider < 1:
            raise ValueError(f"the flash's clock is divided by 1 or more, not {self._divider}")
        ports = {"start": In(1), "stop": In(1), "address": In(24), "o": Out(stream.Signature(32))}
        super().__init__(ports | PINS)

    def elaborate(self, platform):
        m = Module()
        step = Signal(Step)
        shift = Signal(32)  # to be sent, highest bit first
        left = Signal(range(WAKING))
        since = Signal(range(self._divider))
        byte = Signal(7)
        clocked = (step == Step.WAKE) | (step == Step.COMMAND) | (step == Step.WORD)
        tick = since == self._divider - 1
        rising, falling = clocked & tick & ~self.sck, clocked & tick & self.sck
        m.d.comb += self.copi.eq(shift[-1])
        m.d.sync += since.eq(Mux(tick | ~clocked, 0, since + 1))
        with m.If(clocked & tick):
            m.d.sync += self.sck.eq(~self.sck)
        with m.If(falling):
            m.d.sync += [shift.eq(shift << 1), left.eq(left - 1)]

        with m.Switch(step):
            with m.Case(Step.APART):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.d.sync += [
                        self.cs_n.eq(0),
                        shift.eq(Const(WAKE << 24, 32)),
                        left.eq(7),
                        step.eq(Step.WAKE),
                    ]
            with m.Case(Step.WAKE):
                with m.If(falling & (left == 0)):
                    m.d.sync += [self.cs_n.eq(1), left.eq(WAKING - 1), step.eq(Step.WAIT)]
            with m.Case(Step.WAIT):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.d.sync += [
                        self.cs_n.eq(0),
                        shift.eq(Cat(self.address, Const(READ, 8))),
                        left.eq(32 + READ_DUMMY_BITS - 1),
                        step.eq(Step.COMMAND),
                    ]
            with m.Case(Step.COMMAND):
                with m.If(falling & (left == 0)):
                    m.d.sync += [left.eq(31), step.eq(Step.WORD)]
            with m.Case(Step.WORD):
                with m.If(rising):
                    m.d.sync += byte.eq(Cat(self.cipo, byte))
                    with m.If(left[:3] == 0):
                        m.d.sync += self.o.payload.eq(Cat(self.o.payload[8:], self.cipo, byte))
                with m.If(falling & (left == 0)):
                    m.d.sync += [left.eq(31), self.o.valid.eq(1), step.eq(Step.OFFER)]
            with m.Case(Step.OFFER):
                with m.If(self.o.ready):
                    m.d.sync += [self.o.valid.eq(0), step.eq(Step.WORD)]
        with m.If(self.stop | self.start):
            m.d.sync += [
                self.cs_n.eq(1), self.sck.eq(0), self.o.valid.eq(0), step.eq(Step.IDLE)
            ]  # fmt: skip
        with m.If(self.start):
            m.d.sync += [left.eq(APART - 1), step.eq(Step.APART)]
        return m


class FlashBoot(wiring.Component):
    """Stands between hosts and engine: after reset it LOADs the image of the flash, then it lets
    packets and answers through, combinationally.

    The image (`pleach.engine.flash`) is read twice: only one whose CRC matches is sent. No packet
    of a host is taken until that has ended.

    Args:
        address: byte of the flash where the image begins.
        divider: of `SpiReader`.

    Ports:
        i, o: packets of hosts, answers to them.
        packets, answers: the engine's.
        boot: what became of it, for the engine's status words.
        booted: strobe, that is known now.
        cs_n, sck, copi, cipo: the flash's pins.

    Raises:
        ValueError: an address that is none, or a divider below 1.
    """

    def __init__(self, *, address: int, divider: int = 2):
        self._address, self._divider = operator.index(address), divider
        if not 0 <= self._address < 1 << 24:
            raise ValueError(f"an address in the flash has 24 bits: {self._address:#x} has not")
        packet = stream.Signature(PACKET_WORD)
        super().__init__(
            {
                "i": In(packet),
                "o": Out(packet),
                "packets": Out(packet),
                "answers": In(packet),
                "boot": Out(Boot, init=Boot.BUSY),
                "booted": Out(1),
            }
            | PINS
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = SpiReader(divider=self._divider)
        m.submodules.crc = crc = WordCrc(1)
        for pin in ("cs_n", "sck", "copi"):
            m.d.comb += getattr(self, pin).eq(getattr(reader, pin))
        word = reader.o.payload
        m.d.comb += [
            reader.cipo.eq(self.cipo),
            reader.address.eq(self._address),
            crc.word.eq(word),
        ]
        length, left = Signal(22, reset_less=True), Signal(22, reset_less=True)  # words
        known = Signal()  # the image is whole: this is the second reading
        first = Signal()

        def ends(boot: Boot) -> None:
            m.d.comb += [reader.stop.eq(1), self.booted.eq(1)]
            m.d.sync += self.boot.eq(boot)
            m.next = "through"

        with m.FSM():
            with m.State("start"):
                m.d.comb += reader.start.eq(1)
                m.next = "magic"
            with m.State("magic"):
                m.d.comb += reader.o.ready.eq(1)
                with m.If(reader.o.valid):
                    m.next = "length"
                    with m.If(word != IMAGE_MAGIC):
                        ends(Boot.EMPTY)
            with m.State("length"):
                with m.If(reader.o.valid):
                    with m.If((word == 0) | word[:2].any() | word[24:].any()):
                        ends(Boot.DAMAGED)
                    with m.Else():
                        m.d.comb += reader.o.ready.eq(1)
                        m.d.sync += [left.eq(length), first.eq(1)]
                        with m.If(known):
                            m.next = "command"
                        with m.Else():
                            m.d.sync += [length.eq(word[2:24]), left.eq(word[2:24])]
                            m.next = "check"
            with m.State("check"):
                with m.If(reader.o.valid & ~crc.busy):
                    m.d.comb += [reader.o.ready.eq(1), crc.take.eq(1), crc.begin.eq(first)]
                    m.d.sync += [first.eq(0), left.eq(left - 1)]
                    with m.If(left == 1):
                        m.next = "settle"
            with m.State("settle"):
                with m.If(reader.o.valid & ~crc.busy):
                    m.next = "compare"
            with m.State("compare"):
                m.next = "compared"
            with m.State("compared"):
                with m.If(crc.wrong):
                    ends(Boot.DAMAGED)
                with m.Else():
                    m.d.sync += known.eq(1)
                    m.next = "start"
            with m.State("command"):
                m.d.comb += [
                    self.packets.valid.eq(1),
                    self.packets.p.data.eq(command_word(Command.LOAD)),
                ]
                with m.If(self.packets.ready):
                    m.next = "load"
            with m.State("load"):
                m.d.comb += [
                    self.packets.valid.eq(reader.o.valid),
                    self.packets.p.data.eq(word),
                    self.packets.p.last.eq(left == 1),
                    reader.o.ready.eq(self.packets.ready),
                ]
                with m.If(reader.o.valid & reader.o.ready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "answer"
            with m.State("answer"):
                m.d.comb += self.answers.ready.eq(1)
                with m.If(self.answers.valid):
                    error = layout(RESPONSE_WORD)(self.answers.p.data).error
                    with m.If(error == EngineError.OK):
                        ends(Boot.LOADED)
                    with m.Else():
                        ends(Boot.REFUSED)
            with m.State("through"):
                connect(m, flipped(self.i), flipped(self.packets))
                connect(m, flipped(self.answers), flipped(self.o))
        return m

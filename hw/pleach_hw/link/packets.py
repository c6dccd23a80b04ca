"""Packets of words out of a stream of bytes, and into one."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.host.frames import RUN
from pleach_hw.layouts import PACKET_WORD

_RUN = data.StructLayout(RUN.fields)


class PacketReader(wiring.Component):
    """Reads the runs of a stream from a buffer and gives the words that they stand for.

    A byte of data takes `ram_latency` cycles and one more, a zero takes one.

    Args:
        depth: bytes of the buffer, a power of two.
        ram_latency: of the buffer.

    Ports:
        accepted: position behind the last byte in the buffer.
        taken: position of the next one that leaves it.
        read_addr, read_data: of the buffer.
        o: packets.
        clear: forget what is in the buffer, and end the packet that was begun.
        clearing: that is not done yet, or the packet's answer was not `answered` yet.
        answered: the last word of an answer passes.
    """

    def __init__(self, *, depth: int, ram_latency: int):
        self._ram_latency = ram_latency
        position = range(2 * depth)
        super().__init__(
            {
                "accepted": In(position),
                "taken": Out(position),
                "read_addr": Out(range(depth)),
                "read_data": In(8),
                "o": Out(stream.Signature(PACKET_WORD)),
                "clear": In(1),
                "clearing": Out(1),
                "answered": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        head = Signal(_RUN)
        within = Signal()  # of `count` and one byte more of the run
        place = Signal(2)  # in the word
        stale = Signal(self._ram_latency + 1)  # cycles until what is read is the byte at `taken`
        begun, asked = Signal(), Signal()  # words of a packet went, its answer did not come
        word = self.o.p

        there = (self.taken != self.accepted) & ~stale[0]
        room = ~self.o.valid | self.o.ready
        step = within & room & (there | head.zeros)
        get = Signal()
        m.d.comb += [
            self.read_addr.eq(self.taken),
            get.eq(~self.clearing & there & (~within | (room & ~head.zeros))),
        ]
        m.d.sync += stale.eq(stale >> 1)
        with m.If(get):
            m.d.sync += [self.taken.eq(self.taken + 1), stale.eq(-1)]

        with m.If(room):
            m.d.sync += self.o.valid.eq(0)
        with m.If(~self.clearing):
            with m.If(~within):
                with m.If(there):
                    m.d.sync += [head.eq(self.read_data), within.eq(1)]
            with m.Elif(step):
                last = head.count == 0
                m.d.sync += [
                    word.data.eq(Cat(word.data[8:], Mux(head.zeros, 0, self.read_data))),
                    word.last.eq(last & head.last),
                    head.count.eq(head.count - 1),
                    within.eq(~last),
                    place.eq(place + 1),
                    self.o.valid.eq(place == 3),
                ]
        with m.Else():
            # A word that was offered goes first.
            with m.If(~self.o.valid & begun):
                m.d.sync += [self.o.valid.eq(1), word.last.eq(1)]
            with m.If(~self.o.valid & ~begun & ~asked):
                m.d.sync += self.clearing.eq(0)

        with m.If(self.answered):
            m.d.sync += asked.eq(0)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += begun.eq(~word.last)
            with m.If(word.last):
                m.d.sync += asked.eq(1)
        with m.If(self.clear):
            m.d.sync += [
                self.clearing.eq(1),
                self.taken.eq(0),
                stale.eq(-1),
                within.eq(0),
                place.eq(0),
            ]
        return m


class PacketWriter(wiring.Component):
    """Writes words into a buffer as runs of a word each: a byte for the run and four of data.

    Args:
        depth: bytes of the buffer, a power of two.

    Ports:
        i: packets.
        acknowledged: position of the first byte that the buffer holds.
        written: position behind the last one.
        write_en, write_addr, write_data: of the buffer.
        clear: begin anew at position 0, with the next word.
        drop: words are taken and not written.
    """

    def __init__(self, *, depth: int):
        self._depth = depth
        position = range(2 * depth)
        super().__init__(
            {
                "i": In(stream.Signature(PACKET_WORD)),
                "acknowledged": In(position),
                "written": Out(position),
                "write_en": Out(1),
                "write_addr": Out(range(depth)),
                "write_data": Out(8),
                "clear": In(1),
                "drop": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        place = Signal(range(5))
        head = Signal(_RUN)
        room = (self.written ^ self.acknowledged) != self._depth
        word = self.i.p
        m.d.comb += [
            head.count.eq(3),
            head.last.eq(word.last),
            self.write_addr.eq(self.written),
            self.write_en.eq(self.i.valid & room & ~self.drop),
            self.i.ready.eq(self.drop | (room & (place == 4))),
        ]
        with m.Switch(place):
            with m.Case(0):
                m.d.comb += self.write_data.eq(head)
            for number in range(4):
                with m.Case(number + 1):
                    m.d.comb += self.write_data.eq(word.data.word_select(number, 8))
        with m.If(self.write_en):
            m.d.sync += [self.written.eq(self.written + 1), place.eq(place + 1)]
            with m.If(place == 4):
                m.d.sync += place.eq(0)
        with m.If(self.clear):
            m.d.sync += [self.written.eq(0), place.eq(0)]
        return m

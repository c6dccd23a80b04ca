"""Words of RUN packets to vectors of activations, and vectors to words of the answer."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.numbers import INT16_PER_WORD as WIDE
from pleach.numbers import UINT8_PER_WORD as NARROW
from pleach_hw.compute.router import widened
from pleach_hw.layouts import PACKET_WORD, vector_layout


class InputUnpack(wiring.Component):
    """The inputs of a RUN packet, a word a cycle; combinational from `i` to `o`.

    A packet that ends too soon still gives a last vector, so that the run comes to an end; what
    follows the last input is discarded up to the packet's end.

    Args:
        lanes: of the vectors, 4 at least; a word fills some of them.
        column_width: bits of a column's number, and of the number of inputs.

    Ports:
        start: a packet of `inputs` inputs begins; int16 where `wide`, else uint8.
        i, o: the words after the command word; vectors.
        done: the packet's last word was taken.
        wrong_length: too few words or too many; stands until the next start.
    """

    def __init__(self, *, lanes: int, column_width: int = 16):
        self._lanes = lanes
        vector = vector_layout(lanes=lanes, column_width=column_width)
        super().__init__(
            {
                "start": In(1),
                "inputs": In(column_width),
                "wide": In(1),
                "i": In(stream.Signature(PACKET_WORD)),
                "o": Out(stream.Signature(vector)),
                "done": Out(1),
                "wrong_length": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        left = Signal.like(self.inputs)
        column = Signal.like(self.inputs)
        complete = Signal()  # the last vector was given
        per_word = Mux(self.wide, WIDE, NARROW)
        many, few = left[2:].any(), left[:2]  # 4 and more, or so many
        last = Mux(self.wide, ~many & (few != 3), ~many | (left == NARROW))
        word = self.i.p.data

        vector = self.o.p
        m.d.comb += [
            self.o.valid.eq(self.i.valid & ~complete & ~self.done),
            self.i.ready.eq((self.o.ready | complete) & ~self.done),
            vector.last.eq(last | self.i.p.last),
        ]
        mask = Cat(many | (few > n) for n in range(NARROW))
        for condition, parts in (
            (self.wide, [word.word_select(n, 16).as_signed() for n in range(WIDE)]),
            (~self.wide, [word.word_select(n, 8) for n in range(NARROW)]),
        ):
            values, places, aligned = widened(parts, mask, column, lanes=self._lanes)
            with m.If(condition):
                m.d.comb += [vector.mask.eq(places), vector.column.eq(aligned)]
                m.d.comb += [vector.values[lane].eq(value) for lane, value in enumerate(values)]

        with m.If(self.i.valid & self.i.ready):
            m.d.sync += self.done.eq(self.i.p.last)
            with m.If(~complete):
                m.d.sync += [
                    left.eq(left - per_word),
                    column.eq(column + per_word),
                    complete.eq(vector.last),
                    self.wrong_length.eq(last != self.i.p.last),
                ]
        with m.If(self.start):
            m.d.sync += [
                left.eq(self.inputs),
                column.eq(0),
                complete.eq(0),
                self.done.eq(0),
                self.wrong_length.eq(0),
            ]
        return m


class OutputPack(wiring.Component):
    """Vectors of outputs to words of two int16, lowest first; a word a cycle, from a register.

    Ports:
        i: vectors of `lanes` lanes, the first of a network at column 0.
        o: words; the upper half of the last one is zero where the outputs' number is odd.
        back: strobe, a vector's last word was taken; of a vector of half a word, that it would
            have been if words went out as soon as they are there.
    """

    def __init__(self, *, lanes: int, column_width: int = 16):
        self._lanes = lanes
        vector = vector_layout(lanes=lanes, column_width=column_width)
        super().__init__(
            {
                "i": In(stream.Signature(vector)),
                "o": Out(stream.Signature(PACKET_WORD)),
                "back": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        vector = self.i.p
        room = ~self.o.valid | self.o.ready
        if self._lanes == 1:
            odd = Signal()  # there is the lower half of a word
            late = Signal()
            value = vector.values[0].as_unsigned()
            m.d.comb += [
                self.i.ready.eq(room),
                self.back.eq(
                    Mux(self.o.valid, self.o.ready, late | (self.i.valid & ~odd & ~vector.last))
                ),
            ]
            m.d.sync += late.eq(self.o.valid & self.o.ready & self.i.valid & ~vector.last)
            with m.If(room):
                m.d.sync += [
                    self.o.valid.eq(self.i.valid & (odd | vector.last)),
                    self.o.p.data.eq(Mux(odd, Cat(self.o.p.data[:16], value), value)),
                    self.o.p.last.eq(vector.last),
                ]
                with m.If(self.i.valid):
                    m.d.sync += odd.eq(~odd & ~vector.last)
            return m

        pairs = self._lanes // 2
        pair = Signal(range(pairs))
        values = [
            Mux(vector.mask[n], vector.values[n].as_unsigned(), 0) for n in range(self._lanes)
        ]
        words = [Cat(*values[2 * n : 2 * n + 2]) for n in range(pairs)]
        more = [vector.mask[2 * n + 2] if n + 1 < pairs else 0 for n in range(pairs)]
        word = Signal(32)
        ends, ended = Signal(), Signal()  # a vector's last word is next, is in the register
        with m.Switch(pair):
            for n in range(pairs):
                with m.Case(n):
                    m.d.comb += [word.eq(words[n]), ends.eq(~more[n] if n + 1 < pairs else 1)]
        m.d.comb += [
            self.i.ready.eq(room & ends),
            self.back.eq(self.o.valid & self.o.ready & ended),
        ]
        with m.If(room):
            m.d.sync += [
                self.o.valid.eq(self.i.valid),
                self.o.p.data.eq(word),
                self.o.p.last.eq(ends & vector.last),
                ended.eq(ends),
            ]
            with m.If(self.i.valid):
                m.d.sync += pair.eq(Mux(ends, 0, pair + 1))
        return m

"""Canonical Huffman decoding: a bit reader and a decoder whose table is loaded at run time."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class BitReader(wiring.Component):
    """Takes 32-bit words and shows the next bits of them, bit 31 first.

    `window` shows the next bits, in the cycle of a `take` that word included; bits past
    those held are undefined. Words and consumption do not come in the same cycle.

    Args:
        width: bits in `window`, at most 15.

    Ports:
        need: bits that the next symbol may take, at most `width`.
        ask: fewer are held; give a word.
        word, take: a word, and the strobe that takes it.
        count, consume: bits to pass over, bit `n` set for `n` of them, and the strobe that does it.
        clear: forget all bits.
    """

    def __init__(self, *, width: int):
        if not 1 <= width <= 15:
            raise ValueError(f"window must be 1 to 15 bits, not {width}")
        self._width = width
        counts = range(width + 1)
        super().__init__(
            {
                "need": In(counts),
                "ask": Out(1),
                "word": In(32),
                "take": In(1),
                "window": Out(width),
                "count": In(width + 1),
                "consume": In(1),
                "clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        current = Signal(32)
        following = Signal(32)
        words = Signal(range(3))
        passed = Signal(5)  # bits of `current` already consumed

        m.d.comb += self.ask.eq(
            Mux(words == 0, self.need != 0, (words == 1) & (passed + self.need > 32))
        )
        first = Mux(words == 0, self.word, current)
        second = Mux(words == 2, following, self.word)
        ahead = Cat(second, first)
        m.d.comb += self.window.eq((ahead << passed)[64 - self._width : 64])

        # One sum for each count: they are ready before it is known which one is wanted.
        after = Signal(6)
        sums = [(passed + n)[:6] & self.count[n].replicate(6) for n in range(self._width + 1)]
        m.d.comb += after.eq(reduce(or_, sums))
        with m.If(self.consume):
            m.d.sync += passed.eq(after)
            with m.If(after[5]):
                m.d.sync += [current.eq(following), words.eq(words - 1)]
        with m.Elif(self.take):
            m.d.sync += words.eq(words + 1)
            with m.If(words == 0):
                m.d.sync += current.eq(self.word)
            with m.Else():
                m.d.sync += following.eq(self.word)
        with m.If(self.clear):
            m.d.sync += [words.eq(0), passed.eq(0)]
        return m


class HuffmanDecoder(wiring.Component):
    """One canonical code, `pleach.format.HuffmanTable` in hardware. Combinational from the window.

    Lengths are found by comparing the first ``l`` bits with ``upper[l]`` for every ``l`` at once. A
    code that fits a length fits all that are longer, so the length is where the fits begin.

    Args:
        max_length: longest code it can hold.
        size: most symbols it can hold.

    Ports:
        window: the next `max_length` bits, the first of them highest.
        length, number: the length of the code there, bit `l` set for `l`, and its code number.
        clear: forget the table.
        write, write_length, write_upper, write_offset: sets the table for one length, 1 upwards.
        single: the alphabet has one symbol, whose code has length 0.
    """

    def __init__(self, *, max_length: int, size: int):
        self._max_length = max_length
        self._number_shape = unsigned(max(1, (size - 1).bit_length()))
        super().__init__(
            {
                "window": In(max_length),
                "length": Out(max_length + 1),
                "number": Out(self._number_shape),
                "single": In(1),
                "clear": In(1),
                "write": In(1),
                "write_length": In(range(max_length + 1)),
                "write_upper": In(max_length + 1),
                "write_offset": In(self._number_shape),
            }
        )

    def elaborate(self, platform):
        m = Module()
        longest = self._max_length
        upper = [Signal(length + 1, name=f"upper_{length}") for length in range(1, longest + 1)]
        offset = Array(Signal.like(self.write_offset, name=f"offset_{i}") for i in range(longest))
        with m.Switch(self.write_length):
            for length in range(1, longest + 1):
                with m.Case(length), m.If(self.write):
                    m.d.sync += [
                        upper[length - 1].eq(self.write_upper),
                        offset[length - 1].eq(self.write_offset),
                    ]
        with m.If(self.clear):
            m.d.sync += [upper[length - 1].eq(1 << length) for length in range(1, longest + 1)]

        prefixes = [self.window[longest - length :] for length in range(1, longest + 1)]
        fits = [p < u for p, u in zip(prefixes, upper, strict=True)]
        begins = [
            fit & ~before for fit, before in zip(fits, [Const(0, 1), *fits[:-1]], strict=True)
        ]
        width = len(self.number)
        numbers = [
            (prefix + offset[index])[:width] & begins[index].replicate(width)
            for index, prefix in enumerate(prefixes)
        ]
        with m.If(self.single):
            m.d.comb += self.length.eq(1)
        with m.Else():
            m.d.comb += [
                self.length.eq(Cat(Const(0, 1), *begins)),
                self.number.eq(reduce(or_, numbers)),
            ]
        return m

"""Canonical Huffman decoding with a table that is loaded at run time, and the words it reads from.

Symbols are cut out of 32-bit words, bit 31 first. A reader takes the next word exactly when
docs/bitstream.md says so; that is what makes its loop tight.
"""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach_hw.load.buses import TableWrite


class TwoWords(wiring.Component):
    """The words that a reader holds, two at most.

    Ports:
        word: the next word that it would take.
        take, drop: take it, give the first one up; both may come in one cycle.
        first, second: what is held, and `word` where nothing is.
        held: the first one that is held; undefined where none is.
        one, two: so many are held, or more.
        clear: hold nothing.
    """

    def __init__(self):
        super().__init__(
            {
                "word": In(32),
                "take": In(1),
                "drop": In(1),
                "first": Out(32),
                "second": Out(32),
                "held": Out(32),
                "one": Out(1),
                "two": Out(1),
                "clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # A place that is free follows `word`, so that a take need only mark it as held.
        held = [Signal(32, name=f"held_{n}", reset_less=True) for n in range(2)]
        m.d.comb += [
            self.first.eq(Mux(self.one, held[0], self.word)),
            self.second.eq(Mux(self.two, held[1], self.word)),
            self.held.eq(held[0]),
        ]
        m.d.sync += [
            held[0].eq(Mux(self.drop, self.second, self.first)),
            held[1].eq(self.second),
            self.one.eq(Mux(self.drop, self.two | (self.one & self.take), self.one | self.take)),
            self.two.eq(~self.drop & (self.two | (self.one & self.take))),
        ]
        with m.If(self.clear):
            m.d.sync += [self.one.eq(0), self.two.eq(0)]
        return m


class BitReader(wiring.Component):
    """Cuts fields of known width out of its words.

    Args:
        width: of the widest field, at most 15.

    Ports:
        held: bits that are held, `FULL` where there are more.
        word, take: the next word, and the strobe that takes it; only while 15 bits or fewer are
            held.
        window, past: the next bits, behind `past` others; in the cycle of a `take` that word
            included. Those past what is held are undefined.
        count, field: bits of a field, while there is one to be read.
        consume: strobe, with or after its `take`: it was read. In the cycle after that no field is
            to be read yet, and `count` stands still: only `held` knows at once.
        clear: forget all bits.
    """

    FULL = 15

    def __init__(self, *, width: int):
        if not 1 <= width <= self.FULL:
            raise ValueError(f"window must be 1 to {self.FULL} bits, not {width}")
        self._width = width
        super().__init__(
            {
                "held": Out(range(self.FULL + 1)),
                "word": In(32),
                "take": In(1),
                "window": Out(width + 7),
                "past": Out(3),
                "count": In(range(width + 1)),
                "field": In(1),
                "consume": In(1),
                "clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = TwoWords()
        passed = Signal(5)  # bits of the first word already consumed
        after = Signal(6)
        consumed = Signal()
        # Whole bytes are passed over here; the rest is for whoever keeps the window.
        whole = Cat(Const(0, 3), passed[3:])
        m.d.comb += [
            self.window.eq((Cat(words.second, words.first) << whole)[64 - len(self.window) : 64]),
            self.past.eq(passed),
            after.eq(passed + self.count),
            words.word.eq(self.word),
            words.take.eq(self.take),
            words.drop.eq(consumed & after[5]),
            words.clear.eq(self.clear),
        ]
        m.d.sync += consumed.eq(self.consume)
        with m.If(consumed):
            m.d.sync += passed.eq(after)
        left = Array(Const(min(self.FULL, max(0, 32 - n)), 4) for n in range(64))[after]
        last_word = ~words.two & ~(words.one & self.take)
        with m.If(self.field):  # as if it were read: what says that it was comes late
            m.d.sync += self.held.eq(Mux(last_word, left, self.FULL))
            with m.If(~words.one & ~self.take):
                m.d.sync += self.held.eq(0)
        with m.If(self.clear):
            m.d.sync += [passed.eq(0), self.held.eq(0), consumed.eq(0)]
        return m


class SymbolReader(wiring.Component):
    """Cuts the symbols of one canonical code out of its words: `pleach.format.HuffmanTable` in
    hardware, a symbol in two cycles.

    Lengths are found by comparing the first ``l`` bits of the window with ``upper[l]`` for every
    ``l`` at once (`find`). A code that fits a length fits all that are longer, so the length is
    where the fits begin. In the next cycle the next window is cut out of the bits ahead, and known
    whether the next symbol asks for a word. So that no window waits for its word, the bits ahead go
    on into the word that would be taken. `stale` tells that it was another one, or none: then the
    window must be mended before a symbol that asks. A window of a symbol that asks and that is not
    stale goes on into a word that is there.

    Args:
        longest: longest code it can hold.
        size: most symbols it can hold.

    Ports:
        need: longest code of this table; 0 where it has one symbol, whose code has no bits.
        word, word_valid: the next word.
        ask: the next symbol wants it.
        stale: the window does not go on into it.
        mend: strobe, make it; while `ask` and `word_valid`, and nobody takes the word.
        find: strobe, read a symbol; not in two cycles running.
        take: strobe, with the `find` of a symbol that asks: it takes the word. Only while the
            window is not stale.
        taken: strobe, another reader takes the word.
        number: of the symbol, two cycles later; `found` says that it is the one `sought`.
        clear: forget all bits.
        forget: the table is empty.
        table: its write port.
    """

    def __init__(self, *, longest: int, size: int):
        self._longest = longest
        self._number_shape = number = unsigned(max(1, (size - 1).bit_length()))
        super().__init__(
            {
                "need": In(range(longest + 1)),
                "word": In(32),
                "word_valid": In(1),
                "ask": Out(1),
                "stale": Out(1),
                "mend": In(1),
                "find": In(1),
                "take": In(1),
                "taken": In(1),
                "number": Out(number),
                "sought": In(number),
                "found": Out(1),
                "clear": In(1),
                "forget": In(1),
                "table": In(TableWrite()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        longest = self._longest
        lengths = range(1, longest + 1)
        upper = [Signal(length + 1, name=f"upper_{length}") for length in lengths]
        offset = [Signal(self._number_shape, name=f"offset_{length}") for length in lengths]
        for length in lengths:
            with m.If(self.table.write & (self.table.length == length)):
                m.d.sync += [
                    upper[length - 1].eq(self.table.upper),
                    offset[length - 1].eq(self.table.offset),
                ]
        with m.If(self.forget):
            # What is longer than the longest fits, as it does where the table has that length.
            m.d.sync += [u.eq(1 << length) for u, length in zip(upper, lengths, strict=True)]

        m.submodules.words = words = TwoWords()
        passed = Signal(5)  # bits of the first word already consumed
        window = Signal(longest, reset_less=True)
        ahead = Signal(2 * longest)
        m.d.comb += [
            words.word.eq(self.word),
            words.take.eq(self.take),
            words.clear.eq(self.clear),
            ahead.eq((Cat(words.second, words.first) << passed)[64 - 2 * longest :]),
        ]

        # The first cycle of a symbol: for each length, what follows if it is that one.
        fits = Signal(longest)
        begins = Signal(longest)
        numbers = [Signal(self._number_shape, name=f"number_{n}") for n in lengths]
        found = Signal(longest)
        sums = [Signal(5, name=f"sum_{length}") for length in lengths]
        asks = Signal(longest)
        following = Signal(2 * longest)
        last_word = Mux(self.ask, ~words.one, ~words.two)
        reach = passed + self.need
        for index, length in enumerate(lengths):
            prefix = window[longest - length :]
            number = (prefix + offset[index])[: len(self.number)]
            m.d.comb += fits[index].eq(prefix < upper[index])
            m.d.sync += [
                numbers[index].eq(number),
                found[index].eq(number == self.sought),
                sums[index].eq(passed + length),
                asks[index].eq(last_word & (reach > 32 - length)),
            ]
        cut = Signal()
        lapsed = Signal()  # in the cycle before there was no word, or another reader took it
        alone = Signal()  # the only symbol there is, and the one sought
        m.d.sync += alone.eq((self.need == 0) & (self.sought == 0))
        coded = Signal()  # codes have bits
        # The first word is given up unless what fits leaves a bit of it: `beyond` is the longest
        # length that does.
        dropping = Signal()
        beyond = ~passed[:4]
        unfit = Cat(Const(1, 1), ~fits, Const(0, 15 - longest))
        m.d.sync += [
            coded.eq(self.need != 0),
            begins.eq(fits & ~(fits << 1) & coded.replicate(longest)),
            dropping.eq(passed[4] & unfit.bit_select(beyond, 1) & coded),
            following.eq(ahead),
            lapsed.eq(~self.word_valid | self.taken),
            cut.eq(self.find),
        ]
        # A symbol that asks holds fewer bits than it needs, of one word or of none: the window is
        # these and the next word's.
        rest = Cat(self.word[33 - longest :], words.held[: longest - 1])
        for bit in range(4):  # not `>>`: Yosys would let two readers share what shifts
            rest = Mux(beyond[bit], rest >> (1 << bit), rest)
        mended = Mux(passed[4], rest[:longest], self.word[32 - longest :])
        # `find` comes late: what depends on it waits for `cut`, and a window that was mended
        # although its symbol was found is cut anew.
        with m.If(cut):
            m.d.sync += self.stale.eq(lapsed | self.taken)
        with m.Elif(self.mend):
            m.d.sync += [window.eq(mended), self.stale.eq(0)]
        with m.Elif(self.taken):
            m.d.sync += self.stale.eq(1)

        # The second.
        def chosen(values):
            width = len(values[0])
            return reduce(or_, (v & begins[n].replicate(width) for n, v in enumerate(values)))

        m.d.comb += words.drop.eq(cut & dropping)
        with m.If(cut):
            m.d.sync += [
                passed.eq(chosen(sums)),
                self.ask.eq((begins & asks).any()),
                self.number.eq(chosen(numbers)),
                self.found.eq((begins & found).any() | alone),
                window.eq(chosen([following[longest - n : 2 * longest - n] for n in lengths])),
            ]
        with m.If(self.clear):
            m.d.sync += [passed.eq(0), self.ask.eq(self.need != 0), self.stale.eq(1), cut.eq(0)]
        return m

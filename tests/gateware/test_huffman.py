"""Readers and entry decoder against the Python side of the format."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pleach.format import HuffmanTable, gaps, interleave
from pleach.format.bitstream import Coding
from pleach_hw.load.entry_decoder import EntryDecoder
from pleach_hw.load.huffman import BitReader, SymbolReader
from pleach_hw.load.serial_decoder import SerialDecoder, SerialReader
from tests.gateware.streams import receive, send, simulate
from tests.strategies import random_layer


async def load_table(ctx, port, table):
    """Write a `HuffmanTable` through a `TableWrite` port."""
    for length in range(1, table.length + 1):
        ctx.set(port.length, length)
        ctx.set(port.upper, table.upper[length])
        ctx.set(port.offset, table.offset[length] & 0xFF)
        ctx.set(port.write, 1)
        await ctx.tick()
    ctx.set(port.write, 0)


#: a symbol, two, one, an even code, a skewed one of 12 bits, all there are, and a few
ALPHABETS = ([5], [1, 9], [7], [1] * 32, [2**n for n in range(14)], range(1, 257), [3, 1, 1])


@pytest.mark.parametrize("busy", [0.0, 0.5])
def test_symbols(busy):
    """Tables one after the other, so that nothing of one is left in the next; words are late, and
    between its own the reader sees those that another one takes."""
    dut = SymbolReader(longest=12, size=256)
    rng = np.random.default_rng(1)

    async def bench(ctx):
        for frequencies in ALPHABETS:
            table, _ = HuffmanTable.build(np.array([*frequencies]), limit=12)
            lookup = table.lookup(np.arange(table.size))
            numbers, lengths = lookup & 255, lookup >> 8
            # Of long codes many, so that others take words between any two of their own.
            windows = rng.integers(0, len(lookup), 60 if table.size < 99 else 900)
            bits = "".join(
                f"{w:0{table.length}b}"[: lengths[w]] if table.length else "" for w in windows
            )
            words = [int(bits[n : n + 32].ljust(32, "0"), 2) for n in range(0, len(bits), 32)]
            words += rng.integers(2**32, size=2).tolist()
            ctx.set(dut.forget, 1)
            await ctx.tick()
            ctx.set(dut.forget, 0)
            await load_table(ctx, dut.table, table)
            ctx.set(dut.need, table.length)
            ctx.set(dut.sought, int(numbers[windows[0]]))
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            held, others, valid = 0, 0, False

            async def tick(words=words, **strobes):
                """A cycle, in which another reader may take the word or one may come."""
                nonlocal others, valid
                shows_own = others == 0
                ctx.set(dut.word, words[0] if shows_own else int(rng.integers(2**32)))
                ctx.set(dut.word_valid, valid)
                foreign = valid and not shows_own and rng.random() < 0.5
                ctx.set(dut.taken, foreign)
                for name, value in strobes.items():
                    ctx.set(getattr(dut, name), value)
                await ctx.tick()
                for name in strobes:
                    ctx.set(getattr(dut, name), 0)
                if foreign:
                    others -= rng.random() < 0.5
                    valid = rng.random() >= busy
                valid = valid or rng.random() >= busy

            for window in windows:
                asks = held < table.length
                assert ctx.get(dut.ask) == asks
                while asks and (not valid or others or ctx.get(dut.stale)):
                    await tick(mend=valid and not others)
                await tick(find=1, take=asks)
                if asks:
                    words.pop(0)
                    held += 32
                    valid = rng.random() >= busy
                    others = int(rng.integers(3))
                await tick()
                held -= int(lengths[window])
                assert ctx.get(dut.number) == numbers[window]
                assert ctx.get(dut.found) == (numbers[window] == numbers[windows[0]])

    simulate(dut, bench)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 15), st.booleans()), min_size=1, max_size=100),
    st.integers(0, 2**32),
)
@example([(15, True), (15, False), (2, True), (9, True)], 1)  # a word ends with a field
def test_bit_reader(fields, seed):
    """Random fields are cut out of random words, each asked for no sooner than needed; words are
    taken with a field or before it."""
    dut = BitReader(width=15)
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 2**32, sum(count for count, _ in fields) // 32 + 2).tolist()
    bits = "".join(f"{word:032b}" for word in data)

    async def bench(ctx):
        taken = read = 0
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        for count, before in fields:
            held = 32 * taken - read
            ctx.set(dut.count, count)
            ctx.set(dut.field, 1)
            assert ctx.get(dut.held) == min(held, 15)
            if held < count:
                ctx.set(dut.word, data[taken])
                ctx.set(dut.take, 1)
                taken += 1
                if before:
                    await ctx.tick()
                    ctx.set(dut.take, 0)
                    ctx.set(dut.word, 0)
            if count:
                window = f"{ctx.get(dut.window):022b}"[ctx.get(dut.past) :]
                assert window[:count] == bits[read : read + count]
            ctx.set(dut.consume, 1)
            await ctx.tick()
            ctx.set(dut.take, 0)
            ctx.set(dut.word, 0)
            ctx.set(dut.consume, 0)
            ctx.set(dut.field, 0)
            await ctx.tick()
            read += count

    simulate(dut, bench)


def decode_in_hardware(layers, *, decoder=EntryDecoder, idle=0.0, stall=0.0, seed=0, stamps=None):
    """Layers one after the other, encoded by the software and read by the hardware: the gap symbols
    of each."""
    dut = decoder(1 << 20)
    received = []

    async def bench(ctx):
        for layer in layers:
            coding = Coding.of(layer)
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            await ctx.tick()
            await load_table(ctx, dut.gap_table, coding.gap_table)
            await load_table(ctx, dut.code_table, coding.code_table)
            for number, gap_class in enumerate(coding.gap_order):
                ctx.set(dut.classes.number, number)
                ctx.set(dut.classes.gap_class, int(gap_class))
                ctx.set(dut.classes.write, 1)
                await ctx.tick()
            ctx.set(dut.classes.write, 0)
            ctx.set(dut.gap_length, coding.gap_table.length)
            ctx.set(dut.code_length, coding.code_table.length)
            ctx.set(dut.entries, layer.kept)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            words.extend(coding.data.tolist())
            symbols = int(interleave.count(layer.positions).sum())
            received.append(
                await receive(ctx, dut.o, symbols, stall=stall, seed=seed, stamps=stamps)
            )
            for _ in range(8):
                await ctx.tick()
            assert ctx.get(dut.done) and not ctx.get(dut.o.valid)
            assert not words, "words were left"

    words = []

    async def source(ctx):
        random = Random(seed)
        while True:
            while not words or random.random() < idle:
                ctx.set(dut.i.payload, random.getrandbits(32))
                await ctx.tick()
            await send(ctx, dut.i, words[:1])
            del words[0]

    simulate(dut, bench, background=[source], checks=[dut.o], limit=60_000)
    return received


def assert_decoded(layers, **rates):
    """What the hardware reads of each layer is the layer."""
    for layer, symbols in zip(layers, decode_in_hardware(layers, **rates), strict=True):
        steps = np.array([s["gap"] + (not s["skip"]) for s in symbols])
        entry = np.array([not s["skip"] for s in symbols])
        codes = Coding.of(layer).code_order[[s["code"] for s in symbols if not s["skip"]]]
        assert np.array_equal(np.cumsum(steps)[entry] - 1, layer.positions)
        assert np.array_equal(codes, layer.codes)


decoders = pytest.mark.parametrize("decoder", [EntryDecoder, SerialDecoder])


@pytest.mark.parametrize(
    ("decoder", "idle", "stall"),
    [
        (EntryDecoder, 0.0, 0.0),
        (EntryDecoder, 0.5, 0.0),
        (EntryDecoder, 0.0, 0.5),
        (SerialDecoder, 0.5, 0.5),
    ],
)
def test_entries(decoder, idle, stall):
    """Layers from one entry to all, with codes of no bits and of many."""
    rng = np.random.default_rng(5)
    layers = [
        random_layer(rng, *shape, density=density, codebook=codebook)
        for shape, density, codebook in (
            ((1, 1), 1.0, 1), ((9, 7), 1.0, 1), ((20, 30), 0.01, 7), ((12, 20), 0.5, 256),
            ((1, 9), 0.5, 2), ((25, 15), 0.1, 40), ((13, 3), 1.0, 7), ((29, 29), 0.1, 1),
        )
    ]  # fmt: skip
    assert all(layer.kept for layer in layers)
    assert_decoded(layers, decoder=decoder, idle=idle, stall=stall, seed=int(10 * idle))


@decoders
def test_skips_and_longest_codes(decoder):
    """Gaps of several skips, the longest extra bits, and weight codes of 12 bits."""
    rng = np.random.default_rng(4)
    counts = [1, 1]
    while len(counts) < 16:
        counts.append(counts[-1] + counts[-2])
    codes = rng.permutation(np.repeat(np.arange(16), counts))[:400]
    # Of most classes of gaps one at least: the list of classes is of two halves.
    often = [1, 2, 600, 40_000, 65_536, 65_537, 200_000]
    seldom = [3, 4, 5, 7, 10, 14, 20, 30, 40, 60, 80, 120, 160, 240, 1000, 2000, 4000, 9000]
    jumps = rng.choice(
        often + seldom,
        len(codes),
        p=[0.51, 0.2, 0.1, 0.03, 0.03, 0.02, 0.02, *[0.005] * len(seldom)],
    )
    layer = replace(
        random_layer(rng, 9000, 9000, density=0, codebook=1),
        positions=np.cumsum(jumps),
        codes=np.unique(codes, return_inverse=True)[1],
        codebook=np.arange(len(np.unique(codes))),
    )
    assert_decoded([layer, random_layer(rng, 9, 9)], decoder=decoder, idle=0.2, stall=0.2)


def test_one_entry_in_two_cycles():
    """With words and room at hand; the excess is readers that take words in neighbouring cycles."""
    layer = random_layer(np.random.default_rng(8), 100, 100, density=0.1, codebook=16)
    stamps = []
    decode_in_hardware([layer], stamps=stamps)
    cycles = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
    assert 2 <= cycles < 2.04


def test_a_bit_in_one_cycle():
    """A step of the serial decoder: eight cycles, and one for each of its bits."""
    layer = random_layer(np.random.default_rng(8), 40, 40, density=0.1, codebook=16)
    stamps = []
    decode_in_hardware([layer], decoder=SerialDecoder, stamps=stamps)
    coding = Coding.of(layer)
    classes, _ = gaps.symbols(layer.positions)
    lengths = coding.code_table.lengths(coding.code_order, 256)
    bits = lengths[layer.codes] + gaps.EXTRA_BITS[classes]
    gap_bits = coding.gap_table.lengths(coding.gap_order, gaps.CLASSES)[classes]
    # An entry is given in the step that reads the next one's gap code.
    assert np.array_equal(np.diff(stamps)[:-1], (8 + bits[1:-1] + gap_bits[2:]).astype(int))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=100),
    st.integers(0, 2**32),
)
def test_serial_reader(fields, seed):
    """Random fields, bit by bit; a word is asked for where fewer bits are held than a field has."""
    dut = SerialReader(width=12)
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 2**32, sum(fields) // 32 + 2).tolist()
    bits = "".join(f"{word:032b}" for word in data)

    async def bench(ctx):
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        taken = read = 0
        for count in fields:
            ctx.set(dut.need, count)
            assert ctx.get(dut.ask) == (32 * taken - read < count)
            if ctx.get(dut.ask):
                ctx.set(dut.word, data[taken])
                ctx.set(dut.take, 1)
                taken += 1
                await ctx.tick()
                ctx.set(dut.take, 0)
            ctx.set(dut.shift, 1)
            for bit in bits[read : read + count]:
                assert ctx.get(dut.bit) == int(bit)
                await ctx.tick()
            ctx.set(dut.shift, 0)
            read += count

    simulate(dut, bench)

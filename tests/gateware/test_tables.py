"""The readers of a layer's tables against `HuffmanTable` and the format's writer."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from pleach.engine import EngineConfig
from pleach.engine.protocol import EngineError
from pleach.errors import FormatError
from pleach.format import HuffmanTable, gaps
from pleach.format.bitstream import Coding
from pleach_hw.load.tables import ByteReader, ClassList, TableBuilder, TableReader
from tests.gateware.streams import receive, send, simulate
from tests.strategies import random_layer


def test_table_builder():
    """Counts of code lengths, right ones and wrong ones by the way, against `HuffmanTable`."""
    dut = TableBuilder()
    rng = np.random.default_rng(6)
    cases = []  # (size, counts of the lengths below the longest)
    for _ in range(40):
        table, _ = HuffmanTable.build(rng.integers(1, 100, rng.integers(2, 257)), limit=12)
        counts = np.array(table.counts[1:-1])
        cases.append((table.size, counts.tolist()))
        if len(counts):
            counts[rng.integers(len(counts))] += rng.integers(-1, 3)
            cases.append((table.size, np.maximum(counts, 0).tolist()))
    # Full too soon, with nothing and with something left; a longest length without a code.
    cases += [(2, [2]), (3, [2]), (4, [1, 2]), (5, [1, 2]), (2, [0, 2, 0]), (256, [0] * 7)]
    broken = []

    async def bench(ctx):
        for size, counts in cases:
            ctx.set(dut.size, size)
            ctx.set(dut.longest, len(counts) + 1)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            await ctx.tick().repeat(2)
            written, wrong = [], False
            while not wrong and len(written) <= len(counts):
                assert ctx.get(dut.at_longest) == (len(written) == len(counts))
                ctx.set(dut.count, 255 if ctx.get(dut.at_longest) else counts[len(written)])
                ctx.set(dut.step, 1)
                await ctx.tick()
                ctx.set(dut.step, 0)
                while not ctx.get(dut.done):
                    if ctx.get(dut.o.write):
                        assert ctx.get(dut.o.length) == len(written) + 1
                        written.append((ctx.get(dut.o.upper), ctx.get(dut.o.offset)))
                    await ctx.tick()
                wrong = bool(ctx.get(dut.broken))
                await ctx.tick()
            broken.append(wrong)
            try:
                table = HuffmanTable.from_counts(size, len(counts) + 1, bytes(counts))
            except FormatError:
                assert wrong, (size, counts)
                continue
            assert not wrong, (size, counts)
            offsets = [offset & 0xFF for offset in table.offset]
            assert written == list(zip(table.upper[1:], offsets[1:], strict=True))

    simulate(dut, bench, limit=60_000)
    assert 20 < sum(broken) < len(cases) - 20


def test_byte_reader():
    """Bytes in order; a word is taken for a byte that is wanted, and no sooner."""
    dut = ByteReader()
    rng = np.random.default_rng(2)
    data = rng.integers(2**32, size=6).tolist()

    async def words_in(ctx):
        await send(ctx, dut.i, data, idle=0.4, seed=1)

    async def bench(ctx):
        got = []
        for count in (4, 1, 7, 8, 4):
            got += await receive(ctx, dut.o, count, stall=0.3, seed=count)
            for _ in range(3):  # nothing is taken where nothing is wanted
                await ctx.tick()
                assert not ctx.get(dut.i.ready)
        assert bytes(got) == np.array(data, "<u4").tobytes()

    simulate(dut, words_in, bench, checks=[dut.o])


def test_byte_reader_forgets():
    dut = ByteReader()

    async def bench(ctx):
        for word in (0x04030201, 0x08070605):
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            ctx.set(dut.i.payload, word)
            ctx.set(dut.i.valid, 1)
            assert await receive(ctx, dut.o, 2) == [word & 0xFF, word >> 8 & 0xFF]

    simulate(dut, bench)


@pytest.mark.parametrize(
    "lengths", [[1], [1, 1], [0, 2, 1, 0, 2], [3] * 8, [5, 0, 0, 1, 2, 3, 4, 5], [0] * 25 + [1]]
)
def test_class_list(lengths):
    """Classes by length, then by class, a class a cycle; a list after another one."""
    dut = ClassList()
    pairs = [*lengths, 0][: len(lengths) + len(lengths) % 2]

    async def bench(ctx):
        for last_length in (max(lengths), max(lengths) - 1):
            ctx.set(dut.clear, 1)
            ctx.set(dut.last, len(lengths) - 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            for low, high in zip(pairs[0::2], pairs[1::2], strict=True):
                ctx.set(dut.pair, low | high << 4)
                ctx.set(dut.put, 1)
                filled = ctx.get(dut.filled)
                await ctx.tick()
            assert filled
            ctx.set(dut.put, 0)
            assert ctx.get(dut.coded) == np.count_nonzero(lengths)
            found = []
            for length in range(1, last_length + 1):
                ctx.set(dut.scan, 1)
                for gap_class in range(len(lengths)):
                    assert ctx.get(dut.scanned) == (gap_class == len(lengths) - 1)
                    if ctx.get(dut.o.write):
                        assert ctx.get(dut.o.number) == len(found)
                        found.append(ctx.get(dut.o.gap_class))
                    await ctx.tick()
                ctx.set(dut.scan, 0)
                assert ctx.get(dut.of_length) == lengths.count(length)
                ctx.set(dut.advance, 1)
                await ctx.tick()
                ctx.set(dut.advance, 0)
            order = sorted(range(len(lengths)), key=lambda gap_class: lengths[gap_class])
            assert found == [c for c in order if 0 < lengths[c] <= last_length]
            missed = any(length > last_length for length in lengths)
            assert last_length == 0 or ctx.get(dut.incomplete) == missed

    simulate(dut, bench)


def test_class_list_wants_a_last_class():
    """The last class has to have a code, whatever the others have."""
    dut = ClassList()

    async def bench(ctx):
        for pair, incomplete in ((0x11, 0), (0x01, 1), (0x10, 0)):
            ctx.set(dut.last, 1)
            for strobe in ("clear", "put", "scan", "scan"):
                ctx.set(dut.pair, pair)
                ctx.set(getattr(dut, strobe), 1)
                await ctx.tick()
                ctx.set(getattr(dut, strobe), 0)
            assert ctx.get(dut.incomplete) == incomplete, pair

    simulate(dut, bench)


CONFIG = EngineConfig(codebook=512)


def read_tables(layers, *, edit=None, idle=0.0, words=None):
    """What the reader writes for each layer that has entries, and its error or `OK`.

    Args:
        edit: a change of the bytes of the tables.
        words: so many words are there; enough, unless said.
    """
    dut = TableReader(CONFIG)
    said, rest = [], []

    async def bench(ctx):
        for number, layer in enumerate(layers):
            coding = Coding.of(layer)
            narrow = bool(np.all(np.abs(layer.codebook) < 128))
            table = bytearray(coding.code_table.stored)
            lengths = coding.gap_table.lengths(coding.gap_order, gaps.CLASSES)
            lengths = lengths[: max(coding.gap_order) + 1].astype(int).tolist()
            if len(lengths) - lengths.count(0) <= 1:
                lengths[-1] = 1
            pairs = [*lengths, 0]
            table += bytes(a | b << 4 for a, b in zip(pairs[0::2], pairs[1::2], strict=False))
            values = layer.codebook[coding.code_order[: len(layer.codebook)]]
            table += values.astype("<i1" if narrow else "<i2").tobytes()
            if edit:
                edit(table)
            data = np.frombuffer(bytes(table + bytes(-len(table) % 4)), "<u4").tolist()
            sent = data if words is None else data[:words]
            fields = {
                "codebook_size": len(layer.codebook),
                "code_length": coding.code_table.length,
                "gap_classes": len(lengths),
                "gap_length": coding.gap_table.length,
                "narrow": narrow,
            }
            said.append({"code": {}, "gap": {}, "classes": {}, "values": {}, "error": None})
            rest[:] = [*sent, 0xDEADBEEF] if words is None else sent
            ctx.set(dut.tables, fields)
            ctx.set(dut.codebook_base, 100 * number)
            await ctx.tick().repeat(3)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            while not ctx.get(dut.done) and not ctx.get(dut.refuse):
                await ctx.tick()
            error = EngineError.OK if ctx.get(dut.done) else EngineError(ctx.get(dut.error))
            said[-1]["error"] = error
            await ctx.tick().repeat(3)
            if words is None and error == EngineError.OK:
                assert rest == [0xDEADBEEF], "the word after the tables was taken"

    async def source(ctx):
        random = Random(1)
        while True:
            there = bool(rest) and random.random() >= idle
            ctx.set(dut.i.valid, there)
            ctx.set(dut.i.payload, rest[0] if there else random.getrandbits(32))
            ctx.set(dut.exhausted, not rest)
            *_, ready = await ctx.tick().sample(dut.i.ready)
            if there and ready:
                del rest[0]

    async def monitor(ctx):
        while True:
            await ctx.tick()
            for name in ("code", "gap"):
                port = getattr(dut, f"{name}_table")
                if ctx.get(port.write):
                    said[-1][name][ctx.get(port.length)] = ctx.get(port.upper), ctx.get(port.offset)
            if ctx.get(dut.classes.write):
                said[-1]["classes"][ctx.get(dut.classes.number)] = ctx.get(dut.classes.gap_class)
            if ctx.get(dut.codebook.write):
                said[-1]["values"][ctx.get(dut.codebook.address)] = ctx.get(dut.codebook.value)

    simulate(dut, bench, background=[source, monitor], limit=40_000)
    return said


def some_layers():
    """Codes of no bits and of many, few and many gap classes, values of one byte and of two."""
    rng = np.random.default_rng(3)
    shapes = (
        ((9, 7), 1.0, 1, 20), ((20, 30), 0.02, 7, 2000), ((12, 30), 0.5, 200, 100),
        ((1, 9), 0.5, 2, 128), ((40, 25), 0.1, 40, 2000), ((1, 1), 1.0, 1, 2000),
    )  # fmt: skip
    layers = [
        random_layer(rng, *shape, density=density, codebook=codebook)
        for shape, density, codebook, _ in shapes
    ]
    return [
        replace(layer, codebook=layer.codebook % most if most < 2000 else layer.codebook)
        for layer, (*_, most) in zip(layers, shapes, strict=True)
    ]


def test_tables_of_layers():
    layers = some_layers()
    for number, (layer, said) in enumerate(zip(layers, read_tables(layers, idle=0.6), strict=True)):
        coding = Coding.of(layer)
        assert said["error"] == EngineError.OK
        for name, table in (("code", coding.code_table), ("gap", coding.gap_table)):
            assert said[name] == {
                length: (table.upper[length], table.offset[length] & 0xFF)
                for length in range(1, table.length + 1)
            }
        if coding.gap_table.length:
            assert list(said["classes"].values()) == list(coding.gap_order)
        values = layer.codebook[coding.code_order[: len(layer.codebook)]]
        assert said["values"] == {100 * number + n: value for n, value in enumerate(values)}


def test_tables_that_are_wrong():
    """A count of codes, a length of a gap code, or words that run out; the next layer is read."""
    layer = some_layers()[4]
    counts = len(Coding.of(layer).code_table.stored)

    def changed(at, by):
        def edit(table):
            table[at] += by

        return edit

    assert counts > 1
    for edit in (
        changed(0, 7),
        changed(counts - 1, 1),
        changed(counts, 1),
        changed(counts + 1, 16),
    ):
        (said,) = read_tables([layer], edit=edit)
        assert said["error"] == EngineError.BAD_TABLE
    for words in range(3):
        said = read_tables([layer, layer], words=words)
        assert [each["error"] for each in said] == [EngineError.DATA] * 2

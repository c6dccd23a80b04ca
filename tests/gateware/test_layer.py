"""A layer's decoder by itself: words from anywhere, no file around them."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal

from pleach.engine import EngineConfig, words
from pleach.engine.plan import lower
from pleach.engine.protocol import EngineError
from pleach.format import dumps
from pleach.model import CompressedModel
from pleach.numbers import INT16
from pleach_hw.load.entry_decoder import EntryDecoder
from pleach_hw.load.layer import LayerDecoder
from pleach_hw.load.scatter import MapScatter, Scatter
from pleach_hw.load.serial_decoder import SerialDecoder
from tests.cocotb.damage import words_of
from tests.gateware.streams import simulate
from tests.gateware.test_loader import all_writes
from tests.strategies import random_layer

CONFIG = EngineConfig(pes=4, groups=2, columns=64, codebook=256)


def section_of(layer):
    """The fields of a layer, as `FieldReader` has them, and the words behind them."""
    data = words_of(dumps(CompressedModel([layer])))
    length = int(data[words.HEADER_WORDS]) >> 8
    payload = data[words.HEADER_WORDS + 1 :][:length].tolist()
    fields = {
        key: value
        for word, each in zip(words.LAYER_WORDS[:2], payload, strict=False)
        for key, value in word.unpack(each).items()
    }
    for name, word, each in zip(
        ("scale", "tables"), (words.SCALE_WORD, words.TABLES_WORD), payload[2:4], strict=True
    ):
        values = word.unpack(each).items()
        fields[name] = {key: value for key, value in values if not key.startswith("_")}
    return fields, payload[4:]


def decode(layers, decoder, *, idle=0.0, missing=0, rows=None, config=CONFIG, teams=0):
    """What is written of each layer, and how it ends.

    Args:
        idle: part of the cycles in which no word is there.
        missing: words that are left out at the end.
        rows: that the fields claim; those there are, unless said.
        teams: log2 of those that hold a layer; with a map memory.
    """
    scatter = MapScatter(config) if config.maps else Scatter(config)
    dut, reset = LayerDecoder(config, decoder(1 << 20), scatter), Signal()
    said, rest = [], []
    rng = np.random.default_rng(1)

    async def bench(ctx):
        column_base = codebook_base = 0
        for layer in layers:
            fields, data = section_of(layer)
            rest[:] = data[: len(data) - missing]
            said.append([])
            ctx.set(dut.fields, fields)
            ctx.set(dut.rows, layer.outputs if rows is None else rows)
            ctx.set(dut.columns, layer.columns)
            ctx.set(dut.column_base, column_base)
            ctx.set(dut.codebook_base, codebook_base)
            if config.maps:
                fields = vars(lower(CompressedModel([layer]), config).passes[0]) | {"teams": teams}
                for port in (dut.pass_, scatter.pass_):
                    ctx.set(port, {name: int(fields[name]) for name, _ in port.shape()})
                ctx.set(dut.scale_base, column_base)  # anything will do
            await ctx.tick().repeat(3)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            while not ctx.get(dut.done) and not ctx.get(dut.refuse):
                await ctx.tick()
            error = EngineError.OK if ctx.get(dut.done) else EngineError(ctx.get(dut.error))
            await ctx.tick().repeat(3)  # what is on its way arrives
            ctx.set(reset, error != EngineError.OK)
            await ctx.tick()
            ctx.set(reset, 0)
            await ctx.tick().repeat(3)
            said[-1].append(error)
            column_base += config.local_columns(layer.columns)
            codebook_base += len(layer.codebook)

    async def source(ctx):
        while True:
            there = bool(rest) and rng.random() >= idle
            ctx.set(dut.i.valid, there)
            ctx.set(dut.i.payload, rest[0] if there else 0xDEADBEEF)
            ctx.set(dut.exhausted, not rest)
            *_, ready = await ctx.tick().sample(dut.i.ready)
            if there and ready:
                del rest[0]

    async def monitor(ctx):
        book = dut.codebook
        while True:
            _, _, value, entry, end, *of = await ctx.tick().sample(
                book.write, dut.entry_valid, dut.column_end,
                book.address, book.value, dut.entry.row, dut.entry.code, dut.column,
            )  # fmt: skip
            if config.scales and ctx.get(dut.scales.write):
                scale = dut.scales.pe, dut.scales.row, dut.scales.value
                said[-1].append(("scale", *map(ctx.get, scale)))
            if value:
                said[-1].append(("value", of[0], of[1]))
            if entry:
                said[-1].append(("entry", entry, of[2], of[3]))
            if end:
                said[-1].append(("end", end, of[4]))

    simulate(ResetInserter(reset)(dut), bench, background=[source, monitor], limit=30_000)
    return said


def some_layers():
    rng = np.random.default_rng(3)
    shapes = (((9, 7), 0.4, 9), ((7, 12), 0.0, 1), ((12, 5), 1.0, 1), ((5, 30), 0.1, 40))
    return [
        random_layer(rng, *shape, density=density, codebook=codebook, empty_columns=0.2)
        for shape, density, codebook in shapes
    ]


@pytest.mark.parametrize("decoder", [EntryDecoder, SerialDecoder])
def test_layers_one_after_the_other(decoder):
    layers = some_layers()
    expected = [[]]
    for write in all_writes(CompressedModel(layers), CONFIG):
        if write[0] == "pass":
            expected[-1].append(EngineError.OK)
            expected.append([])
        elif write[0] != "clear":
            expected[-1].append(write)
    assert decode(layers, decoder, idle=0.3) == expected[:-1]


@pytest.mark.parametrize("decoder", [EntryDecoder, SerialDecoder])
def test_layers_that_are_refused(decoder):
    """Words that run out, or entries past the last row: none is written that is not the layer's,
    and the next layer is decoded alike."""
    layer = some_layers()[0]
    whole = decode([layer], decoder)[0][:-1]
    first, second = decode([layer, layer], decoder, missing=1)
    assert first[-1] == second[-1] == EngineError.DATA
    assert first[:-1] == whole[: len(first) - 1]
    assert len(first) == len(second)
    first, second = decode([layer, layer], decoder, rows=layer.outputs - 2)
    assert first[-1] == second[-1] == EngineError.POSITION
    assert sum(write[0] == "end" for write in first[:-1]) == layer.columns
    assert len(first) == len(second)


@pytest.mark.parametrize("teams", [0, 1])
def test_scales(teams):
    """Of odd and even numbers of rows, those of each row at its place; and words that run out."""
    config = EngineConfig(pes=4, groups=2, columns=64, codebook=256, maps=64, scales=32)
    rng = np.random.default_rng(teams)
    plain = [random_layer(rng, 3, rows, density=0.6, codebook=4) for rows in (9, 4, 1)]
    layers = [replace(each, scales=rng.integers(*INT16, each.outputs)) for each in plain]
    said = decode(layers, EntryDecoder, idle=0.3, config=config, teams=teams)
    without = decode(plain, EntryDecoder, config=config, teams=teams)
    own, base = 4 >> teams, 0
    for layer, writes, others in zip(layers, said, without, strict=True):
        scales = [write for write in writes[:-1] if write[0] == "scale"]
        assert scales == [
            ("scale", row % own, base + row // own, scale)
            for row, scale in enumerate(layer.scales.tolist())
        ]
        assert [write for write in writes if write not in scales] == others
        base += config.local_columns(layer.columns)
    data = len(section_of(plain[0])[1]) - len(plain[0].codebook) // 4
    cut = decode(layers[:1], EntryDecoder, missing=data + 1, config=config)[0]
    assert cut[-1] == EngineError.DATA and 0 < sum(write[0] == "scale" for write in cut[:-1]) < 9

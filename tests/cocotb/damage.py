"""Files that the engine must refuse, and with which error (docs/engine.md)."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pleach.engine import EngineConfig
from pleach.engine import words as words_
from pleach.engine.protocol import EngineError, Resource
from pleach.engine.words import HEADER_WORDS
from pleach.format import dumps
from pleach.model import Activation, CompressedLayer, CompressedModel, InputType

# Word of the file at which the first section starts, and of its first payload word.
SECTION = HEADER_WORDS
LAYER = SECTION + 1


@dataclass(frozen=True)
class BadFile:
    """A damaged file and the error that the engine must answer it with."""

    name: str
    data: bytes
    error: EngineError
    detail: int | None = None
    also: tuple[EngineError, ...] = ()  # errors that will do as well


def words_of(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<u4").copy()


def resealed(words: np.ndarray) -> bytes:
    """The file with every CRC put right, as far as its sections can be followed."""
    words = words.copy()
    words[4] = zlib.crc32(words[:4].tobytes())
    at = SECTION
    while at < len(words):
        end = at + 1 + (int(words[at]) >> 8)
        if end >= len(words):
            break
        words[end] = zlib.crc32(words[at:end].tobytes())
        at = end + 1
    return words.tobytes()


def edited(data: bytes, edit: Callable[[np.ndarray], np.ndarray | None]) -> bytes:
    """The file after `edit` of its words, which changes them or returns others; CRCs put right."""
    words = words_of(data)
    other = edit(words)
    words = words if other is None else other
    words[2] = len(words)
    return resealed(words)


def field(word: int, low: int, width: int, value: int) -> Callable[[np.ndarray], None]:
    """An edit that sets some bits of one word."""

    def edit(words: np.ndarray) -> None:
        mask = ((1 << width) - 1) << low
        words[word] = (int(words[word]) & ~mask) | (value << low)

    return edit


def section_words(data: bytes) -> int:
    """Words of the first section's payload."""
    return int(words_of(data)[SECTION]) >> 8


def bad_files(model: CompressedModel) -> list[BadFile]:
    """Damaged versions of a model's file, one for each thing that can be wrong with it."""
    good = dumps(model)
    words = words_of(good)
    length = section_words(good)
    tables = LAYER + 4
    layer = model.layers[0]
    error = EngineError

    def file(name, edit, kind, detail=None, also=()):
        return BadFile(name, edited(good, edit), kind, detail, also)

    def flipped(word, bit):
        changed = words.copy()
        changed[word] ^= np.uint32(1 << bit)
        return changed.tobytes()

    def shortened(words):
        """The first section without the last two words of its data."""
        kept = np.delete(words, [LAYER + length - 2, LAYER + length - 1])
        kept[SECTION] -= 2 << 8
        return kept

    return [
        file("magic", field(0, 0, 8, 0x51), error.BAD_HEADER),
        file("version", field(1, 0, 8, 1), error.BAD_HEADER),
        file("reserved bit of the header", field(1, 20, 1, 1), error.BAD_HEADER),
        file("no layers", field(1, 8, 8, 0), error.BAD_HEADER),
        BadFile("header CRC", flipped(4, 7), error.HEADER_CRC),
        BadFile("one word short", good[:-4], error.LENGTH),
        BadFile("header only", good[:20], error.LENGTH),
        BadFile("half a header", good[:8], error.LENGTH),
        BadFile("four words that say so", good[:8] + b"\4\0\0\0" + good[12:16], error.LENGTH),
        BadFile("cut in the data", good[: 4 * (LAYER + length // 2)], error.LENGTH),
        BadFile("one word more", good + b"\0\0\0\0", error.LENGTH),
        file("a section past the end", field(SECTION, 8, 24, 1 << 20), error.LENGTH),
        file("a section that ends with the file, without a CRC", _swallow_crc, error.LENGTH),
        file("section type 15", field(SECTION, 0, 8, 15), error.SECTION_TYPE),
        file("a cell", field(SECTION, 0, 8, words_.SECTION_CELL), error.UNSUPPORTED, 0),
        file("streams", field(LAYER + 3, 23, 2, 1), error.UNSUPPORTED, 0),
        file("slices", field(LAYER + 3, 25, 1, 1), error.UNSUPPORTED, 0),
        file("scales", field(LAYER + 2, 19, 1, 1), error.UNSUPPORTED, 0),
        file("a short form behind nothing", _short, error.BAD_FIELD, 0, (error.SHAPE,)),
        file("version 2 with what it did not know", _as_old, error.BAD_FIELD, 0),
        file("a layer too many", field(1, 8, 8, len(model.layers) - 1), error.SECTION_TYPE),
        file("a layer too few", field(1, 8, 8, len(model.layers) + 1), error.SECTION_TYPE),
        BadFile("CRC of a section", flipped(LAYER + length, 31), error.SECTION_CRC),
        BadFile("CRC of the last section", flipped(len(words) - 1, 0), error.SECTION_CRC),
        file("no outputs", field(LAYER, 16, 16, 0), error.BAD_FIELD, 0),
        file("no inputs", field(LAYER, 0, 16, 0), error.BAD_FIELD, 0),
        file("65535 inputs and a bias", field(LAYER, 0, 16, 65535), error.BAD_FIELD, 0),
        file("shift 48", field(LAYER + 2, 0, 6, 48), error.BAD_FIELD, 0),
        file("reserved bit of a layer", field(LAYER + 2, 21, 1, 1), error.BAD_FIELD, 0),
        file("bias exponent 15", field(LAYER + 2, 9, 4, 15), error.BAD_FIELD, 0),
        file("code length 13", field(LAYER + 3, 9, 4, 13), error.BAD_FIELD, 0),
        file("257 codes", field(LAYER + 3, 0, 9, 257), error.BAD_FIELD, 0),
        file("27 gap classes", field(LAYER + 3, 13, 5, 27), error.BAD_FIELD, 0),
        file("gap length 9", field(LAYER + 3, 18, 4, 9), error.BAD_FIELD, 0),
        file(
            "more entries than positions",
            field(LAYER + 1, 0, 32, layer.size + 1),
            error.BAD_FIELD,
            0,
            # To refuse it at once takes a multiplication; it comes out in any case.
            (error.DATA, error.POSITION),
        ),
        file(
            "shapes that do not chain",
            lambda words: _long(words, layer.outputs + 1),
            error.SHAPE,
            1,
        ),
        file("Kraft sum", field(tables, 0, 8, 3), error.BAD_TABLE, 0),
        file("gap codes that overlap", _gap_lengths(_shorten), error.BAD_TABLE, 0),
        file("a gap class less", _gap_lengths(_forget_one), error.BAD_TABLE, 0),
        file("a last gap class without a code", _gap_lengths(_forget_last), error.BAD_TABLE, 0),
        file("a gap code too long", _gap_lengths(_lengthen), error.BAD_TABLE, 0),
        BadFile("a last gap class that does not occur", _class_too_many(), error.BAD_TABLE, 0),
        BadFile("an entry too many for the words", paid(193, 6), error.BAD_FIELD, 0),
        file("data run out", shortened, error.DATA, 0),
        # One row less: the last weights fall out of the layer.
        file("a position outside", field(LAYER, 0, 16, layer.inputs // 2), error.POSITION, 0),
    ]


def _as_old(words: np.ndarray) -> None:
    """Version 2, and a layer whose sources are said."""
    words[1] = words[1] & ~np.uint32(0xFF) | 2
    words[LAYER + 2] |= 1 << 20


def _short(words: np.ndarray) -> np.ndarray:
    """The first section in the short form, which stands for what came before it."""
    head = int(words[SECTION]) - (1 << 8) | words_.SHORT
    size = int(words[LAYER]) >> 16 | int(words[LAYER + 1]) << 16
    parts = words[:SECTION], [head, size], words[LAYER + 2 :]
    return np.concatenate(parts).astype("<u4")


def _long(words: np.ndarray, inputs: int) -> np.ndarray:
    """The second section in the long form, with that many inputs."""
    at = LAYER + (int(words[SECTION]) >> 8) + 1
    short = int(words[at + 1])
    head = int(words[at]) + (1 << 8) & ~words_.SHORT
    size = inputs | (short & 0xFFFF) << 16
    return np.concatenate([words[:at], [head, size, short >> 16], words[at + 2 :]]).astype("<u4")


def _swallow_crc(words: np.ndarray) -> None:
    """The last section takes its own CRC for its last word."""
    at = SECTION
    while (end := at + 2 + (int(words[at]) >> 8)) < len(words):
        at = end
    words[at] += 1 << 8


def _class_too_many() -> bytes:
    """A gap table of two classes, of which the second has no code; its Kraft sum is right."""
    data = dumps(CompressedModel([_layer(4, 4)]))
    assert words_of(data)[LAYER + 3] >> 13 & 31 == 1  # all gaps are 0
    return edited(data, field(LAYER + 3, 13, 5, 2))


def paid(entries: int, length: int) -> bytes:
    """A file of one section of `length` words with `entries` that take no bits."""

    def edit(words: np.ndarray) -> np.ndarray:
        words[SECTION] = words[SECTION] & 0xFF | length << 8
        return np.delete(words, range(LAYER + length, len(words) - 1))

    return edited(dumps(CompressedModel([_layer(1, entries, codes=1)])), edit)


def _gap_lengths(change: Callable[[np.ndarray], None]) -> Callable[[np.ndarray], None]:
    """An edit of the lengths of the first layer's gap codes, two in a byte."""

    def edit(words: np.ndarray) -> None:
        code_length = int(words[LAYER + 3]) >> 9 & 15
        at = 4 * (LAYER + 4) + max(0, code_length - 1)
        table = words.view(np.uint8)[at : at + (int(words[LAYER + 3]) >> 13 & 31) // 2]
        lengths = np.stack([table & 15, table >> 4], axis=1).ravel()
        change(lengths)
        table[:] = lengths[0::2] | lengths[1::2] << 4

    return edit


def _shorten(lengths: np.ndarray) -> None:
    lengths[lengths.argmax()] -= 1


def _forget_one(lengths: np.ndarray) -> None:
    lengths[np.flatnonzero(lengths)[0]] = 0


def _forget_last(lengths: np.ndarray) -> None:
    lengths[np.flatnonzero(lengths)[-1]] = 0


def _lengthen(lengths: np.ndarray) -> None:
    lengths[lengths.argmax()] += 1


def too_large(config: EngineConfig) -> list[BadFile]:
    """Models that exceed one capacity of the engine each."""
    rows = 16 * config.pes
    wide = config.accumulators * config.row_pes + 1
    half = wide // 2
    models = (
        (Resource.LAYERS, [_layer(3, 3)] * (config.layers + 1)),
        (Resource.COLUMNS, [_layer(config.columns * config.groups + 1, 1, positions=[0])]),
        (Resource.ROWS, [_layer(1, wide, positions=[0])]),
        (Resource.ROWS, [_layer(1, half, positions=[0]), _layer(half, wide - half, positions=[0])]),
        (Resource.ENTRIES, [_layer(config.entries // 16 + 1, rows)]),
        (Resource.CODEBOOK, [_layer(16, 16, codes=256)] * (config.codebook // 256 + 1)),
        (
            Resource.ACCUMULATOR_BITS,
            [_layer(2 ** (config.accumulator_bits - 31), 1, codes=1, largest=-32768)],
        ),
    )
    files = []
    for resource, layers in models:
        model = CompressedModel(layers, InputType.INT16)
        short = [name for name, need in config.needs(model).items() if need > getattr(config, name)]
        name = resource.name.lower()
        assert short == ["accumulators" if name == "rows" else name]
        name = f"capacity: {name} of {len(layers)} layers"
        files.append(BadFile(name, dumps(model), EngineError.CAPACITY, resource))
    return files


def _layer(inputs, outputs, *, positions=None, codes=2, largest=1) -> CompressedLayer:
    """A layer with every weight, or those at `positions`, and this many codes taking turns."""
    positions = np.arange(inputs * outputs) if positions is None else np.array(positions)
    return CompressedLayer(
        name="fc1",
        inputs=inputs,
        outputs=outputs,
        bias=False,
        positions=positions,
        codes=np.arange(len(positions)) % codes,
        codebook=largest - np.arange(codes),
        shift=0,
        activation=Activation.NONE,
        bias_exponent=0,
        output_fraction=0,
    )


def bit_flips(data: bytes, count: int, seed: int) -> list[bytes]:
    """The file with one bit wrong, `count` times."""
    rng = np.random.default_rng(seed)
    flipped = []
    for word, bit in zip(
        rng.integers(0, len(data) // 4, count), rng.integers(0, 32, count), strict=True
    ):
        words = words_of(data)
        words[word] ^= np.uint32(1 << int(bit))
        flipped.append(words.tobytes())
    return flipped

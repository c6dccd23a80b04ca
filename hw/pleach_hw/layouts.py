"""Layouts of what goes through the engine: each is stated here, and nowhere else.

Words of files and packets have theirs in the software, `pleach.engine.words`; `layout` makes an
Amaranth structure of one.
"""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import data

from pleach.engine import EngineConfig, maps
from pleach.engine.pipeline import entry_fields, held_codes, pointer_fields
from pleach.engine.program import Sink, Source
from pleach.engine.words import Word

#: A word of a packet; `last` marks the packet's last one.
PACKET_WORD = data.StructLayout({"data": 32, "last": 1})


def layout(word: Word) -> data.StructLayout:
    """A structure of 32 bits with the fields of `word`; what is left over is ``reserved``.

    >>> layout(Word(inputs=16, outputs=10))
    StructLayout({'inputs': 16, 'outputs': 10, 'reserved': 6})
    """
    left = 32 - sum(word.fields.values())
    return data.StructLayout(word.fields | ({"reserved": left} if left else {}))


def column_width(config: EngineConfig) -> int:
    """Bits of a column's number, and of a vector's place among vectors."""
    return max(config.most_columns.bit_length(), config.vector.bit_length())


def pass_layout(config: EngineConfig) -> data.StructLayout:
    """One pass of the program that the control unit runs; `pleach.engine.program.Pass` says what
    each field means."""
    return data.StructLayout(
        {
            "source": Source,
            "inputs": range(config.most_columns + 1),
            "bias": 1,
            "bias_exponent": 4,
            "column_base": range(config.columns),
            "codebook_base": range(config.codebook),
            "parity": 1,
            "rows": range(config.most_rows + 1),
            "shift": 6,
            "relu": 1,
            "sink": Sink,
            "last": 1,
        }
    )


def codebook_base_shape(config: EngineConfig) -> range:
    """Where a layer's codebook begins in a PE: at 0 if that is all that the PE holds."""
    return range(config.codebook if held_codes(config) == config.codebook else 1)


def entry_layout(config: EngineConfig) -> data.StructLayout:
    """A weight in a PE: its local row and its code."""
    return data.StructLayout(entry_fields(config))


def pointer_layout(config: EngineConfig) -> data.StructLayout:
    """Where a PE's entries of a column start, and how many they are."""
    return data.StructLayout(pointer_fields(config))


def block_layout(config: EngineConfig) -> data.StructLayout:
    """The pointers of `block` neighbouring columns: where the first one's entries start, and how
    many each has."""
    fields = pointer_fields(config)
    counts = data.ArrayLayout(fields["count"], config.block)
    return data.StructLayout({"start": fields["start"], "counts": counts})


def work_layout(config: EngineConfig) -> data.StructLayout:
    """A column's entries in this PE, one or more, and the activation that they multiply.

    With a map memory also where in the ring the first row of their output pixel is; `last` marks
    the end of a window, and `some` is 0 where there is nothing but the mark.
    """
    marked = {"base": range(config.accumulators), "last": 1, "some": 1} if config.maps else {}
    return data.StructLayout(
        {"pointer": pointer_layout(config), "activation": signed(16), **marked}
    )


def vector_layout(*, lanes: int, column_width: int) -> data.StructLayout:
    """Neighbouring activations of a pass.

    Lane `n` holds the activation of column ``column + n`` where bit `n` of `mask` is set; `column`
    is a multiple of `lanes`, and `last` marks the last vector of the pass.
    """
    return data.StructLayout(
        {
            "values": data.ArrayLayout(signed(16), lanes),
            "mask": lanes,
            "column": column_width,
            "last": 1,
        }
    )


def token_layout(*, column_width: int) -> data.StructLayout:
    """An activation that is not zero, and its column; `last` marks the last token of the pass.

    `present` is 0 where a pass ended in zeros and its last token carries no activation.
    """
    return data.StructLayout({"value": signed(16), "column": column_width, "present": 1, "last": 1})


def map_pass_layout(config: EngineConfig) -> data.StructLayout:
    """One pass over maps; `pleach.engine.maps.MapPass` says what each field means."""
    return data.StructLayout(
        {
            name: signed(width.bits) if width.signed else width.bits
            for name, width in maps.widths(config).items()
        }
    )


def out_unit_layout(config: EngineConfig) -> data.StructLayout:
    """Where in the map memory a window of output pixels goes: the address of its first value, and
    of its rows and columns of pixels the last ones that are inside of the map."""
    return data.StructLayout({"address": range(config.maps), "edge_x": 2, "edge_y": 2})


def place_layout(config: EngineConfig) -> data.StructLayout:
    """Where `drained` values go that were drained together: the address of lane 0's, those of the
    other lanes behind it; `mask` says which lanes are some. `last` marks the window's last."""
    return data.StructLayout({"address": range(config.maps), "mask": config.drained, "last": 1})


def window_vector_layout(config: EngineConfig) -> data.StructLayout:
    """Neighbouring values of a map, for the output pixels of a window.

    Pixel (a, b) of the window, the b-th of its a-th row, takes the neighbour of bank `n` where bit
    `n` of ``masks[b]`` and bit `a` of `rows` are set; the value is not zero then.

    Fields:
        values: by bank of the map memory.
        start: bank of lane 0, the first neighbour.
        some: which of `masks` have a bank.
        column: of lane 0, for pixel (0, 0).
        skip: the vector is of a skip source: its column is the same for every pixel.
        edge_x, edge_y: the last pixels of the window's rows, and its last row, that are inside.
        last: the vector is the window's last.
    """
    return data.StructLayout(
        {
            "values": data.ArrayLayout(signed(16), config.neighbours),
            "start": range(config.neighbours),
            "masks": data.ArrayLayout(config.neighbours, 4),
            "some": 4,
            "rows": 4,
            "column": range(config.columns),
            "skip": 1,
            "edge_x": 2,
            "edge_y": 2,
            "last": 1,
        }
    )

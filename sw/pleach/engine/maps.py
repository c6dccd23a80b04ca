"""What a pass over maps is to the engine: windows of output pixels, and where their values lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from pleach.engine.config import EngineConfig
from pleach.engine.words import Word
from pleach.numbers import INT16_MAX, INT16_MIN


class PassKind(IntEnum):
    """What computes the pixels of a pass."""

    CONVOLUTION = 0  #: the array
    POOL = 1  #: the pool unit, map to map


@dataclass(frozen=True, kw_only=True)
class MapPass:
    """One run over a map: each window of output pixels read, accumulated, drained and written.

    A map lies pixel by pixel, channels innermost; places in it are numbers of values. Software
    computes every product, so that the engine only adds. A fully connected layer is a map of one
    pixel. In what follows `u` is the side of a window of output pixels, `k_h`, `k_w`, `s_y`, `s_x`,
    `p_t`, `p_l` kernel, stride and padding above and to the left, `C`, `W`, `H` channels, width and
    height of the map read, `R`, `Wo` channels and width of the map written.

    Args:
        kind: of the pass.
        teams: log2 of the teams that share the windows out; each holds all weights.
        side: u − 1.
        pooled: the pixels of a window give one, their maximum.
        units_x, units_y: windows in a row, and rows of them.
        edge_x, edge_y: pixels of the last window of a row, of the last row of windows, that are
            inside, − 1.
        source: where the map read begins.
        x_first, x_step: −p_l·C, u·s_x·C.
        y_first, y_step: −p_t, u·s_y.
        row_first, row_step: −p_t·W·C, u·s_y·W·C.
        column_first, column_step: p_t·k_w·C, u·s_y·k_w·C; what is beyond their width is left out.
        map_row, map_rows: W·C, H.
        patch_row, patch_rows: ((u − 1)·s_x + k_w)·C, (u − 1)·s_y + k_h.
        kernel_row, kernel_rows: k_w·C, k_h.
        pixel_x, pixel_y, pixel_y_columns: s_x·C, s_y, s_y·k_w·C.
        skip: channels of the second map, or 0.
        skip_source: where it begins.
        skip_x, skip_y: its values from an output pixel to the next, and to the one below.
        skip_unit_x, skip_unit_y: from a window to the next of its row, and from the last one of a
            row to the first one of the next.
        skip_column: first column of its channels.
        bias, bias_column, bias_exponent: whether there is a column of biases; the number after
            those of kernel and skip, which is its; the exponent of its activation.
        column_base, codebook_base: where its columns and its codebook begin in every PE.
        local_rows: rows of a PE.
        slot, slots: words of a PE's ring that a window takes, u·u·local_rows; windows in flight.
        sink: where the map written begins.
        pixel, line: R; values from an output pixel to the one below.
        unit_x, unit_y: values of the map written from a window to the next of its row, and from the
            last one of a row to the first one of the next.
        rows: R.
        shift, low, high: right shift of the requantisation, and the bounds after it.
        sign: `high` for what is not negative after the shift, otherwise `low`, nothing between.
        scaled, scale_base: whether its rows have scales; where these begin in every PE, in rows.
        columns: of the layer, bias included.
        group_rows, group_channels: rows that a column of the kernel has, of R, and channels that
            share them, of C.

    A pool has `pooled` for the largest value and not for the sum. Each of its units is a window of
    kernel_rows by kernel_row / C values of each channel, pixel_x = C apart; group_channels channels
    are read at once: `neighbours`, or 1 where C is no multiple of that.
    """

    kind: PassKind = PassKind.CONVOLUTION
    teams: int = 0
    side: int = 0
    pooled: bool = False
    units_x: int = 1
    units_y: int = 1
    edge_x: int = 0
    edge_y: int = 0
    source: int = 0
    x_first: int = 0
    x_step: int = 0
    y_first: int = 0
    y_step: int = 0
    row_first: int = 0
    row_step: int = 0
    column_first: int = 0
    column_step: int = 0
    map_row: int = 0
    map_rows: int = 1
    patch_row: int = 0
    patch_rows: int = 1
    kernel_row: int = 0
    kernel_rows: int = 1
    pixel_x: int = 0
    pixel_y: int = 0
    pixel_y_columns: int = 0
    skip: int = 0
    skip_source: int = 0
    skip_x: int = 0
    skip_y: int = 0
    skip_unit_x: int = 0
    skip_unit_y: int = 0
    skip_column: int = 0
    bias: bool = False
    bias_column: int = 0
    bias_exponent: int = 0
    column_base: int = 0
    codebook_base: int = 0
    local_rows: int = 1
    slot: int = 1
    slots: int = 1
    sink: int = 0
    pixel: int = 1
    line: int = 0
    unit_x: int = 0
    unit_y: int = 0
    rows: int = 1
    shift: int = 0
    low: int = INT16_MIN
    high: int = INT16_MAX
    sign: bool = False
    scaled: bool = False
    scale_base: int = 0
    columns: int = 0
    group_rows: int = 1
    group_channels: int = 1


class Width(NamedTuple):
    """Of a field in the gateware."""

    bits: int
    signed: bool = False


#: windows in flight of a group, at most: so wide are their counters
MOST_SLOTS = 7


def widths(config: EngineConfig) -> dict[str, Width]:
    """How wide each field of a `MapPass` is in an engine with a map memory."""
    address = max(1, (config.maps - 1).bit_length())
    signed_address = Width(address + 1, True)
    count = min(16, address + 1)  # of what takes a value of the memory each
    columns = Width(config.columns.bit_length())
    ring = Width(config.accumulators.bit_length())
    known = {
        "kind": 1, "teams": (config.groups - 1).bit_length() or 1, "side": 2, "pooled": 1,
        "units_x": count, "units_y": count, "edge_x": 2, "edge_y": 2,
        "y_first": Width(9, True), "y_step": 6, "map_rows": count, "patch_rows": 9,
        "kernel_rows": 8, "pixel_y": 4, "skip": count,
        "bias": 1, "bias_exponent": 4, "codebook_base": (config.codebook - 1).bit_length(),
        "slots": MOST_SLOTS.bit_length(), "rows": count, "pixel": count,
        "group_rows": count, "group_channels": count,
        "shift": 6, "low": Width(16, True), "high": Width(16, True),
        "sign": 1, "scaled": 1, "scale_base": max(1, (config.scales - 1).bit_length()),
        "x_first": signed_address, "row_first": signed_address,
        "column_base": (config.columns - 1).bit_length(),
        "local_rows": ring, "slot": ring,
    } | dict.fromkeys(
        (
            "column_first", "column_step", "kernel_row", "pixel_x", "pixel_y_columns",
            "skip_column", "bias_column", "columns",
        ),
        columns,
    )  # fmt: skip
    every = {}
    for field in fields(MapPass):
        width = known.get(field.name, address)
        if field.name in ("map_row", "patch_row"):
            width = address + 1
        every[field.name] = width if isinstance(width, Width) else Width(width)
    return every


#: the first words of a PLAN packet: the engine that it is for, and how many passes; values of an
#: input, and where they go; where the outputs are, and how many
PLAN_HEAD = (
    Word(pes=8, groups=8, neighbours=8, passes=8),
    Word(inputs=32),
    Word(input_at=32),
    Word(output_at=32),
    Word(outputs=32),
)
#: the words of each pass in a PLAN packet
PLAN_WORDS = (
    Word(kind=1, pooled=1, side=2, teams=3, edge_x=2, edge_y=2, slots=3, pixel_y=4, local_rows=14),
    Word(units_x=16, units_y=16),
    Word(map_rows=16, kernel_rows=8, y_step=8),
    Word(y_first=16, patch_rows=16),
    Word(slot=16, kernel_row=16),
    Word(pixel_x=16, pixel_y_columns=16),
    Word(skip=16, skip_column=16),
    Word(rows=16, pixel=16),
    Word(columns=16, bias_column=16),
    Word(group_rows=16, group_channels=16),
    Word(column_first=16, column_step=16),
    *(
        Word(**{name: 32})
        for name in (
            "source", "x_first", "x_step", "row_first", "row_step", "map_row", "patch_row",
            "skip_source", "skip_x", "skip_y", "skip_unit_x", "skip_unit_y",
            "sink", "line", "unit_x", "unit_y",
        )
    ),
)  # fmt: skip
#: behind them in the engine, those that LOAD writes: what the file says
FILE_WORDS = (
    Word(shift=6, bias=1, bias_exponent=4, sign=1, scaled=1, scale_base=12),
    Word(low=16, high=16),
    Word(column_base=16, codebook_base=16),
)
#: words of a pass in the engine's memory, a power of two
RECORD_WORDS = 32
assert len(PLAN_WORDS + FILE_WORDS) <= RECORD_WORDS


@dataclass(frozen=True)
class MapProgram:
    """The passes that compute a network over maps, in the order in which they run.

    Args:
        passes: one for each layer of the file.
        inputs, outputs: values of an input and of an output.
        input_at, output_at: where they lie in the map memory.
    """

    passes: tuple[MapPass, ...]
    inputs: int
    outputs: int
    input_at: int
    output_at: int

    def packet(self, config: EngineConfig) -> np.ndarray:
        """The data words of its PLAN packet, uint32."""
        shape = {"pes": config.pes, "groups": config.groups, "neighbours": config.neighbours}
        head = shape | {name: getattr(self, name) for name in ("inputs", "input_at")}
        head |= {"output_at": self.output_at, "outputs": self.outputs, "passes": len(self.passes)}
        return np.array(
            [*_packed(PLAN_HEAD, head)]
            + [word for each in self.passes for word in _packed(PLAN_WORDS, vars(each))],
            np.uint32,
        )


def _packed(layout: tuple[Word, ...], values: Mapping[str, int]) -> list[int]:
    """Words of these values, of which negative ones are in two's complement."""
    return [
        word.pack(**{name: int(values[name]) % (1 << bits) for name, bits in word.fields.items()})
        for word in layout
    ]

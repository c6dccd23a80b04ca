"""Convolutions as passes over a map, and what of each window the PEs must be told."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from pleach.engine import EngineConfig
from pleach.engine.maps import MapPass


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A convolution's geometry, and how an engine runs it.

    Args:
        channels, height, width: of the map.
        kernel, stride: height and width.
        padding: above, below, left, right.
        side: output pixels of a window's row.
        pooled: the pixels of a window give one.
        skip: channels of the skip source; its pixels are `skip_stride` apart.
        rows: output channels.
        team_bits: log2 of the teams.
    """

    channels: int
    height: int
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    side: int = 1
    pooled: bool = False
    skip: int = 0
    skip_stride: int = 1
    rows: int = 4
    bias: bool = True
    team_bits: int = 0
    slots: int = 2
    column_base: int = 0
    source: int = 0

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of what the kernel gives."""
        above, below, left, right = self.padding
        return (
            (self.height + above + below - self.kernel[0]) // self.stride[0] + 1,
            (self.width + left + right - self.kernel[1]) // self.stride[1] + 1,
        )

    @property
    def windows(self) -> tuple[int, int]:
        """Rows of windows, and windows in a row."""
        down, across = self.outputs
        if self.pooled:
            return down // self.side, across // self.side
        return -(-down // self.side), -(-across // self.side)

    @property
    def skip_shape(self) -> tuple[int, int, int]:
        down, across = ((n - 1) * self.skip_stride + 1 for n in self.outputs)
        return down, across, self.skip

    def pass_(self, config: EngineConfig, *, skip_source: int, sink: int) -> MapPass:
        """The record of the pass."""
        u, c, wide = self.side, self.channels, self.width * self.channels
        (kh, kw), (sy, sx) = self.kernel, self.stride
        above, _, left, _ = self.padding
        down, across = self.windows
        skip_wide = self.skip_shape[1] * self.skip
        out_wide = across if self.pooled else self.outputs[1]
        edge_y, edge_x = ((n - 1) % u for n in self.outputs)
        local = -(-self.rows // (config.pes >> self.team_bits))
        step = 1 if self.pooled else u
        return MapPass(
            teams=self.team_bits, side=u - 1, pooled=self.pooled, units_x=across, units_y=down,
            edge_x=u - 1 if self.pooled else edge_x, edge_y=u - 1 if self.pooled else edge_y,
            source=self.source, x_first=-left * c, x_step=u * sx * c, y_first=-above,
            y_step=u * sy, row_first=-above * wide, row_step=u * sy * wide,
            column_first=above * kw * c % config.columns,
            column_step=u * sy * kw * c % config.columns, map_row=wide,
            map_rows=self.height, patch_row=((u - 1) * sx + kw) * c,
            patch_rows=(u - 1) * sy + kh, kernel_row=kw * c, kernel_rows=kh, pixel_x=sx * c,
            pixel_y=sy, pixel_y_columns=sy * kw * c, skip=self.skip, skip_source=skip_source,
            skip_x=self.skip_stride * self.skip, skip_y=self.skip_stride * skip_wide,
            skip_unit_x=u * self.skip_stride * self.skip,
            skip_unit_y=u * self.skip_stride * (skip_wide - (across - 1) * self.skip),
            skip_column=kh * kw * c,
            bias=self.bias, bias_column=kh * kw * c + self.skip, bias_exponent=5,
            column_base=self.column_base, local_rows=local, slot=u * u * local,
            slots=self.slots, sink=sink, pixel=self.rows, line=out_wide * self.rows,
            unit_x=step * self.rows, unit_y=step * (out_wide - across + 1) * self.rows,
            rows=self.rows,
            columns=kh * kw * c + self.skip + self.bias,
        )  # fmt: skip

    def told(self, values: np.ndarray, skips: np.ndarray, record: MapPass) -> list[Counter]:
        """Of each window, which (column, activation, place in the window's slot) it needs.

        Args:
            values: of the map, ``[height, width, channels]``.
            skips: of the skip source, `skip_shape`.
        """
        above, below, left, right = self.padding
        padded = np.pad(values, ((above, below), (left, right), (0, 0)))
        (kh, kw), (sy, sx) = self.kernel, self.stride
        windows = []
        for y in range(self.windows[0]):
            for x in range(self.windows[1]):
                found = Counter()
                for a in range(self.side):
                    for b in range(self.side):
                        py, px = y * self.side + a, x * self.side + b
                        if py >= self.outputs[0] or px >= self.outputs[1]:
                            continue
                        patch = padded[py * sy : py * sy + kh, px * sx : px * sx + kw].ravel()
                        s = self.skip_stride
                        if self.skip:
                            patch = np.concatenate([patch, skips[py * s, px * s]])
                        if self.bias:
                            patch = np.append(patch, 1 << record.bias_exponent)
                        base = (a * self.side + b) * record.local_rows
                        for column in np.flatnonzero(patch).tolist():
                            at = record.column_base + column, int(patch[column]), base
                            found[at] += 1
                windows.append(found)
        return windows


#: what may go wrong in a window
NASTY = {
    "one by one": Convolution(channels=5, height=4, width=3, team_bits=1),
    "fully connected": Convolution(channels=300, height=1, width=1, slots=1),
    "kernel larger than the map": Convolution(
        channels=2, height=3, width=2, kernel=(5, 4), padding=(2, 2, 2, 1), side=2, team_bits=2
    ),
    "stride larger than the kernel": Convolution(
        channels=3, height=9, width=10, kernel=(1, 2), stride=(3, 4), side=2, team_bits=1
    ),
    "rows of padding only": Convolution(
        channels=2, height=2, width=3, kernel=(2, 2), padding=(3, 4, 3, 3), team_bits=1
    ),
    "no bias, padding only": Convolution(
        channels=1, height=2, width=2, padding=(2, 1, 1, 2), bias=False, side=2, team_bits=2
    ),
    "odd map, edges": Convolution(
        channels=3, height=7, width=5, kernel=(3, 3), padding=(1, 1, 1, 1), side=2, team_bits=2
    ),
    "one channel": Convolution(
        channels=1, height=8, width=9, kernel=(5, 5), side=2, pooled=True, team_bits=2, slots=3
    ),
    "300 channels": Convolution(channels=300, height=3, width=1, kernel=(2, 1), column_base=9),
    "few windows": Convolution(
        channels=4, height=3, width=3, kernel=(3, 3), team_bits=2, source=13
    ),
    "skips of another stride": Convolution(
        channels=3, height=5, width=5, kernel=(3, 3), stride=(2, 1), padding=(1, 0, 0, 1),
        side=2, skip=5, skip_stride=2, team_bits=1, bias=False,
    ),
    "nothing but skips": Convolution(
        channels=1, height=1, width=2, kernel=(1, 1), padding=(2, 0, 0, 2), skip=9, team_bits=2,
        bias=False,
    ),
    "pooled remainder": Convolution(
        channels=2, height=8, width=9, kernel=(2, 2), side=3, pooled=True, team_bits=2, slots=1
    ),
    "sixteen pixels": Convolution(
        channels=2, height=6, width=7, kernel=(3, 2), padding=(1, 1, 0, 1), side=4, team_bits=1,
        skip=3, slots=1,
    ),
}  # fmt: skip


def random_convolution(rng: np.random.Generator, groups: int) -> Convolution:
    """One that nobody thought of."""

    def draw(low, high):
        return int(rng.integers(low, high + 1))

    while True:
        found = Convolution(
            channels=draw(1, 12), height=draw(1, 8), width=draw(1, 8),
            kernel=(draw(1, 4), draw(1, 4)), stride=(draw(1, 4), draw(1, 4)),
            padding=(draw(0, 2), draw(0, 2), draw(0, 2), draw(0, 2)), side=draw(1, 4),
            pooled=bool(draw(0, 1)), skip=draw(0, 1) * draw(1, 12), skip_stride=draw(1, 2),
            bias=bool(draw(0, 1)), team_bits=draw(0, (groups - 1).bit_length()),
            slots=draw(1, 3), column_base=draw(0, 40), source=draw(0, 30), rows=draw(1, 9),
        )  # fmt: skip
        held = found.channels * found.height * found.width + math.prod(found.skip_shape)
        windows = min(found.windows) and math.prod(found.windows)
        if min(found.outputs) > 0 and 0 < windows <= 20 and held < 500:
            return found

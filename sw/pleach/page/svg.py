"""Figures as SVG, with a title on every mark: what a pointer shows and a screen reader says."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

#: classes of the style sheet, for parts of a whole
PARTS = ("a", "b", "c", "d", "e")


def svg(width: float, height: float, said: str, *marks: Markup) -> Markup:
    """A figure that says itself."""
    return Markup(
        '<svg role="img" viewBox="0 0 {w:.0f} {h:.0f}" width="{w:.0f}" height="{h:.0f}" '
        'aria-label="{said}">{marks}</svg>'
    ).format(w=width, h=height, said=said, marks=Markup("").join(marks))


def rect(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> Markup:
    return Markup(
        '<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" class="{}">'
        "<title>{}</title></rect>"
    ).format(x, y, width, height, kind, title)


def text(x: float, y: float, words: object, kind: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>').format(
        x, y, kind, anchor, words
    )


def codebook(values: np.ndarray, counts: np.ndarray, name: str) -> Markup:
    """How many weights have each value, over the values."""
    width, height, foot = 360, 120, 18
    if not len(values):
        return svg(width, foot, f"{name}: no weight is kept", text(0, 12, "no weight is kept"))
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    span = (high - low) or 1.0
    across = (np.asarray(values) - low) / span * (width - 10) + 5
    most = max(int(counts.max()), 1)
    bar = max(1.5, min(8.0, 0.6 * (width - 10) / max(len(values), 1)))
    marks = [
        rect(
            x - bar / 2, height - foot - h, bar, h, "a",
            f"{value:.4g}: {count:,} weights",
        )
        for x, value, count, h in zip(
            across, values, counts, counts / most * (height - foot - 4), strict=True
        )
    ]  # fmt: skip
    zero = (0 - low) / span * (width - 10) + 5
    marks.append(
        Markup('<line x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1}" class="axis"/>').format(
            zero, height - foot
        )
    )
    marks += [
        text(0, height - 4, f"{low:.3g}"),
        text(width, height - 4, f"{high:.3g}", anchor="end"),
    ]
    said = f"{name}: {len(values)} values from {values.min():.3g} to {values.max():.3g}"
    return svg(width, height, said, *marks)


def parts(named: dict[str, float], unit: str, longest: float, width: float = 360) -> Markup:
    """A whole and its parts as one bar; `longest` is what the whole width stands for."""
    x, marks = 0.0, []
    for kind, (name, value) in zip(PARTS, named.items(), strict=False):
        wide = value / max(longest, 1e-12) * width
        if value > 0:
            marks.append(rect(x, 0, wide, 16, kind, f"{name}: {value:,.0f} {unit}"))
        x += wide
    said = ", ".join(f"{name} {value:,.0f} {unit}" for name, value in named.items())
    return svg(width, 16, said, *marks)


def timeline(
    names: Sequence[str], breakdown: np.ndarray, kinds: Sequence[str], width: float = 720
) -> Markup:
    """Passes one after the other, each as its parts.

    Args:
        breakdown: cycles, ``[passes, kinds]``.
    """
    total = max(float(breakdown.sum()), 1.0)
    left = 8 + 7.0 * max(map(len, names), default=0)
    scale = (width - left) / total
    x, marks = left, []
    for row, (name, spent) in enumerate(zip(names, breakdown, strict=True)):
        y = 20 * row
        marks.append(text(left - 6, y + 13, name, anchor="end"))
        for kind, what, cycles in zip(PARTS, kinds, spent, strict=True):
            if cycles > 0:
                title = f"{name}: {what}, {cycles:,.0f} cycles"
                marks.append(rect(x, y + 2, cycles * scale, 15, kind, title))
            x += cycles * scale
    height = 20 * len(names) + 18
    marks += [
        text(left, height - 3, "0"),
        text(width, height - 3, f"{total:,.0f} cycles", anchor="end"),
    ]
    said = "; ".join(
        f"{name} {spent.sum():,.0f} cycles" for name, spent in zip(names, breakdown, strict=True)
    )
    return svg(width, height, f"Cycles of the layers: {said}", *marks)


def heat(names: Sequence[str], shares: np.ndarray, width: float = 720) -> Markup:
    """A row a layer, a cell a PE, darker the busier.

    Args:
        shares: 0 to 1, ``[layers, pes]``.
    """
    left = 8 + 7.0 * max(map(len, names), default=0)
    cell = (width - left) / shares.shape[1]
    marks = []
    for row, (name, values) in enumerate(zip(names, shares, strict=True)):
        marks.append(text(left - 6, 20 * row + 13, name, anchor="end"))
        for pe, value in enumerate(values):
            title = f"{name}, PE {pe}: multiplies in {100 * value:.0f} % of the cycles"
            marks.append(
                Markup(
                    '<rect x="{:.2f}" y="{}" width="{:.2f}" height="16" class="a" '
                    'fill-opacity="{:.2f}"><title>{}</title></rect>'
                ).format(
                    left + pe * cell,
                    20 * row + 1,
                    max(cell - 1, cell * 0.8),
                    0.06 + 0.94 * value,
                    title,
                )
            )
    said = "; ".join(
        f"{name}: {100 * values.min():.0f} to {100 * values.max():.0f} per cent"
        for name, values in zip(names, shares, strict=True)
    )
    return svg(width, 20 * len(names) + 2, f"Use of the processing elements: {said}", *marks)


def confusion(counts: np.ndarray) -> Markup:
    """A row a class, a column a class said; the diagonal is right, what is wrong stands out.

    Args:
        counts: ``[classes, classes]``.
    """
    size = len(counts)
    cell = min(34.0, 560.0 / size)
    wrong = counts * (1 - np.eye(size, dtype=int))
    most = max(int(wrong.max()), 1)
    marks = []
    for row, line in enumerate(counts):
        marks.append(text(22, cell * (row + 0.5) + 22, row, anchor="end"))
        marks.append(text(28 + cell * (row + 0.5), 12, row, anchor="middle"))
        for column, count in enumerate(line):
            right = row == column
            share = 0.12 if right else 0.1 + 0.9 * count / most if count else 0.0
            title = f"class {row} said to be {column}: {count:,}"
            x, y = 28 + cell * column, 18 + cell * row
            marks.append(
                Markup(
                    '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}" '
                    'fill-opacity="{:.2f}"><title>{}</title></rect>'
                ).format(x, y, cell - 1, cell - 1, "b" if right else "c", share, title)
            )
            if count and cell > 24:
                marks.append(text(x + cell / 2 - 0.5, y + cell / 2 + 4, count, "cell", "middle"))
    edge = 30 + cell * size
    wrongs = int(wrong.sum())
    return svg(edge, edge, f"Confusion matrix: {wrongs:,} of {counts.sum():,} wrong", *marks)


def graph(nodes: Sequence[tuple[str, str, tuple[int, ...]]], first: str) -> Markup:
    """The nodes one under the other; what comes from further up bends around.

    Args:
        nodes: name, words and sources, of which 0 is the input.
        first: the input, in words.
    """
    high, x = 34, 150
    rows = [("input", first, ()), *nodes]
    marks = []
    for number, (name, said, sources) in enumerate(rows):
        y = high * number
        for source in sources:
            from_y = high * source + 24
            if source == number - 1:
                path = f"M{x} {from_y} V{y}"
            else:
                bend = min(130, 20 + 10 * (number - source))
                path = f"M{x - 110} {from_y - 12} H{x - 110 - bend / 4:.0f} V{y + 12} H{x - 110}"
            marks.append(Markup('<path d="{}" class="edge"/>').format(path))
        marks.append(rect(x - 110, y, 560, 24, "node", f"{name}: {said}"))
        marks.append(text(x - 100, y + 16, name, "name"))
        marks.append(text(x + 40, y + 16, said))
    return svg(
        x + 460, high * len(rows), f"The network: {len(nodes)} nodes, one after the other", *marks
    )


def picture(pixels: np.ndarray, said: str, side: int = 64) -> Markup:
    """A grey picture, dark where the value is high, within the page.

    Args:
        pixels: uint8 ``[height, width]``.
    """
    height, width = pixels.shape
    inverted = 255 - np.asarray(pixels, np.uint8)
    lines = b"".join(b"\0" + row.tobytes() for row in inverted)

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    png = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    )
    png += chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
    tall = max(1, round(side * height / width))
    return Markup('<img alt="{}" width="{}" height="{}" src="data:image/png;base64,{}">').format(
        escape(said), side, tall, base64.b64encode(png).decode()
    )

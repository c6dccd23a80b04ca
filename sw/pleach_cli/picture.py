"""Pictures of what a network classified: each input, its label, its class and its logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pleach_cli.output import console, say

if TYPE_CHECKING:
    from pathlib import Path

#: a cell of the terminal by its upper and its lower pixel
HALVES = " ▄▀█"
#: a logit, from the least of an input to the largest
BARS = "▁▂▃▄▅▆▇█"
#: inputs on the terminal at most, and cells between two
SHOWN, GAP = 6, 4
#: from this share of the brightest pixel on one is shown
BRIGHT = 0.4
#: pictures in a row of a file
COLUMNS = 5


@dataclass(frozen=True, eq=False)
class Classified:
    """Inputs that are pictures, and what a network answered.

    Args:
        images: ``[n, height, width]``.
        labels: class of each, or None.
        logits: ``[n, classes]``.
    """

    images: np.ndarray
    labels: np.ndarray | None
    logits: np.ndarray

    def said(self, number: int) -> tuple[str, bool]:
        """Label and class of a picture, and whether they are the same."""
        found = int(self.logits[number].argmax())
        if self.labels is None:
            return f"class {found}", True
        label = int(self.labels[number])
        return f"label {label}, class {found}", found == label


def on_terminal(images: np.ndarray) -> list[list[str]]:
    """Pictures in half blocks, each as lines, two rows of pixels in a line; what is dark in all of
    them at the sides is left out.

    >>> on_terminal(np.array([[[0, 0, 0], [0, 9, 9], [0, 9, 0]]]))
    [['█▀']]
    """
    bright = images >= BRIGHT * max(images.max(), 1)
    rows, columns = (np.flatnonzero(bright.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    if len(rows):
        bright = bright[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    bright = np.pad(bright, ((0, 0), (0, bright.shape[1] % 2), (0, 0)))
    cells = 2 * bright[:, ::2] + bright[:, 1::2]
    return [["".join(HALVES[cell] for cell in line) for line in picture] for picture in cells]


def bars(logits: np.ndarray) -> str:
    """Logits of an input, a cell each.

    >>> bars(np.array([-4.0, 3.0, 0.0]))
    '▁█▅'
    """
    low, span = logits.min(), np.ptp(logits) or 1
    return "".join(BARS[round(7 * float(logit - low) / float(span))] for logit in logits)


def show(found: Classified) -> None:
    """The first pictures on the terminal, as many in a row as it is wide."""
    out = console()
    try:
        (HALVES + BARS).encode(out.encoding)
    except (UnicodeEncodeError, LookupError):
        say("no pictures here: this terminal has no block characters; give --picture FILE")
        return
    pictures = on_terminal(found.images[:SHOWN])
    classes = "".join(str(number % 10) for number in range(found.logits.shape[1]))
    blocks = []
    for number, picture in enumerate(pictures):
        logits = found.logits[number]
        said, right = found.said(number)
        first, second = np.argsort(-logits, kind="stable")[:2]
        values = f"{first}: {logits[first]:.1f}, {second}: {logits[second]:.1f}"
        style = "green" if right else "red"
        lines = [(line, "") for line in picture]
        blocks.append([*lines, (said, style), (bars(logits), ""), (classes, ""), (values, "")])
    width = max(len(text) for block in blocks for text, _ in block)
    across = max(1, (out.width + GAP) // (width + GAP))
    for start in range(0, len(blocks), across):
        say()
        for parts in zip(*blocks[start : start + across], strict=True):
            say(*((f"{text:<{width + GAP}}", style) for text, style in parts))


def draw(found: Classified, path: Path) -> None:
    """All pictures in a .png, .svg or .pdf file, each over its logits.

    Raises:
        NotInstalledError: matplotlib is not.
    """
    from pleach.files import new_figure, write_figure

    rows = -(-len(found.images) // COLUMNS)
    figure = new_figure(figsize=(1.7 * COLUMNS, 2.4 * rows))
    grid = figure.subplots(2 * rows, COLUMNS, squeeze=False, height_ratios=[3, 1] * rows)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, image in enumerate(found.images):
        row, column = divmod(number, COLUMNS)
        above, below = grid[2 * row][column], grid[2 * row + 1][column]
        said, right = found.said(number)
        above.imshow(image, cmap="gray_r")
        above.set_title(said, fontsize=9, color="C2" if right else "C3")
        logits = found.logits[number]
        below.set_axis_on()
        colours = ["C0" if logit == logits.max() else "0.75" for logit in logits]
        below.bar(range(len(logits)), logits, color=colours)
        below.set_xticks(range(len(logits)))
        below.tick_params(labelsize=6)
    write_figure(figure, path)

"""How the commands print: lines, tables, JSON and progress. A user's text is never markup."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from pleach.text import printable

#: a piece of a line: text, or text and its style
Part = object | tuple[object, str]

#: characters of a name that are left on the narrowest terminal
LEAST_NAME = 8
#: seconds between two lines of a log while a step lasts
REPORT_EVERY = 30.0


def console(*, stderr: bool = False):
    """Where results are printed, or with `stderr` what is said on the way to them."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def say(*parts: Part, stderr: bool = False) -> None:
    """Print a line of these parts, as long as it is: only a terminal breaks it."""
    from rich.text import Text

    styled = (part if isinstance(part, tuple) else (part, "") for part in parts)
    text = Text.assemble(*((printable(str(text)), style) for text, style in styled))
    console(stderr=stderr).print(text, soft_wrap=True)


def print_json(values: dict[str, Any]) -> None:
    """One JSON object on standard output, in ASCII: any terminal and any name will do."""
    typer.echo(json.dumps(values, indent=2))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of figures with a first column of names.

    No figure is ever cut. On a terminal that is too narrow the names are shortened, and where that
    is not enough the lines are longer than it is wide; elsewhere they are as long as they are.
    """
    from rich.cells import cell_len
    from rich.text import Text

    out = console()
    cells = [[printable(cell) for cell in row] for row in rows]
    heads = [column.split("\n") for column in columns]
    widths = [
        max(map(cell_len, (*head, *(row[index] for row in cells))))
        for index, head in enumerate(heads)
    ]
    if out.is_terminal:
        over = sum(widths) + 2 * (len(widths) - 1) - out.width
        if over > 0:
            least = max(LEAST_NAME, *map(cell_len, heads[0]))
            widths[0] = min(widths[0], max(widths[0] - over, least))
    height = max(map(len, heads))
    heads = [[""] * (height - len(head)) + head for head in heads]

    def line(first: str, *figures: str) -> str:
        first = shortened(first, widths[0])
        padded = [first + " " * (widths[0] - cell_len(first))]
        for figure, width in zip(figures, widths[1:], strict=True):
            padded.append(" " * (width - cell_len(figure)) + figure)
        return "  ".join(padded).rstrip()

    lines = [Text("\n" + printable(title), "italic")]
    lines += [Text(line(*row), "bold") for row in zip(*heads, strict=True)]
    lines += [Text(line(*row)) for row in cells]
    out.print(Text("\n").join(lines), soft_wrap=True)


def shortened(name: str, width: int) -> str:
    """`name` in that many cells of a terminal, its middle left out where it is longer.

    >>> shortened("encoder.layer.11.fc1", 12)
    'encode…1.fc1'
    """
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) <= width:
        return name
    end = (width - 1) // 2
    return f"{set_cell_size(name, width - 1 - end)}…{set_cell_size(name[::-1], end)[::-1]}"


@contextmanager
def progress(description: str) -> Iterator[Callable[..., None]]:
    """Progress on standard error: call the value with a step, how much of it is done and of how
    much, and a word on how it goes.

    On a terminal a bar. Elsewhere lines with the time since the start: one when a step begins, one
    every half minute while it lasts, one at the end.
    """
    if console(stderr=True).is_terminal:
        with _bar(description) as update:
            yield update
    else:
        with _log(description) as update:
            yield update


@contextmanager
def _bar(description: str) -> Iterator[Callable[..., None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bars:
        task = bars.add_task(printable(description), total=None)

        def update(
            step: str, done: int | None = None, total: int | None = None, how: str = ""
        ) -> None:
            shown = printable(f"{step}, {how}" if how else step)
            bars.update(task, description=shown, completed=done, total=total)

        yield update


@contextmanager
def _log(description: str) -> Iterator[Callable[..., None]]:
    start = time.monotonic()
    current, latest = description, description
    ended = threading.Event()

    def line(text: str) -> None:
        say(f"[{time.monotonic() - start:6.0f} s] {text}", stderr=True)

    def update(step: str, done: int | None = None, total: int | None = None, how: str = "") -> None:
        nonlocal current, latest
        of = "" if done is None else f", {done} of {total}" if total else f", {done}"
        latest = f"{step}{of}{', ' if how else ''}{how}"
        if step != current:
            current = step
            line(latest)

    def remind() -> None:  # from a thread: who waits for a child says nothing by himself
        while not ended.wait(REPORT_EVERY):
            line(latest)

    line(description)
    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield update
    finally:
        ended.set()
        reminder.join()
    line("done")

"""Tables in CSV files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from pleach.data.folder import Read
from pleach.data.split import SPLIT, classes_line, two
from pleach.errors import DataError

#: the column of classes; those of a regression's targets begin with the second
LABEL, TARGET, PART = "label", "target", "split"


def read(path: Path, wanted: bool) -> tuple[Read, bool]:
    """Rows of a CSV file (RFC 4180), whose first line names the columns; and whether they have
    labels.

    The column ``label`` has classes: whole numbers from 0, or names, which are numbered in their
    order. Or columns whose names begin with ``target`` have the numbers of a regression. A column
    ``split`` says ``train`` or ``test`` of each row. All others are features, in their order.

    Args:
        wanted: whether there must be labels.

    Raises:
        DataError: no such columns, or a value that is no number; names line and column.
    """
    names, rows, lines = _rows(path)
    targets = [n for n, name in enumerate(names) if name.lower().startswith(TARGET)]
    found = {name: n for n, name in enumerate(name.lower() for name in names)}
    label, part = found.get(LABEL), found.get(PART)
    if label is not None and targets:
        raise DataError(f"{path} has a column {LABEL} and columns {TARGET}…: give one of the two")
    if wanted and label is None and not targets:
        raise DataError(
            f"{path} has no column called {LABEL}, for classes, or {TARGET}…, for numbers; it has "
            f"{', '.join(names[:12])}{', …' * (len(names) > 12)}"
        )
    used = {label, part, *targets}
    features = [n for n in range(len(names)) if n not in used]
    if not features:
        raise DataError(f"{path} has no columns but {', '.join(names)}: what are the inputs?")

    def numbers(columns: list[int]) -> np.ndarray:
        table = np.empty((len(rows), len(columns)), np.float32)
        for number, row in enumerate(rows):
            try:
                table[number] = [row[n] for n in columns]
            except ValueError:
                _refuse(path, lines[number], names, columns, row)
        if not (finite := np.isfinite(table)).all():
            row, column = np.argwhere(~finite)[0]
            raise DataError(
                f"{path}, line {lines[row]}, column {names[columns[column]]}: not a finite number"
            )
        return table

    inputs, said = numbers(features), ""
    labels: np.ndarray = np.zeros(len(rows), np.int64)
    if targets:
        labels = numbers(targets)
    elif label is not None:
        labels, said = _classes(path, [row[label] for row in rows], lines)
    if part is None:
        train, test = two(len(rows), str(path))
        split = SPLIT
    else:
        parts = np.array([row[part].strip().lower() for row in rows])
        train, test = (np.flatnonzero(parts == each) for each in ("train", "test"))
        if len(train) + len(test) != len(rows) or not len(train) or not len(test):
            raise DataError(f"{path}: column {PART} must say train or test, and both be there")
        split = f"split as its column {PART} says"
    split += f"; {said}" if said else ""
    return (
        (inputs[train], labels[train], inputs[test], labels[test], inputs.shape[1:], split),
        label is not None or bool(targets),
    )


def _rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Names of the columns, the rows, and the line on which each one ends."""
    rows, lines = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip() for name in next(reader, [])]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(names):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(row)} values, the first line names "
                        f"{len(names)} columns"
                    )
                rows.append(row)
                lines.append(reader.line_num)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8: {error}") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    if len({name.lower() for name in names}) != len(names) or "" in names or _numeric(names):
        raise DataError(f"{path}: the first line must name the columns, each by a name of its own")
    return names, rows, lines


def _numeric(names: list[str]) -> bool:
    """Whether a first line is one of numbers."""
    try:
        return bool([float(name) for name in names])
    except ValueError:
        return False


def _refuse(path: Path, line: int, names: list[str], columns: list[int], row: list[str]) -> None:
    for n in columns:
        try:
            float(row[n])
        except ValueError:
            raise DataError(
                f"{path}, line {line}, column {names[n]}: {row[n]!r} is no number"
            ) from None


def _classes(path: Path, values: list[str], lines: list[int]) -> tuple[np.ndarray, str]:
    """The class of each row, and the names of classes in words."""
    values = [value.strip() for value in values]
    if "" in values:
        raise DataError(f"{path}, line {lines[values.index('')]}, column {LABEL}: it is empty")
    if all(value.isdecimal() and value.isascii() and len(value) < 6 for value in values):
        return np.array(values).astype(np.int64), ""
    try:
        [float(value) for value in values]
    except ValueError:
        names, numbers = np.unique(values, return_inverse=True)
        return numbers.astype(np.int64), f"classes {classes_line(names.tolist())}"
    raise DataError(
        f"{path}: column {LABEL} has numbers that are no classes from 0: for a regression call it "
        f"{TARGET}"
    )

"""The boards that Pleach knows: what the modules of this package call ``BOARDS``.

Another board is another file. One outside the package is a `Board` that `synth` takes as it is, or
a file with ``BOARDS`` whose path is given for the name.
"""

from __future__ import annotations

import importlib
import pkgutil
import runpy
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pleach.errors import ConfigError
from pleach.extras import need

need("amaranth_boards")

from pleach_hw.boards.definition import Board, Flash

__all__ = ["Board", "Flash", "board", "boards"]


def board(name: str) -> Board:
    """The board called `name`, or of a file.

    Args:
        name: of a board; or ``FILE.py``, or ``FILE.py:NAME`` where the file has several.

    >>> board("ulx3s-85f").bram
    208

    Raises:
        ConfigError: no such board; names those there are.
    """
    file, _, inside = name.partition(".py:")
    if inside:
        return _called(inside, _of_file(Path(f"{file}.py")), f" in {file}.py")
    if name.endswith(".py"):
        found = _of_file(Path(name))
        if len(found) != 1:
            raise ConfigError(f"{name} has {len(found)} boards: say which, as {name}:NAME")
        return found[0]
    return _called(name, boards())


@cache
def boards() -> tuple[Board, ...]:
    """All boards of this package, by family and the size of their chips."""
    found: list[Board] = []
    for module in pkgutil.iter_modules(__path__):
        found += getattr(importlib.import_module(f"{__name__}.{module.name}"), "BOARDS", ())
    return tuple(sorted(found, key=lambda board: (board.family.lower(), board.lut4)))


def _called(name: str, known: Iterable[Board], where: str = "") -> Board:
    by_name = {board.name: board for board in known}
    if name not in by_name:
        raise ConfigError(f"no board is called {name!r}{where}; there are {', '.join(by_name)}")
    return by_name[name]


def _of_file(path: Path) -> tuple[Board, ...]:
    try:
        found = runpy.run_path(str(path)).get("BOARDS", ())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(found, tuple) or not all(isinstance(each, Board) for each in found):
        raise ConfigError(f"{path}: BOARDS is a tuple of pleach_hw.boards.Board")
    return found

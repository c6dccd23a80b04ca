"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pleach.errors import ConfigError
from pleach.extras import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = (".png", ".svg", ".pdf")


def write_whole(path: str | Path, data: bytes | str) -> Path:
    """Write `data` (text as UTF-8) beside `path` and move it into place.

    A link stays one: what it points to is replaced. What is no regular file, a device or a pipe,
    is written to.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    path = Path(path)
    data = data.encode() if isinstance(data, str) else data
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _replace(Path(os.path.realpath(path)), data)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    return path


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, side = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.umask(umask := os.umask(0))
        os.chmod(side, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~umask)
        os.replace(side, path)
    except BaseException:
        os.unlink(side)
        raise


def check_writable(path: Path) -> None:
    """Refuse a path that `write_whole` could not write, before there is anything to lose.

    Raises:
        OSError: it is a folder, or in what is no folder, or may not be written; names it.
    """
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if path.is_dir():
        code = errno.EISDIR
    elif there != path and not there.is_dir():
        code = errno.ENOTDIR
    elif not os.access(there, os.W_OK):
        code = errno.EACCES
    else:
        return
    raise OSError(code, os.strerror(code), str(path))


def check_apart(written: Sequence[Path], read: Sequence[Path]) -> None:
    """Refuse to write over what is read, or two results into one file, by whatever path or link.

    Raises:
        ConfigError: names the path that would be written.
    """
    for index, path in enumerate(written):
        if path.exists() and not path.is_file():  # a device or a pipe: nothing is lost
            continue
        if any(_same(path, other) for other in read):
            raise ConfigError(f"{path} would be written over what is read from it: choose another")
        if any(_same(path, other) for other in written[:index]):
            raise ConfigError(f"{path} would be written twice: choose another for one of the two")


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them is not there
        return os.path.realpath(path) == os.path.realpath(other)


def check_figure(path: Path) -> None:
    """Refuse a path that `write_figure` could not write.

    Raises:
        ConfigError: the suffix is none of a figure's.
        NotInstalledError: matplotlib is not.
        OSError: as `check_writable`.
    """
    if path.suffix not in FIGURES:
        raise ConfigError(f"{path}: a plot is {', '.join(FIGURES[:-1])} or {FIGURES[-1]}")
    need("matplotlib")
    check_writable(path)


def new_figure(**options) -> Figure:
    """A matplotlib figure that no window shows."""
    need("matplotlib")
    from matplotlib.figure import Figure

    return Figure(layout="constrained", **options)


def write_figure(figure: Figure, path: Path) -> None:
    """Write a matplotlib figure; the suffix says in which format."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:])
    write_whole(path, drawn.getvalue())

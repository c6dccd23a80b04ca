"""A content-addressed cache of what tools build: simulators, netlists, placed designs."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from pleach.errors import PleachWarning


def cache_folder() -> Path:
    """``$PLEACH_CACHE``, or ``pleach`` in the user's cache folder; can be deleted at any time.

    Where neither can be written, a folder that ends with this process, and a `PleachWarning`.
    """
    wanted = os.environ.get("PLEACH_CACHE")
    wanted = os.path.abspath(wanted) if wanted else _of_user("pleach")
    if wanted is not None and _usable(wanted):
        return Path(wanted)
    return Path(_temporary(wanted).name)


def tool_environment() -> dict[str, str]:
    """For a tool that keeps a cache of its own: where it could not write the user's, ours."""
    home = _of_user("")
    if home is not None and _usable(home):
        return dict(os.environ)
    ours = str(cache_folder() / "home")
    return os.environ | {"HOME": ours, "XDG_CACHE_HOME": ours}


def _of_user(name: str) -> str | None:
    try:
        return os.path.join(platformdirs.user_cache_dir(), name)
    except RuntimeError:  # no home folder is known
        return None


@functools.cache
def _usable(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@functools.cache
def _temporary(wanted: str | None) -> tempfile.TemporaryDirectory:
    place = "there is no home folder" if wanted is None else f"{wanted} cannot be written"
    warnings.warn(
        f"no cache: {place}, so simulators and netlists are kept for this process alone; "
        "PLEACH_CACHE names another folder",
        PleachWarning,
        stacklevel=3,
    )
    return tempfile.TemporaryDirectory(prefix="pleach-cache-")


def cached(kind: str, key: list[str], make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` filled for this ``key``, made now where there is none.

    Processes that ask for the same key at once share one run of ``make``. It gets an empty folder,
    which is moved into place when it returns; after an error the folder stays, ending in ``.work``,
    for its logs, until the next try.

    Args:
        kind: first part of the path, such as ``verilator``.
        key: everything that the result depends on: sources, options, versions of tools.
        make: fills the folder it is given.
    """
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]
    place = cache_folder() / kind / digest
    with locked(place.with_suffix(".lock")):
        if not place.exists():
            work = place.with_suffix(".work")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            try:
                make(work)
            except Exception:
                raise
            except BaseException:  # interrupted: nobody asks for a log
                shutil.rmtree(work, ignore_errors=True)
                raise
            os.replace(work, place)
    return place


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; released when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

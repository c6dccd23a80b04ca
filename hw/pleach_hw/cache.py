"""A content-addressed cache of what tools build: simulators, netlists, placed designs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """``$PLEACH_CACHE``, or ``pleach`` in the user's cache folder; can be deleted at any time."""
    return Path(os.environ.get("PLEACH_CACHE") or platformdirs.user_cache_dir("pleach"))


def cached(kind: str, key: list[str], make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` filled for this ``key``, made now where there is none.

    Processes that ask for the same key at once share one run of ``make``. It gets an empty folder,
    which is moved into place when it returns; after an exception the folder stays, ending in
    ``.work``, for its logs, until the next try.

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
            make(work)
            os.replace(work, place)
    return place


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; released when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

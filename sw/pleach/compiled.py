"""Functions compiled by numba, kept on disk where that can be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numba
from numba.core.caching import FunctionCache


def njit(**options) -> Callable:
    """`numba.njit` with its options; what it compiles is kept beside the source or, where that
    cannot be written, in the user's cache.

    Where neither can, or what is kept cannot be read, it compiles again in each process: numba
    itself would fail.

    >>> @njit(nogil=True)
    ... def twice(x):
    ...     return 2 * x
    >>> twice(4)
    8
    """

    def decorate(function):
        compiled = numba.njit(**options)(function)
        # numba finds no folder for it (RuntimeError), or not even a user's home.
        with suppress(RuntimeError, OSError):
            compiled._cache = _Cache(function)
        return compiled

    return decorate


@cache
def sources(folder: Path) -> str:
    """A hash of a folder's modules."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


class _Cache(FunctionCache):
    """A cache that cannot be read, for whatever reason, is empty; one that cannot be written stays
    as it is. It is void as soon as any source of the function's folder is another: what it calls
    may be there, and is compiled into it. (numba looks at the function's own file alone.)"""

    def __init__(self, function: Callable):
        super().__init__(function)
        folder = Path(function.__code__.co_filename).parent
        self._cache_file._source_stamp = self._cache_file._source_stamp, sources(folder)

    def load_overload(self, sig, target_context):
        with suppress(Exception):
            return super().load_overload(sig, target_context)

    def save_overload(self, sig, data):
        with suppress(Exception):
            super().save_overload(sig, data)

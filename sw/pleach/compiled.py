"""Functions compiled by numba, kept on disk where that can be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

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


class _Cache(FunctionCache):
    """A cache that cannot be read, for whatever reason, is empty; one that cannot be written stays
    as it is."""

    def load_overload(self, *args):
        with suppress(Exception):
            return super().load_overload(*args)

    def save_overload(self, *args):
        with suppress(Exception):
            super().save_overload(*args)

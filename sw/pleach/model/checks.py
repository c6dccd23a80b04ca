"""What a field of a network may hold, checked where it is made."""

from __future__ import annotations

import operator
from enum import IntEnum
from typing import Any

import numpy as np

from pleach.arrays import as_array
from pleach.errors import ModelError


def check_integers(owner: Any, where: str, **ranges: tuple[int, int]) -> None:
    """Fields of a dataclass that are whole numbers of a range, as int.

    Raises:
        ModelError: one is not.
    """
    for name, (low, high) in ranges.items():
        value = getattr(owner, name)
        try:
            whole = operator.index(value)
        except TypeError:
            raise ModelError(
                f"{where}: {name} is {value!r}, must be a whole number from {low} to {high}"
            ) from None
        if not low <= whole <= high:
            raise ModelError(f"{where}: {name} is {whole}, must be {low} to {high}")
        object.__setattr__(owner, name, whole)


def integers(values: Any, where: str, dtype: type, low: int, high: int) -> np.ndarray:
    """A row of whole numbers of a range as a contiguous array of that type.

    Raises:
        ModelError: another kind or shape, or one out of range; says which.
    """
    array = as_array(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ModelError(
            f"{where} is {array.dtype} of shape {array.shape}, must be a row of whole numbers"
        )
    if array.size and not (low <= int(array.min()) and int(array.max()) <= high):
        index = int(np.flatnonzero((array < low) | (array > high))[0])
        raise ModelError(f"{where}[{index}] is {array[index]}, must be {low} to {high}")
    return np.ascontiguousarray(array, dtype=dtype)


def coded(kind: type[IntEnum], value: Any, where: str) -> Any:
    """A member of an enumeration, of itself or of its code."""
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(f"{member.name} ({member.value})" for member in kind)
        raise ModelError(f"{where}: {value!r} is no {kind.__name__}, there are {known}") from None

"""How data that has no training and test set of its own is split, and how classes are named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pleach.errors import DataError

SPLIT = "shuffled once, always the same, the last fifth to test"
#: classes that a line names
NAMED = 12


def two(count: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the training and of the test inputs.

    Raises:
        DataError: too few for both.

    >>> [len(part) for part in two(10, "")]
    [8, 2]
    """
    if count < 2:
        raise DataError(f"{where} has {count} inputs, too few to train on some and test on others")
    order = np.random.default_rng(0).permutation(count)
    tests = max(count // 5, 1)
    return order[:-tests], order[-tests:]


def classes_line(names: Sequence[str]) -> str:
    """
    >>> classes_line(["cat", "dog"])
    '0 cat, 1 dog'
    """
    few = ", ".join(f"{number} {name}" for number, name in enumerate(names[:NAMED]))
    return few + ", …" * (len(names) > NAMED)

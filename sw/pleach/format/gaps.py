"""Gap classes: the alphabet in which zero runs are coded (docs/bitstream.md, "Gaps")."""

from __future__ import annotations

import numpy as np

CLASSES = 26
SKIP = 25
SKIP_POSITIONS = 65536
MAX_GAP = SKIP_POSITIONS - 1


def extra_bits(gap_class: int) -> int:
    """Raw bits that follow a class.

    >>> [extra_bits(c) for c in (3, 4, 17, 18, 24, 25)]
    [0, 1, 7, 9, 15, 0]
    """
    if gap_class < 4 or gap_class == SKIP:
        return 0
    return gap_class // 2 - 1 if gap_class < 18 else gap_class - 9


def base(gap_class: int) -> int:
    """The least gap of a class; for the skip, the positions it passes over.

    >>> [base(c) for c in (3, 4, 17, 18, 24, 25)]
    [3, 4, 384, 512, 32768, 65536]
    """
    if gap_class < 4:
        return gap_class
    if gap_class < 18:
        return (2 + gap_class % 2) << extra_bits(gap_class)
    return 1 << extra_bits(gap_class) if gap_class < SKIP else SKIP_POSITIONS


EXTRA_BITS = np.array([extra_bits(c) for c in range(CLASSES)], np.uint8)
BASE = np.array([base(c) for c in range(CLASSES)], np.int64)


def classify(gaps: np.ndarray) -> np.ndarray:
    """The class of each gap, uint8; gaps are 0 to `MAX_GAP`.

    >>> classify(np.array([0, 3, 4, 5, 6, 511, 512, 65535])).tolist()
    [0, 3, 4, 4, 5, 17, 18, 24]
    """
    return (np.searchsorted(BASE, gaps, side="right") - 1).astype(np.uint8)


def symbols(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gap symbols of strictly increasing positions, skips included.

    Returns ``(classes, extras)``, uint8 and int64, one element a symbol.

    >>> symbols(np.array([2, 3, 65544]))
    (array([ 2,  0, 25,  4], dtype=uint8), array([0, 0, 0, 0]))
    """
    gaps = np.diff(positions, prepend=-1) - 1
    skips = gaps // SKIP_POSITIONS
    gaps -= skips * SKIP_POSITIONS
    ends = np.cumsum(skips + 1)
    classes = np.full(ends[-1] if len(ends) else 0, SKIP, np.uint8)
    extras = np.zeros(len(classes), np.int64)
    entry_classes = classify(gaps)
    classes[ends - 1] = entry_classes
    extras[ends - 1] = gaps - BASE[entry_classes]
    return classes, extras


def relative_index(weights: np.ndarray, bits: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The papers' fixed-width relative index with filler zeros.

    Each element is a count of zeros before a value, at most ``2**bits - 1``; where a longer run is
    met a zero value is stored (Deep Compression, figure 2; EIE, section III-B).

    Args:
        weights: 1-D, zeros are pruned.
        bits: width of a run.

    Returns:
        ``(runs, values)``; fillers are values of 0.

    >>> runs, values = relative_index(np.array([0, 0, 1, 2] + [0] * 18 + [3]))
    >>> runs.tolist(), values.tolist()
    ([2, 0, 15, 2], [1, 2, 0, 3])
    """
    longest = (1 << bits) - 1
    positions = np.flatnonzero(weights)
    gaps = np.diff(positions, prepend=-1) - 1
    fillers = gaps // (longest + 1)
    ends = np.cumsum(fillers + 1)
    runs = np.full(ends[-1] if len(ends) else 0, longest, np.uint8)
    values = np.zeros(len(runs), weights.dtype)
    runs[ends - 1] = gaps - fillers * (longest + 1)
    values[ends - 1] = weights[positions]
    return runs, values


def from_relative_index(runs: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """The inverse of `relative_index`: the 1-D array of ``size`` elements.

    >>> from_relative_index(np.array([2, 0, 15, 2]), np.array([1, 2, 0, 3]), 23).nonzero()[0]
    array([ 2,  3, 22])
    """
    weights = np.zeros(size, values.dtype)
    weights[np.cumsum(runs.astype(np.int64) + 1) - 1] = values
    return weights

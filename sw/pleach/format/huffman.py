"""Canonical, length-limited Huffman codes as docs/bitstream.md defines them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleach.errors import FormatError


def package_merge(frequencies: np.ndarray, limit: int) -> np.ndarray:
    """Optimal code lengths of at most ``limit`` bits (Larmore and Hirschberg, 1990).

    Args:
        frequencies: positive counts, in any order, at most ``2**limit`` of them.

    Returns:
        uint8 lengths, in the order of the counts; ``[0]`` for one symbol.

    >>> package_merge(np.array([1, 1, 2, 4, 8]), 8).tolist()
    [4, 4, 3, 2, 1]
    >>> package_merge(np.array([1, 1, 2, 4, 8]), 3).tolist()
    [3, 3, 3, 3, 1]
    """
    count = len(frequencies)
    if count > 1 << limit:
        raise ValueError(f"{count} symbols need codes of more than {limit} bits")
    if count < 2:
        return np.zeros(count, np.uint8)
    # A package is its weight and how often each symbol is in it.
    symbols = np.eye(count, dtype=np.int32)
    order = np.argsort(frequencies, kind="stable")
    leaves_weight = np.asarray(frequencies, np.int64)[order]
    weights, members = leaves_weight, symbols[order]
    for _ in range(limit - 1):
        pairs = len(weights) // 2
        paired_weight = weights[: 2 * pairs].reshape(-1, 2).sum(1)
        paired = members[: 2 * pairs].reshape(pairs, 2, count).sum(1)
        weights = np.concatenate([leaves_weight, paired_weight])
        merged = np.argsort(weights, kind="stable")
        weights = weights[merged]
        members = np.concatenate([symbols[order], paired])[merged]
    return members[: 2 * count - 2].sum(0).astype(np.uint8)


@dataclass(frozen=True)
class HuffmanTable:
    """A canonical code over code numbers ``0 … size − 1``.

    ``counts[l]`` is the number of codes of length ``l``; ``counts[0]`` is 1 for the alphabet of one
    symbol and 0 otherwise. The table does not know what its code numbers mean: the codebook and the
    list of gap classes are kept in their order.

    >>> table, order = HuffmanTable.build(np.array([1, 8, 0, 2, 1]), limit=12)
    >>> table.counts, order.tolist()
    ((0, 1, 1, 2), [1, 3, 0, 4])
    >>> [table.code(number) for number in range(4)]
    [(0, 1), (2, 2), (6, 3), (7, 3)]
    """

    counts: tuple[int, ...]

    def __post_init__(self):
        counts = self.counts
        if counts in ((0,), (1,)):
            return
        if counts[0] or counts[-1] < 1 or min(counts) < 0:
            raise FormatError(f"code lengths {list(counts)} are no Huffman code")
        for length, upper in enumerate(self.upper[1:], 1):
            full = 1 << length
            if upper > full or (upper == full) != (length == self.length):
                raise FormatError(
                    f"code lengths {list(counts)} break the Kraft equality at length {length}"
                )

    @classmethod
    def build(cls, frequencies: np.ndarray, *, limit: int) -> tuple[HuffmanTable, np.ndarray]:
        """The best code for symbol counts; zero counts get no code.

        Returns:
            The table, and the symbols in the order of their code numbers: by falling frequency,
            ties to the lower symbol.
        """
        order = np.argsort(-np.asarray(frequencies, np.int64), kind="stable")
        order = order[: np.count_nonzero(frequencies)]
        if not len(order):
            return cls((0,)), order
        lengths = np.sort(package_merge(np.asarray(frequencies)[order], limit))
        return cls(tuple(np.bincount(lengths).tolist())), order

    @classmethod
    def from_counts(cls, size: int, length: int, counts: bytes) -> HuffmanTable:
        """From the fields of a layer: alphabet size, longest length, counts of the shorter ones.

        Raises:
            FormatError: no such code exists.
        """
        if size < 2:
            if length:
                raise FormatError(f"an alphabet of {size} symbols with codes of {length} bits")
            return cls((size,))
        if not length:
            raise FormatError(f"an alphabet of {size} symbols with codes of 0 bits")
        return cls((0, *counts, size - sum(counts)))

    @classmethod
    def from_lengths(cls, lengths: np.ndarray) -> tuple[HuffmanTable, np.ndarray]:
        """From the length of each symbol's code, 0 where it has none; one alone has 1 for its 0.

        Returns:
            The table, and the symbols in the order of their code numbers: by rising length, then by
            symbol.

        Raises:
            FormatError: no such code exists.

        >>> table, order = HuffmanTable.from_lengths(np.array([0, 2, 1, 2]))
        >>> table.counts, order.tolist()
        ((0, 1, 2), [2, 1, 3])
        """
        lengths = np.asarray(lengths)
        order = np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]
        if len(order) < 2:
            if np.any(lengths > 1):
                raise FormatError("an alphabet of 1 symbol with a code of more than 1 bit")
            return cls((len(order),)), order
        return cls(tuple(np.bincount(lengths[order]).tolist())), order

    def lengths(self, order: np.ndarray, size: int) -> np.ndarray:
        """The inverse: uint8 ``[size]``, from the symbols in the order of their code numbers.

        >>> HuffmanTable.from_lengths(np.array([0, 1]))[0].lengths(np.array([1]), 3).tolist()
        [0, 1, 0]
        """
        lengths = np.zeros(size, np.uint8)
        lengths[order] = self.codes()[1] if self.length else 1
        return lengths

    @property
    def size(self) -> int:
        """Symbols in the alphabet."""
        return sum(self.counts)

    @property
    def length(self) -> int:
        """Length of the longest code."""
        return len(self.counts) - 1

    @property
    def upper(self) -> tuple[int, ...]:
        """``upper[l]``: one more than the largest code of length ``l``."""
        upper = [0]
        for count in self.counts[1:]:
            upper.append(2 * upper[-1] + count)
        return tuple(upper)

    @property
    def offset(self) -> tuple[int, ...]:
        """``offset[l]``: add to a code of length ``l`` to get its number (negative)."""
        upper = self.upper
        below = np.cumsum((0, *self.counts[1:-1])) if self.length else []
        return (0, *(int(b) - 2 * u for b, u in zip(below, upper, strict=False)))

    @property
    def stored(self) -> bytes:
        """The counts that the file stores: lengths 1 up to the longest, that one left out."""
        return bytes(self.counts[1:-1])

    def code(self, number: int) -> tuple[int, int]:
        """``(bits, length)`` of a code number."""
        below = 0
        for length, count in enumerate(self.counts):
            if number < below + count:
                return number - self.offset[length], length
            below += count
        raise ValueError(f"code number {number} in an alphabet of {self.size}")

    def codes(self) -> tuple[np.ndarray, np.ndarray]:
        """All codes: ``(bits, lengths)``, uint16 and uint8, by code number."""
        lengths = np.repeat(np.arange(len(self.counts)), self.counts)
        return (
            (np.arange(self.size) - np.array(self.offset)[lengths]).astype(np.uint16),
            lengths.astype(np.uint8),
        )

    def lookup(self, symbols: np.ndarray) -> np.ndarray:
        """Decoding by table: for every window of `length` bits the symbol, below 256, and, times
        256, the length of its code; uint16.

        Args:
            symbols: what the code numbers stand for.
        """
        lengths = self.codes()[1].astype(np.int64)
        windows = 1 << (self.length - lengths)
        return np.repeat(np.asarray(symbols) | lengths << 8, windows).astype(np.uint16)

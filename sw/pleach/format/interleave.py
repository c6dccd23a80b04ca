"""The order of the data words: three bit readers fed from one sequence of words.

The loops follow docs/bitstream.md, "The order of the data words", step by step; they are compiled
because that order is inherently serial. A reader is two numbers: the bits that it holds, and how
many; no symbol wants more than 15, so with a word more they stay below 64.
"""

from __future__ import annotations

import numpy as np

from pleach.compiled import njit
from pleach.format.gaps import BASE, CLASSES, EXTRA_BITS, SKIP, SKIP_POSITIONS, classify

# Outcomes of `decode`.
OK, OUT_OF_DATA, OUT_OF_LAYER = 0, 1, 2

_SMALL = 1 << 9  # gaps below are looked up; above, classes are octaves
_CLASS = classify(np.arange(_SMALL)).astype(np.uint8)
_EXTRA = EXTRA_BITS.astype(np.uint8)
_BASE = BASE.astype(np.int64)
_WORD_BITS = np.uint64(32)
_WORD_MASK = np.uint64(0xFFFFFFFF)

_jit = njit(nogil=True)


@_jit
def _class(gap):
    if gap < _SMALL:
        return np.int64(_CLASS[np.uint64(gap)])
    gap_class = 18
    gap >>= 10
    while gap:
        gap_class += 1
        gap >>= 1
    return gap_class


@_jit
def count(positions):
    """How often each gap class occurs, skips included: int64 ``[26]``."""
    counts = np.zeros(CLASSES, np.int64)
    before = np.int64(-1)
    for position in positions:
        gap = position - before - 1
        before = position
        if gap >= SKIP_POSITIONS:
            counts[SKIP] += gap // SKIP_POSITIONS
            gap %= SKIP_POSITIONS
        counts[_class(gap)] += 1
    return counts


@_jit
def count_codes(codes):
    """How often each codebook index occurs: int64 ``[256]``; `numpy.bincount` would copy them into
    eight times the bytes."""
    counts = np.zeros(256, np.int64)
    for code in codes:
        counts[code] += 1
    return counts


@_jit
def _put(words, value, length, need, bits, filled, first, second, taken):
    """Write a symbol, after taking the next word if there may be no room for it.

    The last ``filled`` of ``bits`` go into the two words at ``first`` and ``second``, that is, 64 -
    ``filled`` have room. Until the second is full the first may hold anything; no branches, because
    none could be predicted.
    """
    take = filled > 64 - need
    words[first] = np.uint32(bits >> np.uint64((filled - 32) & 63))
    first = second if take else first
    second = taken if take else second
    taken += np.uint64(take)
    filled += length - 32 * take
    return (bits << np.uint64(length)) | np.uint64(value), filled, first, second, taken


@_jit
def _end(words, bits, filled, first, second):
    bits <<= np.uint64(64 - filled)
    words[first] = np.uint32(bits >> _WORD_BITS)
    words[second] = np.uint32(bits & _WORD_MASK)


@_jit
def encode(positions, codes, size, gap_codes, gap_lengths, gap_need, value_codes, value_lengths,
           value_need):  # fmt: skip
    """Data words of a layer.

    Args:
        positions, codes: its entries.
        size: bits that they take, no less.
        gap_codes, gap_lengths: the Huffman code of each gap class; gap_need: the longest.
        value_codes, value_lengths: the same of each codebook index; value_need: the longest.

    Returns:
        uint32 words.
    """
    words = np.zeros(size // 32 + 7, np.uint32)
    taken = np.uint64(0)
    # Each writer begins with two full words, which nobody reads: the last one here, twice.
    nowhere = np.uint64(len(words) - 1)
    g_bits = x_bits = c_bits = np.uint64(0)
    g_filled = x_filled = c_filled = 64
    g_first = g_second = x_first = x_second = c_first = c_second = nowhere
    entries = np.uint64(len(positions))
    entry = np.uint64(0)  # the one that G is at
    done = np.uint64(0)  # the one that X and C are at
    one = np.uint64(1)
    gap = positions[0] if entries else np.int64(0)
    before = SKIP
    before_extra = np.int64(0)
    while done < entries:
        gap_class = SKIP
        extra = np.int64(0)
        if entry < entries:
            if gap >= SKIP_POSITIONS:
                gap -= SKIP_POSITIONS
            else:
                gap_class = _class(gap)
                extra = gap - _BASE[np.uint64(gap_class)]
                entry += one
                if entry < entries:
                    gap = positions[entry] - positions[entry - one] - 1
            symbol = np.uint64(gap_class)
            g_bits, g_filled, g_first, g_second, taken = _put(
                words, gap_codes[symbol], gap_lengths[symbol], gap_need,
                g_bits, g_filled, g_first, g_second, taken,
            )  # fmt: skip
        if before != SKIP:
            length = np.int64(_EXTRA[np.uint64(before)])
            x_bits, x_filled, x_first, x_second, taken = _put(
                words, before_extra, length, length, x_bits, x_filled, x_first, x_second, taken
            )
            code = codes[done]
            c_bits, c_filled, c_first, c_second, taken = _put(
                words, value_codes[code], value_lengths[code], value_need,
                c_bits, c_filled, c_first, c_second, taken,
            )  # fmt: skip
            done += one
        before = gap_class
        before_extra = extra
    _end(words, g_bits, g_filled, g_first, g_second)
    _end(words, x_bits, x_filled, x_first, x_second)
    _end(words, c_bits, c_filled, c_first, c_second)
    return words[: np.int64(taken)]


@_jit
def _refill(words, need, bits, held, taken):
    """A reader that holds fewer bits than it may need takes the next word; past the last one it
    gets zeros, and ``taken`` tells."""
    if held < need:
        word = np.uint64(words[taken]) if taken < len(words) else np.uint64(0)
        return (bits << _WORD_BITS) | word, held + 32, taken + 1
    return bits, held, taken


@_jit
def _peek(bits, held, count):
    mask = (np.uint64(1) << np.uint64(count)) - np.uint64(1)
    return np.int64((bits >> np.uint64(held - count)) & mask)


@_jit
def decode(words, entries, size, gap_table, gap_need, value_table, value_need):
    """Entries of a layer from its data words.

    Args:
        words: uint32, the payload after the tables.
        entries: how many to read; size: positions in the layer.
        gap_table: for each window of ``gap_need`` bits, the gap class and, times 256, the length of
            its code.
        value_table: the same for windows of ``value_need`` bits and codebook indexes.

    Returns:
        ``(outcome, positions, codes, gap_bits, code_bits)``: int64 and uint8 arrays of ``entries``
        elements, and the bits of G and X together and of C.
    """
    positions = np.empty(entries, np.int64)
    codes = np.empty(entries, np.uint8)
    taken = 0
    g_bits = x_bits = c_bits = np.uint64(0)
    g_held = x_held = c_held = 0
    gap_bits = code_bits = 0
    started = entry = 0
    position = np.int64(-1)
    before = -1
    while entry < entries:
        gap_class = -1
        if started < entries:
            g_bits, g_held, taken = _refill(words, gap_need, g_bits, g_held, taken)
            symbol = np.int64(gap_table[_peek(g_bits, g_held, gap_need)])
            length = symbol >> 8
            g_held -= length
            gap_bits += length
            gap_class = symbol & 255
            if gap_class != SKIP:
                started += 1
        if before >= 0:
            if before == SKIP:
                position += SKIP_POSITIONS
            else:
                length = np.int64(_EXTRA[before])
                x_bits, x_held, taken = _refill(words, length, x_bits, x_held, taken)
                position += _BASE[before] + _peek(x_bits, x_held, length) + 1
                x_held -= length
                gap_bits += length
                c_bits, c_held, taken = _refill(words, value_need, c_bits, c_held, taken)
                symbol = np.int64(value_table[_peek(c_bits, c_held, value_need)])
                length = symbol >> 8
                c_held -= length
                code_bits += length
                positions[entry] = position
                codes[entry] = symbol & 255
                entry += 1
        if taken > len(words):
            return OUT_OF_DATA, positions, codes, gap_bits, code_bits
        if position >= size:
            return OUT_OF_LAYER, positions, codes, gap_bits, code_bits
        before = gap_class
    return OK, positions, codes, gap_bits, code_bits

"""The order of the data words: three bit readers fed from one sequence of words.

The loops follow docs/bitstream.md, "The order of the data words", step by step; they are compiled
because that order is inherently serial.
"""

from __future__ import annotations

import numba
import numpy as np

from pleach.format.gaps import BASE, EXTRA_BITS, SKIP, SKIP_POSITIONS

G, X, C = 0, 1, 2

# Outcomes of `decode`.
OK, OUT_OF_DATA, OUT_OF_LAYER = 0, 1, 2

_jit = numba.njit(cache=True, nogil=True)


@_jit
def _take(need, held, current, following, taken, reader):
    """The next word for a reader that holds fewer bits than it may need; returns words taken."""
    if held[reader] < need:
        if held[reader] == 0:
            current[reader] = taken
        else:
            following[reader] = taken
        held[reader] += 32
        return taken + 1
    return taken


@_jit
def _advance(count, held, current, following, reader):
    """Account for ``count`` bits read; returns how many bits of the current word were left."""
    left = held[reader] % 32 if held[reader] != 32 else 32
    held[reader] -= count
    if count >= left and held[reader] > 0:
        current[reader] = following[reader]
    return left


@_jit
def _put(words, value, count, held, current, following, reader):
    if count == 0:
        return
    first, second = current[reader], following[reader]
    left = _advance(count, held, current, following, reader)
    if count <= left:
        words[first] |= np.uint32(value << (left - count))
    else:
        words[first] |= np.uint32(value >> (count - left))
        words[second] |= np.uint32((value << (32 - (count - left))) & 0xFFFFFFFF)


@_jit
def _peek(words, count, held, current, following, reader):
    """The next ``count`` bits as a number; the reader holds at least as many."""
    if count == 0:
        return 0
    left = held[reader] % 32 if held[reader] != 32 else 32
    first = np.int64(words[current[reader]]) & ((1 << left) - 1)
    if count <= left:
        return first >> (left - count)
    second = np.int64(words[following[reader]])
    return (first << (count - left)) | (second >> (32 - (count - left)))


@_jit
def encode(classes, extras, gap_codes, gap_lengths, gap_need, codes, code_lengths, code_need):
    """Data words of a layer.

    Args:
        classes, extras: gap symbols, skips included.
        gap_codes, gap_lengths: the code of each gap symbol; gap_need: the longest in the table.
        codes, code_lengths: the weight code of each entry; code_need: the longest in the table.

    Returns:
        uint32 words.
    """
    bits = np.int64(0)
    for length in gap_lengths:
        bits += length
    for length in code_lengths:
        bits += length
    for gap_class in classes:
        bits += EXTRA_BITS[gap_class]
    words = np.zeros(bits // 32 + 6, np.uint32)
    held = np.zeros(3, np.int64)
    current = np.zeros(3, np.int64)
    following = np.zeros(3, np.int64)
    taken = 0
    entry = 0
    for step in range(len(classes) + 1):
        if step < len(classes):
            taken = _take(gap_need, held, current, following, taken, G)
            _put(words, np.int64(gap_codes[step]), gap_lengths[step], held, current, following, G)
        if step > 0:
            before = classes[step - 1]
            taken = _take(EXTRA_BITS[before], held, current, following, taken, X)
            _put(words, extras[step - 1], EXTRA_BITS[before], held, current, following, X)
            if before != SKIP:
                taken = _take(code_need, held, current, following, taken, C)
                _put(
                    words, np.int64(codes[entry]), code_lengths[entry],
                    held, current, following, C,
                )  # fmt: skip
                entry += 1
    return words[:taken]


@_jit
def decode(
    words, entries, size, gap_numbers, gap_lengths, gap_need, gap_classes,
    code_numbers, code_lengths, code_need,
):  # fmt: skip
    """Entries of a layer from its data words.

    Args:
        words: uint32, the payload after the tables.
        entries: how many to read; size: positions in the layer.
        gap_numbers, gap_lengths: lookup by a window of ``gap_need`` bits; gap_classes: the class of
            each code number.
        code_numbers, code_lengths: the same for windows of ``code_need`` bits.

    Returns:
        ``(outcome, positions, codes, read)``: int64 and uint8 arrays of ``entries`` elements, and
        the bits read by G, X and C.
    """
    positions = np.empty(entries, np.int64)
    codes = np.empty(entries, np.uint8)
    held = np.zeros(3, np.int64)
    current = np.zeros(3, np.int64)
    following = np.zeros(3, np.int64)
    read = np.zeros(3, np.int64)
    taken = 0
    started = 0
    entry = 0
    position = np.int64(-1)
    before = -1
    while entry < entries:
        gap_class = -1
        if started < entries:
            taken = _take(gap_need, held, current, following, taken, G)
            if taken > len(words):
                return OUT_OF_DATA, positions, codes, read
            window = _peek(words, gap_need, held, current, following, G)
            _advance(gap_lengths[window], held, current, following, G)
            read[G] += gap_lengths[window]
            gap_class = gap_classes[gap_numbers[window]]
            if gap_class != SKIP:
                started += 1
        if before >= 0:
            count = EXTRA_BITS[before]
            taken = _take(count, held, current, following, taken, X)
            if taken > len(words):
                return OUT_OF_DATA, positions, codes, read
            extra = _peek(words, count, held, current, following, X)
            _advance(count, held, current, following, X)
            read[X] += count
            if before == SKIP:
                position += SKIP_POSITIONS
            else:
                position += BASE[before] + extra + 1
                taken = _take(code_need, held, current, following, taken, C)
                if taken > len(words):
                    return OUT_OF_DATA, positions, codes, read
                window = _peek(words, code_need, held, current, following, C)
                _advance(code_lengths[window], held, current, following, C)
                read[C] += code_lengths[window]
                positions[entry] = position
                codes[entry] = code_numbers[window]
                entry += 1
            if position >= size:
                return OUT_OF_LAYER, positions, codes, read
        before = gap_class
    return OK, positions, codes, read

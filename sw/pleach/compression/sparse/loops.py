"""The loops of a sparse network: only over weights that are there, each over many inputs at once.

A map is ``(blocks, channels · height · width, BLOCK)``: `BLOCK` inputs side by side. So a weight of
a convolution multiplies one long run of the input map, from its own pixel on, whose rows follow
each other with the input's pitch. The columns in which a kernel would hang over the edge are
computed, too; nobody reads them, and their gradients are zero. Rows are ``(features, inputs)``.

Weights stand row by row, each row filled up with zeros to a multiple of `TOGETHER`: so many share
a load and a store of what they add to.
"""

from __future__ import annotations

import numpy as np

from pleach.compiled import njit

#: inputs side by side
BLOCK = 16
#: weights that are taken together
TOGETHER = 4
#: floats of a map that are computed together: they stay in the first cache
CHUNK = 2048
#: in `which`: no gradient passes
SHUT = np.float32(4)
# An index without a sign: compiled code does not look whether it counts from the end, so that the
# loops become vectors.
U = np.uint64


@njit()
def spread(rows, chosen, maps):  # pragma: no cover - compiled
    """Those rows of ``(inputs, features)`` into ``(blocks, features, BLOCK)``; what is left of the
    last block is zero."""
    for block in range(maps.shape[0]):
        first = block * BLOCK
        count = min(BLOCK, len(chosen) - first)
        for feature in range(maps.shape[1]):
            for lane in range(count):
                maps[block, feature, lane] = rows[chosen[first + lane], feature]
            for lane in range(count, BLOCK):
                maps[block, feature, lane] = 0


@njit()
def turned(rows, chosen, features, columns):  # pragma: no cover - compiled
    """Those rows and features of ``(inputs, features)`` into ``(features, inputs)``; inputs beyond
    the last are zero, the other features stay as they are."""
    count = len(chosen)
    for first in range(0, columns.shape[1], BLOCK):
        for feature in features:
            for lane in range(first, min(first + BLOCK, count)):
                columns[feature, lane] = rows[chosen[lane], feature]
            for lane in range(max(first, count), first + BLOCK):
                columns[feature, lane] = 0


@njit()
def to_rows(maps, rows):  # pragma: no cover - compiled
    """``(blocks, features, BLOCK)`` into ``(features, inputs)``."""
    for block in range(maps.shape[0]):
        for feature in range(maps.shape[1]):
            for lane in range(BLOCK):
                rows[feature, block * BLOCK + lane] = maps[block, feature, lane]


@njit()
def to_maps(rows, maps):  # pragma: no cover - compiled
    """The way back."""
    for block in range(maps.shape[0]):
        for feature in range(maps.shape[1]):
            for lane in range(BLOCK):
                maps[block, feature, lane] = rows[feature, block * BLOCK + lane]


@njit()
def gathered(source, index, slots, found):  # pragma: no cover - compiled
    """Weights out of a parameter into their slots."""
    for entry in range(len(index)):
        found[slots[entry]] = source[index[entry]]


@njit()
def scattered(found, slots, index, gradient):  # pragma: no cover - compiled
    """Gradients of weights out of their slots, added to their parameter's."""
    for entry in range(len(index)):
        gradient[index[entry]] += found[slots[entry]]


@njit()
def adam(
    values, gradient, mean, square, index, rate, betas, epsilon, step
):  # pragma: no cover - compiled
    """A step of Adam (Kingma and Ba 2015, algorithm 1) for the values at `index`; `step` counts
    from 1."""
    first, second = np.float32(betas[0]), np.float32(betas[1])
    one = np.float32(1)
    size = np.float32(rate / (1 - betas[0] ** step))
    root = np.float32(np.sqrt(1 - betas[1] ** step))
    small = np.float32(epsilon)
    for entry in range(len(index)):
        i = index[entry]
        slope = gradient[i]
        mean[i] = first * mean[i] + (one - first) * slope
        square[i] = second * square[i] + (one - second) * slope * slope
        values[i] -= size * mean[i] / (np.sqrt(square[i]) / root + small)


@njit(fastmath=True)
def _add(sums, at, taken, a, b, c, d, wa, wb, wc, wd, count):  # pragma: no cover - compiled
    for i in range(count):
        sums[at + i] += (
            wa * taken[a + i] + wb * taken[b + i] + wc * taken[c + i] + wd * taken[d + i]
        )


@njit(fastmath=True)
def _products(slopes, a, b, c, d):  # pragma: no cover - compiled
    sa = sb = sc = sd = np.float32(0)
    for i in range(len(slopes)):
        slope = slopes[i]
        sa += slope * a[i]
        sb += slope * b[i]
        sc += slope * c[i]
        sd += slope * d[i]
    return sa, sb, sc, sd


@njit(fastmath=True)
def _back(sums, slopes, weight):  # pragma: no cover - compiled
    for i in range(len(sums)):
        sums[i] += weight * slopes[i]


@njit(fastmath=True)
def _total(values):  # pragma: no cover - compiled
    total = np.float32(0)
    for i in range(len(values)):
        total += values[i]
    return total


@njit(fastmath=True)
def _largest(sums, out, chosen, tall, width, pitch):  # pragma: no cover - compiled
    """The largest of each window of two by two, and which it is; of equal ones the first."""
    sums, out = sums.reshape(-1, BLOCK), out.reshape(-1, BLOCK)
    chosen = chosen.reshape(-1, BLOCK)
    for y in range(tall):
        for x in range(width):
            at = 2 * (y * pitch + x)
            for lane in range(BLOCK):
                a, b = sums[at, lane], sums[at + 1, lane]
                c, d = sums[at + pitch, lane], sums[at + pitch + 1, lane]
                upper = np.float32(1) if b > a else np.float32(0)
                lower = np.float32(3) if d > c else np.float32(2)
                above, below = max(a, b), max(c, d)
                out[y * width + x, lane] = max(above, below)
                chosen[y * width + x, lane] = lower if below > above else upper


@njit(fastmath=True)
def _unpooled(slopes, chosen, out, tall, width, pitch):  # pragma: no cover - compiled
    """The way back: a slope stands where the largest was."""
    slopes, out = slopes.reshape(-1, BLOCK), out.reshape(-1, BLOCK)
    chosen = chosen.reshape(-1, BLOCK)
    zero = np.float32(0)
    for y in range(tall):
        for x in range(width):
            at = 2 * (y * pitch + x)
            for lane in range(BLOCK):
                slope, k = slopes[y * width + x, lane], chosen[y * width + x, lane]
                out[at, lane] = slope if k == 0 else zero
                out[at + 1, lane] = slope if k == 1 else zero
                out[at + pitch, lane] = slope if k == 2 else zero
                out[at + pitch + 1, lane] = slope if k == 3 else zero


@njit(fastmath=True)
def _picked(sums, out, chosen, tall, width, pitch):  # pragma: no cover - compiled
    """Without pooling: rows of `width` out of rows of `pitch`."""
    for y in range(tall):
        out[y * width * BLOCK :][: width * BLOCK] = sums[y * pitch * BLOCK :][: width * BLOCK]
    chosen[:] = 0


@njit(fastmath=True)
def _laid(slopes, chosen, out, tall, width, pitch):  # pragma: no cover - compiled
    """The way back."""
    for y in range(tall):
        for i in range(width * BLOCK):
            at = y * width * BLOCK + i
            out[y * pitch * BLOCK + i] = slopes[at] if chosen[at] == 0 else np.float32(0)


@njit()
def _strip(top, step, size, pitch, map_size, pool):  # pragma: no cover - compiled
    """Of the strip of pooled rows from `top` on: how many rows it has, where its pixels start in a
    channel of the input map and how long their run is, where its values start and how many."""
    height, width = size
    tall = min(step, height - top)
    run = ((tall * pool - 1) * pitch + map_size) * BLOCK
    return tall, top * pool * pitch * BLOCK, run, top * width * BLOCK, tall * width * BLOCK


@njit(fastmath=True)
def _slopes(run, taken, base, scale, places, start, end, by_weight):  # pragma: no cover - compiled
    """The gradients of the weights of a row, from slot `start` to `end`, by the slopes of what it
    gives: each weight meets the run of `taken` that begins `scale` times its place after `base`."""
    count = len(run)
    for slot in range(start, end, TOGETHER):
        a, b = base + places[slot] * scale, base + places[slot + 1] * scale
        c, d = base + places[slot + 2] * scale, base + places[slot + 3] * scale
        found = _products(
            run, taken[a : a + count], taken[b : b + count], taken[c : c + count],
            taken[d : d + count],
        )  # fmt: skip
        for k in range(TOGETHER):
            by_weight[slot + k] += found[k]


@njit(fastmath=True)
def _passed(run, by_taken, base, scale, places, weights, start, end):  # pragma: no cover - compiled
    """The gradients by what a row takes."""
    count = len(run)
    for slot in range(start, end):
        if weights[slot] != 0:
            to = base + places[slot] * scale
            _back(by_taken[to : to + count], run, weights[slot])


@njit(fastmath=True)
def convolve(
    taken, given, which, starts, places, weights, bias, size, pitch, map_size, pool, relu
):  # pragma: no cover - compiled
    """A convolution, its function and its max pooling.

    Args:
        taken: ``(blocks · channels · height · width · BLOCK)``.
        given: ``(blocks, rows, pooled height · pooled width · BLOCK)``.
        which: which of a window's pixels each value is, as `given`; `SHUT` where the
            function is flat.
        starts: the slot at which each row starts, and the end.
        places: the pixel of the input map that each slot's weight stands on at the first position.
        bias: ``(rows,)``.
        size: pooled height and width.
        pitch: width of the input map.
        map_size: width of the output map before pooling.
        pool: side of the window, 1 or 2.
    """
    height, width = size
    step = max(1, CHUNK // (pitch * BLOCK * pool))
    sums = np.empty(((step * pool - 1) * pitch + map_size) * BLOCK, np.float32)
    for block in range(len(given)):
        pixels = block * (len(taken) // len(given))
        for row in range(len(starts) - 1):
            for top in range(0, height, step):
                tall, start, length, first, count = _strip(top, step, size, pitch, map_size, pool)
                run, base = sums[:length], pixels + start
                run[:] = bias[row]
                for slot in range(starts[row], starts[row + 1], TOGETHER):
                    _add(
                        sums, U(0), taken, U(base + places[slot] * BLOCK),
                        U(base + places[slot + 1] * BLOCK), U(base + places[slot + 2] * BLOCK),
                        U(base + places[slot + 3] * BLOCK), weights[slot], weights[slot + 1],
                        weights[slot + 2], weights[slot + 3], U(len(run)),
                    )  # fmt: skip
                out = given[block, row, first : first + count]
                chosen = which[block, row, first : first + count]
                if pool == 2:
                    _largest(run, out, chosen, tall, width, pitch)
                else:
                    _picked(run, out, chosen, tall, width, pitch)
                if relu:
                    for i in range(len(out)):
                        shut = not out[i] > 0
                        out[i] = np.float32(0) if shut else out[i]
                        chosen[i] = SHUT if shut else chosen[i]


@njit(fastmath=True)
def convolve_back(
    taken, slopes, which, starts, places, weights, size, pitch, map_size, pool,
    by_weight, by_bias, by_taken,
):  # pragma: no cover - compiled  # fmt: skip
    """The gradients of `convolve`, added to what is there.

    Args:
        slopes: of the loss by `given`.
        by_weight, by_bias: by the slots, by the bias.
        by_taken: by `taken`; empty where nobody asks for it.
    """
    height, width = size
    step = max(1, CHUNK // (pitch * BLOCK * pool))
    spread_out = np.zeros(((step * pool - 1) * pitch + map_size) * BLOCK, np.float32)
    for block in range(len(slopes)):
        pixels = block * (len(taken) // len(slopes))
        for row in range(len(starts) - 1):
            for top in range(0, height, step):
                tall, start, length, first, count = _strip(top, step, size, pitch, map_size, pool)
                run, base = spread_out[:length], pixels + start
                slope = slopes[block, row, first : first + count]
                chosen = which[block, row, first : first + count]
                if pool == 2:
                    _unpooled(slope, chosen, run, tall, width, pitch)
                else:
                    _laid(slope, chosen, run, tall, width, pitch)
                by_bias[row] += _total(run)
                start, end = starts[row], starts[row + 1]
                _slopes(run, taken, base, BLOCK, places, start, end, by_weight)
                if len(by_taken):
                    _passed(run, by_taken, base, BLOCK, places, weights, start, end)


@njit(fastmath=True)
def connect(taken, given, starts, places, weights, bias, relu):  # pragma: no cover - compiled
    """A fully connected layer, its function: ``(features · inputs)`` into ``(rows · inputs)``."""
    rows = len(starts) - 1
    count = U(len(given) // rows)
    for row in range(rows):
        at = U(row) * count
        for i in range(count):
            given[at + i] = bias[row]
        for slot in range(starts[row], starts[row + 1], TOGETHER):
            _add(
                given, at, taken, U(places[slot]) * count, U(places[slot + 1]) * count,
                U(places[slot + 2]) * count, U(places[slot + 3]) * count, weights[slot],
                weights[slot + 1], weights[slot + 2], weights[slot + 3], count,
            )  # fmt: skip
        if relu:
            for i in range(count):
                given[at + i] = max(given[at + i], np.float32(0))


@njit(fastmath=True)
def connect_back(
    taken, given, slopes, starts, places, weights, relu, by_weight, by_bias, by_taken
):  # pragma: no cover - compiled
    """The gradients of `connect`, added to what is there; `slopes` are those behind the function
    and become those before it."""
    count = len(given) // (len(starts) - 1)
    for row in range(len(starts) - 1):
        slope = slopes[row * count : row * count + count]
        if relu:
            out = given[row * count : row * count + count]
            for i in range(count):
                slope[i] = slope[i] if out[i] > 0 else np.float32(0)
        by_bias[row] += _total(slope)
        start, end = starts[row], starts[row + 1]
        _slopes(slope, taken, 0, count, places, start, end, by_weight)
        if len(by_taken):
            _passed(slope, by_taken, 0, count, places, weights, start, end)

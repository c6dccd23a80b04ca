"""Feature maps: the patches that a kernel meets, and max pooling.

Maps are ``(channels, height, width, n)``: the last axis counts network inputs, so that copies run
over long stretches of memory and a layer is one product of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from pleach.model import Convolution

#: values of a layer's patches or accumulators evaluated at a time, where one input has no more
VALUES = 1 << 21


def weighted_sums(
    weights: np.ndarray, values: np.ndarray, convolution: Convolution | None
) -> np.ndarray:
    """What a layer sums, the bias apart: ``(outputs, n)``, or ``(outputs, height · width · n)``.

    Args:
        weights: ``(outputs, columns)``.
        values: ``(values_in, n)``.
        convolution: None where the layer is fully connected.
    """
    if convolution is None:
        return weights @ values
    kernels = weights.reshape(convolution.groups, -1, convolution.columns)
    columns = patches(values, convolution, np.result_type(weights, values))
    return (kernels @ columns).reshape(len(weights), -1)


def patches(
    maps: np.ndarray,
    convolution: Convolution,
    dtype: np.dtype | type,
    chosen: np.ndarray | None = None,
) -> np.ndarray:
    """What the kernel meets: ``(groups, columns, height · width · n)``, columns as in the weights.

    ``maps`` is ``(channels, height, width, n)`` or has these axes in fewer. Padding is zeros.
    ``chosen``, ascending, takes columns, numbered across groups: ``(chosen, height · width · n)``.

    >>> conv = Convolution(channels=1, height=2, width=3, kernel_height=2, kernel_width=2)
    >>> patches(np.arange(6), conv, int)[0].T.tolist()
    [[0, 1, 3, 4], [1, 2, 4, 5]]
    >>> patches(np.arange(6), conv, int, np.array([2])).tolist()
    [[3, 4]]
    """
    conv, pad = convolution, convolution.padding
    height, width = conv.map
    maps = maps.reshape(conv.channels, conv.height, conv.width, -1)
    if chosen is None:
        groups, chosen = (conv.groups, conv.columns), np.arange(conv.groups * conv.columns)
    else:
        groups = (len(chosen),)
        channels, _ = touched(conv, chosen)
        maps = maps[channels] if len(channels) < conv.channels else maps
    if pad:
        maps = np.pad(maps, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    out = np.empty((len(chosen), height, width, maps.shape[-1]), dtype)
    for taken, channels, rows, columns in _taps(conv, chosen):
        out[taken] = maps[channels, rows, columns]
    return out.reshape(*groups, height * width * maps.shape[-1])


def reach(convolution: Convolution, chosen: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Products that each value of the channels that are touched enters, int64, ``(channels,
    height, width)``.

    Args:
        chosen: the columns with weights, ascending, numbered across groups.
        counts: weights kept in each of them.

    >>> conv = Convolution(channels=1, height=1, width=4, kernel_height=1, kernel_width=2)
    >>> reach(conv, np.array([0, 1]), np.array([10, 1])).tolist()
    [[[10, 11, 11, 1]]]
    """
    conv, pad = convolution, convolution.padding
    channels = len(touched(conv, chosen)[0])
    out = np.zeros((channels, conv.height + 2 * pad, conv.width + 2 * pad), np.int64)
    for taken, channels, rows, columns in _taps(conv, chosen):
        out[channels, rows, columns] += counts[taken, None, None]
    return out[:, pad : pad + conv.height, pad : pad + conv.width]


def touched(conv: Convolution, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The channels that columns, numbered across groups, take, and of each column the place of its
    channel among them."""
    return np.unique(chosen // (conv.kernel_height * conv.kernel_width), return_inverse=True)


def _taps(conv: Convolution, chosen: np.ndarray) -> Iterator[tuple]:
    """Of each element of the kernel that columns take: which columns, their channels' places, and
    the rows and columns of a padded map that it meets."""
    height, width = conv.map
    place = chosen % (conv.kernel_height * conv.kernel_width)
    channels = touched(conv, chosen)[1]
    if len(chosen) == conv.groups * conv.columns:  # slices copy faster than lists of places
        steps = conv.kernel_height * conv.kernel_width
        taken = [(slice(first, None, steps), slice(None)) for first in range(steps)]
    else:
        order = np.argsort(place, kind="stable")
        starts = np.flatnonzero(np.diff(place[order], prepend=-1))
        taken = [(part, channels[part]) for part in np.split(order, starts)[1:]]
    for columns, of in taken:
        y, x = divmod(int(place[columns][0]), conv.kernel_width)
        yield columns, of, _places(y, conv.stride, height), _places(x, conv.stride, width)


def max_pool(maps: np.ndarray, convolution: Convolution) -> np.ndarray:
    """``(outputs, height, width, n)`` to ``(outputs, *convolution.pooled, n)``."""
    height, width = convolution.pooled
    size, stride = convolution.pool, convolution.pool_stride
    windows = (
        maps[:, _places(y, stride, height), _places(x, stride, width)]
        for y, x in np.ndindex(size, size)
    )
    out = next(windows).copy()
    for window in windows:
        np.maximum(out, window, out=out)
    return out


def batch_size(layers: Iterable[tuple[int, Convolution | None]], most: int) -> int:
    """Inputs to evaluate at a time, at most `most`, so that memory is bounded.

    ``layers`` has the outputs of each layer and its convolution.
    """
    largest = 1
    for outputs, conv in layers:
        if conv is not None:
            rows = max(outputs, conv.groups * conv.columns)
            largest = max(largest, conv.inputs, rows * math.prod(conv.map))
    return max(1, min(most, VALUES // largest))


def _places(first: int, stride: int, count: int) -> slice:
    return slice(first, first + stride * (count - 1) + 1, stride)

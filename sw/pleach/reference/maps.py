"""Feature maps: the patches that a kernel meets, and max pooling.

Maps are ``(channels, height, width, n)``: the last axis counts network inputs, so that copies run
over long stretches of memory and a layer is one product of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

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


def patches(maps: np.ndarray, convolution: Convolution, dtype: np.dtype | type) -> np.ndarray:
    """What the kernel meets: ``(groups, columns, height · width · n)``, columns as in the weights.

    ``maps`` is ``(channels, height, width, n)`` or has these axes in fewer. Padding is zeros.

    >>> conv = Convolution(channels=1, height=2, width=3, kernel_height=2, kernel_width=2)
    >>> patches(np.arange(6), conv, int)[0].T.tolist()
    [[0, 1, 3, 4], [1, 2, 4, 5]]
    """
    conv, pad = convolution, convolution.padding
    maps = maps.reshape(conv.channels, conv.height, conv.width, -1)
    if pad:
        maps = np.pad(maps, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = conv.map
    kernel = (conv.kernel_height, conv.kernel_width)
    out = np.empty((conv.channels, *kernel, height, width, maps.shape[-1]), dtype)
    for y, x in np.ndindex(kernel):
        rows, columns = _places(y, conv.stride, height), _places(x, conv.stride, width)
        out[:, y, x] = maps[:, rows, columns]
    return out.reshape(conv.groups, conv.columns, height * width * maps.shape[-1])


def reach(convolution: Convolution, counts: np.ndarray) -> np.ndarray:
    """Products that each value of the input map enters, int64, ``(inputs,)``.

    Args:
        counts: weights kept in each column of each group, ``(groups, columns)``.

    >>> conv = Convolution(channels=1, height=1, width=4, kernel_height=1, kernel_width=2)
    >>> reach(conv, np.array([[10, 1]])).tolist()
    [10, 11, 11, 1]
    """
    conv, pad = convolution, convolution.padding
    height, width = conv.map
    counts = counts.reshape(conv.channels, conv.kernel_height, conv.kernel_width)
    out = np.zeros((conv.channels, conv.height + 2 * pad, conv.width + 2 * pad), np.int64)
    for y, x in np.ndindex(counts.shape[1:]):
        rows, columns = _places(y, conv.stride, height), _places(x, conv.stride, width)
        out[:, rows, columns] += counts[:, y, x, None, None]
    return out[:, pad : pad + conv.height, pad : pad + conv.width].ravel()


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

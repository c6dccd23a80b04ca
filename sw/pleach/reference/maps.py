"""Maps: the patches that a kernel meets, and pooling.

Maps are ``(height, width, channels, n)``: pixel by pixel, and the last axis counts network inputs,
so that copies run over long stretches of memory and a layer is one product of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from pleach.model import CompressedLayer, Convolution, Shape, Skip, Window

#: values of a layer's patches or accumulators evaluated at a time, where one input has no more
VALUES = 1 << 21


def patches(
    maps: np.ndarray,
    convolution: Convolution,
    dtype: np.dtype | type,
    chosen: np.ndarray | None = None,
) -> np.ndarray:
    """What the kernel meets: ``(columns, height · width · n)``, columns as in the weights.

    ``maps`` is ``(height, width, channels, n)`` or has these axes in fewer. Padding is zeros.
    ``chosen``, ascending, are the columns that are taken, all by default.

    >>> conv = Convolution(channels=1, height=2, width=3, kernel_height=2, kernel_width=2)
    >>> patches(np.arange(6), conv, int).T.tolist()
    [[0, 1, 3, 4], [1, 2, 4, 5]]
    >>> patches(np.arange(6), conv, int, np.array([2])).tolist()
    [[3, 4]]
    """
    conv = convolution
    chosen = np.arange(conv.columns) if chosen is None else chosen
    maps = maps.reshape(*_axes(conv, maps))
    channels, of = touched(conv, chosen)
    if len(channels) < conv.channels:
        maps = maps[:, :, channels]
    maps = _padded(maps, conv, 0)
    out = np.empty((len(chosen), *conv.map, maps.shape[-1]), dtype)
    for taken, rows, columns in _taps(conv, chosen):
        here = of[taken]
        every = slice(None) if len(here) == len(channels) else here
        out[taken] = np.moveaxis(maps[rows, columns][:, :, every], 2, 0)
    return out.reshape(len(chosen), math.prod(out.shape[1:]))


def reach(convolution: Convolution, chosen: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Products that each value of the channels that are touched enters, int64, ``(height, width,
    channels)``.

    Args:
        chosen: the columns with weights, ascending.
        counts: weights kept in each of them.

    >>> conv = Convolution(channels=1, height=1, width=4, kernel_height=1, kernel_width=2)
    >>> reach(conv, np.array([0, 1]), np.array([10, 1])).ravel().tolist()
    [10, 11, 11, 1]
    """
    conv, (top, left, bottom, right) = convolution, convolution.padding
    channels, of = touched(conv, chosen)
    sides = (conv.height + top + bottom, conv.width + left + right)
    out = np.zeros((*sides, len(channels)), np.int64)
    for taken, rows, columns in _taps(conv, chosen):
        out[rows, columns, of[taken]] += counts[taken]
    return out[top : top + conv.height, left : left + conv.width]


def active(
    layer: CompressedLayer, source: np.ndarray, skip: np.ndarray, shape: Shape
) -> np.ndarray:
    """How often a layer finds a value of each column not to be zero, int64 ``[columns]``, all its
    pixels and all inputs together.

    Args:
        source, skip: what it takes, ``[values, n]``.
        shape: of the skip's map.
    """
    conv, kernel, count = layer.convolution, layer.inputs, source.shape[1]
    found = np.full(layer.columns, count * (math.prod(conv.map) if conv else 1))
    if conv is None:
        found[:kernel] = np.count_nonzero(source, axis=1)
    else:
        values = _padded(source.reshape(*_axes(conv, source)) != 0, conv, 0)
        for taken, rows, columns in _taps(conv, np.arange(kernel)):
            found[taken] = np.count_nonzero(values[rows, columns], axis=(0, 1, 3))
    if layer.skip is not None:
        met = skipped(skip, shape, layer.skip, conv)
        found[kernel : kernel + layer.skip.channels] = np.count_nonzero(met, axis=1)
    return found


def touched(conv: Convolution, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The channels that columns take, and of each column the place of its channel among them."""
    return np.unique(chosen % conv.channels, return_inverse=True)


def _taps(conv: Convolution, chosen: np.ndarray) -> Iterator[tuple[slice, slice, slice]]:
    """Of each element of the kernel that columns take: which columns, and the rows and columns of
    a padded map that it meets."""
    place = chosen // conv.channels
    starts = np.flatnonzero(np.diff(place, prepend=-1, append=-1))
    for first, end in pairwise(starts):
        y, x = divmod(int(place[first]), conv.kernel_width)
        yield slice(first, end), *_places(conv, y, x)


def skipped(
    values: np.ndarray, shape: Shape, skip: Skip, convolution: Convolution | None
) -> np.ndarray:
    """What a layer takes of its skip: ``(channels, height · width · n)``.

    Args:
        values: of the skip, ``(values, n)``.
        shape: of the skip's map.
    """
    if convolution is None:
        return values
    sides = shape[1:] if len(shape) == 3 else (1, 1)
    count = values.shape[1]
    maps = values.reshape(*sides, skip.channels, count)
    ends = [
        step * (count - 1) + 1 for step, count in zip(skip.stride, convolution.map, strict=True)
    ]
    maps = maps[: ends[0] : skip.stride[0], : ends[1] : skip.stride[1]]
    pixels = math.prod(convolution.map)
    return np.moveaxis(maps, 2, 0).reshape(skip.channels, pixels * count)


def pooled(maps: np.ndarray, window: Window, largest: bool) -> np.ndarray:
    """The largest value or the sum of each window: ``(height, width, channels, n)``.

    ``maps`` is ``(height, width, channels, n)`` or has these axes in fewer. A sum is int64, padding
    is left out of a largest value.

    >>> pooled(np.arange(4), Window(1, 2, 2, 2, 2), largest=True).ravel().tolist()
    [3]
    """
    maps = maps.reshape(*_axes(window, maps))
    if largest:
        outside = -np.inf if maps.dtype.kind == "f" else np.iinfo(maps.dtype).min
        return _over(np.maximum, _padded(maps, window, outside), window)
    wide = maps if maps.dtype.kind == "f" else maps.astype(np.int64)
    return _over(np.add, _padded(wide, window, 0), window)


def max_pool(maps: np.ndarray, convolution: Convolution) -> np.ndarray:
    """``(height, width, outputs, n)`` to ``(*convolution.pooled, outputs, n)``."""
    side, stride = convolution.pool, convolution.pool_stride
    return _over(
        np.maximum, maps, Window(1, maps.shape[0], maps.shape[1], side, side, (stride, stride))
    )


def _over(combine: np.ufunc, maps: np.ndarray, window: Window) -> np.ndarray:
    places = np.ndindex(window.kernel_height, window.kernel_width)
    out = maps[_places(window, *next(places))].copy()
    for place in places:
        combine(out, maps[_places(window, *place)], out=out)
    return out


def batch_size(layers: Iterable[tuple[int, Convolution | None]], most: int) -> int:
    """Inputs to evaluate at a time, at most `most`, so that memory is bounded.

    ``layers`` has the outputs of each layer and its convolution.
    """
    largest = 1
    for outputs, conv in layers:
        if conv is not None:
            rows = max(outputs, conv.columns)
            largest = max(largest, conv.inputs, rows * math.prod(conv.map))
    return max(1, min(most, VALUES // largest))


def _axes(window: Window | Convolution, maps: np.ndarray) -> tuple[int, int, int, int]:
    """The shape ``(height, width, channels, n)`` of maps that have these axes in fewer."""
    values = window.height * window.width * window.channels
    count = maps.shape[-1] if maps.ndim > 1 and not maps.size else maps.size // values
    return (window.height, window.width, window.channels, count)


def _padded(maps: np.ndarray, window: Window | Convolution, outside: float) -> np.ndarray:
    top, left, bottom, right = window.padding
    if not any(window.padding):
        return maps
    sides = ((top, bottom), (left, right), (0, 0), (0, 0))
    return np.pad(maps, sides, constant_values=outside)


def _places(window: Window | Convolution, y: int, x: int) -> tuple[slice, slice]:
    """The rows and columns of a padded map that an element of the window meets."""
    (height, width), (down, right) = window.map, window.stride
    return (
        slice(y, y + down * (height - 1) + 1, down),
        slice(x, x + right * (width - 1) + 1, right),
    )

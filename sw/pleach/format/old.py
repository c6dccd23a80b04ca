"""From a network in the order of version 2, channel by channel, to today's, pixel by pixel.

Version 2 numbered a kernel's columns ``(c · kernel_height + y) · kernel_width + u`` over the
channels of a group, its maps were channel by channel, and a pooling window had a stride of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pleach.model import CompressedLayer, Convolution, Node, Pool, Shape, Window


def unpooled(convolution: Convolution | None) -> Convolution | None:
    """The convolution, without a pooling whose windows do not lie side by side."""
    if convolution is None or convolution.pool_stride == convolution.pool:
        return convolution
    return replace(convolution, pool=1, pool_stride=1)


def old_order(layer: CompressedLayer, given: Shape) -> CompressedLayer:
    """A layer whose positions are those of version 2, in today's order.

    Args:
        given: the shape of what the layer before gives.
    """
    conv = layer.convolution
    inputs = layer.inputs // layer.groups  # columns of a row, in version 2
    column, row = np.divmod(layer.positions, layer.outputs)
    weights = column < inputs
    if conv is not None:
        channels = conv.channels // conv.groups
        c, y, u = np.unravel_index(
            np.where(weights, column, 0), (channels, conv.kernel_height, conv.kernel_width)
        )
        c = c + row * conv.groups // layer.outputs * channels
        new = (y * conv.kernel_width + u) * conv.channels + c
    elif len(given) == 3:
        pixels = math.prod(given[1:])
        new = column % pixels * given[0] + column // pixels
    else:
        new = column
    return _at(layer, np.where(weights, new, column - inputs + layer.inputs), row)


def old_nodes(
    layers: Sequence[CompressedLayer], geometries: Sequence[Convolution | None]
) -> list[Node]:
    """A chain of version 2 as it is today.

    Args:
        layers: their columns in today's order.
        geometries: of each layer, as the file has it.
    """
    found: list[Node] = []
    for layer, whole, after in zip(layers, geometries, [*geometries[1:], None], strict=True):
        if whole is None and after is not None:
            # A convolution sees these rows as a map, channel by channel.
            rows = np.arange(layer.outputs).reshape(after.shape).transpose(1, 2, 0)
            layer = _at(layer, layer.column_of, rows.argsort(axis=None)[layer.row_of])
        found.append(Node(layer.name, layer, (len(found),)))
        if whole is not None and whole != layer.convolution:
            side, stride = whole.pool, whole.pool_stride
            window = Window(
                layer.outputs,
                *whole.map,
                kernel_height=side,
                kernel_width=side,
                stride=(stride, stride),
            )
            found.append(Node("pool", Pool(window), (len(found),)))
    return found


def _at(layer: CompressedLayer, column: np.ndarray, row: np.ndarray) -> CompressedLayer:
    """The layer with its weights at these columns and rows."""
    positions = layer.position_of(column, row)
    order = np.argsort(positions)
    return replace(layer, positions=positions[order], codes=layer.codes[order])

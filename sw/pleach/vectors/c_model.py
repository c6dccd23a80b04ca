"""The network as tables of C, for the arithmetic in pleach_net.c."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

import numpy as np

from pleach.model import CompressedLayer, CompressedModel, Node, Shape


def c_tables(model: CompressedModel) -> str:
    """``pleach_net_data.c``: the network's nodes, their weights column by column, and its maps."""
    shapes = [_sides(shape) for shape in model.graph.shapes()]
    parts = [
        f"/* {_comment(model.line)}\n * Made by Pleach from a .pleach file. */\n"
        '#include "pleach_net.h"\n'
    ]
    rows = []
    for number, node in enumerate(model.graph.nodes, start=1):
        fields = _window(node, shapes, number)
        if isinstance(node.op, CompressedLayer):
            parts.append(_weights(node.op, number))
            fields |= _layer(node.op, number, node, shapes)
        rows.append("  {" + ", ".join(f".{name} = {value}" for name, value in fields.items()) + "}")
    parts.append(
        "const pleach_node pleach_nodes[] = {\n" + ",\n".join(map(_wrapped, rows)) + "};\n"
    )
    sizes = [math.prod(shape) for shape in shapes]
    parts += [f"static int16_t values_{n}[{size}];\n" for n, size in enumerate(sizes)]
    names = ", ".join(f"values_{n}" for n in range(len(sizes)))
    most = max(layer.outputs for layer in model.layers)
    parts.append(
        f"int16_t *const pleach_values[] = {{{names}}};\n"
        f"int64_t pleach_sums[{most}];\n"
        f"const int32_t pleach_node_count = {len(rows)};\n"
        f"const int32_t pleach_inputs = {model.inputs};\n"
        f"const int32_t pleach_outputs = {model.outputs};\n"
    )
    return "".join(parts)


def _comment(text: str) -> str:
    """What a comment of C can hold."""
    return ascii(text)[1:-1].replace("*/", "* /").replace("\\", "/")


def _sides(shape: Shape) -> tuple[int, int, int]:
    """Height, width and channels; a row of values is one pixel."""
    if len(shape) == 1:
        return (1, 1, *shape)
    channels, height, width = shape
    return height, width, channels


def _map(sides: Sequence[int]) -> str:
    return "{" + ", ".join(map(str, sides)) + "}"


def _window(node: Node, shapes: Sequence[Sequence[int]], number: int) -> dict[str, Any]:
    """How a node lies over what it takes; a fully connected layer over one pixel."""
    op: Any = node.op
    source = shapes[node.sources[0]]
    over = op.convolution if isinstance(op, CompressedLayer) else op.window
    fields: dict[str, Any] = {
        "kind": "PLEACH_LAYER",
        "source": node.sources[0],
        "skip": -1,
        "in": _map(source),
        "out": _map(shapes[number]),
        "pool": 1,
    }
    if not isinstance(op, CompressedLayer):
        fields["kind"] = "PLEACH_MAX_POOL" if op.shift is None else "PLEACH_SUM_POOL"
        fields["shift"] = op.shift or 0
    if over is None:
        fields["in"] = _map((1, 1, math.prod(source)))
        return fields | dict.fromkeys(("kernel_height", "kernel_width", "stride_y", "stride_x"), 1)
    top, left, *_ = over.padding
    fields |= {
        "kernel_height": over.kernel_height,
        "kernel_width": over.kernel_width,
        "stride_y": over.stride[0],
        "stride_x": over.stride[1],
        "top": top,
        "left": left,
    }
    return fields


def _layer(
    layer: CompressedLayer, number: int, node: Node, shapes: Sequence[Sequence[int]]
) -> dict[str, Any]:
    low, high = layer.activation.bounds
    fields: dict[str, Any] = {
        "bias": 1 << layer.bias_exponent if layer.bias else 0,
        "shift": layer.shift,
        "low": low,
        "high": high,
        "sign": int(layer.activation.sign),
        "start": f"start_{number}",
        "row": f"row_{number}",
        "value": f"value_{number}",
        "scale": f"scale_{number}" if layer.scales is not None else 0,
    }
    if layer.convolution is not None:
        fields["pool"] = layer.convolution.pool
    if layer.skip is not None:
        _, width, _ = shapes[node.sources[1]]
        down, right = layer.skip.stride
        fields |= {
            "skip": node.sources[1],
            "skip_width": width if layer.convolution is not None else 1,
            "skip_channels": layer.skip.channels,
            "skip_y": down,
            "skip_x": right,
        }
    return fields


def _weights(layer: CompressedLayer, number: int) -> str:
    start = np.searchsorted(layer.column_of, np.arange(layer.columns + 1))
    tables = [("uint32_t", "start", start), ("uint16_t", "row", layer.row_of)]
    tables.append(("int16_t", "value", layer.values))
    if layer.scales is not None:
        tables.append(("int16_t", "scale", layer.scales))
    return f"\n/* {_comment(layer.name)} */\n" + "".join(
        _table(kind, f"{name}_{number}", values) for kind, name, values in tables
    )


def _table(kind: str, name: str, values: Iterable[int]) -> str:
    listed = list(map(int, values)) or [0]
    text = _wrapped("  " + ", ".join(map(str, listed)))
    return f"static const {kind} {name}[] = {{\n{text}}};\n"


def _wrapped(text: str) -> str:
    return "\n".join(wrap(text, 98, initial_indent="  ", subsequent_indent="    ")) + "\n"

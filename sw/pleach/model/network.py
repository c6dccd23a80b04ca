"""A compressed network: its layers, how they are joined, and the format of its inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pleach.arrays import as_array
from pleach.errors import DataError, ModelError
from pleach.model.checks import check_integers, coded, integers
from pleach.model.graph import Graph, Node
from pleach.model.ops import Add, AveragePool, Clip, Concat, MaxPool, Op, Pool
from pleach.model.weights import (
    Activation,
    CompressedLayer,
    Convolution,
    InputType,
    accumulator_bits,
    check_dense,
)
from pleach.model.window import Shape
from pleach.numbers import FRACTIONS, INT16, LAYERS_MAX, ORIGINAL_MAX, SCALE_FRACTION
from pleach.text import encodable, html_table, printable


@dataclass(frozen=True, repr=False)
class CompressedModel:
    """A network of compressed layers and the format of its inputs.

    Args:
        layers: in the order in which the network runs, 1 to 255. In a chain each takes as many
            values as the one before gives.
        input_type: uint8 or int16.
        input_fraction: fraction bits of the inputs, -128 to 127.
        original: weights and biases of the network that was compressed, where neurons were removed
            since; 0 where the layers have them all.
        output_exponents: one for each row of the last layer, where the outputs have fractions of
            their own: that of row ``r`` is ``output_fraction + output_exponents[r]``, -128 to 127.
        joints: of a network that is no chain of layers, how layers and poolings are joined: its
            nodes without an operator are `layers`, one after the other. A chain has none.

    Raises:
        ModelError: no layer, too many, shapes or fractions that do not fit, or a value out of
            range.
    """

    layers: tuple[CompressedLayer, ...]
    input_type: InputType = InputType.UINT8
    input_fraction: int = 8
    original: int = 0
    output_exponents: tuple[int, ...] = ()
    joints: Graph | None = None

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, CompressedLayer):
                raise ModelError(f"layers[{index}] is a {type(layer).__name__}, no CompressedLayer")
        object.__setattr__(self, "input_type", coded(InputType, self.input_type, "the model"))
        check_integers(self, "the model", input_fraction=FRACTIONS, original=(0, ORIGINAL_MAX))
        count = len(self.layers if self.joints is None else self.joints.nodes)
        if not self.layers or not 1 <= count <= LAYERS_MAX:
            raise ModelError(f"a model has 1 to {LAYERS_MAX} layers, not {count}")
        if self.joints is not None:
            object.__setattr__(self, "joints", self._checked(self.joints))
        self.graph.shapes()
        low, high = (limit - self._fraction for limit in FRACTIONS)
        where = "output_exponents"
        exponents = integers(self.output_exponents, where, np.int64, low, high)
        last = self._last
        if len(exponents) and last is None:
            raise ModelError(f"{where} are of a last layer's rows, the last node is no layer")
        if last is not None and len(exponents) not in (0, last.outputs):
            raise ModelError(
                f"{len(exponents)} {where} for the {last.outputs} rows of the last layer"
            )
        object.__setattr__(self, "output_exponents", tuple(exponents.tolist()))

    def _checked(self, joints: Graph) -> Graph | None:
        """The joints in the form in which they are kept; none of a chain."""
        places = [node for node in joints.nodes if node.op is None]
        if len(places) != len(self.layers):
            raise ModelError(f"{len(self.layers)} layers for joints of {len(places)}")
        for node in joints.nodes:
            if not isinstance(node.name, str) or not encodable(node.name):
                raise ModelError(f"node {node.name!r}: a name is text that UTF-8 can write")
            if not isinstance(node.op, Pool | None):
                raise ModelError(f"node {node.name!r}: {node.op!r} is no Pool")
        if len(places) == len(joints.nodes) and joints.is_chain:
            return None
        # A layer has its name itself.
        nodes = tuple(replace(n, name="") if n.op is None else n for n in joints.nodes)
        layers = iter(self.layers)
        ops = [next(layers) if node.op is None else node.op for node in nodes]
        first = [op for op, node in zip(ops, nodes, strict=True) if node.sources[0] == 0]
        return Graph(nodes, _taken(first, joints.shape))

    @classmethod
    def of(cls, graph: Graph, **fields: Any) -> CompressedModel:
        """The model of a graph whose layers are its nodes' operators; other fields by name."""
        layers = [node.op for node in graph.nodes if isinstance(node.op, CompressedLayer)]

        def joint(node: Node) -> Op | None:
            return None if isinstance(node.op, CompressedLayer) else node.op

        return cls(tuple(layers), joints=graph.with_ops(joint), **fields)

    @property
    def graph(self) -> Graph:
        """The network as a graph, each layer the operator of its node."""
        if self.joints is None:
            nodes = [Node(layer.name, layer, (n,)) for n, layer in enumerate(self.layers)]
            first = self.layers[0]
            return Graph(tuple(nodes), _taken([first], (first.values_in,)))
        layers = iter(self.layers)
        nodes = [
            replace(node, name=layer.name, op=layer)
            if node.op is None and (layer := next(layers))
            else node
            for node in self.joints.nodes
        ]
        return replace(self.joints, nodes=tuple(nodes))

    @property
    def is_chain(self) -> bool:
        """Whether the network is its layers, one after the other, without poolings or skips."""
        return self.joints is None

    @property
    def inputs(self) -> int:
        return self.graph.inputs

    @property
    def outputs(self) -> int:
        return math.prod(self.graph.shapes()[-1])

    @property
    def dense_bytes(self) -> int:
        """Bytes of the original network as float32, biases included where it had them; skips of
        the layers are no weights of it."""
        return 4 * (self.original or sum(layer.size for layer in self.layers))

    def __repr__(self) -> str:
        kept = sum(layer.kept for layer in self.layers)
        inputs = self.input_type.name.lower()
        return f"CompressedModel({self.line}; {kept:,} weights, {inputs} inputs)"

    def _repr_html_(self) -> str:
        """For a notebook: the network, and its layers in a table."""
        rows = [
            (
                layer.name, f"{layer.size:,}", f"{layer.kept:,}", f"{100 * layer.density:.1f}",
                len(layer.codebook),
            )
            for layer in self.layers
        ]  # fmt: skip
        columns = ("layer", "weights", "kept", "kept, %", "codebook")
        return html_table(self.line, columns, rows)

    @property
    def line(self) -> str:
        """What network it is, on one line."""
        return network_line(self.graph)

    @property
    def _last(self) -> CompressedLayer | None:
        """The layer that gives the outputs, where one does."""
        if self.joints is None or self.joints.nodes[-1].op is None:
            return self.layers[-1]
        return None

    @property
    def _fraction(self) -> int:
        """Fraction bits of the outputs, before any of their own."""
        if self._last is not None:
            return self._last.output_fraction
        return self.graph.fractions(self.input_fraction)[-1]

    def _of_sources(self, each: list[int]) -> list[int]:
        """Of a number for the input and each node, that of what each layer takes."""
        return [
            each[node.sources[0]]
            for node in self.graph.nodes
            if isinstance(node.op, CompressedLayer)
        ]

    def input_fractions(self) -> list[int]:
        """Fraction bits of each layer's inputs."""
        return self._of_sources(self.graph.fractions(self.input_fraction))

    def weight_fractions(self) -> list[int]:
        """Fraction bits of each layer's codebook."""
        return [
            layer.product_fraction - fraction
            for layer, fraction in zip(self.layers, self.input_fractions(), strict=True)
        ]

    @property
    def output_fractions(self) -> list[int]:
        """Fraction bits of the outputs, one for each row of the last layer: of a convolution, for
        each output channel. One for all where the last node is no layer."""
        last, fraction = self._last, self._fraction
        rows = 1 if last is None else last.outputs
        return [fraction + exponent for exponent in self.output_exponents or (0,) * rows]

    def quantise(self, inputs: np.ndarray) -> np.ndarray:
        """Inputs, ``(n, …)``, in the model's input format, ``(n, inputs)``: maps of several
        channels come channel by channel, as torch has them, and go pixel by pixel.

        uint8 stay as they are where the model takes uint8; floats are rounded to the input
        fraction and saturated where it takes int16. A tensor is taken as the array that it holds.

        Raises:
            ModelError: floats for a network with uint8 inputs, or the reverse; another width.
            DataError: a value that is not finite; says which.
        """
        inputs = as_array(inputs)
        if inputs.ndim < 1 or math.prod(inputs.shape[1:]) != self.inputs:
            raise ModelError(
                f"inputs of shape {inputs.shape} for a network that takes (n, {self.inputs})"
            )
        inputs = map_order(inputs.reshape(len(inputs), self.inputs), self.graph.shape)
        if self.input_type is InputType.UINT8 and inputs.dtype == np.uint8:
            return inputs
        if self.input_type is InputType.INT16 and np.issubdtype(inputs.dtype, np.floating):
            if not np.isfinite(inputs).all():
                row, column = np.argwhere(~np.isfinite(inputs))[0]
                raise DataError(
                    f"inputs: value {column} of row {row} is {inputs[row, column]}, not finite"
                )
            with np.errstate(over="ignore"):  # saturated
                scaled = np.rint(np.ldexp(inputs.astype(np.float64), self.input_fraction))
            return np.clip(scaled, *INT16).astype(np.int16)
        if self.input_type is InputType.UINT8:
            takes = "takes uint8, the values as they are stored"
        else:
            takes = "takes floats, scaled as it was trained on them"
        raise ModelError(f"inputs are {inputs.dtype}, the network {takes}: it was compressed so")

    def dequantise(self, outputs: np.ndarray) -> np.ndarray:
        """The real numbers that outputs, int16 ``(n, outputs)``, stand for: float64, exact. Those
        of a map come channel by channel, as torch has them.

        Raises:
            ModelError: another shape, or no integers.
        """
        outputs = as_array(outputs)
        if outputs.dtype.kind not in "iu" or outputs.ndim != 2 or outputs.shape[1] != self.outputs:
            raise ModelError(
                f"outputs are {outputs.dtype} of shape {outputs.shape}; "
                f"the model gives int16 of shape (n, {self.outputs})"
            )
        channels = self.graph.shapes()[-1][0]
        rows = outputs.astype(np.float64).reshape(len(outputs), -1, channels).swapaxes(1, 2)
        fractions = np.resize(self.output_fractions, channels)[:, None]
        return np.ldexp(rows, -fractions).reshape(outputs.shape)

    def weights(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Weights and biases of each layer in real numbers, float64, exact, zero where pruned.

        Weights have torch's shape and order, ``(outputs, inputs)`` or ``(outputs, channels /
        groups, kernel_height, kernel_width)``, biases ``(outputs,)``; None where there are none.
        Weights of a skip are left out.

        Raises:
            ModelError: hardly a weight is kept and the matrices are huge.
        """
        check_dense(self.layers)
        found = []
        shapes = self._of_sources(self.graph.shapes())
        for index, fraction in enumerate(self.input_fractions()):
            layer = self.layers[index]
            sums = np.full((layer.outputs, 1), layer.product_fraction)
            if layer is self._last and self.output_exponents:
                sums += np.array(self.output_exponents)[:, None]
            matrix, bias = layer.dense().astype(np.float64), None
            if layer.scales is not None:
                matrix *= np.ldexp(layer.scales.astype(np.float64), -SCALE_FRACTION)[:, None]
            if layer.bias:
                bias = np.ldexp(matrix[:, -1], layer.bias_exponent - sums[:, 0])
            weights = np.ldexp(matrix[:, : layer.inputs], fraction - sums)
            found.append((torch_order(weights, layer.convolution, shapes[index]), bias))
        return found

    def skip_magnitudes(self) -> list[int]:
        """Largest magnitude that each layer's skip can hold; 0 where it has none."""
        each = self.graph.magnitudes(self.input_type.magnitude)
        return [
            each[node.sources[1]] if len(node.sources) > 1 else 0
            for node in self.graph.nodes
            if isinstance(node.op, CompressedLayer)
        ]

    def magnitudes(self) -> list[int]:
        """Largest input magnitude that each layer's input format can hold (docs/numerics.md)."""
        return self._of_sources(self.graph.magnitudes(self.input_type.magnitude))

    def accumulator_bits(self) -> list[int]:
        """The accumulator width each layer needs, proved for any order (docs/numerics.md)."""
        return [
            accumulator_bits(layer, magnitude, skip)
            for layer, magnitude, skip in zip(
                self.layers, self.magnitudes(), self.skip_magnitudes(), strict=True
            )
        ]

    @property
    def needs_maps(self) -> str | None:
        """What of the network only an engine with a map memory runs, with its name; None where
        every engine runs all of it."""
        for node in self.graph.nodes:
            op = node.op
            if not isinstance(op, CompressedLayer):
                what = f"node {node.name!r} is a pooling"
            elif op.convolution is not None:
                what = f"layer {node.name!r} is a convolution"
            elif op.skip is not None:
                what = f"layer {node.name!r} takes a second source"
            elif op.scales is not None:
                what = f"layer {node.name!r} has scales"
            elif op.activation not in (Activation.NONE, Activation.RELU):
                what = f"layer {node.name!r} has the function {op.activation.said}"
            else:
                continue
            return what
        return None

    @property
    def unsupported(self) -> str | None:
        """Why an engine without a map memory can load the network and not run it; None where it
        runs all of it."""
        if self.needs_maps is None:
            return None
        return (
            f"{self.needs_maps}: an engine without a map memory runs fully connected layers with "
            "ReLU only, one after the other; the reference runs all (pleach evaluate)"
        )

    def check_runs(self) -> None:
        """Refuse what the engine can load and not run.

        Raises:
            ModelError: a convolution, a pooling, a skip, or the like; names it.
        """
        if self.unsupported is not None:
            raise ModelError(self.unsupported)


def map_order(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Rows ``(n, …)`` of values channel by channel as ``(n, values)``, pixel by pixel.

    Args:
        shape: of a map, ``(channels, height, width)``; anything else stays as it is.

    >>> map_order(np.arange(6)[None], (2, 1, 3)).tolist()
    [[0, 3, 1, 4, 2, 5]]
    """
    if len(shape) == 3 and shape[0] > 1 and shape[1] * shape[2] > 1:
        return values.reshape(len(values), shape[0], -1).swapaxes(1, 2).reshape(len(values), -1)
    return values


def torch_order(matrix: np.ndarray, convolution: Convolution | None, source: Shape) -> np.ndarray:
    """Weights ``(outputs, columns)`` in the order of a map's, as torch's tensor has them.

    Args:
        source: the shape of what a fully connected layer takes.
    """
    conv = convolution
    if conv is None:
        if len(source) != 3:
            return matrix
        rows = matrix.reshape(len(matrix), -1, source[0])
        return rows.swapaxes(1, 2).reshape(matrix.shape)
    kernels = matrix.reshape(len(matrix), conv.kernel_height, conv.kernel_width, conv.channels)
    kernels = kernels.transpose(0, 3, 1, 2).reshape(
        conv.groups, -1, conv.groups, conv.channels // conv.groups, *kernels.shape[1:3]
    )
    own = np.arange(conv.groups)
    return kernels[own, :, own].reshape(len(matrix), -1, *kernels.shape[4:])


def _taken(ops: list[Any], shape: Shape) -> Shape:
    """The shape of an input that those operators take: a map where one of them takes one."""
    found = {
        op.window.shape if isinstance(op, Pool) else op.convolution.shape
        for op in ops
        if isinstance(op, Pool) or op.convolution is not None
    }
    if len(found) > 1:
        raise ModelError(f"the input is taken as maps of {len(found)} shapes")
    return found.pop() if found else (math.prod(shape),)


def network_line(graph: Graph) -> str:
    """A network on one line: its inputs, then each node with what it takes where that is not what
    stands before it.

    Args:
        graph: of operators that are `CompressedLayer`, `pleach.models.Layer` or `pleach.model.Op`.

    >>> layer = CompressedLayer("fc1", 4, 3, True, [0], [0], [5], 1, Activation.RELU, 0, 0)
    >>> network_line(CompressedModel((layer,)).graph)
    '4 → fc1 3 ReLU'
    """
    first = getattr(graph.nodes[0].op, "convolution", None)
    shape = first.shape if first else graph.shape
    parts = ["×".join(map(str, shape))]
    for number, node in enumerate(graph.nodes):
        text = _said(node)
        if node.sources != (number,):
            names = ["input", *(printable(other.name) for other in graph.nodes)]
            text += f" ({', '.join(names[source] for source in node.sources)})"
        parts.append(text)
    return " → ".join(parts)


def _said(node: Node) -> str:
    """A node in the line of its network."""
    op, text = node.op, printable(node.name)
    match op:
        case Clip(low=0, high=high) if high == math.inf:
            return f"{text} ReLU"
        case Clip():
            return f"{text} Clip {op.low:g}…{op.high:g}"
        case AveragePool() | MaxPool() | Pool():
            window, kind = op.window, node.kind
            if isinstance(op, Pool):
                kind = "max" if op.shift is None else f"sum/{1 << op.shift}"
            text += f" {kind} {window.kernel_height}×{window.kernel_width}"
            if window.stride != (window.kernel_height, window.kernel_width):
                text += f" stride {_sides(window.stride)}"
            return text + f" padding {_sides(window.padding)}" * any(window.padding)
        case Add() | Concat():
            return f"{text} {node.kind}"
        case _ if not hasattr(op, "convolution"):
            return f"{text} {node.kind}"
    conv, text = op.convolution, f"{text} {op.outputs}"
    if conv is not None:
        text += f"×{conv.kernel_height}×{conv.kernel_width}"
        if conv.stride != (1, 1):
            text += f" stride {_sides(conv.stride)}"
        if any(conv.padding):
            text += f" padding {_sides(conv.padding)}"
        if conv.groups != 1:
            text += f" groups {conv.groups}"
    if op.activation.said:
        text += f" {op.activation.said}"
    if conv is not None and (conv.pool, conv.pool_stride) != (1, 1):
        text += f", pool {conv.pool}"
        if conv.pool_stride != conv.pool:
            text += f" stride {conv.pool_stride}"
    return text


def _sides(values: tuple[int, ...]) -> str:
    """Strides or paddings; one number where they are the same."""
    return str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))

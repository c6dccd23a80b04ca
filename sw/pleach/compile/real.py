"""Networks in real numbers: as they are given, and as the layers and poolings of a file.

Numpy only: no torch here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from pleach.errors import ModelError
from pleach.model import (
    Activation,
    Add,
    AveragePool,
    Clip,
    Convolution,
    Graph,
    MaxPool,
    Node,
    Op,
    Shape,
    Skip,
    Window,
    takers,
)
from pleach.model.network import map_order
from pleach.numbers import CODEBOOK_MAX, SIZE_MAX
from pleach.reference.maps import max_pool, patches, pooled, skipped

#: values that a sum or the like of rows can have: its matrix is written out
MOST_JOINED = 4096


@dataclass(frozen=True, eq=False)
class RealLayer:
    """A layer in real numbers.

    Args:
        name: qualified name.
        weight: ``(outputs, columns)``, torch's tensor with its last axes as one; zero where pruned.
        bias: ``(outputs,)`` or None.
        activation: function after it.
        convolution: how the weights are laid over maps; None where it is fully connected.
        scales: ``(outputs,)``, what the sums of each row, its bias among them, are multiplied by
            before the function: weight and bias are without it. None of 1.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray | None
    activation: Activation
    convolution: Convolution | None = None
    scales: np.ndarray | None = None

    @property
    def values_in(self) -> int:
        """Activations that it takes."""
        return self.convolution.inputs if self.convolution else self.weight.shape[1]

    def out_shape(self, *inputs: Shape) -> Shape:
        """``(outputs,)``, or ``(outputs, height, width)``, pooled."""
        return (len(self.weight), *(self.convolution.pooled if self.convolution else ()))


@dataclass(frozen=True, eq=False)
class MapLayer:
    """A layer in real numbers whose columns are in the order of maps.

    Args:
        weight: ``(outputs, columns)`` over all channels, zero where a group has none.
        bias: ``(outputs,)`` or None.
        skip, skip_weight: of its second source, ``(outputs, channels)``; None where it has none.
        sources: the shape of what it takes, and of its skip behind it where it has one.
        ones: which of them, by its place, has ones on a diagonal for weights.
        sum: the name of the sum that is a part of it; empty where none is.
        scales: of each row's sums, ``(outputs,)`` or None.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray | None
    activation: Activation
    convolution: Convolution | None
    sources: tuple[Shape, ...]
    skip: Skip | None = None
    skip_weight: np.ndarray | None = None
    ones: tuple[int, ...] = ()
    sum: str = ""
    scales: np.ndarray | None = None

    @property
    def shape(self) -> Shape:
        """Of what it gives."""
        return (len(self.weight), *(self.convolution.pooled if self.convolution else ()))

    @property
    def linear(self) -> bool:
        """Whether something can be added to its sums: no function, pooling, skip or scales."""
        free = self.skip is None and self.activation == Activation.NONE and self.scales is None
        return free and (self.convolution is None or self.convolution.pool == 1)

    def run(self, *inputs: np.ndarray) -> np.ndarray:
        """``[values_in, n]`` to ``[values_out, n]``, pooled."""
        count, conv = inputs[0].shape[1], self.convolution
        met = patches(inputs[0], conv, inputs[0].dtype) if conv else inputs[0]
        sums = _product(self.weight, met)
        if self.skip is not None and self.skip_weight is not None:
            taken = skipped(inputs[1], self.sources[1], self.skip, conv)
            sums += _product(self.skip_weight, taken)
        if self.bias is not None:
            sums += self.bias[:, None]
        if self.scales is not None:
            sums *= self.scales.astype(sums.dtype)[:, None]
        values = self.activation(sums)
        if conv is not None:
            maps = values.reshape(len(values), *conv.map, count).transpose(1, 2, 0, 3)
            values = max_pool(maps, conv) if conv.pool > 1 else maps
        return values.reshape(-1, count)


def _product(weight: np.ndarray, values: np.ndarray) -> np.ndarray:
    if 5 * np.count_nonzero(weight) < weight.size:
        return sparse.csr_array(weight) @ values
    return weight @ values


@dataclass(eq=False)
class _Made:
    """A node while the network is made: what it takes are other such.

    Args:
        op: `MapLayer`, `MaxPool` or `AveragePool`; None stands for the network's input.
        shape: of what it gives.
        free: whether one node alone takes it, so that it may become a part of that one.
    """

    name: str
    op: Any
    sources: list[_Made]
    shape: Shape
    free: bool = False


def mapped(graph: Graph, apart: frozenset[str] = frozenset()) -> Graph:
    """A network as the layers and poolings of a file, in the order of maps.

    An operator that has a method `as_layer`, of its name and the shapes of what it takes, is the
    `MapLayer` that this gives.

    A sum is a skip of the layer before it where that has no function of its own; a clamp is the
    function of the layer before it. Whatever else stands between layers is a layer of ones on its
    diagonal, or a pooling.

    Args:
        graph: of `RealLayer` and of operators of real numbers.
        apart: the names of sums that are layers of their own.

    Returns:
        A graph of `MapLayer`, `MaxPool` and `AveragePool`.

    Raises:
        ModelError: a map that is seen as one of another shape; names the node.
    """
    return _Mapping(graph, apart).graph()


class _Mapping:
    def __init__(self, graph: Graph, apart: frozenset[str]):
        self._given, self._apart = graph, apart
        self._input = _Made("input", None, [], self._input_shape())
        self._made: list[_Made] = []
        #: what stands for the input and for each node of the graph that was given
        self._of = [self._input]
        for number, node in enumerate(graph.nodes, start=1):
            try:
                made = self._node(node)
            except ModelError as error:
                raise ModelError(f"node {node.name!r}: {error}") from None
            made.free = len(takers(graph.nodes, number)) == 1
            self._of.append(made)
        self._scale_means()

    def graph(self) -> Graph:
        number = {id(made): place for place, made in enumerate([self._input, *self._made])}
        nodes = [
            Node(made.name, made.op, tuple(number[id(source)] for source in made.sources))
            for made in self._made
        ]
        return Graph(tuple(nodes), self._input.shape)

    def _input_shape(self) -> Shape:
        """Of the network's input: a map where a convolution or a pooling takes it."""
        shapes = [_map_of(node.op) for node in self._given.nodes if 0 in node.sources]
        maps = {shape for shape in shapes if shape}
        if len(maps) > 1:
            raise ModelError(f"the network's input is seen as maps of {len(maps)} shapes")
        return maps.pop() if maps else self._given.shape

    def _add(self, name: str, op: MapLayer | MaxPool | AveragePool, *sources: _Made) -> _Made:
        shape = op.shape if isinstance(op, MapLayer) else op.out_shape(op.window.shape)
        self._made.append(_Made(name, op, list(sources), shape))
        return self._made[-1]

    def _node(self, node: Node) -> _Made:
        sources, op = [self._of[source] for source in node.sources], node.op
        if isinstance(op, RealLayer):
            return self._layer(op, sources[0])
        if isinstance(op, MaxPool | AveragePool):
            self._see(sources[0], op.window.shape)
            return self._add(node.name, op, sources[0])
        if isinstance(op, Clip):
            return self._clip(node.name, op, sources[0])
        if hasattr(op, "as_layer"):
            layer = op.as_layer(node.name, *(source.shape for source in sources))
            return self._add(node.name, layer, *sources)
        join = self._sum if isinstance(op, Add) else self._concat
        if len(sources) == 1:
            return self._same(node.name, sources[0])
        made = sources[0]
        for place, other in enumerate(sources[1:], start=1):
            name = node.name if place + 1 == len(sources) else f"{node.name}.{place}"
            made = join(name, made, other)
            made.free = True
        return made

    def _layer(self, layer: RealLayer, source: _Made) -> _Made:
        conv, weight = layer.convolution, np.asarray(layer.weight)
        shape = source.shape
        if conv is None:
            weight, whole = map_order(weight, shape), None
        else:
            self._see(source, conv.shape)
            weight, whole = kernel_order(weight, conv), conv
            if conv.pool_stride != conv.pool:
                conv = replace(conv, pool=1, pool_stride=1)
        op = MapLayer(
            layer.name, weight, layer.bias, layer.activation, conv, (shape,), scales=layer.scales
        )
        made = self._add(layer.name, op, source)
        if whole is not None and whole != conv:
            window = Window(
                len(weight), *whole.map, whole.pool, whole.pool, (whole.pool_stride,) * 2
            )
            made = self._add(f"{layer.name}.pool", MaxPool(window), made)
        return made

    def _see(self, source: _Made, shape: Shape) -> None:
        """What gives the values of a map does so in the order of that map."""
        given = source.shape
        if given == shape:
            return
        if len(given) == 3 or not source.free:
            raise ModelError(
                f"sees {' × '.join(map(str, given))} values as a map of "
                f"{' × '.join(map(str, shape))}: only what one layer gives it alone can be"
            )
        rows = map_order(np.arange(math.prod(shape))[None], shape)[0]
        op = source.op
        source.op = replace(
            op,
            weight=op.weight[rows],
            bias=None if op.bias is None else op.bias[rows],
            scales=None if op.scales is None else op.scales[rows],
            skip_weight=None if op.skip_weight is None else op.skip_weight[rows],
        )

    def _clip(self, name: str, clip: Clip, source: _Made) -> _Made:
        low, high = (None if math.isinf(bound) else bound for bound in (clip.low, clip.high))
        layer = source.op if source.free else None
        if not isinstance(layer, MapLayer) or layer.activation != Activation.NONE:
            source = self._same(name, source)
        source.op = replace(source.op, activation=Activation(low, high))
        return source

    def _same(self, name: str, source: _Made) -> _Made:
        """A layer that gives what it takes."""
        shape = source.shape
        if len(shape) == 3:
            return self._add(name, over_channels(name, shape, np.eye(shape[0])), source)
        return self._add(name, _rows(name, shape, np.eye(_few(shape[0]))), source)

    def _sum(self, name: str, one: _Made, other: _Made) -> _Made:
        shapes = one.shape, other.shape
        maps = shapes[0] == shapes[1] and len(shapes[0]) == 3
        pairs = [
            (main, second)
            for main, second in ((other, one), (one, other))
            if name not in self._apart and main is not second and _may_be_part(main)
            if maps or main.op.convolution is None
        ]
        # Best of all the other one becomes a part of it, too.
        found = [(*pair, _shortcut(pair[0].op, pair[1])) for pair in pairs]
        found.sort(key=lambda each: each[2] is None)
        if not found:
            main = self._same(name, one) if maps else self._flat(name, one)
            found = [(main, other, None)]
        main, second, joined = found[0]
        layer = main.op
        if joined is not None:
            self._made.remove(second)
            source = second.sources[0]
        else:
            source, shape = second, second.shape
            own = np.eye(len(layer.weight) if maps else _few(len(layer.weight)))
            weight = own if maps else map_order(own, shape)
            joined = replace(
                layer,
                sources=(*layer.sources, shape),
                skip=Skip(weight.shape[1]),
                skip_weight=weight,
                ones=(*layer.ones, 1),
                sum="" if layer.ones else name,
            )
        self._made.remove(main)
        return self._add(main.name, joined, *main.sources, source)

    def _flat(self, name: str, source: _Made) -> _Made:
        """A layer that gives, as a row in torch's order, what it takes."""
        shape = source.shape
        ones = map_order(np.eye(_few(math.prod(shape))), shape)
        return self._add(name, _rows(name, shape, ones), source)

    def _concat(self, name: str, one: _Made, other: _Made) -> _Made:
        shapes = one.shape, other.shape
        maps = all(len(shape) == 3 for shape in shapes) and shapes[0][1:] == shapes[1][1:]
        sizes = [shape[0] if maps else math.prod(shape) for shape in shapes]
        ones = np.eye(sum(sizes) if maps else _few(sum(sizes)))
        left, right = ones[:, : sizes[0]], ones[:, sizes[0] :]
        if maps:
            layer = over_channels(name, shapes[0], left)
        else:
            layer = _rows(name, shapes[0], map_order(left, shapes[0]))
            right = map_order(right, shapes[1])
        skip = Skip(right.shape[1])
        layer = replace(layer, sources=shapes, skip=skip, skip_weight=right, ones=(0, 1))
        return self._add(name, layer, one, other)

    def _scale_means(self) -> None:
        """Behind a mean there are layers alone, which multiply by what a shift leaves of it."""
        for made in list(self._made):
            if not isinstance(made.op, AveragePool):
                continue
            users = [user for user in self._made if made in user.sources]
            if users and all(isinstance(user.op, MapLayer) for user in users):
                continue
            shape = made.shape
            own = _Made(
                f"{made.name}.mean",
                over_channels(f"{made.name}.mean", shape, np.eye(shape[0])),
                [made],
                shape,
            )
            self._made.insert(self._made.index(made) + 1, own)
            for user in users:
                user.sources = [own if source is made else source for source in user.sources]


def _map_of(op: Op) -> Shape:
    """The shape of the map that an operator takes; nothing where it takes rows or anything."""
    if isinstance(op, RealLayer):
        return op.convolution.shape if op.convolution else ()
    return op.window.shape if isinstance(op, MaxPool | AveragePool) else ()


def kernel_order(weight: np.ndarray, conv: Convolution) -> np.ndarray:
    """``(outputs, columns)`` of torch's order in that of maps, over all channels."""
    outputs, channels = len(weight), conv.channels // conv.groups
    sides = (conv.kernel_height, conv.kernel_width)
    own = weight.reshape(conv.groups, -1, channels, *sides).transpose(0, 1, 3, 4, 2)
    whole = np.zeros((*own.shape[:4], conv.groups, channels), weight.dtype)
    for group in range(conv.groups):
        whole[group, ..., group, :] = own[group]
    return whole.reshape(outputs, -1)


def over_channels(name: str, shape: Shape, weight: np.ndarray) -> MapLayer:
    """A layer over the channels of each pixel.

    Args:
        shape: of the map that it takes.
        weight: ``(outputs, channels)``, of powers of two that stay exact.
    """
    conv = Convolution(*shape, kernel_height=1, kernel_width=1)
    return MapLayer(name, weight, None, Activation.NONE, conv, (shape,), ones=(0,))


def _rows(name: str, shape: Shape, weight: np.ndarray) -> MapLayer:
    return MapLayer(name, weight, None, Activation.NONE, None, (shape,), ones=(0,))


def _may_be_part(made: _Made) -> bool:
    """Whether a node is a layer to whose sums something can be added."""
    return made.free and isinstance(made.op, MapLayer) and made.op.linear


def _shortcut(layer: MapLayer, made: _Made) -> MapLayer | None:
    """The layer with the weights of another one, which looks at single pixels, as its skip's; None
    where that cannot be."""
    if not _may_be_part(made):
        return None
    short = made.op
    conv, other = layer.convolution, short.convolution
    stride = (1, 1)
    if (conv is None) != (other is None):
        return None
    if conv is not None and other is not None:
        stride = other.stride
        if (other.kernel_height, other.kernel_width, other.groups) != (1, 1, 1):
            return None
        if any(other.padding) or other.map != conv.map:
            return None
    biases = [each.bias for each in (layer, short) if each.bias is not None]
    bias = sum(biases[1:], biases[0]) if biases else None
    columns = layer.weight.shape[1] + short.weight.shape[1] + (bias is not None)
    values = _distinct([layer.weight, short.weight, *([] if bias is None else [bias])])
    if columns > SIZE_MAX or values > CODEBOOK_MAX:
        return None
    return replace(
        layer,
        bias=bias,
        sources=(*layer.sources, short.sources[0]),
        skip=Skip(short.weight.shape[1], stride),
        skip_weight=short.weight,
    )


def _distinct(parts: Iterable[np.ndarray]) -> int:
    values = np.unique(np.concatenate([np.ravel(part) for part in parts]))
    return int(np.count_nonzero(values))


def _few(values: int) -> int:
    """That many values, where a layer over all of them can be.

    Raises:
        ModelError: it cannot.
    """
    if values > MOST_JOINED:
        raise ModelError(
            f"joins rows of {values:,} values: {MOST_JOINED:,} are the most, join them as maps"
        )
    return values


def weights_of(layers: Sequence[Op]) -> int:
    """Weights and biases of the layers among operators of real numbers."""
    return sum(
        layer.weight.size + (0 if layer.bias is None else layer.bias.size)
        for layer in layers
        if isinstance(layer, RealLayer)
    )


def run_real(op: MapLayer | MaxPool | AveragePool, *values: np.ndarray) -> np.ndarray:
    """What an operator of `mapped`'s gives, ``[values, n]``."""
    if isinstance(op, MapLayer):
        return op.run(*values)
    found = pooled(values[0], op.window, largest=isinstance(op, MaxPool))
    if isinstance(op, AveragePool):
        found = found / np.float32(op.window.size)
    return found.reshape(-1, values[0].shape[1])

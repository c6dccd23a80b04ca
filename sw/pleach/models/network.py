"""A network that was read from a module of the user's: its layers and the graph that joins them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pleach.compile.real import MapLayer, over_channels
from pleach.errors import ModelError
from pleach.model import (
    Activation,
    Add,
    AveragePool,
    Clip,
    Concat,
    Graph,
    MaxPool,
    Node,
    Op,
    Shape,
    Window,
    takers,
)
from pleach.models.layers import Layer, applied, convolution_of


@dataclass(frozen=True)
class Weighted:
    """The layer of the node's name, with what follows it: a function, then max pooling.

    Args:
        pool, pool_stride: of the windows; 1 pools nothing.
    """

    activation: Activation = Activation.NONE
    pool: int = 1
    pool_stride: int = 1


@dataclass(frozen=True)
class Pool:
    """Pooling of whatever map comes.

    Args:
        average: means, not largest values.
        kernel: height and width of a window; None is the whole map.
        stride: of the windows both ways.
        padding: on every side.
    """

    average: bool
    kernel: tuple[int, int] | None
    stride: tuple[int, int] = (1, 1)
    padding: int = 0

    def resolved(self, shape: Shape) -> AveragePool | MaxPool:
        """The operator for a map of that shape."""
        if len(shape) != 3:
            raise ModelError(f"pools maps, what comes before it gives {shape}")
        kernel = self.kernel or shape[1:]
        window = Window(*shape, *kernel, self.stride, self.padding)
        return AveragePool(window) if self.average else MaxPool(window)

    def run(self, maps: Tensor) -> Tensor:
        if self.kernel is None:
            return maps.mean((2, 3), keepdim=True) if self.average else maps.amax((2, 3), True)
        pool = functional.avg_pool2d if self.average else functional.max_pool2d
        return pool(maps, self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class Reshape:
    """The same values in another shape; flat where that is None."""

    shape: Shape | None = None

    def out_shape(self, shape: Shape) -> Shape:
        found = self.shape or (math.prod(shape),)
        if math.prod(found) != math.prod(shape):
            raise ModelError(f"cannot see a shape of {shape} as {found}")
        return found


@dataclass(frozen=True)
class Pad:
    """Zeros around a map, which the convolutions that take it have for their own.

    Args:
        sides: top, left, bottom and right.
    """

    sides: tuple[int, int, int, int]

    def out_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3:
            raise ModelError(f"pads maps, what comes before it gives {shape}")
        top, left, bottom, right = self.sides
        return (shape[0], shape[1] + top + bottom, shape[2] + left + right)

    def run(self, maps: Tensor) -> Tensor:
        top, left, bottom, right = self.sides
        return functional.pad(maps, (left, right, top, bottom))


@dataclass(frozen=True)
class Shuffle:
    """The channels dealt out anew (Zhang et al. 2018, ShuffleNet, section 3.1): of equal groups
    each gives one in turn.

    Args:
        groups: that divide the channels.
    """

    groups: int

    def out_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3 or shape[0] % self.groups:
            raise ModelError(f"shuffles {self.groups} groups of channels, not {shape}")
        return shape

    def as_layer(self, name: str, shape: Shape) -> MapLayer:
        places = np.arange(shape[0]).reshape(self.groups, -1).T.ravel()
        return over_channels(name, shape, np.eye(shape[0])[places])

    def run(self, maps: Tensor) -> Tensor:
        return functional.channel_shuffle(maps, self.groups)


@dataclass(frozen=True)
class Part:
    """Some neighbouring channels of a map, or features of a row.

    Args:
        start, stop: of the channels, from 0; the last is not one of them.
    """

    start: int
    stop: int

    def out_shape(self, shape: Shape) -> Shape:
        return (self.stop - self.start, *shape[1:])

    def as_layer(self, name: str, shape: Shape) -> MapLayer:
        return _over(name, shape, np.eye(shape[0])[self.start : self.stop])

    def run(self, values: Tensor) -> Tensor:
        return values[:, self.start : self.stop]


@dataclass(frozen=True)
class Affine:
    """Each channel times a number, and another one added: a negation, or a batch normalisation that
    is no part of a layer. It is not trained.

    Args:
        scale, offset: of each channel, or one of all; the offset None where nothing is added.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...] | None = None

    def out_shape(self, shape: Shape) -> Shape:
        for numbers in (self.scale, self.offset or (0.0,)):
            if len(numbers) not in (1, shape[0]):
                raise ModelError(f"has {len(numbers)} numbers for {shape[0]} channels")
        return shape

    def as_layer(self, name: str, shape: Shape) -> MapLayer:
        layer = _over(name, shape, np.eye(shape[0]))
        weight = np.eye(shape[0]) * np.reshape(self.scale, (-1, 1))
        bias = None if self.offset is None else np.broadcast_to(self.offset, shape[:1])
        return replace(layer, weight=weight, bias=bias, ones=())

    def run(self, values: Tensor) -> Tensor:
        sides = [-1, *[1] * (values.ndim - 2)]
        found = values * values.new_tensor(self.scale).reshape(sides)
        if self.offset is not None:
            found = found + values.new_tensor(self.offset).reshape(sides)
        return found


Step = Weighted | Pool | Reshape | Pad | Add | Concat | Clip | Shuffle | Part | Affine


def _over(name: str, shape: Shape, weight: np.ndarray) -> MapLayer:
    """A layer of ones over the channels of each pixel, or over a row."""
    if len(shape) == 3:
        return over_channels(name, shape, weight)
    return MapLayer(name, weight, None, Activation.NONE, None, (shape,), ones=(0,))


class Network(nn.Module):
    """Layers under the names that they had, and how they are joined.

    It computes what the module computed from which `pleach.models.network_of` made it, its batch
    normalisations folded into its layers, and is trained, pruned and shared like any network.

    Args:
        joints: nodes in running order whose operators are a `Step`.
        layers: by name, for each `Weighted` node.

    Attributes:
        notes: sentences on what a reader left out, or how far it is from a file.
        left_out: the function at the end that was left out (`pleach.models.read.ENDS`), or empty.

    Raises:
        ModelError: sizes that do not fit; names the node.
    """

    notes: tuple[str, ...] = ()
    left_out: str = ""

    def __init__(self, joints: Graph, layers: Mapping[str, nn.Linear | nn.Conv2d]):
        super().__init__()
        self._joints = joints
        for name, layer in layers.items():
            *parents, last = name.split(".")
            place: nn.Module = self
            for parent in parents:
                if parent not in place._modules:
                    place.add_module(parent, nn.Module())
                place = place._modules[parent]
            if hasattr(place, last) and last not in place._modules:
                raise ModelError(f"no module can be called {last!r} here: give it another name")
            place.add_module(last, layer)
        resolved(self)

    def put_(self, name: str, layers: nn.Sequential) -> None:
        """Put several layers, one after the other, in the place of one; they are called after it,
        ``fc1.0``, ``fc1.1``. A ReLU may stand after each but the last.

        Raises:
            ModelError: sizes that do not fit; names the node.
        """
        nodes: list[Node] = []
        places = [0]
        parts: list[tuple[str, Activation]] = []
        for part, module in layers._modules.items():
            if isinstance(module, nn.ReLU):
                parts[-1] = parts[-1][0], Activation.RELU
            else:
                parts.append((part, Activation.NONE))
        for node in self._joints.nodes:
            node = replace(node, sources=tuple(places[source] for source in node.sources))
            if node.name == name and isinstance(node.op, Weighted):
                *before, (last, _) = parts
                for part, function in before:  # what follows the layer follows the last of them
                    nodes.append(Node(f"{name}.{part}", Weighted(function), node.sources))
                    node = replace(node, sources=(len(nodes),))
                node = replace(node, name=f"{name}.{last}")
            nodes.append(node)
            places.append(len(nodes))
        owner, _, own = name.rpartition(".")
        self.get_submodule(owner)._modules[own] = layers
        self._joints = Graph(tuple(nodes), self._joints.shape)
        resolved(self)

    def put_in_front_(self, name: str, op: Step) -> None:
        """Put a node before all others, that takes the input in their place.

        Raises:
            ModelError: sizes that do not fit; names the node.
        """
        taken = {node.name for node in self._joints.nodes}
        while name in taken:
            name += "_"
        nodes = [
            replace(node, sources=tuple(source + 1 for source in node.sources))
            for node in self._joints.nodes
        ]
        self._joints = Graph((Node(name, op, (0,)), *nodes), self._joints.shape)
        resolved(self)

    @property
    def shape(self) -> Shape:
        """Of an input."""
        return self._joints.shape

    def put_function_(self, name: str, activation: Activation) -> None:
        """Give the layer of that name another function."""
        nodes = [
            replace(node, op=replace(node.op, activation=activation))
            if node.name == name and isinstance(node.op, Weighted)
            else node
            for node in self._joints.nodes
        ]
        self._joints = Graph(tuple(nodes), self._joints.shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(n, *shape)`` to ``(n, …)``."""
        *_, (_, _, outputs) = self._joints.walk(inputs, self._run)
        return outputs

    def _run(self, node: Node, *values: Tensor) -> Tensor:
        match node.op:
            case Weighted(activation, pool, stride):
                value = self.get_submodule(node.name)(*values)
                value = applied(activation, value)
                if (pool, stride) != (1, 1):
                    value = functional.max_pool2d(value, pool, stride)
                return value
            case Add():
                return sum(values[1:], values[0])
            case Concat():
                return torch.cat(values, 1)
            case Clip(low, high):
                return values[0].clamp(low, high)
            case Reshape(shape):
                return values[0].reshape(len(values[0]), *(shape or (-1,)))
        return node.op.run(*values)


def through(nodes: Sequence[Node], number: int) -> list[int]:
    """The numbers of the nodes that take what that one gives, also where it is only flattened in
    between."""
    found = []
    for user in takers(nodes, number):
        found += through(nodes, user) if nodes[user - 1].op == Reshape() else [user]
    return found


def joints_of(network: Network) -> Graph:
    """How its layers are joined, whatever their sizes."""
    return network._joints


def resolved(network: Network) -> Graph:
    """The network as a graph of `Layer` and of operators of real numbers; what gives only another
    shape to the same values is no node of it.

    Raises:
        ModelError: sizes that do not fit; names the node.
    """
    joints = joints_of(network)
    nodes: list[Node] = []
    shapes, places = [joints.shape], [0]
    pads: dict[int, Pad] = {}  # by the number of the node that pads
    for number, node in enumerate(joints.nodes, start=1):
        inputs = [shapes[source] for source in node.sources]
        try:
            pad = next((pads[source] for source in node.sources if source in pads), None)
            if pad is not None and not _takes_padding(network, node):
                raise ModelError("takes a padded map, which only a convolution does")
            if isinstance(node.op, Reshape | Pad):
                if isinstance(node.op, Pad):
                    pads[number] = node.op
                shapes.append(node.op.out_shape(*inputs))
                places.append(places[node.sources[0]])
                continue
            op = _resolved(network, node, pad, *inputs)
            shapes.append(op.out_shape(*inputs))
        except ModelError as error:
            raise ModelError(f"node {node.name!r}: {error}") from None
        nodes.append(replace(node, op=op, sources=tuple(places[n] for n in node.sources)))
        places.append(len(nodes))
    graph = Graph(tuple(nodes), joints.shape)
    graph.shapes()
    return graph


def _takes_padding(network: Network, node: Node) -> bool:
    """Whether a node is a convolution."""
    weighted = isinstance(node.op, Weighted)
    return weighted and isinstance(network.get_submodule(node.name), nn.Conv2d)


def _resolved(network: Network, node: Node, pad: Pad | None, *inputs: Shape) -> Op:
    if isinstance(node.op, Pool):
        return node.op.resolved(*inputs)
    if not isinstance(node.op, Weighted):
        return node.op
    module = network.get_submodule(node.name)
    if isinstance(module, nn.Linear):
        if len(inputs[0]) != 1:
            raise ModelError(f"takes rows, what comes before it gives {inputs[0]}: flatten it")
        return Layer(node.name, module, node.op.activation)
    if len(inputs[0]) != 3 or inputs[0][0] != module.in_channels:
        raise ModelError(
            f"takes maps of {module.in_channels} channels, what comes before it gives {inputs[0]}"
        )
    image, sides = inputs[0], (0, 0, 0, 0)
    if pad is not None:
        top, left, bottom, right = sides = pad.sides
        image = (image[0], image[1] - top - bottom, image[2] - left - right)
    geometry = convolution_of(node.name, module, image, node.op.pool, node.op.pool_stride, sides)
    return Layer(node.name, module, node.op.activation, geometry)

"""How the operators of a network are joined."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pleach.errors import ModelError
from pleach.model.ops import Op
from pleach.model.window import Shape
from pleach.numbers import NODES_MAX, SOURCES_MAX

T = TypeVar("T")


@dataclass(frozen=True)
class Node:
    """An operator and what it takes.

    Args:
        name: for people; a layer's is its qualified name in the network that it came from.
        op: what it computes. None, in the joints of a `CompressedModel`, is the next of its layers.
        sources: the numbers of what it takes: 0 is the network's input, `k` the k-th node. Of a
            compressed layer the source, and its skip where it has one.
    """

    name: str
    op: Any
    sources: tuple[int, ...]

    @property
    def kind(self) -> str:
        """The operator's name, ``Add``."""
        return type(self.op).__name__


@dataclass(frozen=True)
class Graph:
    """Nodes in running order; the last one gives the network's output.

    Args:
        nodes: 1 to 1024. Each takes the input or nodes before it, and all but the last are taken.
        shape: of an input, ``(features,)`` or ``(channels, height, width)``.

    Raises:
        ModelError: a node that takes one that does not come before it, or that nothing takes.

    >>> from pleach.model import Add, Clip  # of real numbers
    >>> graph = Graph((Node("relu", Clip(0, 6), (0,)), Node("sum", Add(), (1, 0))), (4,))
    >>> graph.shapes(), graph.is_chain
    ([(4,), (4,), (4,)], False)
    >>> graph.chain()
    Traceback (most recent call last):
    pleach.errors.ModelError: node 'sum' takes the input and 'relu', not what comes before it alone:
    the network is no chain
    """

    nodes: tuple[Node, ...]
    shape: Shape

    def __post_init__(self):
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "shape", tuple(self.shape))
        if not 1 <= len(self.nodes) <= NODES_MAX:
            raise ModelError(f"a network has 1 to {NODES_MAX} nodes, not {len(self.nodes)}")
        taken: set[int] = set()
        for number, node in enumerate(self.nodes, start=1):
            if not 1 <= len(node.sources) <= SOURCES_MAX:
                raise ModelError(f"node {node.name!r} takes {len(node.sources)} inputs")
            if not all(0 <= source < number for source in node.sources):
                raise ModelError(
                    f"node {node.name!r}, number {number}, takes {node.sources}: only the input, "
                    "0, and nodes before it"
                )
            taken.update(node.sources)
        for number, node in enumerate(self.nodes[:-1], start=1):
            if number not in taken:
                raise ModelError(f"nothing takes what node {node.name!r} gives")

    def walk(self, start: T, apply: Callable[..., T]) -> Iterator[tuple[Node, tuple[T, ...], T]]:
        """Each node with what it takes and gives, in running order.

        Args:
            start: what the network takes.
            apply: of a node and what it takes, what it gives. What no later node takes is let go.
        """
        last = {source: n for n, node in enumerate(self.nodes, 1) for source in node.sources}
        values: dict[int, Any] = {0: start}
        for number, node in enumerate(self.nodes, start=1):
            taken = tuple(values[source] for source in node.sources)
            values = {key: value for key, value in values.items() if last.get(key, 0) > number}
            given = apply(node, *taken)
            yield node, taken, given
            values[number] = given

    def _each(self, start: T, apply: Callable[..., T]) -> list[T]:
        return [start, *(given for _, _, given in self.walk(start, apply))]

    def shapes(self) -> list[Shape]:
        """The shape of the input, then of what each node gives.

        Raises:
            ModelError: what a node takes does not fit it; names the node.
        """

        def apply(node: Node, *inputs: Shape) -> Shape:
            takes = getattr(node.op, "values_in", None)
            if takes is not None and takes != math.prod(inputs[0]):
                before = self.said(replace(node, sources=node.sources[:1]))
                raise ModelError(
                    f"layer {node.name!r} takes {takes} inputs, {before} before it gives "
                    f"{math.prod(inputs[0])}"
                )
            return _named(node, "out_shape", inputs)

        return self._each(self.shape, apply)

    @property
    def inputs(self) -> int:
        """Values of an input."""
        return math.prod(self.shape)

    @property
    def outputs(self) -> int:
        """Values of an output."""
        return math.prod(self.shapes()[-1])

    def fractions(self, of_input: int) -> list[int]:
        """The fraction bits of the input, then of what each node of a compressed network gives."""
        return self._each(of_input, lambda node, *inputs: _named(node, "out_fraction", inputs))

    def magnitudes(self, of_input: int) -> list[int]:
        """The largest magnitude of an input, then of what each node of a compressed network
        gives."""
        return self._each(of_input, lambda node, *inputs: _named(node, "out_magnitude", inputs))

    def said(self, node: Node) -> str:
        """What a node takes, for people: ``layer 'fc1'``, ``the input and 'add1'``."""
        names = ["the input", *(repr(other.name) for other in self.nodes)]
        if len(node.sources) == 1 and node.sources[0]:
            return f"layer {names[node.sources[0]]}"
        return " and ".join(names[source] for source in sorted(set(node.sources)))

    @property
    def is_chain(self) -> bool:
        """Whether each node takes what the one before it gives and nothing else."""
        return all(node.sources == (number,) for number, node in enumerate(self.nodes))

    def chain(self) -> tuple[Node, ...]:
        """The nodes of a chain.

        Raises:
            ModelError: it is none; names the first node that takes anything else than what comes
                before it.
        """
        for number, node in enumerate(self.nodes):
            if node.sources != (number,):
                raise ModelError(
                    f"node {node.name!r} takes {self.said(node)}, not what comes before it alone: "
                    "the network is no chain"
                )
        return self.nodes

    def with_ops(self, op: Callable[[Node], Op | None]) -> Graph:
        """The same joints with other operators."""
        return replace(self, nodes=tuple(replace(node, op=op(node)) for node in self.nodes))


def takers(nodes: Sequence[Node], number: int) -> list[int]:
    """The numbers of the nodes that take what that one gives, or the input, 0."""
    return [taker for taker, node in enumerate(nodes, start=1) if number in node.sources]


def _named(node: Node, method: str, inputs: tuple) -> Any:
    """A method of a node's operator; what it refuses names the node."""
    try:
        return getattr(node.op, method)(*inputs)
    except ModelError as error:
        raise ModelError(f"node {node.name!r} ({node.kind}): {error}") from None

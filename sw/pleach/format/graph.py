"""The GRAPH section of docs/bitstream.md: how layers are joined that are no chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from pleach.engine import words
from pleach.errors import FormatError, ModelError
from pleach.model import (
    Add,
    AveragePool,
    Clip,
    Concat,
    Graph,
    MaxPool,
    Node,
    Op,
    Rescale,
    Window,
)
from pleach.numbers import NODES_MAX

#: what each code of a node's operator stands for; 0 is the next LAYER or CONV section
CODES: tuple[type[Op] | None, ...] = (None, Add, Concat, AveragePool, MaxPool, Clip)
_WORD = np.dtype("<u4")


def default_node_names(joints: Graph) -> list[str]:
    """The names of the nodes that are no layers where a file gives none: add1, add2 …"""
    counts: dict[str, int] = {}
    names = []
    for node in joints.nodes:
        if node.op is not None:
            counts[node.kind] = counts.get(node.kind, 0) + 1
            names.append(f"{node.kind.lower()}{counts[node.kind]}")
    return names


def graph_payload(joints: Graph) -> bytes:
    """The payload of a GRAPH section."""
    packed = [words.GRAPH_WORD.pack(nodes=len(joints.nodes)), joints.inputs]
    for node in joints.nodes:
        packed += _node(node)
    return np.asarray(packed, _WORD).tobytes()


def _node(node: Node) -> Iterator[int]:
    op, rescale = node.op, getattr(node.op, "rescale", None)
    yield words.NODE_WORD.pack(
        op=0 if op is None else CODES.index(type(op)),
        sources=len(node.sources),
        shift=rescale.shift if rescale else 0,
        output_fraction=rescale.output_fraction & 0xFF if rescale else 0,
    )
    for place, source in enumerate(node.sources):
        yield words.SOURCE_WORD.pack(source=source, lift=rescale.lifts[place] if rescale else 0)
    if isinstance(op, AveragePool | MaxPool):
        for word in words.WINDOW_WORDS:
            yield word.pack(**{name: getattr(op.window, name) for name in word.fields})
    if isinstance(op, Clip):
        yield words.CLIP_WORD.pack(low=int(op.low) & 0xFFFF, high=int(op.high) & 0xFFFF)


def read_graph(payload: bytes, offset: int) -> Graph:
    """The joints in a payload; nodes without an operator are layers, one after the other.

    Args:
        offset: of the payload in the file.

    Raises:
        FormatError: what docs/bitstream.md refuses; names the byte.
    """
    stored = iter(np.frombuffer(payload, _WORD).tolist())
    left = len(payload) // 4

    def take(layout: words.Word) -> dict[str, int]:
        nonlocal left
        word = next(stored, None)
        at = offset + len(payload) - 4 * left
        if word is None:
            raise FormatError("GRAPH: its section ends before its last node", at)
        if word & layout.reserved():
            raise FormatError("GRAPH: reserved bits are set", at)
        left -= 1
        return layout.unpack(word)

    count = take(words.GRAPH_WORD)["nodes"]
    inputs = take(words.INPUTS_WORD)["inputs"]
    if not 1 <= count <= NODES_MAX or not inputs:
        raise FormatError(f"GRAPH: {count} nodes and {inputs} inputs", offset)
    nodes = []
    for number in range(1, count + 1):
        at = offset + len(payload) - 4 * left
        head = take(words.NODE_WORD)
        try:
            kind = _kind(head)
            taken = [take(words.SOURCE_WORD) for _ in range(head["sources"])]
            op = _op(kind, head, [source["lift"] for source in taken], take)
        except ModelError as error:
            raise FormatError(f"GRAPH: node {number}: {error}", at) from error
        nodes.append(Node("", op, tuple(source["source"] for source in taken)))
    if left:
        raise FormatError("GRAPH: words after its last node", offset + len(payload) - 4 * left)
    try:
        joints = Graph(tuple(nodes), (inputs,))
    except ModelError as error:
        raise FormatError(f"GRAPH: {error}", offset) from error
    if joints.is_chain and not any(node.op for node in nodes):
        raise FormatError("GRAPH: its layers are a chain, of which a file has no GRAPH", offset)
    return named(joints, default_node_names(joints))


def named(joints: Graph, names: list[str]) -> Graph:
    """The joints with these names for the nodes that are no layers."""
    given = iter(names)
    nodes = [
        Node("" if node.op is None else next(given), node.op, node.sources) for node in joints.nodes
    ]
    return Graph(tuple(nodes), joints.shape)


def _kind(head: dict[str, int]) -> type[Op] | None:
    """The class of a node's operator; None of a layer."""
    if head["op"] >= len(CODES):
        raise ModelError(f"no operator has the code {head['op']}")
    kind = CODES[head["op"]]
    if kind not in (Add, Concat) and head["sources"] != 1:
        raise ModelError(f"takes one source, not {head['sources']}")
    return kind


Take = Callable[[words.Word], dict[str, int]]


def _op(kind: type[Op] | None, head: dict[str, int], lifts: list[int], take: Take) -> Op | None:
    if kind in (Add, Concat, AveragePool):
        fraction = words.signed8(head["output_fraction"])
        rescale = Rescale(tuple(lifts), head["shift"], fraction)
        if kind is AveragePool:
            return AveragePool(_window(take), rescale)
        return Add(rescale) if kind is Add else Concat(rescale)
    if head["shift"] or head["output_fraction"] or any(lifts):
        raise ModelError("shift, output_fraction and lifts must be 0")
    if kind is MaxPool:
        return MaxPool(_window(take))
    if kind is Clip:
        bounds = take(words.CLIP_WORD)
        return Clip(*(words.signed16(bounds[name]) for name in ("low", "high")))
    return None


def _window(take: Take) -> Window:
    fields = {name: value for word in words.WINDOW_WORDS for name, value in take(word).items()}
    if not fields["stride_height"] or not fields["stride_width"]:
        raise ModelError("a stride of 0")
    return Window(**fields)

"""What of a network runs where, node by node, before anybody trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from pleach.errors import ModelError
from pleach.model import Node, network_line
from pleach.models.graph import empty_model, graph_of
from pleach.models.layers import copied
from pleach.models.network import Network
from pleach.models.read import (
    BATCH,
    OPERATORS,
    Reader,
    first_run,
    network_of,
    operator_of,
    plain_copy,
    traced,
)

ENGINE = "engine"
MAPS = "engine with a map memory"
SUPPORTED = "supported"
REFUSED = "not supported"
LEFT_OUT = "left out"


@dataclass(frozen=True)
class Checked:
    """A node of a user's network.

    Args:
        name: of the layer or node.
        computes: the operator, in words.
        runs: ``engine``, ``engine with a map memory`` or ``not supported``; ``supported`` where it
            is, and something else of the network is not; ``left out`` at the end, where that does
            not matter.
        why: what is not supported of it; empty where it is, or where no such operator is.
    """

    name: str
    computes: str
    runs: str
    why: str = ""


def check(model: nn.Module, shape: Sequence[int]) -> list[Checked]:
    """Where each node of a network would run once it is compressed, in running order.

    What is refused is listed with the reason, all of it and not only the first.

    Args:
        shape: of an input, without the axis of the batch.

    Raises:
        ModelError: a network that cannot be traced at all.

    >>> for node in check(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), (4,)):
    ...     print(node.name, "·", node.runs)
    0 · supported
    1 · not supported
    2 · supported
    """
    network, found = model, []
    if not isinstance(model, Network):
        try:
            network = network_of(model, shape)
        except ModelError as error:
            found = _refused(model, shape)
            if all(node.runs != REFUSED for node in found):  # only its parts together are refused
                found.append(Checked("the network", "all of it", REFUSED, str(error)))
            return found
    try:
        compressed = empty_model(network, tuple(shape))
    except ModelError as error:
        rows = _rows(network, SUPPORTED)
        return [*rows, Checked("the network", "all of it", REFUSED, str(error))]
    return _rows(network, ENGINE if compressed.unsupported is None else MAPS)


def check_onnx(
    path: Path, shape: Sequence[int] | None = None
) -> tuple[Network | None, list[Checked]]:
    """The network of an ONNX file, where it could be read, and where its nodes run: `check`.

    Args:
        shape: as for `pleach.models.onnx_file.read_onnx`.

    Raises:
        DataError, ModelError: no ONNX file, or one of which no node can be told.
    """
    from pleach.models.onnx_file import kinds_of, read_onnx, shape_of

    kinds = kinds_of(path)
    rows = [Checked(name, kind, SUPPORTED if fine else REFUSED) for name, kind, fine in kinds]
    if not all(fine for _, _, fine in kinds):
        return None, rows
    shape = shape_of(path, shape)
    try:
        network = read_onnx(path, shape)
    except ModelError as error:
        return None, [*rows, Checked("the network", "all of it", REFUSED, str(error))]
    return network, check(network, network.shape)


def _rows(network: Network, runs: str) -> list[Checked]:
    graph = graph_of(network)
    parts = network_line(graph).split(" → ")[1:]  # of each node, its name first
    rows = [
        Checked(node.name, part.removeprefix(f"{node.name} "), runs)
        for node, part in zip(graph.nodes, parts, strict=True)
    ]
    return rows + _end(getattr(network, "left_out", ""))


def _end(operator: str) -> list[Checked]:
    return [Checked("the end", operator, LEFT_OUT)] if operator else []


@dataclass(frozen=True)
class _Unread:
    """In the place of an operator that is not supported."""


class _Survey(Reader):
    """Reads on after what it refuses."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.rows: list[Checked] = []

    def _call(self, node: fx.Node) -> None:
        before = len(self.nodes)
        try:
            super()._call(node)
        except ModelError as error:
            name, operator = self._name(node), operator_of(node).rstrip("_")
            why = str(error).removeprefix(f"node {name!r} ").removeprefix(f"({operator}): ")
            if why.endswith(OPERATORS):
                why = ""
            self.rows.append(Checked(name, operator, REFUSED, why))
            self._stand_in(node)
            return
        if len(self.nodes) > before:
            self.rows.append(Checked(self.nodes[-1].name, operator_of(node).rstrip("_"), SUPPORTED))

    def _stand_in(self, node: fx.Node) -> None:
        """Let what takes the node's value be read all the same."""
        value = node.meta.get("val")
        taken = [self._number[n] for n in node.all_input_nodes if n in self._number]
        if isinstance(value, torch.Tensor) and taken and value.ndim > 1 and len(value) == BATCH:
            self.nodes.append(Node(self._free(self._name(node)), _Unread(), (taken[0],)))
            self._shapes.append(tuple(value.shape[1:]))
            self._number[node] = len(self.nodes)


def _refused(model: nn.Module, shape: Sequence[int]) -> list[Checked]:
    own = copied(model).to("cpu", torch.float32).eval()
    plain = plain_copy(own)
    with torch.inference_mode(False), torch.no_grad():
        inputs, _ = first_run(plain, shape)
        reader = _Survey(own, plain, tuple(inputs.shape[1:]))
        try:
            reader.read(traced(plain, inputs))
        except ModelError:
            if not reader.rows:
                raise
    return reader.rows + _end(reader.end)

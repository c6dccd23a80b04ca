"""The order of neurons that gives every processing element as much to do as the others.

Numpy only: no torch here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pleach.compile.order import Hidden, free, reordered
from pleach.compile.plan import planned_by
from pleach.compiled import njit
from pleach.cycles import CycleModel
from pleach.cycles.maps import MapCycles
from pleach.engine import EngineConfig
from pleach.engine.plan import LayerPlan
from pleach.errors import CapacityError
from pleach.model import CompressedLayer, CompressedModel, Shape
from pleach.reference import Reference, Taken, maps

#: exchanges of two rows that are tried for at most, a layer
EXCHANGES = 2000
#: inputs by which an order on an engine with a map memory is kept or not
COUNTED = 4


def balanced(
    model: CompressedModel, inputs: np.ndarray, config: EngineConfig, *, outputs: bool = False
) -> CompressedModel:
    """The same network with its hidden neurons and channels dealt out to the PEs of `config` by
    their work.

    A row's work is its MACs on average over `inputs`. An order is kept where the cycle model says
    that the network takes fewer cycles with it. The function stays the same, and so do inputs and
    outputs; the file runs on any engine. Rows of one PE keep their order. Channels that have their
    places are those of `pleach.compile.order.free`.

    Args:
        inputs: of the network, ``[n, inputs]``: the activations are those that they give.
        outputs: whether the rows of the last layer move, too. That changes the order of the
            network's outputs: for a layer that stands for a part of a larger network.

    Raises:
        ModelError: a network that the engine does not run.
        CapacityError: one that it does not hold.
    """
    return dealt(model, Reference(model).taken(inputs), config, outputs=outputs)[0]


def dealt(
    model: CompressedModel, taken: Sequence[Taken], config: EngineConfig, *, outputs: bool = False
) -> tuple[CompressedModel, list[Taken]]:
    """`balanced`, by what the layers take; and what they take then."""
    taken, shapes = list(taken), _skip_shapes(model)
    found: _Cycles | _MapCycles = (_MapCycles if config.maps else _Cycles)(model, config, taken)
    for hidden in free(model, outputs=outputs):
        for width in sorted({found.width(number) for number in hidden.rows}):
            rows = [
                work(model.layers[number], taken[number], config, shapes[number])
                for number in hidden.rows
                if found.width(number) == width
            ]
            # Layers of the same channels count alike, however much each has to do.
            scaled = [each / max(each.sum(), 1) for each in rows] if rows[1:] else rows
            order = deal(np.concatenate(scaled, axis=1), width)
            tried, moving = reordered(model, hidden, order), _moved(taken, hidden, order)
            if found.better(tried, moving, hidden):
                model, taken = tried, moving
    return model, taken


def _skip_shapes(model: CompressedModel) -> list[Shape]:
    """Of the map that each layer takes as its skip."""
    shapes = model.graph.shapes()
    return [
        shapes[(*node.sources, 0)[1]]
        for node in model.graph.nodes
        if isinstance(node.op, CompressedLayer)
    ]


def _moved(taken: Sequence[Taken], hidden: Hidden, order: np.ndarray) -> list[Taken]:
    """What the layers take with channel ``order[i]`` in place ``i``."""

    def moved(values: np.ndarray, moves: bool) -> np.ndarray:
        if not moves:
            return values
        pixels = values.reshape(len(values), -1, hidden.count)
        return pixels[..., order].reshape(values.shape)

    return [
        (moved(source, number in hidden.columns), moved(skip, number in hidden.skips))
        for number, (source, skip) in enumerate(taken)
    ]


class _Cycles:
    """Of a network on an engine without a map memory, as it has become so far."""

    def __init__(self, model: CompressedModel, config: EngineConfig, taken: Sequence[Taken]):
        self._config = config
        self._cycles = self._of(model, taken)

    def width(self, number: int) -> int:
        """PEs to which the rows of a layer go in turn."""
        return self._config.row_pes

    def better(self, model: CompressedModel, taken: Sequence[Taken], hidden: Hidden) -> bool:
        """Whether the network takes fewer cycles so; if it does, it becomes that."""
        if (cycles := self._of(model, taken)) < self._cycles:
            self._cycles = cycles
            return True
        return False

    def _of(self, model: CompressedModel, taken: Sequence[Taken]) -> float:
        return float(CycleModel(model, self._config).cycles(taken).latency.mean())


class _MapCycles:
    """Of a network on an engine with a map memory, run by the plan that was fastest at first."""

    def __init__(self, model: CompressedModel, config: EngineConfig, taken: Sequence[Taken]):
        plans = planned_by(model, config, taken) or ()
        nodes = enumerate(model.graph.nodes)
        self._passes = [n for n, node in nodes if isinstance(node.op, CompressedLayer)]
        self._config, self._plans = config, plans
        every = range(len(self._passes))
        self._layers = self._of(MapCycles(model, config, plans), taken, every)

    def width(self, number: int) -> int:
        """PEs to which the rows of a layer go in turn."""
        plan: LayerPlan = self._plans[self._passes[number]]
        return self._config.pes // plan.teams

    def better(self, model: CompressedModel, taken: Sequence[Taken], hidden: Hidden) -> bool:
        """Whether the layers concerned take fewer cycles so; if they do, it becomes that."""
        try:
            counted = MapCycles(model, self._config, self._plans)
        except CapacityError:  # more weights in a PE than before
            return False
        layers = self._of(counted, taken, hidden.layers)
        if sum(layers.values()) < sum(self._layers[number] for number in layers):
            self._layers |= layers
            return True
        return False

    def _of(
        self, counted: MapCycles, taken: Sequence[Taken], layers: Sequence[int]
    ) -> dict[int, float]:
        found = {}
        for number in layers:
            source, skip = (each[:COUNTED] != 0 for each in taken[number])
            found[number] = float(counted.layer(self._passes[number], source, skip)[0].mean())
        return found


def work(
    layer: CompressedLayer, taken: Taken, config: EngineConfig, shape: Shape = ()
) -> np.ndarray:
    """MACs of each row, means over inputs: float64 ``[rows, groups]``, those of each column group,
    or ``[rows, 1]`` where the engine has a map memory.

    Args:
        taken: by the layer.
        shape: of its skip's map, where it has one.
    """
    groups = 1 if config.maps else config.groups
    source, skip = (values.T for values in taken)
    met = maps.active(layer, source, skip, shape) / len(taken[0])
    places = layer.row_of * groups + layer.column_of % groups
    found = np.bincount(places, met[layer.column_of], layer.outputs * groups)
    return found.reshape(layer.outputs, groups)


def deal(work: np.ndarray, pes: int) -> np.ndarray:
    """An order of rows, so that row ``order[i]`` on PE ``i % pes`` makes the work even.

    Rows go to PEs from the one with most work on, each to where the busiest group stays least
    (Graham 1969); then rows of the busiest PE are exchanged for others' while that helps.

    >>> deal(np.array([[4.0], [3.0], [2.0], [1.0]]), 2).tolist()
    [0, 1, 3, 2]
    """
    owner = _deal(work, pes, EXCHANGES)
    order = np.empty(len(work), np.int64)
    for pe in range(pes):
        order[pe::pes] = np.flatnonzero(owner == pe)
    return order


@njit()
def _deal(work, pes, exchanges):
    rows, groups = work.shape
    load = np.zeros((pes, groups))
    room = np.array([(rows - pe + pes - 1) // pes for pe in range(pes)])
    owner = np.zeros(rows, np.int64)
    others = np.zeros(rows, np.int64)
    total = work.sum(axis=1)
    for row in np.argsort(-total):
        best, chosen = np.inf, -1
        for pe in range(pes):
            if room[pe]:
                most = 0.0
                for group in range(groups):
                    most = max(most, load[pe, group] + work[row, group])
                if most < best:
                    best, chosen = most, pe
        owner[row] = chosen
        room[chosen] -= 1
        load[chosen] += work[row]
    for _ in range(exchanges):
        worst, busiest = -1.0, 0
        for pe in range(pes):
            if load[pe].max() > worst:
                worst, busiest = load[pe].max(), pe
        best, first, second = worst * (1 - 1e-9), -1, -1
        # Rows without work are alike: the first of each PE stands for all; none is worth moving.
        seen = np.zeros(pes, np.bool_)
        count = 0
        for row in range(rows):
            if total[row] or not seen[owner[row]]:
                seen[owner[row]] |= not total[row]
                others[count] = row
                count += 1
        for mine in np.flatnonzero((owner == busiest) & (total > 0)):
            for other in others[:count]:
                pe = owner[other]
                if pe != busiest:
                    most = 0.0
                    for group in range(groups):
                        more = work[other, group] - work[mine, group]
                        most = max(most, load[busiest, group] + more, load[pe, group] - more)
                    if most < best:
                        best, first, second = most, mine, other
        if first < 0:
            break
        pe = owner[second]
        load[busiest] += work[second] - work[first]
        load[pe] += work[first] - work[second]
        owner[first], owner[second] = pe, busiest
    return owner

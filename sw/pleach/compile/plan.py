"""The plan by which an engine with a map memory runs a network fastest, by the cycle model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pleach.cycles.maps import MapCycles
from pleach.engine.config import PARAMETERS, EngineConfig
from pleach.engine.plan import LayerPlan, choices, default_plan, entries
from pleach.errors import CapacityError
from pleach.model import CompressedLayer, CompressedModel
from pleach.reference import Reference, Taken

#: inputs by which a plan is found where there are more: the first of those that are then run
PLANNED_BY = 2


@dataclass(frozen=True)
class Choice:
    """A way to run a layer, its cycles (mean of the inputs) and entries of the fullest PE."""

    plan: LayerPlan
    cycles: float
    entries: np.ndarray


def planned(
    model: CompressedModel, config: EngineConfig, inputs: np.ndarray
) -> tuple[LayerPlan, ...] | None:
    """The plan by which these inputs are run, and their cycles counted, wherever no other is given:
    that with the fewest cycles, on the first `PLANNED_BY` of them, that the engine's entries allow.
    None without a map memory, where layers run in one way.

    Each layer is counted in every way in which its rings allow it. Where the fastest ways hold too
    many weights, layers go to slower ones with fewer copies, first where that costs the fewest
    cycles for what it saves.

    Args:
        inputs: ``[n, inputs]``, of the model's type.

    Raises:
        ModelError: a network that the engine does not run.
        CapacityError: one that this engine does not hold, however it runs.
    """
    if not config.maps:
        return None
    return chosen(model, config, counted(model, config, inputs))


def planned_by(
    model: CompressedModel, config: EngineConfig, taken: Sequence[Taken]
) -> tuple[LayerPlan, ...] | None:
    """`planned`, by what the layers take of the inputs."""
    if not config.maps:
        return None
    few = [(source[:PLANNED_BY] != 0, skip[:PLANNED_BY] != 0) for source, skip in taken]
    return chosen(model, config, counted_by(model, config, few))


def counted(model: CompressedModel, config: EngineConfig, inputs: np.ndarray) -> list[list[Choice]]:
    """The ways to run each layer and pooling, the fastest on the first inputs first."""
    taken = Reference(model).taken(inputs[:PLANNED_BY])
    return counted_by(model, config, [(a != 0, b != 0) for a, b in taken])


def counted_by(
    model: CompressedModel, config: EngineConfig, taken: Sequence[Taken]
) -> list[list[Choice]]:
    """`counted`, by which values of its source and its skip each layer finds not to be zero, bool
    ``[n, values]``."""
    roomy = replace(config, entries=PARAMETERS["entries"].high)
    base = default_plan(model, roomy)
    masks = iter(taken)
    ways = []
    for number, node in enumerate(model.graph.nodes):
        given = next(masks) if isinstance(node.op, CompressedLayer) else (np.zeros((1, 0)),) * 2
        found = []
        for option in choices(node.op, config):
            plans = (*base[:number], option, *base[number + 1 :])
            each, _ = MapCycles(model, roomy, plans).layer(number, *given)
            cycles = float(each.mean())
            held = np.tile(entries(node.op, option.teams, config), option.teams)
            found.append(Choice(option, cycles, held))
        ways.append(sorted(found, key=lambda choice: choice.cycles))
    return ways


def chosen(
    model: CompressedModel, config: EngineConfig, ways: Sequence[Sequence[Choice]]
) -> tuple[LayerPlan, ...]:
    """Of the ways to run each layer the fastest together that the entries allow.

    Raises:
        CapacityError: there are none.
    """
    picked = [each[0] for each in ways]
    while (total := np.sum([c.entries for c in picked], axis=0)).max() > config.entries:
        fullest = int(np.argmax(total))
        best = None
        for number, options in enumerate(ways):
            now = picked[number]
            for option in options:
                saved = int(now.entries[fullest] - option.entries[fullest])
                if saved > 0:
                    cost = (option.cycles - now.cycles) / saved
                    if best is None or cost < best[0]:
                        best = cost, number, option
        if best is None:
            need = int(total.max())
            raise CapacityError(
                f"a PE would hold {need} weights of it, however it runs; the engine's hold "
                f"{config.entries}: give entries={1 << (need - 1).bit_length()}"
            )
        picked[best[1]] = best[2]
    return tuple(choice.plan for choice in picked)

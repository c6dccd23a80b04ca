"""Engines for a model, compared: cycles, memory and what they take of a chip."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from pleach.compile.plan import planned_by
from pleach.cycles import CycleModel
from pleach.engine import EngineConfig, plan
from pleach.engine.pipeline import block_bits, entry_bits
from pleach.engine.plan import LayerPlan, base_engine, default_plan, fitted
from pleach.errors import CapacityError, ConfigError, ModelError
from pleach.model import CompressedLayer, CompressedModel
from pleach.numbers import PES_MAX
from pleach.reference import Taken
from pleach.reference.maps import active
from pleach.spread import spread

#: engines that are measured without starting processes for them
FEW = 8
#: capacities that stay as they are given, if they are
GIVEN = {"accumulators", "maps"}
#: numbers of PEs that `catalogue` looks at: the powers of two
SIZES = tuple(1 << power for power in range(PES_MAX.bit_length()))


def engines(model: CompressedModel, **sweep: Sequence[int]) -> list[EngineConfig]:
    """Every engine of the parameters' values that there can be, with the capacities that `model`
    needs.

    Raises:
        CapacityError: there are some, but none can be large enough.

    >>> from pleach.model import Activation, CompressedLayer
    >>> layer = CompressedLayer("fc1", inputs=2, outputs=1, bias=True, positions=[0, 2],
    ...     codes=[1, 0], codebook=[-3, 5], shift=1, activation=Activation.NONE,
    ...     bias_exponent=2, output_fraction=8)
    >>> found = engines(CompressedModel((layer,)), pes=[1, 4], groups=[1, 2])
    >>> [(engine.pes, engine.groups) for engine in found]
    [(1, 1), (4, 1), (4, 2)]
    """
    found, short = [], None
    for values in product(*sweep.values()):
        given: dict[str, Any] = dict(zip(sweep, values, strict=True))
        try:
            base = base_engine(model, given.get("pes", 16))
            columns = 2 * given.get("block", base.block)
            least: dict[str, Any] = {"columns": columns, "entries": 2, "codebook": 2}
            least |= {"accumulators": 2, "layers": 2} | given
            config = fitted(model, replace(base, **least), fixed=GIVEN & given.keys())
        except ConfigError:  # more groups than PEs, or than there can be at all
            continue
        except CapacityError as error:
            short = error
            continue
        # With fewer PEs than lanes it is listed already.
        if config.drained == given.get("lanes", config.drained):
            found.append(config)
    if short and not found:
        raise short
    return found


@dataclass(frozen=True)
class Sized:
    """An engine of one size that holds a model.

    Args:
        engine: grown from the defaults.
        needs: capacities that the model takes of it, by their names.
        default: whether the default engine of that size holds it.
    """

    engine: EngineConfig
    needs: dict[str, int]
    default: bool


def catalogue(model: CompressedModel, sizes: Sequence[int] = SIZES) -> list[Sized]:
    """The smallest engines that hold the model, one of each size that can; none of a model that
    the engine does not run.

    Args:
        sizes: numbers of PEs.
    """
    found = []
    for pes in sizes:
        config = base_engine(model, pes)
        with suppress(CapacityError, ModelError):  # larger than an engine's parameters can be
            grown = fitted(model, config)
            needs = (
                plan.needs(model, default_plan(model, grown), grown)
                if grown.maps
                else config.needs(model)
            )
            found.append(Sized(grown, needs, grown == config))
    return found


def macs(model: CompressedModel, taken: Sequence[Taken]) -> float:
    """Products of a kept weight and a value that is not zero, biases included, mean of the inputs.

    Args:
        taken: by each layer, `Reference.taken`.
    """
    shapes, values = model.graph.shapes(), iter(taken)
    total = 0
    for node in model.graph.nodes:
        if isinstance(node.op, CompressedLayer):
            source, skip = next(values)
            met = active(node.op, source.T, skip.T, shapes[node.sources[-1]])
            total += int(met[node.op.column_of].sum())
    return total / len(taken[0][0])


def memory_bits(
    model: CompressedModel, config: EngineConfig, plans: Sequence[LayerPlan] | None = None
) -> float:
    """Bits of PE memory filled per weight kept: entries and pointers, in the words of `config`.

    Args:
        plans: of an engine with a map memory; by default `default_plan`.
    """
    kept = max(1, sum(layer.kept for layer in model.layers))
    copies = 1.0  # of a weight
    if config.maps:
        plans = default_plan(model, config) if plans is None else plans
        columns = plan.needs(model, plans, config)["columns"]
        nodes = zip(model.graph.nodes, plans, strict=True)
        copies = sum(getattr(node.op, "kept", 0) * each.teams for node, each in nodes) / kept
    else:
        columns = sum(config.local_columns(layer.columns) for layer in model.layers)
    blocks = config.pes * columns // config.block
    return copies * entry_bits(config) + blocks * block_bits(config) / kept


def sweep(
    model: CompressedModel,
    taken: Sequence[Taken],
    configs: Sequence[EngineConfig],
    *,
    processes: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[dict[str, float]]:
    """Latency, compute cycles of all layers together, both means over inputs, and memory bits.

    Args:
        taken: by each layer, `Reference.taken`.
        processes: to run at once; by default one a processor. A handful of engines is measured
            here: starting processes would take longer.
        scheduler: a dask scheduler's address, whose workers measure them (`pleach.spread`).
        progress: called with the number of engines measured.
    """
    processes = processes or len(os.sched_getaffinity(0))
    found: list[dict[str, float]] = []

    def collect(measured: Iterable[dict[str, float]]) -> None:
        for each in measured:
            found.append(each)
            progress(len(found))

    if scheduler is None and (processes == 1 or len(configs) <= FEW):
        collect(measure(model, taken, config) for config in configs)
    else:
        with spread(scheduler, processes=processes, shared=(model, taken)) as jobs:
            collect(jobs.map(measure, configs))
    return found


def pareto(points: np.ndarray) -> np.ndarray:
    """Which points, ``[n, costs]``, no other one betters in a cost without being worse in one.

    >>> pareto(np.array([[1, 5], [2, 2], [3, 2], [5, 1]])).tolist()
    [True, True, False, True]
    """
    no_worse = (points[:, None] <= points[None]).all(axis=2)
    better = (points[:, None] < points[None]).any(axis=2)
    return np.logical_not((no_worse & better).any(axis=0))


def measure(
    model: CompressedModel, taken: Sequence[Taken], config: EngineConfig
) -> dict[str, float]:
    """`sweep` for one engine; one with a map memory runs by the plan that is fastest."""
    plans = planned_by(model, config, taken)
    cycles = CycleModel(model, config, plans).cycles(taken)
    return {
        "latency_cycles": float(cycles.latency.mean()),
        "compute_cycles": float(cycles.compute.sum(axis=1).mean()),
        "memory_bits": memory_bits(model, config, plans),
    }


def latency(model: CompressedModel, taken: Sequence[Taken], config: EngineConfig) -> float:
    """Cycles from the first input to the last output, mean of the inputs."""
    return measure(model, taken, config)["latency_cycles"]

"""The cycles of an engine with a map memory, predicted to the cycle.

Each block has a module with its state and its cycle, in the order of the data: `dispatch`, `front`,
`ring`, `group_drain`; `pool` stands beside them. Whatever one block tells another comes out of a
register: so each takes what the others showed in the cycle before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pleach.compiled import njit
from pleach.cycles import dispatch, front, group_drain, pool, ring
from pleach.engine.config import EngineConfig
from pleach.engine.maps import FILE_WORDS, PLAN_WORDS, MapProgram, PassKind
from pleach.engine.pipeline import (
    COLUMNS_AHEAD,
    MAP_READ,
    copy_wait,
    map_drain_ages,
    pointer_latency,
)
from pleach.engine.plan import LayerPlan, lower
from pleach.model import CompressedLayer, CompressedModel
from pleach.numbers import INT16_PER_WORD
from pleach.reference.run import Taken

#: what `breakdown` counts, as `pleach.cycles.BREAKDOWN`
_SENDS, _STALLED, _STARVED, _FINISHING, _DRAINING = range(5)


class MapStages(NamedTuple):
    """What the cycles depend on in an engine."""

    groups: int
    #: PEs of a group
    width: int
    #: rows that a group drains in a cycle
    lanes: int
    #: values of a map read in a cycle
    neighbours: int
    columns: int
    vectors: int
    #: of a PE's queue
    depth: int
    #: of which so many places may be reserved while the PE is ready
    reserved: int
    #: cycles from a column to its pointer
    pointer: int
    #: cycles from a step of a drain to its values at the packer
    map_given: int


def map_stages(config: EngineConfig) -> MapStages:
    """Of an engine with a map memory."""
    return MapStages(
        groups=config.groups,
        width=config.row_pes,
        lanes=config.drained,
        neighbours=config.neighbours,
        columns=config.columns,
        vectors=config.vectors,
        depth=config.queue_depth,
        reserved=config.queue_depth - COLUMNS_AHEAD,
        pointer=pointer_latency(config),
        map_given=map_drain_ages(config).given,
    )


def _fetch(config: EngineConfig) -> int:
    """Cycles in which a record is read, a word a cycle; two to find that there is nothing to wait
    for, or that there no longer is."""
    return len(PLAN_WORDS + FILE_WORDS) + config.ram_latency + 2


def between(config: EngineConfig, compute: np.ndarray) -> np.ndarray:
    """Cycles from the end of each pass to the start of the next, ``[n, passes - 1]``: a record is
    read while the pass before runs, and its codebook copied after that.

    Args:
        compute: of the passes, ``[n, passes]``.
    """
    return np.maximum(3, _fetch(config) + 2 - compute[:, :-1]) + copy_wait(config)


def host_cycles(
    program: MapProgram, config: EngineConfig, per_word: int, compute: np.ndarray
) -> np.ndarray:
    """What runs take besides their passes: inputs in, records read, outputs out.

    Args:
        compute: of the passes, ``[n, passes]``.
    """
    # The first record is read while inputs come.
    inputs = max(math.ceil(program.inputs / per_word) + 1, _fetch(config)) + 1
    lanes = config.neighbours
    vectors = math.ceil(program.outputs / lanes)
    words = (vectors - 1) * (lanes // INT16_PER_WORD)
    words += math.ceil((program.outputs - (vectors - 1) * lanes) / INT16_PER_WORD)
    inputs += copy_wait(config)
    return inputs + between(config, compute).sum(axis=1) + 4 + words + vectors * (MAP_READ + 1)


def layer_counts(
    layer: CompressedLayer, teams: int, config: EngineConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of each column in each PE of a team.

    Returns:
        int64 ``[columns]``, where in the counts a column's begin; and the counts, int32: a column's
        are those of a team's PEs, and columns without a weight share the first.
    """
    own = config.pes // teams
    columns, column = np.unique(layer.column_of, return_inverse=True)
    at = column * own + layer.row_of % own
    counts = np.bincount(at, minlength=len(columns) * own).astype(np.int32)
    places = np.zeros(layer.columns, np.int64)
    places[columns] = (1 + np.arange(len(columns))) * own
    return places, np.concatenate([np.zeros(own, np.int32), counts])


class MapCycles:
    """The passes of a network on an engine with a map memory.

    Args:
        plans: how each layer and pooling runs; `pleach.engine.plan.default_plan` by default.

    Raises:
        ModelError: a network that the engine does not run.
        CapacityError: one that this engine does not hold.
    """

    def __init__(
        self,
        model: CompressedModel,
        config: EngineConfig,
        plans: Sequence[LayerPlan] | None = None,
    ):
        self.model, self.config = model, config
        self.program = lower(model, config, plans)
        self._stages = map_stages(config)
        self._table = dispatch.table(self.program.passes)

    def latency(self, compute: np.ndarray) -> np.ndarray:
        """Of runs whose passes take ``[n, passes]`` cycles."""
        per_word = self.model.input_type.per_word
        return compute.sum(axis=1) + host_cycles(self.program, self.config, per_word, compute)

    def span(self, compute: np.ndarray) -> np.ndarray:
        """Cycles from the start of the first pass to the end of the last: from the first value of a
        map read to the last one written."""
        return compute.sum(axis=1) + between(self.config, compute).sum(axis=1)

    def run(self, taken: Sequence[Taken]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Latency ``[n]``, cycles ``[n, passes]`` and what they were spent on of runs in which the
        layers take these values of source and skip, ``[n, values]`` each."""
        values_of, n = iter(taken), len(taken[0][0])
        found = []
        for number, node in enumerate(self.model.graph.nodes):
            values = (
                next(values_of) if isinstance(node.op, CompressedLayer) else (np.zeros((n, 0)),) * 2
            )
            found.append(self.layer(number, *(each != 0 for each in values)))
        compute = np.stack([each for each, _ in found], axis=1)
        return self.latency(compute), compute, np.stack([each for _, each in found], axis=1)

    def layer(
        self, number: int, inputs: np.ndarray, skips: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cycles of one pass.

        Args:
            number: of the pass, a layer's or a pooling's.
            inputs, skips: which values of its sources are not zero, bool ``[n, values]``.

        Returns:
            int64 ``[n]``, and what they were spent on, ``[n, 5]``.
        """
        pass_, op = self.program.passes[number], self.model.graph.nodes[number].op
        n = len(inputs)
        breakdown = np.zeros((n, 5), np.int64)
        if pass_.kind == PassKind.POOL:
            breakdown[:, _DRAINING] = pool.cycles(pass_)
            return breakdown.sum(axis=1), breakdown
        places, counts = layer_counts(op, 1 << pass_.teams, self.config)
        found = np.zeros(n, np.int64)
        active = np.zeros(self.config.maps, np.bool_)
        for image in range(n):
            if skips is not None and pass_.skip:
                active[pass_.skip_source : pass_.skip_source + skips.shape[1]] = skips[image]
            active[pass_.source : pass_.source + inputs.shape[1]] = inputs[image]
            found[image] = _simulate(
                self._stages, self._table[number], places, counts, active, breakdown[image]
            )
        return found, breakdown


@njit()
def _simulate(stages, pass_, places, counts, active, breakdown):
    """A pass; returns its cycles, from its start to the end of its last write."""
    feeder, fronts = dispatch.new(stages), front.new(stages)
    pes, drains = ring.new(stages), group_drain.new(stages)
    groups = stages.groups
    ready, waiting, comes = (
        np.ones(groups, np.bool_),
        np.zeros(groups, np.bool_),
        np.zeros(groups, np.bool_),
    )
    freed, written = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    vector = np.zeros(3, np.int64)
    own = groups * stages.width >> pass_.teams
    members = own // stages.width
    start, cycle = True, 0
    while True:
        # What goes into each block is what the others show before the clock's edge.
        sends = stalled = busy = False
        for number in range(groups):
            ready[number] = pes.groups[number].ready
            waiting[number] = pes.groups[number].waiting
            shown = fronts.each[number]
            sends |= shown.out != 0
            stalled |= shown.sends != 0
        for number in range(groups):
            shown, drain = fronts.each[number], drains.drains[number]
            sent = -1
            if shown.out and shown.out_present:
                column = (shown.out_column - pass_.column_base) % stages.columns
                sent = places[column]
                sent += number % members * stages.width
            last = shown.out != 0 and shown.out_last != 0
            ring.step(pes, number, sent, last, drain.takes != 0, drain.hold, counts, stages)
            for place in range(stages.width):
                busy |= pes.each[number, place].busy != 0
        for number in range(groups):
            freed[number] = drains.drains[number].freed
            written[number] = drains.packers[number].written
            unit = feeder.unit
            group_drain.step(
                drains, number, start, feeder.groups[number].unit != 0, unit[0], unit[1], unit[2],
                waiting[number], pass_, stages,
            )  # fmt: skip
            comes[number] = feeder.groups[number].vector != 0
        vector[:] = feeder.vector
        dispatch.step(feeder, start, pass_, active, fronts.each, freed, written, stages)
        for number in range(groups):
            front.step(fronts, number, start, pass_, comes[number], vector, ready[number], stages)
        start = False
        cycle += 1
        if sends:
            breakdown[_SENDS] += 1
        elif stalled:
            breakdown[_STALLED] += 1
        elif feeder.one[0].walks or feeder.one[0].valid or feeder.teams["busy"].any():
            breakdown[_STARVED] += 1
        elif busy:
            breakdown[_FINISHING] += 1
        else:
            breakdown[_DRAINING] += 1
        if feeder.one[0].done:
            return cycle

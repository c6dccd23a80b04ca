"""The cycles of a run, predicted to the cycle: the engine's counters and queues, without its data.

Each unit has a module with its state and its cycle, in the order of the data: `host`, `lnzd`,
`control`, `pe`, `drain`; `maps` joins those of an engine with a map memory. What they do is in
docs/engine.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pleach.compiled import njit
from pleach.cycles import control, drain, host, lnzd, pe
from pleach.cycles.maps import MapCycles
from pleach.engine.config import EngineConfig
from pleach.engine.pipeline import COLUMNS_AHEAD, drain_ages, drain_places, pointer_latency
from pleach.engine.plan import LayerPlan
from pleach.engine.program import lower
from pleach.model import CompressedLayer, CompressedModel
from pleach.reference.run import Reference, Taken

#: what a cycle of a layer, from its first broadcast on, is spent on
BREAKDOWN = ("broadcasts", "stalled", "starved", "finishing", "draining")


@dataclass(frozen=True)
class Cycles:
    """Cycles of ``n`` runs of a network.

    Args:
        latency: int64 ``[n]``, first input word accepted to last output word accepted.
        compute: int64 ``[n, layers]``, first broadcast to last row requantised; with a map memory
            poolings count as layers, and a layer's cycles are those from its start to its last
            value written.
        breakdown: int64 ``[n, layers, 5]``, what the cycles of `compute` were spent on: columns
            broadcast; a column waiting because a queue is full; no activation there yet; MACs left
            after the last broadcast; rows drained and requantised (`BREAKDOWN` has the names).
    """

    latency: np.ndarray
    compute: np.ndarray
    breakdown: np.ndarray


class CycleModel:
    """Predicts what an engine counts (docs/engine.md): equal to the RTL where the host never
    stalls.

    Args:
        plans: how each layer and pooling runs on an engine with a map memory;
            `pleach.engine.plan.default_plan` by default.

    Raises:
        ModelError: a network that the engine does not run.
        CapacityError: one that this engine does not hold.

    >>> from pleach.model import Activation, CompressedLayer
    >>> layer = CompressedLayer("fc1", inputs=2, outputs=1, bias=True, positions=[0, 2],
    ...     codes=[1, 0], codebook=[-3, 5], shift=1, activation=Activation.NONE,
    ...     bias_exponent=2, output_fraction=8)
    >>> model = CycleModel(CompressedModel((layer,)), EngineConfig(pes=4))
    >>> model.run(np.array([[7, 9], [0, 0]], np.uint8)).compute.tolist()
    [[29], [26]]
    """

    def __init__(
        self,
        model: CompressedModel,
        config: EngineConfig,
        plans: Sequence[LayerPlan] | None = None,
    ):
        self.model = model
        self.config = config
        self._maps = MapCycles(model, config, plans) if config.maps else None
        if self._maps is None:
            self._program = lower(model, config).table()
            self._columns, self._counts = pe_counts(model.layers, self._program, config)

    def run(self, inputs: np.ndarray) -> Cycles:
        """For network inputs of the model's type, ``[n, inputs]``."""
        return self.cycles(Reference(self.model).taken(inputs))

    def cycles(self, taken: Sequence[Taken]) -> Cycles:
        """For what each layer takes of its source and of its skip, ``[n, values]`` each, as
        `Reference.taken` has it; only which values are zero matters."""
        if self._maps is not None:
            return Cycles(*self._maps.run(taken))
        active = np.concatenate([source != 0 for source, _ in taken], axis=1)
        n, passes = len(active), len(self._program)
        latency = np.zeros(n, np.int64)
        compute = np.zeros((n, passes), np.int64)
        breakdown = np.zeros((n, passes, len(BREAKDOWN)), np.int64)
        _simulate(
            stages(self.config), self._program, self._columns, self._counts,
            self.model.input_type.per_word, active, latency, compute, breakdown,
        )  # fmt: skip
        breakdown[..., -1] = compute - breakdown.sum(axis=2)
        return Cycles(latency, compute, breakdown)


class Stages(NamedTuple):
    """What the cycles depend on in an engine."""

    groups: int
    #: PEs of a group
    width: int
    #: rows drained a cycle
    lanes: int
    #: of a PE's queue
    depth: int
    #: of which so many places may be reserved while the PE is ready
    reserved: int
    #: vectors that can wait in front of each non-zero detection
    vectors: int
    #: cycles from a column to its pointer
    pointer: int
    #: cycles from a vector's drain until it is queued
    queued: int
    #: vectors that the drain has places for
    places: int


def stages(config: EngineConfig) -> Stages:
    """Of an engine."""
    return Stages(
        groups=config.groups,
        width=config.row_pes,
        lanes=config.drained,
        depth=config.queue_depth,
        reserved=config.queue_depth - COLUMNS_AHEAD,
        vectors=config.vectors,
        pointer=pointer_latency(config),
        queued=drain_ages(config).queued,
        places=drain_places(config),
    )


def pe_counts(
    layers: Sequence[CompressedLayer], program: np.ndarray, config: EngineConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of each column in each PE of its group, as the PEs' pointers have them.

    Args:
        program: the passes of the layers, `Program.table`.

    Returns:
        int64 ``[groups, columns]``, where in the counts a column's begin; and the counts, int32: a
        column's are ``row_pes`` one after the other, and those without a weight share the first.
    """
    width, groups, found = config.row_pes, config.groups, 1
    counts = [np.zeros(width, np.int32)]
    held = sum(config.local_columns(layer.columns) for layer in layers)
    places = np.zeros((groups, held), np.int64)
    for layer, base in zip(layers, program["column_base"].tolist(), strict=True):
        columns, column = np.unique(layer.column_of, return_inverse=True)
        at = column * width + layer.row_of % width
        counts.append(np.bincount(at, minlength=len(columns) * width).astype(np.int32))
        places[columns % groups, base + columns // groups] = (
            found + np.arange(len(columns))
        ) * width
        found += len(columns)
    return places, np.concatenate(counts)


@njit()
def _simulate(
    stages: Stages,
    program: np.ndarray,
    places: np.ndarray,
    counts: np.ndarray,
    per_word: int,
    active: np.ndarray,
    latency: np.ndarray,
    compute: np.ndarray,
    breakdown: np.ndarray,
) -> None:
    """Runs, one after the other.

    Args:
        program: `Program.table`.
        places, counts: of `pe_counts`.
        per_word: inputs in a word.
        active: bool ``[n, activations]``, which are not zero, pass after pass.
        latency, compute, breakdown: filled in, a row for each run.
    """
    for run in range(len(active)):
        state = control.new(stages), lnzd.new(stages), pe.new(stages)
        latency[run] = _run(
            stages, program, places, counts, per_word, active[run], compute[run], breakdown[run],
            *state,
        )  # fmt: skip


# It allocates nothing, so its arrays need no counts of references: in each cycle those would take
# longer than all the rest.
@njit(_nrt=False)
def _run(
    stages, program, places, counts, per_word, active, compute, breakdown, unit, detectors, pes
):  # fmt: skip
    """One run; the first input word is accepted in cycle 0. Returns the latency.

    Each turn of the loop is a clock cycle: first what follows from the registers, then what they
    become. Registers of which there is one are values, of which a step makes new ones; those of
    each group and PE are arrays, in which it changes them.
    """
    registers, groups = unit
    words, rows = host.new(program[0].inputs), drain.new()
    cycle = 0
    while True:
        registers, starts = control.observe(registers, groups, detectors, pes, cycle, breakdown)
        offset = words.offset
        words, entering, taken = host.step(
            words, drain.offered(rows, registers.rows, stages), program[registers.index].source,
            registers.sink, lnzd.room(detectors, stages), per_word, stages,
        )  # fmt: skip
        if words.state == host.ENDED:
            return cycle + 1
        rows, hold, done = drain.step(rows, registers.drains, registers.rows, taken, stages)
        if done:
            compute[registers.drain_index] = cycle - registers.drain_first + 1
        for number in range(stages.groups):
            pe.step(pes, number, groups[number].sent, counts, hold, stages)
        registers = control.step(
            registers, groups, program, places, detectors, active, starts, cycle
        )
        for number in range(stages.groups):
            takes = groups[number].takes
            lnzd.step(detectors, number, entering, active, offset, takes, stages)
        cycle += 1

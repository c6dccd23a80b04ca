"""The cycles of a run, predicted to the cycle: the engine's counters and queues, without its data.

What each part of the engine does in a cycle is in docs/engine.md; `_simulate` keeps the same state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pleach.compiled import njit
from pleach.engine.config import EngineConfig
from pleach.engine.pipeline import COLUMNS_AHEAD, drain_ages, drain_places, pointer_latency
from pleach.model import CompressedLayer, CompressedModel
from pleach.reference.run import Reference

#: what a cycle of a layer, from its first broadcast on, is spent on
BREAKDOWN = ("broadcasts", "stalled", "starved", "finishing", "draining")


@dataclass(frozen=True)
class Cycles:
    """Cycles of ``n`` runs of a network.

    Args:
        latency: int64 ``[n]``, first input word accepted to last output word accepted.
        compute: int64 ``[n, layers]``, first broadcast to last row requantised.
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

    def __init__(self, model: CompressedModel, config: EngineConfig):
        model.check_runs()
        config.check(model)
        self.model = model
        self.config = config
        shapes = [(x.inputs, x.outputs, x.bias, x.columns) for x in model.layers]
        self._shapes = np.array(shapes, np.int64)
        self._columns, self._counts = pe_counts(model.layers, config)

    def run(self, inputs: np.ndarray) -> Cycles:
        """For network inputs of the model's type, ``[n, inputs]``."""
        return self.cycles(Reference(self.model).activations(inputs))

    def cycles(self, activations: Sequence[np.ndarray]) -> Cycles:
        """For the inputs of each layer, ``[n, inputs]``; only which are zero matters."""
        active = np.concatenate([layer != 0 for layer in activations], axis=1)
        n, layers = len(active), len(self._shapes)
        latency = np.zeros(n, np.int64)
        compute = np.zeros((n, layers), np.int64)
        breakdown = np.zeros((n, layers, len(BREAKDOWN)), np.int64)
        for image in range(n):
            latency[image] = _simulate(
                *stages(self.config), self.model.input_type.per_word, self._shapes,
                self._columns, self._counts, active[image], compute[image], breakdown[image],
            )  # fmt: skip
        breakdown[..., -1] = compute - breakdown.sum(axis=2)
        return Cycles(latency, compute, breakdown)


def stages(config: EngineConfig) -> tuple[int, ...]:
    """What `_simulate` takes of an engine: groups, PEs of a group, lanes, depth of the queues,
    cycles of a pointer's read, cycles from a drain to its vector, vectors in the drain's queue and
    in those of non-zero detection."""
    return (
        config.groups, config.row_pes, config.drained, config.queue_depth, pointer_latency(config),
        drain_ages(config).queued, drain_places(config), config.vectors,
    )  # fmt: skip


def pe_counts(
    layers: Sequence[CompressedLayer], config: EngineConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of each column in each PE of its group, layer after layer.

    Returns:
        int64 ``[columns]``, where in the counts a column's begin; and the counts, int32: a column's
        are ``row_pes`` one after the other, and those without a weight share the first.
    """
    width, found, places = config.row_pes, 1, []
    counts = [np.zeros(width, np.int32)]
    for layer in layers:
        columns, column = np.unique(layer.column_of, return_inverse=True)
        at = column * width + layer.row_of % width
        counts.append(np.bincount(at, minlength=len(columns) * width).astype(np.int32))
        places.append(np.zeros(layer.columns, np.int64))
        places[-1][columns] = (found + np.arange(len(columns))) * width
        found += len(columns)
    return np.concatenate(places), np.concatenate(counts)


_BIAS, _ACTIVATIONS, _WAIT, _LAST = range(4)  # states of the control unit
_COMPUTING, _ANSWER, _OUTPUTS = range(3)  # and of the host link


@njit()
def _simulate(
    groups, width, lanes, depth, pointer_latency, queued_at, drain_places, vectors, per_word,
    shapes, columns, counts, active, compute, breakdown,
):  # fmt: skip
    """One run; the first input word is accepted in cycle 0. Returns the latency.

    Each pass of the loop is a clock cycle: first what follows from the registers, then what they
    become.
    """
    layers = len(shapes)
    parts = width // lanes

    # Inputs and outputs
    inputs_left = shapes[0, 0]
    input_column = 0
    host = _COMPUTING
    pair = 0
    odd = False

    # Non-zero detection of each group: the vector that entered, a queue of vectors, how many
    # non-zeros each has left and whether it is the layer's last, and the vector being sent
    entered = False
    entered_last = False
    entered_count = np.zeros(groups, np.int64)
    queued_count = np.zeros((groups, vectors), np.int64)
    queued_last = np.zeros((groups, vectors), np.bool_)
    lnzd_head = np.zeros(groups, np.int64)
    lnzd_level = np.zeros(groups, np.int64)
    lnzd_taken = np.zeros(groups, np.int64)  # places, what entered included
    lnzd_back = np.zeros(groups, np.int64)  # places given back, in the cycle before
    sending = np.zeros(groups, np.bool_)
    to_send = np.zeros(groups, np.int64)
    last = np.zeros(groups, np.bool_)
    takes = np.zeros(groups, np.bool_)
    enter_base = 0  # of the layer whose vectors come next, in `active`

    # Control
    state = _BIAS
    index = drain_index = 0
    base = active_base = 0  # of the layer, in `columns` and in `active`
    next_column = np.zeros(groups, np.int64)  # in which the group's next non-zero is looked for
    sent = np.zeros(groups, np.bool_)  # a column is broadcast, …
    sent_at = np.zeros(groups, np.int64)  # … this one, in `counts`
    ready = np.ones(groups, np.bool_)
    ended = np.zeros(groups, np.bool_)
    counting = final = False
    all_issued = broadcast_1 = broadcast_2 = False
    first = drain_first = 0

    # PEs
    pes_ready = np.ones(groups, np.bool_)
    pes_issued = groups_issued = True
    on_way = np.full((groups, pointer_latency + 1), -1, np.int64)  # columns broadcast
    reserved = np.zeros((groups, width), np.int64)
    given_back = np.zeros((groups, width), np.int64)  # places, in the cycle before
    queue = np.zeros((groups, width, depth), np.int32)
    head = np.zeros((groups, width), np.int64)
    level = np.zeros((groups, width), np.int64)
    left = np.zeros((groups, width), np.int64)  # entries left of the column that is read
    hold = hold_next = -1  # the part of each group's PEs that drain

    # Drain
    rows = 1
    drain_start = active_drain = False
    next_number = queued_number = entered_number = 0
    places = drain_level = 0
    given = False
    valid = np.zeros(queued_at + 1, np.bool_)

    cycle = 0
    while True:
        # --- Control, from the registers
        broadcast = stalled = False
        all_ended = True
        for group in range(groups):
            broadcast |= sent[group]
            all_ended &= ended[group]
            waits = state == _ACTIVATIONS and sending[group] and not ended[group]
            takes[group] = waits and ready[group]
            stalled |= waits and not ready[group]
        start = state == _WAIT and all_issued
        if broadcast and not counting:
            counting = True
            first = cycle
        if counting:
            if broadcast:
                breakdown[index, 0] += 1
            elif stalled:
                breakdown[index, 1] += 1
            elif state == _WAIT and start:
                pass
            elif state == _WAIT or (state == _ACTIVATIONS and all_ended):
                breakdown[index, 3] += 1
            elif state == _ACTIVATIONS:
                breakdown[index, 2] += 1

        # --- Drain: the vector that goes, and the one that is requantised
        last_number = (rows - 1) // lanes
        go = (drain_start or active_drain) and places < drain_places
        for age in range(queued_at, 0, -1):
            valid[age] = valid[age - 1]
        valid[0] = go
        draining = next_number % parts if go else -1
        if go:
            active_drain = next_number != last_number
            next_number = next_number + 1 if active_drain else 0
        elif drain_start:
            active_drain = True
        queued = valid[queued_at]
        done = queued and queued_number == last_number

        # --- The vector at the head of the drain's queue: to the host or to non-zero detection
        is_last = entered_number == last_number
        enter_width = min(lanes, rows - entered_number * lanes)
        offered = drain_level > 0
        taken = enters = enter_last = False
        enter_column = 0
        room = True
        for group in range(groups):
            room &= lnzd_taken[group] < vectors
        if final and offered:
            word = True
            if lanes == 1:
                word = odd or is_last
                taken = host == _OUTPUTS or not word
                if taken:
                    odd = not odd and not is_last
            elif host == _OUTPUTS:
                taken = 2 * pair + 2 >= enter_width
                pair = 0 if taken else pair + 1
            if taken and is_last:
                return cycle + 1
            if host == _ANSWER:
                host = _OUTPUTS
            elif host == _COMPUTING and word:
                host = _ANSWER
        if inputs_left > 0:
            enters = room
            enter_width = min(per_word, inputs_left)
            enter_column = input_column
            enter_last = inputs_left <= per_word
            if enters:
                inputs_left -= enter_width
                input_column += enter_width
        elif offered and not final:
            taken = enters = room
            enter_column = entered_number * lanes
            enter_last = is_last
        if taken:
            entered_number = 0 if is_last else entered_number + 1
        places += go - given
        given = taken
        drain_level += queued - taken
        if queued:
            queued_number = 0 if done else queued_number + 1

        # --- PEs
        all_issued = groups_issued and not (broadcast or broadcast_1 or broadcast_2)
        groups_issued = pes_issued
        pes_issued = True
        for group in range(groups):
            arrived = on_way[group, 0] >= 0
            looked_up = on_way[group, pointer_latency]
            ready_next = pes_ready[group]
            pes_ready[group] = True
            for pe in range(width):
                waits = reserved[group, pe]
                entries = left[group, pe]
                if waits > depth - COLUMNS_AHEAD:
                    pes_ready[group] = False
                if waits or entries or arrived:
                    pes_issued = False
                issues = entries != 0 and pe // lanes != hold
                place = head[group, pe]
                pops = level[group, pe] != 0 and (entries == 0 or (issues and entries == 1))
                if pops:
                    left[group, pe] = queue[group, pe, place]
                    place = place + 1 if place + 1 < depth else 0
                    head[group, pe] = place
                    level[group, pe] -= 1
                elif issues:
                    left[group, pe] = entries - 1
                waits += arrived - given_back[group, pe]
                given_back[group, pe] = pops
                if looked_up >= 0:
                    count = counts[looked_up + pe]
                    if count:
                        queue[group, pe, (place + level[group, pe]) % depth] = count
                        level[group, pe] += 1
                    else:
                        given_back[group, pe] += 1
                reserved[group, pe] = waits
            for age in range(pointer_latency, 0, -1):
                on_way[group, age] = on_way[group, age - 1]
            on_way[group, 0] = sent_at[group] if sent[group] else -1
            sent[group] = False
            ready[group] = ready_next
        hold = hold_next
        hold_next = draining
        broadcast_2 = broadcast_1
        broadcast_1 = broadcast

        # --- Control: what its registers become
        if done:
            compute[drain_index] = cycle - drain_first + 1
        drain_start = start
        if state == _BIAS:
            counting = False
            for group in range(groups):
                ended[group] = False
                next_column[group] = group
            group = shapes[index, 0] % groups
            sent[group] = shapes[index, 2] != 0
            sent_at[group] = columns[base + shapes[index, 0]]
            state = _ACTIVATIONS
        elif state == _ACTIVATIONS:
            for group in range(groups):
                if takes[group]:
                    ended[group] = last[group] and to_send[group] <= 1
                    if to_send[group]:
                        column = next_column[group]
                        while not active[active_base + column]:
                            column += groups
                        next_column[group] = column + groups
                        sent[group] = True
                        sent_at[group] = columns[base + column]
            if all_ended:
                rows = shapes[index, 1]
                final = index + 1 == layers
                drain_index = index
                state = _WAIT
        elif start:
            drain_first = first if counting else cycle
            active_base += shapes[index, 0]
            base += shapes[index, 3]
            index += 1
            state = _LAST if final else _BIAS

        # --- Non-zero detection: the vectors being sent, then the queues
        for group in range(groups):
            place = lnzd_head[group]
            there = lnzd_level[group] > 0
            pops = there and not queued_count[group, place] and not queued_last[group, place]
            if not sending[group] or (takes[group] and to_send[group] <= 1):
                sending[group] = there and not pops
                pops = there
                if sending[group]:
                    to_send[group] = queued_count[group, place]
                    last[group] = queued_last[group, place]
            elif takes[group]:
                to_send[group] -= 1
            if pops:
                lnzd_head[group] = (place + 1) % vectors
                lnzd_level[group] -= 1
            # What entered goes on to the queue, zeros excepted; one place is where it entered.
            place = (lnzd_head[group] + lnzd_level[group]) % vectors
            if vectors > 1:
                lnzd_taken[group] += enters - lnzd_back[group]
                lnzd_back[group] = pops
                if entered and (entered_count[group] or entered_last):
                    queued_count[group, place] = entered_count[group]
                    queued_last[group, place] = entered_last
                    lnzd_level[group] += 1
                elif entered:
                    lnzd_back[group] += 1
            if enters:
                count = 0
                for column in range(enter_column, enter_column + enter_width):
                    if column % groups == group and active[enter_base + column]:
                        count += 1
                entered_count[group] = count
                if vectors == 1:
                    queued_count[group, 0] = count
                    queued_last[group, 0] = enter_last
                    lnzd_level[group] = 1
            if vectors == 1:
                lnzd_taken[group] = lnzd_level[group]
        entered = enters
        entered_last = enter_last
        if enters and enter_last:
            enter_base += enter_column + enter_width
        cycle += 1

"""The cycles of a run, predicted to the cycle: the engine's counters and queues, without its data.

What each part of the engine does in a cycle is in docs/engine.md; `_simulate` keeps the same state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from pleach.model import CompressedModel
from pleach.reference.config import EngineConfig
from pleach.reference.engine import Reference

#: Latencies of the gateware's stages, in cycles; a test holds them equal to those of `pleach_hw`.
BLOCK_RAM = 2
MULTIPLIER = 2
REQUANTIZE = 3
DRAINED = 1 + 2 * BLOCK_RAM + 1 + MULTIPLIER  # a drained row is at the drain unit's input
QUEUED = DRAINED + 1 + REQUANTIZE  # and requantised, in front of its queue
#: vectors that the drain's queue and non-zero detection hold
DRAIN_DEPTH = 1 << (QUEUED + 1).bit_length()
LNZD_DEPTH = 16

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

    >>> from pleach.model import Activation, CompressedLayer
    >>> layer = CompressedLayer("fc1", inputs=2, outputs=1, bias=True, positions=[0, 2],
    ...     codes=[1, 0], codebook=[-3, 5], shift=1, activation=Activation.NONE,
    ...     bias_exponent=2, output_fraction=8)
    >>> model = CycleModel(CompressedModel((layer,)), EngineConfig(pes=4))
    >>> model.run(np.array([[7, 9], [0, 0]], np.uint8)).compute.tolist()
    [[20], [19]]
    """

    def __init__(self, model: CompressedModel, config: EngineConfig):
        self.model = model
        self.config = config
        shapes = [(x.inputs, x.outputs, x.bias, x.columns * config.pes) for x in model.layers]
        self._shapes = np.array(shapes, np.int64)
        counts = [pe_counts(layer, config).ravel() for layer in model.layers]
        self._counts = np.concatenate(counts).astype(np.int32)

    def run(self, inputs: np.ndarray) -> Cycles:
        """For network inputs of the model's type, ``[n, inputs]``."""
        return self.cycles([trace.inputs for trace in Reference(self.model).trace(inputs)])

    def cycles(self, activations: Sequence[np.ndarray]) -> Cycles:
        """For the inputs of each layer, ``[n, inputs]``; only which are zero matters."""
        active = np.concatenate([layer != 0 for layer in activations], axis=1)
        n, layers = len(active), len(self._shapes)
        latency = np.zeros(n, np.int64)
        compute = np.zeros((n, layers), np.int64)
        breakdown = np.zeros((n, layers, len(BREAKDOWN)), np.int64)
        config, per_word = self.config, self.model.input_type.per_word
        for image in range(n):
            latency[image] = _simulate(
                config.pes, config.lanes, config.queue_depth, per_word,
                self._shapes, self._counts, active[image], compute[image], breakdown[image],
            )  # fmt: skip
        breakdown[..., -1] = compute - breakdown.sum(axis=2)
        return Cycles(latency, compute, breakdown)


def pe_counts(layer, config: EngineConfig) -> np.ndarray:
    """Weights of each column in each PE, int64 ``[columns, pes]``."""
    places = layer.column_of * config.pes + layer.row_of % config.pes
    counts = np.bincount(places, minlength=layer.columns * config.pes)
    return counts.reshape(layer.columns, config.pes)


_FETCH, _BIAS, _ACTIVATIONS, _WAIT, _DRAIN, _LAST = range(6)  # states of the control unit
_COMPUTING, _ANSWER, _OUTPUTS = range(3)  # and of the host link


@numba.njit(cache=True)
def _simulate(pes, lanes, depth, per_word, shapes, counts, active, compute, breakdown):
    """One run; the first input word is accepted in cycle 0. Returns the latency.

    Each pass of the loop is a clock cycle: first what follows from the registers, then what they
    become.
    """
    layers = len(shapes)
    groups = pes // lanes

    # Inputs and outputs
    inputs_left = shapes[0, 0]
    input_column = 0
    host = _COMPUTING
    pair = 0
    odd = False

    # Non-zero detection: a queue of vectors, and the one being sent
    lnzd_mask = np.zeros(LNZD_DEPTH, np.int64)
    lnzd_column = np.zeros(LNZD_DEPTH, np.int64)
    lnzd_last = np.zeros(LNZD_DEPTH, np.bool_)
    lnzd_head = lnzd_level = 0
    mask = column = 0
    last = sending = False
    active_base = 0  # of the layer whose vectors come next, in `active`

    # Control
    state = _FETCH
    index = drain_index = 0
    base = 0  # of the layer, in `counts`
    held_row = 0  # of the column held, in `counts`
    held = counting = final = False
    ready = True
    first = drain_first = 0

    # PEs
    found = np.full(BLOCK_RAM, -1, np.int64)  # columns on their way through the pointers
    reserved = np.zeros(pes, np.int64)
    queue = np.zeros((pes, depth), np.int32)
    head = np.zeros(pes, np.int64)
    level = np.zeros(pes, np.int64)
    left = np.zeros(pes, np.int64)  # entries of the column that is read
    hold = -1  # the group of PEs that drain

    # Drain
    rows = 1
    active_drain = False
    next_number = queued_number = entered_number = 0
    places = drain_level = 0
    valid = np.zeros(QUEUED + 1, np.bool_)

    cycle = 0
    while True:
        # --- Control, from the registers
        all_ready = all_issued = True
        for pe in range(pes):
            all_ready = all_ready and reserved[pe] < depth - 1
            all_issued = all_issued and reserved[pe] == 0 and left[pe] == 0
        broadcast = held and ready
        takes = state == _ACTIVATIONS and sending and (ready or not held)
        after = mask & (mask - 1)
        if broadcast and not counting:
            counting = True
            first = cycle
        if counting:
            if broadcast:
                breakdown[index, 0] += 1
            elif held:
                breakdown[index, 1] += 1
            elif state == _ACTIVATIONS:
                breakdown[index, 2] += 1
            elif state == _WAIT or state == _DRAIN:
                breakdown[index, 3] += 1

        # --- Drain: the vector that goes, and the one that is requantised
        last_number = (rows - 1) // lanes
        go = (state == _DRAIN or active_drain) and places < DRAIN_DEPTH
        for age in range(QUEUED, 0, -1):
            valid[age] = valid[age - 1]
        valid[0] = go
        draining = next_number % groups if go else -1
        if go:
            active_drain = next_number != last_number
            next_number = next_number + 1 if active_drain else 0
        elif state == _DRAIN:
            active_drain = True
        queued = valid[QUEUED]
        done = queued and queued_number == last_number

        # --- The vector at the head of the drain's queue: to the host or to non-zero detection
        is_last = entered_number == last_number
        width = min(lanes, rows - entered_number * lanes)
        offered = drain_level > 0
        taken = enters = enter_last = False
        enter_column = 0
        room = lnzd_level < LNZD_DEPTH
        if final and offered:
            if lanes == 1:
                word = odd or is_last
                taken = host == _OUTPUTS or not word
                if taken:
                    odd = not odd and not is_last
            else:
                word = True
                taken = host == _OUTPUTS and 2 * pair + 2 >= width
                if host == _OUTPUTS:
                    pair = 0 if taken else pair + 1
            if taken and is_last:
                return cycle + 1
            if host == _ANSWER:
                host = _OUTPUTS
            elif host == _COMPUTING and word:
                host = _ANSWER
        if inputs_left > 0:
            enters = room
            width = min(per_word, inputs_left)
            enter_column = input_column
            enter_last = inputs_left <= per_word
            if enters:
                inputs_left -= width
                input_column += width
        elif offered and not final:
            taken = enters = room
            enter_column = entered_number * lanes
            enter_last = is_last
        if taken:
            entered_number = 0 if is_last else entered_number + 1
        places += go - taken
        drain_level += queued - taken
        if queued:
            queued_number = 0 if done else queued_number + 1

        # --- PEs
        looked_up = found[-1]
        for pe in range(pes):
            issues = left[pe] != 0 and pe // lanes != hold
            pops = level[pe] != 0 and (left[pe] == 0 or (issues and left[pe] == 1))
            if pops:
                left[pe] = queue[pe, head[pe]]
                head[pe] = (head[pe] + 1) % depth
                level[pe] -= 1
            elif issues:
                left[pe] -= 1
            reserved[pe] += broadcast - pops
            if looked_up >= 0:
                count = counts[looked_up + pe]
                if count:
                    queue[pe, (head[pe] + level[pe]) % depth] = count
                    level[pe] += 1
                else:
                    reserved[pe] -= 1
        hold = draining
        for stage in range(BLOCK_RAM - 1, 0, -1):
            found[stage] = found[stage - 1]
        found[0] = held_row if broadcast else -1

        # --- Control: what its registers become
        if done:
            compute[drain_index] = cycle - drain_first + 1
        waiting = held
        if ready:
            held = False
        ready = all_ready
        if state == _FETCH:
            counting = False
            state = _BIAS
        elif state == _BIAS:
            held = shapes[index, 2] != 0
            held_row = base + shapes[index, 0] * pes
            state = _ACTIVATIONS
        elif takes:
            held = mask != 0
            lane = 0
            while held and not mask >> lane & 1:
                lane += 1
            held_row = base + (column + lane) * pes
            if last and after == 0:
                rows = shapes[index, 1]
                final = index + 1 == layers
                drain_index = index
                state = _WAIT
        elif state == _WAIT:
            if not waiting and all_issued:
                state = _DRAIN
        elif state == _DRAIN:
            drain_first = first if counting else cycle
            base += shapes[index, 3]
            index += 1
            state = _LAST if final else _FETCH

        # --- Non-zero detection: the vector being sent, then its queue
        if not sending or (takes and after == 0):
            sending = lnzd_level > 0
            if sending:
                mask = lnzd_mask[lnzd_head]
                column = lnzd_column[lnzd_head]
                last = lnzd_last[lnzd_head]
                lnzd_head = (lnzd_head + 1) % LNZD_DEPTH
                lnzd_level -= 1
        elif takes:
            mask = after
        if enters:
            place = (lnzd_head + lnzd_level) % LNZD_DEPTH
            lnzd_mask[place] = 0
            for lane in range(width):
                if active[active_base + enter_column + lane]:
                    lnzd_mask[place] |= 1 << lane
            lnzd_column[place] = enter_column
            lnzd_last[place] = enter_last
            if enter_last:
                active_base += enter_column + width
            if enter_last or lnzd_mask[place]:
                lnzd_level += 1
        cycle += 1

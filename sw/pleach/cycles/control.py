"""The control unit: columns broadcast, passes one after the other, and their cycles counted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pleach.compiled import njit

BIAS, ACTIVATIONS, WAIT, LAST = range(4)


class Control(NamedTuple):
    """The pass that runs, and the one that is drained."""

    state: int
    #: of the pass that runs: its number, and where its activations begin among those of all passes
    index: int
    offset: int
    #: it has had a broadcast, first in this cycle
    counting: bool
    first: int
    #: no PE has a MAC left to issue
    all_issued: bool
    #: there was a broadcast: bit 0, in the cycle before; bit 1, in that before
    broadcasts: int
    #: the drain starts; of the pass that is drained: its number, and its first cycle that counts
    drains: bool
    drain_index: int
    drain_first: int
    rows: int
    sink: int


GROUP = np.dtype(
    [
        ("ready", np.int64),  # its PEs are known to have been
        ("ended", np.int64),  # its last token of the pass was taken
        ("takes", np.int64),  # it takes a token in this cycle
        ("sent", np.int64),  # where in the PEs' counts the column broadcast begins, or -1
        ("column", np.int64),  # of the group, in which the next non-zero is looked for
    ]
)


@njit(inline="always")
def new(stages):
    """The unit as it starts a run: its registers, and those of each group, `GROUP` ``[groups]``."""
    groups = np.zeros(stages.groups, GROUP)
    for number in range(stages.groups):
        groups[number].ready = True
        groups[number].sent = -1
    return Control(BIAS, 0, 0, False, 0, False, 0, False, 0, 0, 1, 0), groups


@njit(inline="always")
def observe(control, groups, lnzd, pes, cycle, breakdown):
    """What follows from the registers: which groups take a token, and whether the drain starts in
    the next cycle. Counts what the cycle is spent on.

    Returns:
        The registers with what they hear of the PEs, and whether the drain starts.
    """
    state, index, counting, first = control.state, control.index, control.counting, control.first
    broadcast = stalled = False
    issued = all_ended = True
    for number in range(len(groups)):
        group = groups[number]
        broadcast |= group.sent >= 0
        all_ended &= group.ended != 0
        issued &= pes.groups[number].issued != 0
        waits = state == ACTIVATIONS and lnzd.each[number].sending and not group.ended
        group.takes = waits and group.ready
        stalled |= waits and not group.ready
        group.ready = pes.groups[number].ready
    starts = state == WAIT and control.all_issued
    if broadcast and not counting:
        counting = True
        first = cycle
    if counting:
        if broadcast:
            breakdown[index, 0] += 1
        elif stalled:
            breakdown[index, 1] += 1
        elif state == ACTIVATIONS and not all_ended:
            breakdown[index, 2] += 1
        elif state == ACTIVATIONS or (state == WAIT and not starts):
            breakdown[index, 3] += 1
    # What the PEs say of the MACs left is older than the columns of the last three cycles.
    all_issued = issued and not broadcast and not control.broadcasts
    broadcasts = (control.broadcasts << 1 | broadcast) & 3
    after = Control(
        state, index, control.offset, counting, first, all_issued, broadcasts,
        control.drains, control.drain_index, control.drain_first, control.rows, control.sink,
    )  # fmt: skip
    return after, starts


@njit(inline="always")
def step(control, groups, program, places, lnzd, active, starts, cycle):
    """What the registers become.

    Args:
        places: ``[groups, columns]``, where in the PEs' counts each column begins.
        active: which activations are not zero, pass after pass.
        starts: the drain does in the next cycle.
    """
    state, index, offset, counting, first, all_issued, broadcasts = control[:7]
    drain_index, drain_first, rows, sink = control[8:]
    running = program[index]
    all_ended = True
    for number in range(len(groups)):
        group = groups[number]
        all_ended &= group.ended != 0
        group.sent = -1
        if state == BIAS:
            group.ended = False
            group.column = 0
        elif group.takes:
            detector = lnzd.each[number]
            group.ended = detector.last and detector.to_send <= 1
            if detector.to_send:
                while not active[offset + group.column * len(groups) + number]:
                    group.column += 1
                group.sent = places[number, running.column_base + group.column]
                group.column += 1
    if state == BIAS:
        counting = False
        if running.bias:
            number = running.inputs % len(groups)
            column = running.column_base + running.inputs // len(groups)
            groups[number].sent = places[number, column]
        state = ACTIVATIONS
    elif state == ACTIVATIONS and all_ended:
        rows, sink, drain_index = running.rows, running.sink, index
        state = WAIT
    elif starts:
        drain_first = first if counting else cycle
        offset += running.inputs
        state = LAST if running.last else BIAS
        index += not running.last
    return Control(
        state, index, offset, counting, first, all_issued, broadcasts,
        starts, drain_index, drain_first, rows, sink,
    )  # fmt: skip

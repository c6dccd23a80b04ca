"""Processing elements that accumulate windows of output pixels in a ring: what waits in them, when
it is issued, and when a window is done."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pleach.compiled import njit

PE = np.dtype(
    [
        ("reserved", np.int64),  # places of its queue
        ("head", np.int64),  # of the queue
        ("level", np.int64),  # columns and marks in it
        ("busy", np.int64),  # one is worked on, …
        ("left", np.int64),  # … with so many entries left, …
        ("mark", np.int64),  # … and a window ends with it
        ("passed", np.int64),  # windows done and not taken
        ("waiting", np.int64),  # there are some; a register later
    ]
)
GROUP = np.dtype(
    [
        ("ready", np.int64),  # all its PEs are
        ("waiting", np.int64),  # all have a window done; a register later
        ("takes", np.int64),  # its drain takes one; a register later
        ("hold", np.int64),  # the part of its PEs that drain, or -1; a register later
    ]
)


class Ring(NamedTuple):
    """All PEs.

    Args:
        each: `PE` ``[groups, PEs of a group]``.
        queues: int32 ``[groups, PEs of a group, depth]``, of what waits: its entries here, doubled,
            and one more where a window ends with it.
        groups: `GROUP` ``[groups]``.
        on_way: int64 ``[groups, cycles]``, columns on their way to their pointers: where in the
            counts each begins, or -1.
        marks: bool ``[groups, cycles]``, the windows that end with them.
    """

    each: np.ndarray
    queues: np.ndarray
    groups: np.ndarray
    on_way: np.ndarray
    marks: np.ndarray


@njit(inline="always")
def new(stages):
    """PEs without work."""
    groups = np.zeros(stages.groups, GROUP)
    groups["ready"][:] = 1
    groups["hold"][:] = -1
    return Ring(
        np.zeros((stages.groups, stages.width), PE),
        np.zeros((stages.groups, stages.width, stages.depth), np.int32),
        groups,
        np.full((stages.groups, stages.pointer + 1), -1, np.int64),
        np.zeros((stages.groups, stages.pointer + 1), np.bool_),
    )


@njit(inline="always")
def step(ring, number, sent, last, take, part, counts, stages):
    """A group's cycle. What it gives is in ``ring.groups[number]``: `ready` and `waiting`.

    Args:
        number: of the group.
        sent: where in `counts` the column on the broadcast begins, or -1.
        last: the broadcast has the mark.
        take: the drain takes a window.
        part: the part of the group's PEs, `lanes` each, that the drain asks for a row, or -1.
    """
    depth, lanes, on_way, marks = stages.depth, stages.lanes, ring.on_way, ring.marks
    group = ring.groups[number]
    arrived = on_way[number, 0] >= 0 or marks[number, 0]
    looked_up, looked_up_mark = on_way[number, stages.pointer], marks[number, stages.pointer]
    ready = waiting = True
    for place in range(stages.width):
        pe = ring.each[number, place]
        if pe.reserved > stages.reserved:
            ready = False
        if not pe.waiting:
            waiting = False
        pe.waiting = pe.passed != 0
        goes = pe.busy and place // lanes != group.hold
        ends = goes and pe.left <= 1
        pe.passed += (ends and pe.mark) - group.takes
        pops = pe.level != 0 and (ends or not pe.busy)
        if pops:
            item = ring.queues[number, place, pe.head]
            pe.busy = True
            pe.left = item >> 1
            pe.mark = item & 1
            pe.head = pe.head + 1 if pe.head + 1 < depth else 0
            pe.level -= 1
            pe.reserved -= 1
        elif ends:
            pe.busy = False
        elif goes:
            pe.left -= 1
        pe.reserved += arrived
        if looked_up >= 0 or looked_up_mark:
            count = counts[looked_up + place] if looked_up >= 0 else 0
            if count or looked_up_mark:
                tail = (pe.head + pe.level) % depth
                ring.queues[number, place, tail] = count << 1 | looked_up_mark
                pe.level += 1
            else:
                pe.reserved -= 1
    group.ready = ready
    group.waiting = waiting
    group.takes = take
    group.hold = part
    for age in range(stages.pointer, 0, -1):
        on_way[number, age] = on_way[number, age - 1]
        marks[number, age] = marks[number, age - 1]
    on_way[number, 0] = sent
    marks[number, 0] = last

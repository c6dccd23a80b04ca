"""The processing elements: how many entries of which columns wait, and when they are issued."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pleach.compiled import njit

PE = np.dtype(
    [
        ("reserved", np.int64),  # places of its queue
        ("given_back", np.int64),  # of them, in the cycle before
        ("head", np.int64),  # of the queue
        ("level", np.int64),  # columns in it
        ("left", np.int64),  # entries of the column that is read
    ]
)
GROUP = np.dtype(
    [
        ("ready", np.int64),  # all its PEs are
        ("all_issued", np.int64),  # none has a MAC left to issue; …
        ("issued", np.int64),  # … a register later
    ]
)


class Pes(NamedTuple):
    """All PEs.

    Args:
        each: `PE` ``[groups, PEs of a group]``.
        queues: int32 ``[groups, PEs of a group, depth]``, entries here of the columns that wait.
        groups: `GROUP` ``[groups]``.
        on_way: int64 ``[groups, cycles]``, columns on their way to their pointers: where in the
            counts each begins, or -1.
    """

    each: np.ndarray
    queues: np.ndarray
    groups: np.ndarray
    on_way: np.ndarray


@njit(inline="always")
def new(stages):
    """PEs without work."""
    groups = np.zeros(stages.groups, GROUP)
    for number in range(stages.groups):
        group = groups[number]
        group.ready = group.all_issued = group.issued = True
    return Pes(
        np.zeros((stages.groups, stages.width), PE),
        np.zeros((stages.groups, stages.width, stages.depth), np.int32),
        groups,
        np.full((stages.groups, stages.pointer + 1), -1, np.int64),
    )


@njit(inline="always")
def step(pes, number, sent, counts, hold, stages):
    """A group's cycle.

    Args:
        number: of the group.
        sent: where in `counts` the column broadcast begins, or -1.
        hold: the part of the group's PEs, `lanes` each, that drain and issue nothing; or -1.
    """
    depth, lanes, on_way = stages.depth, stages.lanes, pes.on_way
    arrived = on_way[number, 0] >= 0
    looked_up = on_way[number, stages.pointer]
    ready = all_issued = True
    for place in range(stages.width):
        pe = pes.each[number, place]
        waits, entries = pe.reserved, pe.left
        if waits > stages.reserved:
            ready = False
        if waits or entries or arrived:
            all_issued = False
        issues = entries != 0 and place // lanes != hold
        pops = pe.level != 0 and (entries == 0 or (issues and entries == 1))
        if pops:
            pe.left = pes.queues[number, place, pe.head]
            pe.head = pe.head + 1 if pe.head + 1 < depth else 0
            pe.level -= 1
        elif issues:
            pe.left = entries - 1
        pe.reserved = waits + arrived - pe.given_back
        pe.given_back = pops
        if looked_up >= 0:
            count = counts[looked_up + place]
            if count:
                pes.queues[number, place, (pe.head + pe.level) % depth] = count
                pe.level += 1
            else:
                pe.given_back += 1
    group = pes.groups[number]
    group.ready = ready
    group.issued = group.all_issued
    group.all_issued = all_issued
    for age in range(stages.pointer, 0, -1):
        on_way[number, age] = on_way[number, age - 1]
    on_way[number, 0] = sent

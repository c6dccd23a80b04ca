"""Non-zero detection: the vectors that wait in front of each group's broadcast."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pleach.compiled import njit

DETECTOR = np.dtype(
    [
        ("entered", np.int64),  # a vector did, in the cycle before, …
        ("entered_count", np.int64),  # … with so many non-zeros of this group's, …
        ("entered_last", np.int64),  # … and is the last of its pass
        ("head", np.int64),  # of the queue
        ("level", np.int64),  # vectors in it
        ("taken", np.int64),  # places, by what entered too
        ("back", np.int64),  # places given back, in the cycle before
        ("sending", np.int64),  # a vector is being sent
        ("to_send", np.int64),  # non-zeros left of it
        ("last", np.int64),  # it is the last of its pass
    ]
)
#: in a queue: its non-zeros, and whether it is the last of its pass
VECTOR = np.dtype([("count", np.int64), ("last", np.int64)])


class Lnzd(NamedTuple):
    """The detectors, `DETECTOR` ``[groups]``, and their queues, `VECTOR` ``[groups, vectors]``."""

    each: np.ndarray
    queues: np.ndarray


@njit(inline="always")
def new(stages):
    """Detectors without a vector."""
    return Lnzd(
        np.zeros(stages.groups, DETECTOR), np.zeros((stages.groups, stages.vectors), VECTOR)
    )


@njit(inline="always")
def room(lnzd, stages):
    """Whether a vector may enter: all groups take it at once."""
    free = True
    for number in range(stages.groups):
        free &= lnzd.each[number].taken < stages.vectors
    return free


@njit(inline="always")
def step(lnzd, number, vector, active, offset, takes, stages):
    """A group's cycle.

    Args:
        number: of the group.
        vector: that enters.
        active, offset: which activations are not zero, and where those of its pass begin.
        takes: the control unit takes a token.
    """
    groups, vectors = stages.groups, stages.vectors
    at = lnzd.each[number]
    head = lnzd.queues[number, at.head]
    there = at.level > 0
    # One without a non-zero is passed over, unless it has to say that the pass ends.
    pops = there and not head.count and not head.last
    if not at.sending or (takes and at.to_send <= 1):
        at.sending = there and not pops
        pops = there
        if at.sending:
            at.to_send = head.count
            at.last = head.last
    elif takes:
        at.to_send -= 1
    if pops:
        at.head = at.head + 1 if at.head + 1 < vectors else 0
        at.level -= 1
    # What entered goes on to the queue, zeros excepted; one place is where it entered.
    if vectors > 1:
        at.taken += vector.valid - at.back
        at.back = pops
        if at.entered and (at.entered_count or at.entered_last):
            tail = lnzd.queues[number, (at.head + at.level) % vectors]
            tail.count = at.entered_count
            tail.last = at.entered_last
            at.level += 1
        elif at.entered:
            at.back += 1
    if vector.valid:
        count = 0
        first = vector.column + (number - vector.column) % groups
        for column in range(first, vector.column + vector.width, groups):
            count += active[offset + column]
        at.entered_count = count
        if vectors == 1:
            head.count = count
            head.last = vector.last
            at.level = 1
    if vectors == 1:
        at.taken = at.level
    at.entered = vector.valid
    at.entered_last = vector.last

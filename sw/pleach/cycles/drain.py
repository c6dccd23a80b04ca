"""The drain: vectors of rows on their way through PEs and requantisation, and in a queue."""

from __future__ import annotations

from typing import NamedTuple

from pleach.compiled import njit
from pleach.cycles.host import Vector


class Drain(NamedTuple):
    """The vectors of the pass that is drained."""

    #: some are left to be drained; number of the one that goes next
    active: bool
    next: int
    #: the part of each group's PEs that drained in the cycle before, and in that before; or -1
    part: int
    part_before: int
    #: a bit for each vector on its way, 1 << its age
    on_way: int
    #: number of the one that enters the queue next, and of the one at its head; vectors in it
    queued: int
    first: int
    level: int
    #: places of the queue, taken by what is on its way and in it; one left it in the cycle before
    places: int
    given: bool


@njit(inline="always")
def new():
    """The drain without a vector."""
    return Drain(False, 0, -1, -1, 0, 0, 0, 0, 0, False)


@njit(inline="always")
def offered(drain, rows, stages):
    """The vector at the head of the queue."""
    column = drain.first * stages.lanes
    left = rows - column
    return Vector(drain.level > 0, column, min(stages.lanes, left), left <= stages.lanes)


@njit(inline="always")
def step(drain, start, rows, taken, stages):
    """A cycle: the part of each group's PEs that issues nothing, because it drains, or -1; and
    whether the last vector of the pass is done.

    Args:
        start: of a pass; its `rows` stand until it is done.
        taken: the vector at the head of the queue is.
    """
    active, number, part, hold, on_way, queued, first, level, places, given = drain
    last = (rows - 1) // stages.lanes
    go = (start or active) and places < stages.places
    active = (start or active) and not (go and number == last)
    part = number % (stages.width // stages.lanes) if go else -1
    if go:
        number = number + 1 if active else 0
    on_way = on_way << 1 | go
    queues = (on_way >> stages.queued & 1) != 0
    done = queues and queued == last
    if queues:
        queued = 0 if done else queued + 1
    if taken:
        first = 0 if first == last else first + 1
    places += go - given
    level += queues - taken
    after = Drain(active, number, part, drain.part, on_way, queued, first, level, places, taken)
    return after, hold, done

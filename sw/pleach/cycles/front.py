"""A group's front: the vectors that wait, their passes, and the column that is sent."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pleach.compiled import njit
from pleach.cycles.dispatch import LANES

#: passes that can wait
PASSES = 4

FRONT = np.dtype(
    [
        *((name, np.int64) for name in ("head", "level")),  # of the vectors that wait
        ("valid", np.int64),  # passes are made of a vector: `masks`, `flags`, `column`, …
        *((name, np.int64) for name in ("masks", "flags", "column")),
        ("biases", np.int64),  # … or of its window's biases, …
        ("rows", np.int64),  # … for these rows of pixels, …
        ("columns", np.int64),  # … of this one these pixels, …
        ("every", np.int64),  # … of the next ones these
        ("slot", np.int64),  # of the ring, from 1 on, …
        ("slot_base", np.int64),  # … and where it begins
        ("taken", np.int64),  # places for passes, by what is on its way, too
        ("made", np.int64),  # a pass is on its way to the queue: `made_…`
        *((f"made_{name}", np.int64) for name in ("mask", "column", "base", "ends", "start")),
        *((name, np.int64) for name in ("first", "waits")),  # of the queue of passes
        ("sends", np.int64),  # a pass is being sent: `send_…`
        *((f"send_{name}", np.int64) for name in ("mask", "column", "base", "ends", "start")),
        ("ready", np.int64),  # the PEs were, in the cycle before
        ("out", np.int64),  # a column is out: `out_…`
        *((f"out_{name}", np.int64) for name in ("column", "base", "present", "last")),
        ("back", np.int64),  # a vector's place is given back
    ]
)


class Fronts(NamedTuple):
    """All fronts. The lowest bank of a pass is sent first; lane 0 is in bank `start`.

    Args:
        each: `FRONT` ``[groups]``.
        vectors: int64 ``[groups, vectors, 3]``, those that wait (`dispatch.Dispatch.vector`).
        passes: int64 ``[groups, PASSES, 5]``: lanes, column, place in the ring, 1 where it is its
            vector's last pass and 2 where its window's, and the bank of lane 0.
    """

    each: np.ndarray
    vectors: np.ndarray
    passes: np.ndarray


@njit(inline="always")
def new(stages):
    """Fronts without a vector."""
    each = np.zeros(stages.groups, FRONT)
    each["ready"][:] = 1
    return Fronts(
        each,
        np.zeros((stages.groups, stages.vectors, 3), np.int64),
        np.zeros((stages.groups, PASSES, 5), np.int64),
    )


@njit(inline="always")
def lowest(bits):
    """Number of the lowest bit that is set; 0 where none is."""
    number = 0
    while bits > 1 and not bits & 1:
        bits >>= 1
        number += 1
    return number


@njit()
def step(fronts, number, start, pass_, comes, vector, ready, stages):
    """A group's cycle: what it has for the PEs is in ``fronts.each[number]`` for the next one.

    Args:
        number: of the group.
        start: a pass begins.
        pass_: its record.
        comes: a vector does, ...
        vector: ... this one.
        ready: the PEs are.
    """
    front, passes = fronts.each[number], fronts.passes[number]
    # The sender, and the queue in front of it.
    after = front.send_mask & (front.send_mask - 1)
    sends = front.sends and front.ready
    ends = sends and not after
    pops = front.waits != 0 and (ends or not front.sends)
    front.out = sends
    if sends:
        lane = (lowest(front.send_mask) - front.send_start) % stages.neighbours
        front.out_column = (front.send_column + lane) % stages.columns
        front.out_base = front.send_base
        front.out_present = front.send_mask != 0
        front.out_last = ends and front.send_ends == 2
    front.back = ends and front.send_ends != 0
    front.ready = ready
    if ends or not front.sends:
        front.sends = pops
        if pops:
            head = passes[front.first]
            front.send_mask, front.send_column = head[0], head[1]
            front.send_base, front.send_ends, front.send_start = head[2], head[3], head[4]
            front.first = (front.first + 1) % PASSES
            front.waits -= 1
    elif sends:
        front.send_mask = after
    if front.made:
        tail = passes[(front.first + front.waits) % PASSES]
        tail[0], tail[1] = front.made_mask, front.made_column
        tail[2], tail[3], tail[4] = front.made_base, front.made_ends, front.made_start
        front.waits += 1

    goes = front.valid and front.taken < PASSES
    front.taken += goes - pops
    front.made = goes
    final = _makes(front, pass_, stages) if goes else 0
    if not front.valid or final:
        there = front.level != 0
        front.valid = there
        if there:
            head = fronts.vectors[number, front.head]
            front.masks, front.flags, front.column = head[0], head[1], head[2]
            front.columns = front.every = front.flags & 15
            front.rows = front.flags >> 4 & 15
            front.biases = False
            if not front.columns or not front.rows:
                _bias(front, pass_)
            front.head = (front.head + 1) % stages.vectors
            front.level -= 1
    if start:
        front.slot, front.slot_base = 1, 0
    if comes:
        tail = fronts.vectors[number, (front.head + front.level) % stages.vectors]
        tail[0], tail[1], tail[2] = vector[0], vector[1], vector[2]
        front.level += 1


@njit(inline="always")
def _makes(front, pass_, stages):
    """A pass of the vector; returns 1 where it is the vector's last, 2 where its window's."""
    a, b = lowest(front.rows), lowest(front.columns)
    flags = front.flags
    if front.biases:
        front.made_mask, front.made_start = pass_.bias, 0
        front.made_column = (pass_.column_base + pass_.bias_column) % stages.columns
    else:
        lanes = front.masks >> (LANES * b) & ((1 << LANES) - 1)
        front.made_start = front.flags >> 14
        turned = lanes << front.made_start
        front.made_mask = (turned | turned >> stages.neighbours) & ((1 << stages.neighbours) - 1)
        own = 0 if flags >> 8 & 1 else a * pass_.pixel_y_columns + b * pass_.pixel_x
        front.made_column = (front.column - own) % stages.columns
    front.made_base = front.slot_base + (a * (pass_.side + 1) + b) * pass_.local_rows
    rows, columns = front.rows & (front.rows - 1), front.columns & (front.columns - 1)
    last = flags >> 13 & 1
    final = 0
    if columns:
        front.columns = columns
    elif rows:
        front.rows, front.columns = rows, front.every
    elif last and not front.biases:
        _bias(front, pass_)
    else:
        final = 1 + last
    front.made_ends = final
    if final == 2:
        front.slot += 1
        front.slot_base += pass_.slot
        if front.slot > pass_.slots:
            front.slot, front.slot_base = 1, 0
    return final


@njit(inline="always")
def _bias(front, pass_):
    """On to the biases of the window's pixels, or to the mark alone."""
    front.biases = True
    front.rows = front.columns = 1
    if pass_.bias:
        front.columns = (2 << (front.flags >> 9 & 3)) - 1
        front.rows = (2 << (front.flags >> 11 & 3)) - 1
    front.every = front.columns

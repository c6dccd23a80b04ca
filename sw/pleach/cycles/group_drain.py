"""The drain of an engine with a map memory: windows out of the PEs of a group, and their values on
the way into rows of the memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pleach.compiled import njit
from pleach.engine.maps import MOST_SLOTS
from pleach.engine.pipeline import PLACES, WINDOW_TAKEN

DRAIN = np.dtype(
    [
        ("head", np.int64),  # of the windows given
        ("level", np.int64),  # of them, those that are not drained
        ("active", np.int64),  # one is drained: …
        ("x", np.int64),  # … this pixel, …
        ("y", np.int64),
        ("local", np.int64),  # … local row, …
        ("part", np.int64),  # … and part of the PEs next
        ("taken", np.int64),  # a bit for each of the cycles since one was taken
        ("places", np.int64),  # that values of it have in the packer
        # The step of the cycle before: a window is taken; a step is made, of that part of the PEs,
        # or of none, and gives values; what follows it.
        ("step_takes", np.int64),
        ("step_goes", np.int64),
        ("step_part", np.int64),
        ("step_gives", np.int64),
        ("step_lanes", np.int64),
        ("step_last", np.int64),
        ("next_part", np.int64),
        ("next_local", np.int64),
        ("next_pixel", np.int64),
        ("next_line", np.int64),
        ("address", np.int64),  # where its values go, …
        ("pixel_address", np.int64),  # … and where a pixel and a line of them begin
        ("line_address", np.int64),
        # What the drain gives: to the PEs, to the packer and to the dispatcher.
        ("takes", np.int64),
        ("hold", np.int64),
        ("given", np.int64),
        ("given_address", np.int64),
        ("given_lanes", np.int64),
        ("given_last", np.int64),
        ("on_way", np.int64),  # a bit for each age of values that are given later
        ("freed", np.int64),
    ]
)
PACKER = np.dtype(
    [
        ("turn", np.int64),  # whose group's it is, or -1
        ("head", np.int64),  # of the places
        ("level", np.int64),  # places
        ("arrived", np.int64),  # of them, those whose values are there
        ("beat", np.int64),  # values wait for their row, …
        ("beat_row", np.int64),  # … this one, …
        ("beat_last", np.int64),  # … and are the last of their window
        ("beyond", np.int64),  # the rest of the values at the head is of the next row
        ("held", np.int64),  # a row is collected, …
        ("row", np.int64),
        ("flush", np.int64),  # … and waits for its turn
        ("back", np.int64),  # a place was taken
        ("writes", np.int64),  # a row is written, …
        ("write_row", np.int64),
        ("written", np.int64),  # … a window's last
    ]
)
UNIT = np.dtype([("address", np.int64), ("edge_x", np.int64), ("edge_y", np.int64)])
PLACE = np.dtype([("address", np.int64), ("lanes", np.int64), ("last", np.int64)])


class GroupDrain(NamedTuple):
    """The drains and packers of all groups, and what waits in them.

    Args:
        drains: `DRAIN` ``[groups]``.
        packers: `PACKER` ``[groups]``.
        units: `UNIT` ``[groups, windows]``.
        places: `PLACE` ``[groups, places]``.
    """

    drains: np.ndarray
    packers: np.ndarray
    units: np.ndarray
    places: np.ndarray


@njit(inline="always")
def new(stages):
    """Drains without a window."""
    drains = np.zeros(stages.groups, DRAIN)
    packers = np.zeros(stages.groups, PACKER)
    drains["step_part"][:] = -1
    drains["hold"][:] = -1
    packers["turn"][:] = -1
    return GroupDrain(
        drains,
        packers,
        np.zeros((stages.groups, MOST_SLOTS + 1), UNIT),
        np.zeros((stages.groups, PLACES), PLACE),
    )


@njit(inline="always")
def step(drain, number, start, given, address, edge_x, edge_y, waiting, running, stages):
    """A group's cycle.

    What it gives is in ``drain.drains[number]`` (`takes` and `hold` to the PEs, `freed`) and in
    ``drain.packers[number]`` (`writes`, `write_row`, `written`).

    Args:
        number: of the group.
        start: of a pass.
        given: a window is, with that address and those edges.
        waiting: all PEs of the group have a window done.
        running: the pass, a row of the program's table.
    """
    back = drain.packers[number].back
    _pack(drain, number, start, stages)
    at = drain.drains[number]
    _place(at, number, drain.units[number, at.head].address, running, stages)
    _decide(drain, number, waiting, back, running, stages)
    if given:
        unit = drain.units[number, (at.head + at.level) % (MOST_SLOTS + 1)]
        unit.address = address
        unit.edge_x = edge_x
        unit.edge_y = edge_y
        at.level += 1


@njit(inline="always")
def rows_of(number, running, stages):
    """What a group has of a layer's rows: its last local one, and of that the last part and the
    lanes in use there; and the number of its first row."""
    parts = stages.width // stages.lanes
    members = (stages.groups - 1) >> running.teams
    member = members & number
    last = running.rows - 1
    last_group = last // stages.width & members
    within = last % stages.width
    last_local = running.local_rows - 1
    last_part = parts - 1
    lanes = stages.lanes
    if member == last_group:
        last_part = within // stages.lanes
        lanes = within % stages.lanes + 1
    elif member > last_group and last_local:
        last_local -= 1
    elif member > last_group:
        last_part = lanes = 0
    return last_local, last_part, lanes, member * stages.width


@njit(inline="always")
def _place(at, number, address_of_unit, running, stages):
    """Where the values of a step go, and what the registers behind it show."""
    at.hold = at.step_part
    at.given = at.step_gives
    at.given_address = at.address
    at.given_lanes = at.step_lanes
    at.given_last = at.step_last
    if at.step_takes:
        following = address_of_unit + rows_of(number, running, stages)[3]
    elif at.next_pixel and at.next_line:
        following = at.line_address + running.line
    elif at.next_pixel:
        following = at.pixel_address + running.pixel
    elif at.next_local:
        own = stages.groups * stages.width >> running.teams
        following = at.address + own - stages.width + stages.lanes
    else:
        following = at.address + stages.lanes
    if at.step_takes or (at.step_goes and at.next_part):
        at.address = following
        if at.step_takes or at.next_pixel:
            at.pixel_address = following
        if at.step_takes or (at.next_pixel and at.next_line):
            at.line_address = following


@njit(inline="always")
def _decide(drain, number, waiting, back, running, stages):
    """Whether a window is taken, or which step is made."""
    at = drain.drains[number]
    unit = drain.units[number, at.head]
    parts = stages.width // stages.lanes
    last_local, last_part, last_lanes, _ = rows_of(number, running, stages)
    takes = at.level > 0 and waiting and not at.active and not at.taken
    at.taken = (at.taken << 1 | takes) & ((1 << (WINDOW_TAKEN - 1)) - 1)
    goes = at.active and at.places < PLACES
    outside = at.x > unit.edge_x
    pixels_end = at.x == unit.edge_x and at.y == unit.edge_y
    x_end = at.x == running.side
    local_end = at.local == last_local
    part_end = at.part == (last_part if local_end else parts - 1)
    next_part = pixels_end or not running.pooled
    next_local = next_part and (part_end or outside)
    ends = next_local and (local_end or outside)
    done = ends and pixels_end
    gives = goes and next_part and not outside
    at.takes = takes
    at.freed = goes and done
    at.step_takes = takes
    at.step_goes = goes
    at.step_part = at.part if goes and not outside else -1
    at.step_gives = gives
    at.step_lanes = last_lanes if local_end and at.part == last_part else stages.lanes
    at.step_last = done
    at.next_part = next_part
    at.next_local = next_local
    at.next_pixel = ends and not running.pooled
    at.next_line = x_end
    at.places += gives - back
    at.on_way = at.on_way << 1 | gives
    if goes:
        if running.pooled or ends:
            if x_end or done:
                at.x = 0
                at.y = 0 if pixels_end else at.y + 1
            else:
                at.x += 1
        if next_part:
            at.part = 0 if next_local else at.part + 1
        if next_local:
            at.local = 0 if ends else at.local + 1
    if takes:
        at.active = True
    elif goes and done:
        at.active = False
        at.head = at.head + 1 if at.head < MOST_SLOTS else 0
        at.level -= 1


@njit(inline="always")
def _pack(drain, number, start, stages):
    """The packer's cycle, from what the drain shows."""
    at = drain.packers[number]
    shown = drain.drains[number]
    size = stages.neighbours
    ours = at.turn == number
    if start:
        at.turn = 0
    elif at.turn >= 0:
        at.turn = at.turn + 1 if at.turn + 1 < stages.groups else 0
    other = at.beat_row != at.row
    emits = ours and at.held and (at.flush or (at.beat and other))
    taken = at.beat and (not at.held or emits or (not at.flush and not other))
    at.writes = emits
    at.write_row = at.row if emits else 0
    at.written = emits and at.flush
    if taken:
        at.held = True
        at.row = at.beat_row
        at.flush = at.beat_last
    elif emits:
        at.held = False
    loads = at.arrived > 0 and (not at.beat or taken)
    at.back = False
    if loads:
        place = drain.places[number, at.head]
        crosses = not at.beyond and place.address % size + place.lanes > size
        at.beat_row = place.address // size + at.beyond
        at.beat_last = place.last and not crosses
        at.beyond = crosses
        if not crosses:
            at.back = True
            at.head = at.head + 1 if at.head + 1 < PLACES else 0
            at.level -= 1
            at.arrived -= 1
    if loads or taken:
        at.beat = loads
    if shown.given:
        place = drain.places[number, (at.head + at.level) % PLACES]
        place.address = shown.given_address
        place.lanes = shown.given_lanes
        place.last = shown.given_last
        at.level += 1
    at.arrived += shown.on_way >> (stages.map_given - 1) & 1

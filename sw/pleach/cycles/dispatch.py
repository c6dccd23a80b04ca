"""Windows in their order, the reads of each team's windows, and the vectors that become of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import NamedTuple

import numpy as np

from pleach.compiled import njit
from pleach.engine.maps import MapPass
from pleach.engine.pipeline import MAP_READ

#: from a team's turn to its vector at the fronts
VECTOR = 4 + MAP_READ
#: output pixels of a window's row, at most; bits that the lanes for one of them take of `masks`
SIDE, LANES = 4, 16
#: cycles after the start of a pass in which no window of the largest is given
FILLS = 8

PASS = np.dtype([(field.name, np.int64) for field in fields(MapPass)])

GENERATOR = np.dtype(
    [
        ("running", np.int64),  # a pass is
        ("since", np.int64),  # cycles since it began
        ("team", np.int64),  # whose turn it is
        ("walks", np.int64),  # windows that the dispatcher has not come to
        ("clipped", np.int64),  # one is at its second stage, …
        ("valid", np.int64),  # … at its last
        ("across", np.int64),  # the next one to give: its place in its row, …
        ("down", np.int64),  # … and the row
        ("under_way", np.int64),  # windows given and not written, of all groups
        ("written", np.int64),  # in the cycle before
        ("done", np.int64),  # all are, told in this cycle
        ("at", np.int64),  # of the vectors on their way, the one that arrives next
    ]
)
TEAM = np.dtype(
    [
        ("busy", np.int64),  # it has a window
        ("may_read", np.int64),  # all its groups have room for a vector, …
        ("may_take", np.int64),  # … and a slot, by the counters of the cycle before
        *((name, np.int64) for name in ("end", "place_end", "column_end", "left", "run")),
        *((name, np.int64) for name in ("rows_left", "rows_end", "skip_end", "edge_x", "edge_y")),
        *((name, np.int64) for name in ("skipping", "a", "b")),
    ]
)
GROUP = np.dtype(
    [
        ("taken", np.int64),  # places for vectors
        ("back", np.int64),  # given back, in the cycle before
        ("given", np.int64),  # slots of the ring
        ("vector", np.int64),  # one arrives
        ("dropped", np.int64),  # one was dropped instead
        ("unit", np.int64),  # a window is given to its drain: `address`, `edge_x`, `edge_y`
    ]
)


class Dispatch(NamedTuple):
    """All of it.

    Args:
        one: `GENERATOR` ``[1]``.
        teams, groups: `TEAM`, `GROUP` ``[groups]``.
        on_way: int64 ``[VECTOR - 1, 4]``: of the vectors on their way, the team, or -1, and what is
            in `vector`.
        vector: int64 ``[3]``, what arrives in this cycle where a group's `vector` is set: lanes for
            the pixels of a row, `LANES` bits each; its flags (`front` has them); its column.
        unit: int64 ``[3]``: address, edges to the right and below of the window given.
    """

    one: np.ndarray
    teams: np.ndarray
    groups: np.ndarray
    on_way: np.ndarray
    vector: np.ndarray
    unit: np.ndarray


def table(passes: Iterable[MapPass]) -> np.ndarray:
    """Passes as the functions here take them, `PASS` ``[passes]``."""
    names = [field.name for field in fields(MapPass)]
    return np.array([tuple(int(getattr(each, n)) for n in names) for each in passes], PASS)


@njit(inline="always")
def new(stages):
    """Nothing under way."""
    on_way = np.zeros((VECTOR - 1, 4), np.int64)
    on_way[:, 0] = -1
    return Dispatch(
        np.zeros(1, GENERATOR),
        np.zeros(stages.groups, TEAM),
        np.zeros(stages.groups, GROUP),
        on_way,
        np.zeros(3, np.int64),
        np.zeros(3, np.int64),
    )


@njit()
def step(dispatch, start, pass_, active, fronts, freed, written, stages):
    """A cycle. What arrives at the fronts and the drains is there for the next one.

    Args:
        start: a pass begins.
        pass_: its record, of `PASS`.
        active: which values of the map memory are not zero.
        fronts: state of the fronts, of which `back` is looked at, a group each.
        freed, written: int64 ``[groups]``, windows that left the ring, or are written.
    """
    one, groups = dispatch.one[0], dispatch.groups
    serves = takes = False
    team = dispatch.teams[min(one.team, stages.groups - 1)]
    if one.team < 1 << pass_.teams:
        blocked = pass_.side == SIDE - 1 and one.since <= FILLS
        takes = not team.busy and team.may_take and team.may_read and one.valid and not blocked
        serves = takes or (team.busy and team.may_read)
    number, gang = one.team, stages.groups >> pass_.teams
    _may(dispatch, pass_, gang, stages)

    # A vector arrives, or is dropped: it was read as many cycles ago as there are places.
    way = dispatch.on_way[one.at]
    arrived, flags = way[0], way[2]
    keeps = flags >> 13 & 1 != 0 or (flags & 15 != 0 and flags >> 4 & 15 != 0)
    all_written = 0
    for group in range(stages.groups):
        each = groups[group]
        mine = serves and group // gang == number
        each.taken += mine - each.back
        each.back = fronts[group].back + each.dropped
        each.given += (takes and mine) - freed[group]
        comes = arrived >= 0 and group // gang == arrived
        each.vector = comes and keeps
        each.dropped = comes and not keeps
        each.unit = takes and mine
        all_written += written[group]
    if arrived >= 0:
        dispatch.vector[0], dispatch.vector[1], dispatch.vector[2] = way[1], flags, way[3]
    way[0] = -1

    more = one.walks or one.clipped or one.valid
    done = one.running and not one.done and not more and one.under_way == 0
    if one.done:
        one.running = False
    one.done = done
    one.under_way += takes * gang - one.written
    one.written = all_written
    if takes:
        _give(dispatch, team, pass_, stages)
    if serves:
        way[0] = number
        _read(team, way, pass_, active, stages)
    if takes or not one.valid:
        one.valid, one.clipped = one.clipped, one.walks != 0
        one.walks -= one.walks != 0
    one.team = number + 1 if number + 1 < max(2, 1 << pass_.teams) else 0
    one.since += 1
    one.at = one.at + 1 if one.at + 1 < VECTOR - 1 else 0
    if start:
        one.running, one.since, one.team = True, 1, 0
        one.walks = pass_.units_x * pass_.units_y
        one.clipped = one.valid = one.across = one.down = 0


@njit(inline="always")
def _may(dispatch, pass_, gang, stages):
    """What the teams may do in the next cycle."""
    for number in range(1 << pass_.teams):
        team = dispatch.teams[number]
        team.may_read = team.may_take = True
        for group in range(number * gang, (number + 1) * gang):
            each = dispatch.groups[group]
            if each.taken >= stages.vectors:
                team.may_read = False
            if each.given == pass_.slots:
                team.may_take = False


@njit(inline="always")
def _give(dispatch, team, pass_, stages):
    """The next window to a team: its patch clipped to the map, its outputs to the drains."""
    one, unit = dispatch.one[0], dispatch.unit
    across, down = one.across, one.down
    last_across = across + 1 == pass_.units_x
    x = pass_.x_first + across * pass_.x_step
    y = pass_.y_first + down * pass_.y_step
    end = min(x + pass_.patch_row, pass_.map_row)
    run = end - max(x, 0)
    team.rows_end = min(pass_.map_rows - y, pass_.patch_rows)
    rows = team.rows_end - max(-y, 0)
    some = run > 0 and rows > 0
    column = pass_.column_first - down * pass_.column_step if y < 0 else 0
    team.busy = True
    team.end = pass_.source + max(pass_.row_first + down * pass_.row_step, 0) + end
    team.place_end = end - x
    team.column_end = pass_.column_base + column + end - x
    team.left = run if some else 0
    team.run = run
    team.rows_left = rows if some else 1
    skip = pass_.skip_source + pass_.skip
    steps = across + down * (pass_.units_x - 1)
    team.skip_end = skip + steps * pass_.skip_unit_x + down * pass_.skip_unit_y
    unit[0] = pass_.sink + steps * pass_.unit_x + down * pass_.unit_y
    unit[1] = team.edge_x = pass_.edge_x if last_across else pass_.side
    unit[2] = team.edge_y = pass_.edge_y if down + 1 == pass_.units_y else pass_.side
    team.skipping = team.a = team.b = 0
    one.across = 0 if last_across else across + 1
    one.down += last_across


@njit(inline="always")
def _read(team, way, pass_, active, stages):
    """A team's read: the vector, and what is left then."""
    count = min(team.left, stages.neighbours)
    first, place = team.end - team.left, team.place_end - team.left
    row = team.rows_end - team.rows_left
    found = 0
    for lane in range(count):
        if active[first + lane]:
            found |= 1 << lane
    masks = some = rows = 0
    if team.skipping:
        masks, rows = found << (LANES * team.b), 1 << team.a
        some = (found != 0) << team.b
    else:
        for pixel in range(SIDE):
            above = row - pixel * pass_.pixel_y
            if pixel <= team.edge_y and 0 <= above < pass_.kernel_rows:
                rows |= 1 << pixel
            begin = min(max(pixel * pass_.pixel_x - place, 0), count)
            end = min(max(pixel * pass_.pixel_x + pass_.kernel_row - place, 0), count)
            lanes = found & ((1 << end) - 1) & ~((1 << begin) - 1)
            if pixel <= team.edge_x and lanes:
                masks |= lanes << (LANES * pixel)
                some |= 1 << pixel
    way[1] = masks
    way[3] = (team.column_end - team.left) % stages.columns
    flags = some | rows << 4 | team.skipping << 8 | team.edge_x << 9 | team.edge_y << 11
    flags |= first % stages.neighbours << 14

    over = False
    if team.left > stages.neighbours:
        team.left -= stages.neighbours
    elif not team.skipping and team.rows_left != 1:
        team.left = team.run
        team.end += pass_.map_row
        team.column_end += pass_.kernel_row
        team.rows_left -= 1
    else:
        if not team.skipping:
            team.end = team.skip_end
            over = pass_.skip == 0
        elif team.b != team.edge_x:
            team.end += pass_.skip_x
            team.b += 1
        else:
            over = team.a == team.edge_y
            team.skip_end += pass_.skip_y
            team.end = team.skip_end
            team.a += 1
            team.b = 0
        team.left = pass_.skip
        team.column_end = pass_.column_base + pass_.bias_column
        team.skipping = True
    team.busy = not over
    way[2] = flags | over << 13

"""The pool unit: its cycles follow from the record of its pass alone."""

from __future__ import annotations

from pleach.engine.maps import MapPass
from pleach.engine.pipeline import MAP_READ, REQUANTIZE


def cycles(pass_: MapPass) -> int:
    """From the cycle of its start to that of its end, both included.

    Each window takes a cycle for each of its places, but no fewer than values leave it.

    >>> cycles(MapPass(units_x=3, kernel_row=16, kernel_rows=2, pixel=8, group_channels=8))
    40
    """
    places = pass_.kernel_rows * pass_.kernel_row // pass_.pixel
    leave = pass_.group_channels
    windows = pass_.units_x * pass_.units_y * pass_.pixel // leave
    # On the way: two registers of the address, the memory, three of the sum, two of the write.
    on_way = 2 + MAP_READ + 3 + REQUANTIZE + 1
    return (windows - 1) * max(places, leave) + places + leave + on_way

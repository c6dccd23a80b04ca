"""ULX3S: an ECP5 of 25, 45 or 85 thousand cells."""

from __future__ import annotations

from pleach.engine import EngineConfig
from pleach_hw.boards.definition import Board, constraints


def _ulx3s(size: int, *, lut4: int, bram: int, mult: int, pes: int = 16) -> Board:
    """With an ECP5 of `size` thousand cells."""
    return Board(
        name=f"ulx3s-{size}f",
        family="ecp5",
        device=f"LFE5U-{size}F",
        speed="6",
        nextpnr=(f"--{size}k", "--package", "CABGA381", "--speed", "6"),
        constraints=constraints("ulx3s.lpf"),
        lut4=lut4,
        bram=bram,
        mult=mult,
        spram=0,
        engine=EngineConfig(pes=pes),
    )


BOARDS = (
    _ulx3s(25, lut4=24_288, bram=56, mult=28, pes=8),
    _ulx3s(45, lut4=43_848, bram=108, mult=72),
    _ulx3s(85, lut4=83_640, bram=208, mult=156),
)

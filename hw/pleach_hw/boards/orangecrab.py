"""OrangeCrab r0.2: an ECP5 of 25 or 85 thousand cells. Its USB goes to the chip itself, so that the
serial port is a cable's at pins 0 (the chip receives) and 1 (it sends) of the connector."""

from __future__ import annotations

from amaranth.build import Attrs
from amaranth_boards import orangecrab_r0_2
from amaranth_boards.resources import LEDResources, UARTResource

from pleach.engine import EngineConfig
from pleach_hw.boards.definition import Board

_3V3 = Attrs(IO_TYPE="LVCMOS33")


def _orangecrab(size: int, *, lut4: int, bram: int, mult: int, pes: int) -> Board:
    """With an ECP5 of `size` thousand cells."""
    return Board(
        name=f"orangecrab-{size}f",
        platform=getattr(orangecrab_r0_2, f"OrangeCrabR0_2_{size}FPlatform"),
        resources=(
            UARTResource(0, rx="0", tx="1", conn=("io", 0), attrs=_3V3),
            *LEDResources(pins="M3 J3 K4", invert=True, attrs=_3V3),  # of the RGB one: green first
        ),
        lut4=lut4,
        bram=bram,
        mult=mult,
        engine=EngineConfig(pes=pes),
        program=("dfu-util", "-a", "0", "-D"),
    )


BOARDS = (
    _orangecrab(25, lut4=24_288, bram=56, mult=28, pes=8),
    _orangecrab(85, lut4=83_640, bram=208, mult=156, pes=16),
)

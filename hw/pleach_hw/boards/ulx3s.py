"""ULX3S: an ECP5 of 12, 25, 45 or 85 thousand cells."""

from __future__ import annotations

from amaranth_boards import ulx3s

from pleach.engine import EngineConfig
from pleach_hw.boards.definition import Board, Flash

LOADER = ("openFPGALoader", "-b", "ulx3s")
# Of the boards that were sold the smallest flash has 4 MB, and a bitstream of the 85F at most 1.9.
FLASH = Flash(
    resource="spi_flash",
    size=1 << 22,
    address=0x20_0000,
    bitstream=(*LOADER, "-f"),
    image=(*LOADER, "-f", "-o", f"{0x20_0000}"),
)


def _ulx3s(size: int, *, lut4: int, bram: int, mult: int, pes: int = 16) -> Board:
    """With an ECP5 of `size` thousand cells."""
    return Board(
        name=f"ulx3s-{size}f",
        platform=getattr(ulx3s, f"ULX3S_{size}F_Platform"),
        lut4=lut4,
        bram=bram,
        mult=mult,
        engine=EngineConfig(pes=pes),
        program=LOADER,
        flash=FLASH,
    )


BOARDS = (
    # The smallest is sold with the 25F's chip, by another name.
    _ulx3s(12, lut4=24_288, bram=56, mult=28, pes=8),
    _ulx3s(25, lut4=24_288, bram=56, mult=28, pes=8),
    _ulx3s(45, lut4=43_848, bram=108, mult=72),
    _ulx3s(85, lut4=83_640, bram=208, mult=156),
)

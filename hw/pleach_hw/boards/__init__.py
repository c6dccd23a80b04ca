"""The boards that Pleach knows: chip, clock and resources. Pins are in ``constraints/``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pleach.engine import EngineConfig
from pleach.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board and the chip on it.

    Args:
        name: as given to `board`.
        family: of the chip, as ``family`` of Amaranth's platforms: a board is platform enough for
            `pleach_hw.primitives`.
        device, package, speed: of the chip; ``speed`` is the grade.
        nextpnr: nextpnr's options for them.
        clock_mhz, clock_pin: the oscillator and the pin that it drives.
        lut4, bram, mult, spram: what the chip has: 4-input tables, block RAMs (of 18 Kbit on ECP5,
            4 on iCE40), multipliers, single-port RAMs of 256 Kbit.
        engine: one that fits it.
    """

    name: str
    family: str
    device: str
    package: str
    speed: str
    nextpnr: tuple[str, ...]
    clock_mhz: float
    clock_pin: str
    lut4: int
    bram: int
    mult: int
    spram: int
    engine: EngineConfig

    def graded(self, speed: str) -> Board:
        """The same chip at another speed grade.

        >>> board("ulx3s-85f").graded("8").nextpnr[-1]
        '8'

        Raises:
            ConfigError: the chip comes in one.
        """
        if "--speed" not in self.nextpnr:
            raise ConfigError(f"{self.device} of {self.name} comes in one speed grade")
        options = list(self.nextpnr)
        options[options.index("--speed") + 1] = speed
        return replace(self, speed=speed, nextpnr=tuple(options))

    def holds(self, *, lut4: int, bram: int, mult: int) -> bool:
        """Whether the chip has that much."""
        return lut4 <= self.lut4 and bram <= self.bram and mult <= self.mult


def _ulx3s(size: int, *, lut4: int, bram: int, mult: int, pes: int = 16) -> Board:
    """A ULX3S with an ECP5 of `size` thousand cells."""
    return Board(
        name=f"ulx3s-{size}f",
        family="ecp5",
        device=f"LFE5U-{size}F",
        package="CABGA381",
        speed="6",
        nextpnr=(f"--{size}k", "--package", "CABGA381", "--speed", "6"),
        clock_mhz=25.0,
        clock_pin="G2",
        lut4=lut4,
        bram=bram,
        mult=mult,
        spram=0,
        engine=EngineConfig(pes=pes),
    )


_ICEBREAKER = Board(
    name="icebreaker",
    family="iCE40",
    device="iCE40UP5K",
    package="SG48",
    speed="",
    nextpnr=("--up5k", "--package", "sg48"),
    clock_mhz=12.0,
    clock_pin="35",
    lut4=5280,
    bram=30,
    mult=8,
    spram=4,
    # Each PE has a single-port RAM for its entries, and a pointer of 16 bits.
    engine=EngineConfig(
        pes=4,
        lanes=1,
        layers=3,
        columns=256,
        entries=1024,
        codebook=128,
        accumulators=32,
        accumulator_bits=32,
        vectors=1,
        outputs=32,
        queue_depth=8,
        ram_latency=1,
        serial_loader=True,
    ),
)


_BOARDS = {
    board.name: board
    for board in (
        _ulx3s(25, lut4=24_288, bram=56, mult=28, pes=8),
        _ulx3s(45, lut4=43_848, bram=108, mult=72),
        _ulx3s(85, lut4=83_640, bram=208, mult=156),
        _ICEBREAKER,
    )
}


def board(name: str) -> Board:
    """The board called `name`.

    >>> board("ulx3s-85f").bram
    208

    Raises:
        ConfigError: no such board; names those there are.
    """
    try:
        return _BOARDS[name]
    except KeyError:
        raise ConfigError(f"no board is called {name!r}; there are {', '.join(_BOARDS)}") from None


def boards() -> tuple[Board, ...]:
    """All boards."""
    return tuple(_BOARDS.values())

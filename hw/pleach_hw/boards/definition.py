"""What a board is to Pleach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pleach_hw
from pleach.engine import EngineConfig
from pleach.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board and the chip on it.

    Args:
        name: as given to `board`.
        family: of the chip, as ``family`` of Amaranth's platforms: a board is platform enough for
            `pleach_hw.primitives`. `pleach_hw.build.flows` has a file for each.
        device, speed: the chip and its speed grade.
        nextpnr: nextpnr's options for them.
        constraints: the file of its pins and of its oscillator's clock, which drives port ``clk``;
            in the form that the family's tools read.
        lut4, bram, mult, spram: what the chip has: 4-input tables, block RAMs (of 18 Kbit on ECP5,
            4 on iCE40), multipliers, single-port RAMs of 256 Kbit.
        engine: one that fits it.
    """

    name: str
    family: str
    device: str
    speed: str
    nextpnr: tuple[str, ...]
    constraints: Path
    lut4: int
    bram: int
    mult: int
    spram: int
    engine: EngineConfig

    def graded(self, speed: str) -> Board:
        """The same chip at another speed grade.

        >>> from pleach_hw.boards import board
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


def constraints(name: str) -> Path:
    """The file of that name in the repository's ``constraints/``, which a wheel has in the package.

    >>> constraints("icebreaker.pcf").exists()
    True
    """
    package = Path(pleach_hw.__file__).parent
    installed = package / "constraints"
    return (installed if installed.exists() else package.parents[1] / "constraints") / name

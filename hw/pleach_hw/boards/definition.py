"""What a board is to Pleach."""

from __future__ import annotations

from dataclasses import dataclass, replace

from amaranth.build import Resource, TemplatedPlatform
from amaranth.vendor import GowinPlatform, LatticePlatform, SiliconBluePlatform

from pleach.engine import EngineConfig
from pleach.errors import ConfigError

#: the families of chips, by what Amaranth's platforms for them are
FAMILIES = {LatticePlatform: "ecp5", SiliconBluePlatform: "iCE40", GowinPlatform: "gowin"}


@dataclass(frozen=True, kw_only=True)
class Flash:
    """A SPI flash that a board's chip reads while it runs, with a network's image in it.

    Args:
        resource: its name among the platform's: ``cs``, ``copi``, ``cipo``, and ``clk`` where the
            chip has no cell of its own for that; ``wp`` and ``hold`` where they are.
        size: bytes.
        address: of the image's first byte; of the flash that the chip configures itself from,
            behind the bitstream.
        bitstream, image: commands that write the bitstream, for good, and the image; the file's
            path is added.
    """

    resource: str = "spi_flash_1x"
    size: int
    address: int
    bitstream: tuple[str, ...]
    image: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board and the chip on it.

    Args:
        name: as given to `board`.
        platform: class of Amaranth's platform: pins, oscillator and chip; one of amaranth-boards,
            or another in that form.
        resources: pins that the platform has no name for. A board's top wants ``uart`` 0, takes
            ``led`` 0, 1 and 2 (heartbeat, model held, error) and ``button`` 0 (reset) where they
            are.
        lut4, bram, mult, spram: what the chip has: 4-input tables, block RAMs (of 18 Kbit, on iCE40
            of 4), multipliers, single-port RAMs of 256 Kbit.
        engine: one that fits it.
        baud: of its serial port.
        program: the command that hands it a bitstream, whose path is added.
        flash: where an engine may load itself from; `None` where its pins are not known.
    """

    name: str
    platform: type[TemplatedPlatform]
    resources: tuple[Resource, ...] = ()
    lut4: int
    bram: int
    mult: int
    spram: int = 0
    engine: EngineConfig
    baud: int = 1_000_000
    program: tuple[str, ...] = ()
    flash: Flash | None = None

    @property
    def family(self) -> str:
        """Of the chip; `pleach_hw.build.flows` has a file for each.

        A board is platform enough for `pleach_hw.primitives`, which ask for this.

        Raises:
            ConfigError: another than those.
        """
        for kind, family in FAMILIES.items():
            if issubclass(self.platform, kind):
                return family
        raise ConfigError(
            f"the chip of {self.name} is of {self.platform.__name__}, and chips are of "
            f"{' or '.join(FAMILIES.values())}"
        )

    @property
    def device(self) -> str:
        """The chip."""
        return str(getattr(self.platform, "device", None) or getattr(self.platform, "part", ""))

    @property
    def speed(self) -> str:
        """The chip's speed grade, where nextpnr is told of it apart."""
        return str(getattr(self.platform, "speed", "")) if self.family == "ecp5" else ""

    def pins(self) -> TemplatedPlatform:
        """A platform to elaborate one top for, as Amaranth has it."""
        platform = self.platform()
        platform.add_resources(self.resources)
        return platform

    def graded(self, speed: str) -> Board:
        """The same chip at another speed grade.

        >>> from pleach_hw.boards import board
        >>> board("ulx3s-85f").graded("8").speed
        '8'

        Raises:
            ConfigError: the chip comes in one.
        """
        if not self.speed:
            raise ConfigError(f"{self.device} of {self.name} comes in one speed grade")
        graded = type(self.platform.__name__, (self.platform,), {"speed": speed})
        return replace(self, platform=graded)

    def holds(self, *, lut4: int, bram: int, mult: int) -> bool:
        """Whether the chip has that much."""
        return lut4 <= self.lut4 and bram <= self.bram and mult <= self.mult

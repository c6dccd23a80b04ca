"""What there is to know of a family's tools."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pleach.errors import ConfigError


@dataclass(frozen=True)
class Constraints:
    """A board's pins and its clock, as its file has them.

    ``sites`` are the pins by the port that each has; ``clock_mhz`` is the oscillator's, which
    drives port ``clk``; ``text`` is the file.
    """

    sites: dict[str, str]
    clock_mhz: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Flow:
    """How a family of chips is synthesised with Yosys and routed with nextpnr.

    Args:
        family: as `pleach_hw.boards.Board` has it.
        script: Yosys's, from ``top.v`` to ``netlist.json``.
        nextpnr: module and function.
        pins_option, pins_file: nextpnr's option for constraints, and a file's name.
        anywhere: the option that lets ports without a pin be anywhere.
        locate: a line of constraints that puts ``{port}`` at ``{site}``.
        located, clocked: patterns of such a line, with the port and its site, and of the one that
            gives a clock, with the port and its MHz.
        netlist: types of cells, as patterns, with their weights for each field of `SynthResult`.
        report: names in nextpnr's report for the fields that it tells.
        cells: the types of cells that `pleach_hw.primitives` instantiates, and the resource that
            each takes.
        block_rams: those that a memory of so many words and bits takes where it is inferred, `None`
            where all are instantiated.
    """

    family: str
    script: str
    nextpnr: tuple[str, str]
    pins_option: str
    pins_file: str
    anywhere: str
    locate: str
    located: str
    clocked: str
    netlist: dict[str, dict[str, int]]
    report: dict[str, str]
    cells: dict[str, str]
    block_rams: Callable[[int, int], int] | None = None

    def constraints(self, path: Path) -> Constraints:
        """Read a board's file.

        Raises:
            ConfigError: it cannot be read, puts two ports at one pin, or has no pin or no frequency
                for port ``clk``.
        """
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise ConfigError(f"no constraints are in {path}: {error.strerror}") from error
        lines = re.sub(r"(#|//).*", "", text)
        sites = dict(re.findall(self.located, lines, re.M))
        clocks = dict(re.findall(self.clocked, lines, re.M))
        if "clk" not in sites or "clk" not in clocks:
            what = "frequency" if "clk" in sites else "pin"
            line = self.locate.format(port="clk", site="SITE")
            raise ConfigError(
                f"{path}: no {what} of port clk; write {line} and its frequency, as the files in "
                "constraints/ do"
            )
        for port, site in sites.items():
            others = [other for other, there in sites.items() if there == site and other != port]
            if others:
                raise ConfigError(f"{path}: {port} and {others[0]} are both at {site}")
        return Constraints(sites, float(clocks["clk"]), text)

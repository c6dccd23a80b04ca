"""What there is to know of a family's tools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amaranth.hdl import Module, Signal

from pleach.errors import ToolError
from pleach_hw.boards import Board


@dataclass(frozen=True, kw_only=True)
class Pll:
    """A phase-locked loop's settings.

    Args:
        mhz: that it makes.
        dividers: the cell's parameters that decide it.
    """

    mhz: float
    dividers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """How a family of chips is synthesised with Yosys, routed with nextpnr and packed.

    Args:
        family: as `pleach_hw.boards.Board` has it.
        script: Yosys's for a board's chip, from ``top.v`` to ``netlist.json``.
        nextpnr: module and function.
        options: nextpnr's for a board's chip.
        pins: nextpnr's options for a file of constraints, ``{}``, and how its name ends.
        locate: a line of constraints that puts ``{port}`` at ``{site}``.
        anywhere: options that let ports without a pin be anywhere.
        routed: nextpnr's option for what it writes, and the file.
        pack: the tool that makes a bitstream of that, and its arguments.
        bitstream: the bitstream's name.
        netlist: types of cells, as patterns, with their weights for each field of `SynthResult`.
        report: names in nextpnr's report for the fields that it tells.
        cells: the types of cells that `pleach_hw.primitives` instantiates, and the resource that
            each takes.
        block_rams: those that a memory of so many words and bits takes where it is inferred, and
            whether it is a `BlockRam` or a `LutRam`; `None` where all are instantiated.
        pll: the settings for the highest clock of at most some MHz, from a clock of some MHz.
        pll_clock: the type of the PLL's cell and the port of its clock.
        set_pll: gives the PLL other settings in a folder with what nextpnr wrote, and leaves what
            is packed.
        clocks: adds the PLL for a clock's pin to a module, and drives with it: the PLL's clock, the
            oscillator's, and whether the PLL is locked.
        flash_clock: drives the clock of the flash that the chip configures itself from, where that
            has no pin, by a cell.
    """

    family: str
    script: Callable[[Board], str]
    nextpnr: tuple[str, str]
    options: Callable[[Board], list[str]]
    pins: tuple[tuple[str, ...], str]
    locate: str
    anywhere: tuple[str, ...] = ()
    routed: tuple[str, str]
    pack: Callable[[Board], tuple[tuple[str, str], list[str]]]
    bitstream: str
    netlist: dict[str, dict[str, int]]
    report: dict[str, str]
    cells: dict[str, str]
    block_rams: Callable[[int, int, bool], int] | None = None
    pll: Callable[[Board, float, float], Pll]
    pll_clock: tuple[str, str]
    set_pll: Callable[[Board, Path, Pll], None]
    clocks: Callable[[Module, Board, Any, Pll, Signal, Signal, Signal], None]
    flash_clock: Callable[[Module, Signal], None] | None = None


def set_cells(design: dict[str, Any], kind: str, parameters: dict[str, str]) -> None:
    """Give the one cell of a type other parameters, in a design as Yosys and nextpnr write it.

    Raises:
        ToolError: there is not one, or it has no such parameters.
    """
    cells = [cell for cell in design["modules"]["top"]["cells"].values() if cell["type"] == kind]
    if len(cells) != 1 or not parameters.keys() <= cells[0]["parameters"].keys():
        raise ToolError(f"the design has {len(cells)} cells {kind}, and there is to be one")
    cells[0]["parameters"].update(parameters)

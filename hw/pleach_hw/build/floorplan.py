"""Sites for the hard blocks of processing elements: those of each PE side by side.

A placer that spreads block RAMs and multipliers over the chip, each kind by itself, tears PEs apart
where most of the sites are taken: their logic then lies tens of tiles from their memories. With the
hard blocks fixed, a PE's logic gathers around them, and PEs broadcast to together lie in a row.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

_PE = re.compile(r"(?:.*\.)?pe_(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class _Sites:
    """Hard blocks come in bundles of four, of RAMs or of multipliers: the columns in which bundles
    begin, and the rows of either kind. From Project Trellis' ``tilegrid.json``."""

    columns: tuple[int, ...]
    ram_rows: tuple[int, ...]
    mult_rows: tuple[int, ...]

    def rams(self, row: int) -> list[tuple[int, str]]:
        """The column and the name of each RAM of a row, from left to right."""
        return [
            (column + 2 * n, f"X{column + 2 * n}/Y{row}/EBR{n}")
            for column in self.columns
            for n in range(4)
        ]

    def mults(self) -> dict[str, tuple[int, int]]:
        """Column and row of each multiplier by its name."""
        return {
            f"X{column + n}/Y{row}/MULT18_{n}": (column + n, row)
            for row in self.mult_rows
            for column in self.columns
            for n in (0, 1, 4, 5)
        }


_DEVICES = {
    "LFE5U-25F": _Sites(
        columns=(4, 13, 22, 33, 42, 51, 60), ram_rows=(25, 37), mult_rows=(13,)
    ),
    "LFE5U-45F": _Sites(
        columns=(4, 13, 22, 31, 42, 51, 60, 69, 78), ram_rows=(10, 34, 58), mult_rows=(22, 46)
    ),
    "LFE5U-85F": _Sites(
        columns=(4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114),
        ram_rows=(22, 46, 70, 82),
        mult_rows=(10, 34, 58),
    ),
}  # fmt: skip
_DEVICES["LFE5U-12F"] = _DEVICES["LFE5U-25F"]  # the same by another name


def floorplan(types: dict[str, str], device: str) -> dict[str, str]:
    """The site, as nextpnr names it, of each RAM and multiplier of the PEs in a design.

    PEs go in their order into as few rows of RAMs as hold them, those in the middle of the chip,
    as many in each; a gap in the middle of the rows is left to what all PEs have in common. Each
    multiplier goes to the site next to its PE's RAMs, the inner one of two.

    Where most of the RAMs are free nothing is fixed: there the placer does better by itself.

    Args:
        types: Yosys's type of each cell of the design by its name; those of PE `n` are called
            ``pe_n.…``, with whatever in front.
        device: the chip. Of one that is not known nothing is fixed, nor where the PEs do not fit.
    """
    chip = _DEVICES.get(device)
    rams, mults = defaultdict(list), defaultdict(list)
    for name, kind in sorted(types.items()):
        if match := _PE.match(name):
            if kind in ("DP16KD", "PDPW16KD"):
                rams[int(match[1])].append(name)
            elif kind == "MULT18X18D":
                mults[int(match[1])].append(name)
    if not chip or not rams:
        return {}
    share = max(map(len, rams.values()))
    in_row = 4 * len(chip.columns) // share
    free = chip.mults()
    if not in_row or len(rams) > in_row * len(chip.ram_rows):
        return {}
    if 2 * sum(map(len, rams.values())) < 4 * len(chip.columns) * len(chip.ram_rows):
        return {}
    if sum(map(len, mults.values())) > len(free):
        return {}
    count = -(-len(rams) // in_row)
    in_row = -(-len(rams) // count)
    middle = sum(chip.ram_rows) / len(chip.ram_rows)
    rows = sorted(sorted(chip.ram_rows, key=lambda row: abs(row - middle))[:count])

    sites = {}
    for place, pe in enumerate(sorted(rams)):
        row = rows[place // in_row]
        all_here = chip.rams(row)
        left = share * (in_row // 2)  # of the gap
        own = all_here[:left] + all_here[len(all_here) - share * in_row + left :]
        own = own[share * (place % in_row) :][: len(rams[pe])]
        sites |= {cell: site for cell, (_, site) in zip(rams[pe], own, strict=True)}
        column = sum(column for column, _ in own) / len(own)
        for cell in mults[pe]:
            far = {
                site: (abs(x - column) + abs(y - row), abs(y - middle))
                for site, (x, y) in free.items()
            }
            sites[cell] = min(far, key=lambda site: far[site])
            del free[sites[cell]]
    return sites

"""Sites for the hard blocks of processing elements: those of each PE side by side.

A placer that spreads block RAMs and multipliers over the chip, each kind by itself, tears PEs apart
where most of the sites are taken: their logic then lies tens of tiles from their memories. With the
hard blocks fixed, a PE's logic gathers around them, and PEs broadcast to together lie in a row.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

_PE = re.compile(r"(?:.*?\bgroup_(\d+)\.)?(?:.*\.)?pe_(\d+)\.")
_BANK = re.compile(r"(?:.*\.)?memory\.bank_\d+\.")

#: rows of tiles between two of RAMs, at least, so that a group beside each has room for its logic
_APART = 20
#: column, row, and name of a site
_Place = tuple[int, int, str]


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

    Where there is a map memory, whose banks are called ``memory.bank_n.…``, its banks go to the
    middle of the chip and each group of PEs to the nearest free sites, a row of neighbours: what is
    read, fed and written back then lies between memory and PEs.

    Elsewhere PEs go in their order into as few rows of RAMs as hold them, those in the middle of
    the chip, as many in each; a gap in the middle of the rows is left to what all PEs have in
    common. There nothing is fixed where most of the RAMs are free: the placer does better by
    itself.

    Each multiplier goes to the site next to its PE's RAMs, the inner one of two.

    Args:
        types: Yosys's type of each cell of the design by its name; those of PE `n` are called
            ``pe_n.…``, with whatever in front, its group's ``group_g.pe_n.…``.
        device: the chip. Of one that is not known nothing is fixed, nor where the PEs do not fit.
    """
    chip = _DEVICES.get(device)
    rams, mults, banks, groups = defaultdict(list), defaultdict(list), [], defaultdict(list)
    for name, kind in sorted(types.items()):
        ram = kind in ("DP16KD", "PDPW16KD")
        if match := _PE.match(name):
            pe = int(match[2])
            if ram:
                rams[pe].append(name)
                groups[int(match[1] or 0)].append(pe)
            elif kind == "MULT18X18D":
                mults[pe].append(name)
        elif ram and _BANK.match(name):
            banks.append(name)
    if not chip or not rams or sum(map(len, mults.values())) > len(chip.mults()):
        return {}
    if banks:
        own = [[ram for pe in sorted(set(groups[n])) for ram in rams[pe]] for n in sorted(groups)]
        found = _around(chip, [banks, *own])
    else:
        found = _in_rows(chip, [rams[pe] for pe in sorted(rams)])
    if not found:
        return {}

    sites = {cell: site for cell, (_, _, site) in found.items()}
    free, middle = chip.mults(), sum(chip.ram_rows) / len(chip.ram_rows)
    for pe in sorted(rams):
        columns, rows = zip(*(found[cell][:2] for cell in rams[pe]), strict=True)
        column, row = sum(columns) / len(columns), rows[0]
        for cell in mults[pe]:
            far = {
                site: (abs(x - column) + abs(y - row), abs(y - middle))
                for site, (x, y) in free.items()
            }
            sites[cell] = min(far, key=lambda site: far[site])
            del free[sites[cell]]
    return sites


def _in_rows(chip: _Sites, pes: list[list[str]]) -> dict[str, _Place]:
    """A place for each RAM of the PEs: these in rows."""
    share = max(map(len, pes))
    in_row = 4 * len(chip.columns) // share
    if not in_row or len(pes) > in_row * len(chip.ram_rows):
        return {}
    if 2 * sum(map(len, pes)) < 4 * len(chip.columns) * len(chip.ram_rows):
        return {}
    count = -(-len(pes) // in_row)
    in_row = -(-len(pes) // count)
    middle = sum(chip.ram_rows) / len(chip.ram_rows)
    rows = sorted(sorted(chip.ram_rows, key=lambda row: abs(row - middle))[:count])

    found = {}
    for place, cells in enumerate(pes):
        row = rows[place // in_row]
        all_here = chip.rams(row)
        left = share * (in_row // 2)  # of the gap
        own = all_here[:left] + all_here[len(all_here) - share * in_row + left :]
        own = own[share * (place % in_row) :]
        found |= {cell: (x, row, site) for cell, (x, site) in zip(cells, own, strict=False)}
    return found


def _around(chip: _Sites, blocks: list[list[str]]) -> dict[str, _Place]:
    """A place for each RAM of some blocks: a block's side by side, the first block in the middle of
    the chip and each other one as near to it as can be. Rows between which there is little room
    for logic are taken where there are too few others."""
    middle_row = sum(chip.ram_rows) / len(chip.ram_rows)
    by_distance = sorted(chip.ram_rows, key=lambda row: abs(row - middle_row))
    centre = by_distance[0]
    apart = []
    for row in sorted(chip.ram_rows, key=lambda row: abs(row - centre)):
        if all(abs(row - other) >= _APART for other in apart):
            apart.append(row)
    return _near(chip, blocks, centre, apart) or _near(chip, blocks, centre, by_distance)


def _near(chip: _Sites, blocks: list[list[str]], row: int, rows: list[int]) -> dict[str, _Place]:
    """As `_around`: in those rows, near to the middle of one of them."""
    free = {row: chip.rams(row) for row in sorted(rows)}
    centre = (sum(column for column, _ in free[row]) / len(free[row]), row)
    taken = set()
    found = {}
    for cells in blocks:
        most, near = None, None
        for row, sites in free.items():
            for first in range(len(sites) - len(cells) + 1):
                own = sites[first : first + len(cells)]
                if not taken.isdisjoint(own):
                    continue
                column = sum(x for x, _ in own) / len(own)
                far = abs(column - centre[0]) + abs(row - centre[1])
                if most is None or far < most:
                    most, near = far, (row, own)
        if near is None:
            return {}
        row, own = near
        found |= {cell: (x, row, site) for cell, (x, site) in zip(cells, own, strict=True)}
        taken.update(own)
    return found

"""Sites of the PEs' hard blocks: each of its own, and each PE's together."""

import re

import pytest

from pleach_hw.boards import board, boards
from pleach_hw.build.floorplan import floorplan


def cells(pes, rams):
    kinds = {f"ram_{n}": "PDPW16KD" if n % 2 else "DP16KD" for n in range(rams)}
    kinds |= {"multiplier": "MULT18X18D", "table": "LUT4"}
    return {f"top.pe_{pe}.{name}": kind for pe in range(pes) for name, kind in kinds.items()}


def place(site):
    column, row, kind = re.fullmatch(r"X(\d+)/Y(\d+)/(EBR|MULT18_)\d", site).groups()
    return int(column), int(row), kind


@pytest.mark.parametrize("pes, rams", [(64, 3), (52, 4), (32, 4), (16, 7), (2, 52)])
def test_each_pe_has_sites_side_by_side(pes, rams):
    found = floorplan(cells(pes, rams), "LFE5U-85F")
    assert len(set(found.values())) == len(found) == pes * (rams + 1)
    rows = set()
    for pe in range(pes):
        mine = {name: place(site) for name, site in found.items() if f"pe_{pe}." in name}
        columns = [x for name, (x, _, _) in mine.items() if "ram" in name]
        assert max(columns) - min(columns) < 3 * rams
        x, y, kind = mine.pop(f"top.pe_{pe}.multiplier")
        assert kind == "MULT18_" and min(columns) - 9 < x < max(columns) + 9
        assert len({y for _, y, _ in mine.values()}) == 1
        rows |= {(row, kind) for _, row, kind in mine.values()}
        assert abs(y - mine[f"top.pe_{pe}.ram_0"][1]) <= 24
    assert {kind for _, kind in rows} == {"EBR"} and len(rows) == -(-pes // (52 // rams))


@pytest.mark.parametrize(
    "pes, rams, rows", [(2, 52, [46, 70]), (15, 7, [46, 70, 82]), (28, 7, [22, 46, 70, 82])]
)
def test_rows_in_the_middle_of_the_chip_come_first(pes, rams, rows):
    found = floorplan(cells(pes, rams), "LFE5U-85F")
    assert sorted({place(site)[1] for name, site in found.items() if "ram" in name}) == rows


@pytest.mark.parametrize("chip", [b for b in boards() if b.family == "ecp5"], ids=lambda b: b.name)
def test_all_rams_of_a_chip_have_sites(chip):
    found = floorplan({f"pe_{n}.ram": "DP16KD" for n in range(chip.bram)}, chip.device)
    assert len(set(found.values())) == chip.bram
    found = floorplan(cells(chip.mult, 1), chip.device)
    assert len(set(found.values())) == (2 * chip.mult if chip.mult <= chip.bram else 0)


def test_what_does_not_fit_or_is_not_known_is_left_alone():
    assert floorplan(cells(64, 4), "LFE5U-85F") == {}
    assert floorplan(cells(16, 5), "LFE5U-85F") == {}  # most RAMs are free
    assert floorplan(cells(1, 60), "LFE5U-85F") == {}
    assert floorplan(cells(4, 1), board("icebreaker").device) == {}
    assert floorplan({"pe.ram": "DP16KD", "pe_0.table": "LUT4"}, "LFE5U-85F") == {}

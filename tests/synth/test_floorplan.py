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


@pytest.mark.parametrize(
    "groups, pes, rams, rows",
    [(4, 4, 3, [46, 46, 22, 70]), (8, 8, 2, [22, 70, 46, 46, 22, 70, 22, 70]), (1, 1, 2, [46])],
)
def test_groups_lie_around_the_map_memory(groups, pes, rams, rows):
    found = cells(groups * pes, rams)
    found = {
        name.replace("top.", f"top.group_{int(name.split('_')[1].split('.')[0]) // pes}."): kind
        for name, kind in found.items()
    } | {f"top.memory.bank_{bank}.ram": "DP16KD" for bank in range(8)}
    sites = floorplan(found, "LFE5U-85F")
    hard = [name for name in found if not name.endswith("table")]
    assert sorted(sites) == sorted(hard) and len(set(sites.values())) == len(hard)

    def columns_of(part):
        """Columns of its RAMs, which are in one row, and the row."""
        own = sorted(place(site) for name, site in sites.items() if part in name and "ram" in name)
        assert len({row for _, row, _ in own}) == 1
        return [column for column, _, _ in own], own[0][1]

    banks, row = columns_of("memory")
    assert row == 46 and banks[0] > 50 and banks[-1] < 74
    taken = {row: [banks]}
    for group in range(groups):
        columns, row = columns_of(f"group_{group}.")
        assert row == rows[group]
        assert columns[-1] - columns[0] < 3 * pes * rams
        for others in taken.setdefault(row, []):
            assert columns[-1] < others[0] or others[-1] < columns[0]
        taken[row].append(columns)
        for pe in range(group * pes, (group + 1) * pes):
            own, _ = columns_of(f"pe_{pe}.")
            x, y, _ = place(sites[f"top.group_{group}.pe_{pe}.multiplier"])
            assert own[0] - 9 < x < own[-1] + 9 and abs(y - row) <= 24


def test_what_does_not_fit_or_is_not_known_is_left_alone():
    assert floorplan(cells(64, 4), "LFE5U-85F") == {}
    assert floorplan(cells(16, 5), "LFE5U-85F") == {}  # most RAMs are free
    assert floorplan(cells(1, 60), "LFE5U-85F") == {}
    assert floorplan(cells(4, 1), board("icebreaker").device) == {}
    assert floorplan({"pe.ram": "DP16KD", "pe_0.table": "LUT4"}, "LFE5U-85F") == {}
    bank = {"memory.bank_0.ram": "DP16KD"}
    assert floorplan(cells(1, 60) | bank, "LFE5U-85F") == {}  # a group is one row
    assert floorplan(bank, "LFE5U-85F") == {}

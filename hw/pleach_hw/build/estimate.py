"""What an engine takes of a chip, estimated without synthesis.

Block RAMs and multipliers are counted from the memories' shapes. LUT4 are fitted to the ECP5
netlists of `bench/timing.py`, and with a map memory to those of `bench/estimate.py`; placing adds
to them. `pleach synth` has the real figures.
"""

from __future__ import annotations

import re
from functools import lru_cache

from amaranth.back import rtlil
from amaranth.hdl import Shape

from pleach.engine import EngineConfig
from pleach.engine.pipeline import LUT_CODEBOOK, held_codes
from pleach.errors import CapacityError
from pleach_hw.boards import Board
from pleach_hw.build.flows import flow_of
from pleach_hw.compute.arithmetic import LUT_RING
from pleach_hw.compute.pe import ProcessingElement
from pleach_hw.layouts import block_layout, entry_layout
from pleach_hw.maps.records import in_lut_ram, record_words
from pleach_hw.primitives.ecp5 import block_rams

#: the chips that it is for
FAMILY = "ecp5"


def estimate(config: EngineConfig) -> dict[str, int]:
    """LUT4, block RAMs and multipliers of an engine, as `Board.holds` takes them."""
    blocks = config.columns // config.block
    pointers = block_rams(blocks, Shape.cast(block_layout(config)).width)
    entries = block_rams(config.entries, Shape.cast(entry_layout(config)).width)
    if config.maps:
        return _with_maps(config, pointers + entries)
    large = config.codebook > LUT_CODEBOOK
    codebook = block_rams(config.codebook, 16) if large else 0
    # LUT RAM comes in 16 words of 4 bits, 4 LUT4 each; deeper ones want multiplexers too.
    accumulators = -(-config.accumulators // 16) * config.accumulator_bits * 1.25
    pe = 290 + accumulators + config.queue_depth * 3 + (0 if large else config.codebook * 2.3)
    return {
        "lut4": round(BASE_LUT4 + config.drained * 250 + config.pes * pe),
        "bram": config.pes * (pointers + entries + codebook),
        "mult": config.pes,
    }


def _with_maps(config: EngineConfig, of_pe: int) -> dict[str, int]:
    """`estimate` of an engine with a map memory.

    Args:
        of_pe: block RAMs of a PE for pointers and entries.
    """
    held = held_codes(config)
    if config.accumulators > LUT_RING:
        of_pe += block_rams(config.accumulators, config.accumulator_bits)
    if held > LUT_CODEBOOK:
        of_pe += block_rams(held, 16)
    bram = config.pes * of_pe
    bram += 0 if in_lut_ram(config) else block_rams(record_words(config), 32)
    bram += config.neighbours * block_rams(config.maps // config.neighbours, 16)
    if config.codebook > LUT_CODEBOOK:
        bram += block_rams(config.codebook, 16)
    scaling = config.groups * config.drained if config.scales else 0
    bram += scaling * block_rams(config.scales * config.row_pes // config.drained, 16)
    counts = {"pe": config.pes} | dict.fromkeys(OF_GROUPS, config.groups)
    tables = sum(counts.get(name, 1) * each for name, each in map_blocks(config).items())
    return {
        "lut4": round(tables + scaling * SCALE_LUT4),
        "bram": bram,
        "mult": config.pes + scaling * SCALE_MULTIPLIERS + RECORDS_MULTIPLIERS,
    }


def map_features(config: EngineConfig) -> dict[str, float]:
    """What the blocks of an engine with a map memory depend on."""
    in_tables = config.accumulators <= LUT_RING
    return {
        "fixed": 1,
        "neighbours": config.neighbours,
        "address": config.maps.bit_length(),
        "groups": config.groups,
        "lanes": config.drained,
        "writers": config.neighbours * config.groups,
        # LUT RAM comes in 16 words of 4 bits, 4 LUT4 each.
        "ring": -(-config.accumulators // 16) * config.accumulator_bits if in_tables else 0,
        "queue": config.queue_depth,
        "codes": codes if (codes := held_codes(config)) <= LUT_CODEBOOK else 0,
        "records": record_words(config) if in_lut_ram(config) else 0,
        "serial": config.serial_loader,
    }


def map_blocks(config: EngineConfig) -> dict[str, float]:
    """LUT4 of each block of an engine with a map memory, of one where there are several alike."""
    features = map_features(config)
    return {
        block: sum(factor * features[name] for name, factor in factors.items())
        for block, factors in MAP_LUT4.items()
    }


def check_fits(config: EngineConfig, chip: Board) -> None:
    """Refuse an engine that a chip cannot hold, before any tool is run.

    Multipliers and RAMs are those of the PEs, counted in one as it is elaborated for the chip; LUT4
    are `estimate`'s, where it is for the chip, on Gowin's those of `needs`, and a tenth less.

    Raises:
        CapacityError: with all that is short, what the engine wants of it and what there is.
    """
    wanted = _of_pes(config, chip)
    if chip.family == FAMILY:
        wanted["lut4"] = round(0.9 * estimate(config)["lut4"])
    if chip.family == "gowin":  # whose placer tries for an hour
        wanted["lut4"] = round(0.9 * needs(config, chip)["lut4"])
    refuse_short(f"an engine of {config.pes} PEs", wanted, chip)


@lru_cache(maxsize=256)
def _of_pe(config: EngineConfig, chip: Board) -> dict[str, int]:
    """Hard blocks of a PE, counted in one as it is elaborated for the chip."""
    text = rtlil.convert(ProcessingElement(config), platform=chip, emit_src=False)
    cells = re.findall(r"^  cell \\(\w+) ", text, re.M)
    memories = re.findall(
        r"^(  attribute \\no_rw_check 1\n)?  memory width (\d+) size (\d+) ", text, re.M
    )
    flow = flow_of(chip.family)
    wanted = dict.fromkeys(RESOURCES.keys() - {"lut4"}, 0)
    for cell, resource in flow.cells.items():
        wanted[resource] += cells.count(cell)
    if flow.block_rams is not None:
        wanted["bram"] += sum(
            flow.block_rams(int(size), int(width), bool(block)) for block, width, size in memories
        )
    return wanted


def _of_pes(config: EngineConfig, chip: Board) -> dict[str, int]:
    return {name: config.pes * number for name, number in _of_pe(config, chip).items()}


def needs(config: EngineConfig, chip: Board) -> dict[str, int]:
    """What an engine in a board's top takes, by estimate: hard blocks, and LUT4 with those that
    placing adds, so that what fits by this will also route."""
    beside = BESIDE[chip.family]
    found = estimate(config)
    if config.maps:  # tables of other chips are like those of the one that it is for
        beside = BESIDE[FAMILY]
        found["lut4"] = round(found["lut4"] * (GOWIN_MAPS if chip.family == "gowin" else 1))
        return {name: number + beside.get(name, 0) for name, number in found.items()}
    if chip.family != FAMILY:
        found["lut4"] = beside["pe"] * config.pes
        found["lut4"] += 0 if config.serial_loader else beside["parallel"]
    if chip.family == "iCE40":  # each bit of an address counts
        sizes = (config.columns, config.entries, config.accumulators, config.codebook)
        found["lut4"] += 28 * sum(size.bit_length() - 1 for size in sizes)
    if chip.family == "gowin":
        blocks = RAM16["beside"] + config.pes * RAM16["pe"]
        blocks += config.pes * -(-config.accumulators // 16) * config.accumulator_bits // 4
        if config.codebook <= LUT_CODEBOOK:
            blocks += config.pes * -(-config.codebook // 16) * 4
        # One tile of eight tables in four can be RAM, and of those a fifth stays free: the placer
        # finds no place for the last ones. Of all places a sixth stays free.
        whole = round(1.2 * (found["lut4"] + beside["lut4"] + 8 * blocks))
        found["lut4"] = max(whole, 5 * 8 * blocks) - beside["lut4"]
    if chip.family == "iCE40" and found["lut4"] + beside["lut4"] <= chip.lut4:
        found |= _of_pes(config, chip)  # memories of other kinds
    return {name: number + beside.get(name, 0) for name, number in found.items()}


def shortage(wanted: dict[str, int], chip: Board) -> list[str]:
    """What the chip has less of, in words: ``90 block RAMs of 30``."""
    return [
        f"{wanted[name]:,} {words} of {there:,}"
        for name, words in RESOURCES.items()
        if wanted.get(name, 0) > (there := getattr(chip, name))
    ]


def refuse_short(what: str, wanted: dict[str, int], chip: Board) -> None:
    """Refuse what takes more of a resource than the chip has.

    Raises:
        CapacityError: with all that is short.
    """
    short = shortage(wanted, chip)
    if short:
        raise CapacityError(
            f"{what} does not fit the {chip.device} of {chip.name}: it wants at least "
            f"{', '.join(short)}; "
            f"take fewer PEs, smaller capacities or a larger chip ({chip.name}'s own engine has "
            f"{chip.engine.pes} PEs)"
        )


#: a `Board`'s fields in words
RESOURCES = {
    "lut4": "LUT4",
    "bram": "block RAMs",
    "mult": "multipliers",
    "spram": "single-port RAMs",
}

# Host link, loader with its decoder, control, LNZD.
BASE_LUT4 = 5440
#: blocks of which each group has one
OF_GROUPS = ("front", "drain", "packer")
#: LUT4 of the blocks of an engine with a map memory, by `map_features`: `bench/estimate.py --fit`
MAP_LUT4 = {
    "pe": {"fixed": 352, "ring": 0.78, "queue": 6.2, "codes": 2.3},
    "front": {"fixed": 271, "neighbours": 44},
    "drain": {"fixed": 298, "lanes": 249},
    "packer": {"fixed": 152, "neighbours": 2},
    "generator": {"fixed": 418, "address": 50.8, "groups": 24.3},
    "former": {"fixed": 319, "neighbours": 46.3},
    "memory": {"fixed": 37, "neighbours": 25, "writers": 4.53},
    # Alone, the pool unit's lanes cancel each other in the harness: this is of a whole engine.
    "pool": {"fixed": 750, "neighbours": 120},
    "records": {"fixed": 475, "records": 3.2},
    "loader": {"fixed": 4142, "serial": -1880},
    "host": {"fixed": 297},
    # Control, status, inputs and outputs, codebooks, and registers on the way to the groups.
    "rest": {"fixed": 700},
}
# A lane of a drain that scales, and what records are checked with.
SCALE_LUT4, SCALE_MULTIPLIERS, RECORDS_MULTIPLIERS = 96, 2, 2
# Beside the PEs, by the chip's family: link, clocks and lights, and where `estimate` is not for it
# all of the engine but its PEs; ``pe`` are a PE's tables there, ``parallel`` those that the loader
# takes more that is not serial. Tables of Gowin are places for one: a flip-flop whose input is not
# that of the table beside it takes one too.
BESIDE = {
    "ecp5": {"lut4": 1200, "bram": 2},
    "iCE40": {"lut4": 4100, "bram": 8, "pe": 350, "parallel": 2500},  # cells: an eighth stays free
    "gowin": {"lut4": 4470, "bram": 2, "pe": 885, "parallel": 4430},
}
#: places of a Gowin chip for a LUT4 of the other estimate: as in engines without maps
GOWIN_MAPS = 1.45
#: a Gowin chip's blocks of 16×4 bits beside those of accumulators and codebooks
RAM16 = {"beside": 60, "pe": 18}

"""What engines take of a chip, and their clock after place and route, as a table and JSON.

    python bench/timing.py --json build/timing.json
    python bench/timing.py --pes 16 --chips LFE5U-85F-6 --json build/timing.json
    python bench/timing.py --maps --pes 16 64 --chips LFE5U-85F-6 --json build/maps.json

One processing element alone with 32 and with 64 local rows, engines of 1, 4, 16 and 64 PEs with
room for LeNet-300-100 where that many can have it, and dense engines of as many multipliers
(`bench/dense.py`), on LFE5U-85F at speed grades 6 and 8; and on iCE40UP5K the engine of 4 PEs that
fits it. The clock is the median of three placer seeds up to 16 PEs, and of one at 64, which takes
by far the longest. Results are cached by content, and what is missing is made by two processes at a
time (--processes), or by the workers of a dask scheduler (--scheduler).

With --maps it measures engines with a map memory in their place, with the capacities that LeNet-5's
file takes and no more, and with the serial loader; with --blocks blocks of such an engine, each
alone: a processing element whose ring is in LUT RAM and one whose ring is in block RAM, and of an
engine of 16 PEs in four groups what reads the map memory, and a group's front, drain and packer, of
one lane and of two, and with scales.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median_low

from dense import DenseEngine, dense_cycles  # beside this file

from pleach.engine import EngineConfig
from pleach.engine.plan import base_engine, fitted
from pleach.files import write_whole
from pleach.format import load
from pleach.spread import spread
from pleach_cli.output import print_table
from pleach_hw.boards import board
from pleach_hw.build.estimate import FAMILY, estimate
from pleach_hw.build.synth import synth
from pleach_hw.compute.pe import ProcessingElement
from pleach_hw.maps.dispatch import AddressGenerator
from pleach_hw.maps.drain import GroupDrain
from pleach_hw.maps.front import Front
from pleach_hw.maps.packer import Packer
from pleach_hw.maps.vectors import VectorFormer

#: LeNet-300-100
SHAPES = ((784, 300), (300, 100), (100, 10))

CHIPS = {
    "LFE5U-85F-6": board("ulx3s-85f").graded("6"),
    "LFE5U-85F-8": board("ulx3s-85f").graded("8"),
    "iCE40UP5K": board("icebreaker"),
}
FIELDS = ("lut4", "ff", "bram", "spram", "mult", "fmax_mhz")

# 64 PEs hold fewer weights each: with the default capacities they want more RAMs than there are.
CAPACITIES = {64: {"groups": 4, "lanes": 8, "columns": 512, "block": 4, "entries": 512}}

# A map memory, and entries of nine bits.
MAPS = {"maps": 8192, "entry_rows": 32, "codes": 16}
LENET_5 = Path(__file__).parent / "models" / "lenet_5_small.pleach"
# Room for nothing: what LeNet-5 takes is what there is.
NO_ROOM = {
    "layers": 1, "columns": 8, "entries": 32, "codebook": 16, "accumulators": 8,
    "accumulator_bits": 24,
}  # fmt: skip


def designs(counts, chip):
    """``(name, PEs, engine's parameters or None, design)`` of what is measured."""
    found = []
    if chip.family == "iCE40":
        return [("engine", chip.engine.pes, chip.engine, chip.engine)] * (chip.engine.pes in counts)
    if 1 in counts:
        for rows in (32, 64):
            config = EngineConfig(pes=1, accumulators=rows)
            found.append((f"PE, {rows} rows", 1, config, ProcessingElement(config)))
    for pes in counts:
        config = EngineConfig(pes=pes, **CAPACITIES.get(pes, {}))
        found.append(("engine", pes, config, config))
    for pes in counts:
        if pes >= 16:
            weights = sum(inputs * -(-outputs // pes) for inputs, outputs in SHAPES)
            dense = DenseEngine(pes=pes, weights=weights, inputs=SHAPES[0][0])
            found.append(("dense", pes, None, dense))
    return found


def map_engines(counts):
    """As `designs`, of engines with a map memory."""
    model = load(LENET_5)
    configs = {
        pes: fitted(model, replace(base_engine(model, pes), **NO_ROOM, serial_loader=True))
        for pes in counts
    }
    return [("engine, maps", pes, config, config) for pes, config in configs.items()]


def blocks():
    """As `designs`, of the blocks of an engine with a map memory."""
    found = []
    for words in (64, 512):
        config = EngineConfig(pes=1, accumulators=words, **MAPS)
        found.append((f"PE, ring of {words}", 1, config, ProcessingElement(config)))
    config = EngineConfig(pes=16, groups=4, lanes=2, accumulators=64, **MAPS)
    for block in (AddressGenerator, VectorFormer, Front):
        found.append((block.__name__, config.row_pes, config, block(config)))
    for more in ({"lanes": 1}, {"lanes": 2}, {"lanes": 1, "scales": 64}):
        config = EngineConfig(pes=16, groups=4, accumulators=64, **more, **MAPS)
        said = ", ".join(f"{name} {value}" for name, value in more.items())
        for block in (GroupDrain, Packer):
            if block is GroupDrain or "scales" not in more:
                found.append((f"{block.__name__}, {said}", config.row_pes, config, block(config)))
    return found


def measured(counts, chip, maps: bool, alone: bool):
    """As `designs`, of all that is measured on a chip."""
    if not (maps or alone):
        return designs(counts, CHIPS[chip])
    return (map_engines(counts) if maps else []) + (blocks() if alone else [])


def run(given, number: int, seed: int, route: bool):
    """What a row says of a seed for the design with that number among those of `measured`: a design
    is made where it is built, and a result's board does not travel."""
    *_, design = measured(*given)[number]
    result = synth(design, CHIPS[given[1]], seed=seed, route=route)
    return {name: getattr(result, name) for name in (*FIELDS, "critical_path")}


def median(results: dict):
    """The result of the seed with the median clock, and all clocks in the order of the seeds."""
    found = [results[seed] for seed in sorted(results)]
    clocks = [each["fmax_mhz"] for each in found]
    if None in clocks:
        return found[0], []
    return found[clocks.index(median_low(clocks))], clocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pes", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--chips", nargs="+", default=list(CHIPS), choices=CHIPS)
    parser.add_argument("--seeds", type=int, default=3, help="up to 16 PEs; above it is one")
    parser.add_argument("--maps", action="store_true", help="engines with a map memory")
    parser.add_argument("--blocks", action="store_true", help="blocks of these, each alone")
    parser.add_argument("--no-route", action="store_true", help="netlists only, no clock")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--scheduler", help="a dask scheduler's address, in place of processes")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()

    rows = {}
    with spread(args.scheduler, processes=args.processes) as jobs:
        waiting, results = {}, {}
        for chip in args.chips:
            given = args.pes, chip, args.maps, args.blocks
            for number, (name, pes, config, _) in enumerate(measured(*given)):
                seeds = 1 if pes > 16 or args.no_route else args.seeds
                waiting[chip, number] = name, pes, config, seeds
                for seed in range(1, seeds + 1):
                    jobs.submit((chip, number, seed), run, given, number, seed, not args.no_route)
        for (chip, number, seed), outcome in jobs.finished():
            name, pes, config, seeds = waiting[chip, number]
            of = results.setdefault((chip, number), {})
            of[seed] = outcome.result()
            if len(of) < seeds:
                continue
            result, clocks = median(of)
            rows[chip, number] = row = {
                "design": name,
                "pes": pes,
                "chip": chip,
                **result,
                "clocks_mhz": clocks,
                "engine": config and asdict(config),
            }
            if name == "engine" and CHIPS[chip].family == FAMILY:
                row["estimate"] = estimate(config)
            if name == "dense":
                row["lenet_300_100_cycles"] = dense_cycles(SHAPES, pes)
            if args.json:  # what is there, should the next one take too long
                there = [rows[key] for key in waiting if key in rows]
                write_whole(args.json, json.dumps(there, indent=2))

    print_table(
        "Netlists" if args.no_route else "Routed",
        ("design", "PEs", "chip", "LUT4", "FF", "RAMs", "multipliers", "MHz", "seeds"),
        [
            (
                row["design"], str(row["pes"]), row["chip"], f"{row['lut4']:,}", f"{row['ff']:,}",
                str(row["bram"]), str(row["mult"]),
                "" if row["fmax_mhz"] is None else f"{row['fmax_mhz']:.1f}",
                " ".join(f"{clock:.0f}" for clock in row["clocks_mhz"]),
            )
            for row in (rows[key] for key in waiting)
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()

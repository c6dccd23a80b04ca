"""What the blocks of an engine with a map memory take, beside what `pleach synth` would be told.

    python bench/estimate.py --fit --json build/estimate.json
    python bench/estimate.py --engines lenet_5 --json build/estimate.json

Each block is synthesised alone, not placed, on engines that differ in what it depends on; the
tables that `Harness` adds for its outputs are taken off. `--fit` prints the factors that come
closest, in the form of `pleach_hw.build.estimate.MAP_LUT4`. `--engines` synthesises whole engines,
which is what the estimate is for, and counts their tables.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.hdl import Value
from amaranth.lib.wiring import Component, Out

from pleach.engine import EngineConfig
from pleach.engine.pipeline import MAP_READ
from pleach.files import write_whole
from pleach_cli.output import print_table
from pleach_hw.build.estimate import MAP_LUT4, estimate, map_blocks, map_features
from pleach_hw.build.synth import synth
from pleach_hw.compute.pe import ProcessingElement
from pleach_hw.io.host_link import HostLink
from pleach_hw.load.loader import Loader
from pleach_hw.maps.dispatch import AddressGenerator
from pleach_hw.maps.drain import GroupDrain
from pleach_hw.maps.front import Front
from pleach_hw.maps.memory import MapMemory
from pleach_hw.maps.packer import Packer
from pleach_hw.maps.pool import PoolUnit
from pleach_hw.maps.records import Records
from pleach_hw.maps.vectors import VectorFormer

#: with LeNet-5's capacities; `bench/timing.py --blocks` routes some of the same
BASE = EngineConfig(
    pes=16, groups=4, lanes=2, layers=4, columns=2048, block=4, entries=2048, codebook=128,
    accumulators=64, queue_depth=32, vectors=8, maps=4096, neighbours=8, entry_rows=32, codes=16,
)  # fmt: skip
#: blocks of the estimate: how they are made, and the engines, by what they have that `BASE` has not
BLOCKS: dict[str, tuple[Callable[[EngineConfig], Component], list[dict[str, Any]]]] = {
    "pe": (
        ProcessingElement,
        [{}, {"accumulators": 512}, {"queue_depth": 16}, {"codes": 64}],
    ),
    "front": (Front, [{}, {"neighbours": 16}]),
    "drain": (GroupDrain, [{}, {"lanes": 1}]),
    "packer": (Packer, [{}, {"neighbours": 4}]),
    "generator": (AddressGenerator, [{}, {"maps": 65536}, {"groups": 8}]),
    "former": (VectorFormer, [{}, {"neighbours": 16}]),
    "memory": (
        lambda config: MapMemory(config, readers=3, writers=2 + config.groups),
        [{}, {"neighbours": 16}, {"groups": 8}],
    ),
    "pool": (lambda config: PoolUnit(config, latency=MAP_READ), [{}, {"neighbours": 4}]),
    "records": (Records, [{}]),
    "loader": (Loader, [{}]),
    "host": (HostLink, [{}]),
}
#: whole engines, by the same
ENGINES: dict[str, dict[str, Any]] = {
    "lenet_5": {"accumulators": 128},
    "small": {"pes": 4, "groups": 2, "neighbours": 4, "maps": 1024},
}


def alone(block: str, config: EngineConfig) -> int:
    """LUT4 of a block in a netlist of its own, without those of the harness around it."""
    design = BLOCKS[block][0](config)
    flat = design.signature.flatten(design)
    outputs = sum(len(Value.cast(port)) for _, member, port in flat if member.flow is Out)
    return synth(design, route=False).lut4 - outputs // 3


def fit(rows: list[dict]) -> None:
    """Print for each block the factors that come closest."""
    for block, factors in MAP_LUT4.items():
        ours = [row for row in rows if row["block"] == block]
        if not ours:
            continue
        every = [map_features(EngineConfig(**row["engine"])) for row in ours]
        features = np.array([[each[name] for name in factors] for each in every], float)
        found = np.linalg.lstsq(features, np.array([row["lut4"] for row in ours]), rcond=None)[0]
        said = ", ".join(f'"{n}": {f:.3g}' for n, f in zip(factors, found, strict=True))
        print(f'    "{block}": {{{said}}},', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", nargs="*", default=list(BLOCKS), choices=BLOCKS)
    parser.add_argument("--engines", nargs="+", default=[], choices=ENGINES)
    parser.add_argument("--fit", action="store_true", help="print factors for what was measured")
    parser.add_argument("--json", type=Path, help="file to write; what it has is kept")
    args = parser.parse_args()
    found = {"blocks": [], "engines": []}
    if args.json and args.json.exists():
        found = json.loads(args.json.read_text())
    if args.engines:
        args.blocks = []
    for block in args.blocks:
        found["blocks"] = [row for row in found["blocks"] if row["block"] != block]
        for given in BLOCKS[block][1]:
            config = replace(BASE, **given)
            row = {"block": block, "engine": asdict(config), "lut4": alone(block, config)}
            row["estimate"] = round(map_blocks(config)[block])
            found["blocks"].append(row)
            print(block, given, row["lut4"], row["estimate"], flush=True)
    for name in args.engines:
        config = replace(BASE, **ENGINES[name])
        result = synth(config, route=False)
        row = {"name": name, "engine": asdict(config), "estimate": estimate(config)}
        row |= {what: getattr(result, what) for what in ("lut4", "bram", "mult")}
        found["engines"] = [row] + [each for each in found["engines"] if each["name"] != name]
    if args.fit:
        fit(found["blocks"])
    if args.json:
        write_whole(args.json, json.dumps(found, indent=1) + "\n")
    print_table(
        "Engines with a map memory, netlists and estimates",
        ("engine", "LUT4", "estimated", "RAMs", "estimated"),
        [
            (
                row["name"], f"{row['lut4']:,}", f"{row['estimate']['lut4']:,}", str(row["bram"]),
                str(row["estimate"]["bram"]),
            )
            for row in found["engines"]
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()

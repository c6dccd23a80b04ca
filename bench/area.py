"""What engines take of an ECP5-85F: `pleach synth` at several sizes, as a table and JSON.

    python bench/area.py --pes 1 4 16 --route --json build/area.json

Synthesis takes about a minute a size, routing minutes; results are cached by content.
"""

import argparse
import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from pleach.files import write_whole
from pleach.reference import EngineConfig
from pleach_hw.estimate import estimate
from pleach_hw.synth import synth

# 64 PEs hold fewer weights each: with the default capacities they want more RAMs than there are.
CAPACITIES = {
    64: {"groups": 4, "lanes": 8, "columns": 512, "block": 4, "entries": 512, "codebook": 64}
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--route", action="store_true", help="place and route, for the clock")
    parser.add_argument("--json", help="file to write")
    args = parser.parse_args()

    rows = []
    for pes in args.pes:
        config = EngineConfig(pes=pes, **CAPACITIES.get(pes, {}))
        result = synth(config, route=args.route)
        rows.append(
            {"engine": asdict(config), "estimate": estimate(config)}
            | {name: getattr(result, name) for name in ("lut4", "ff", "bram", "mult", "fmax_mhz")}
        )
    table = Table(title="Engine on LFE5U-85F-6")
    for name in ("PEs", "LUT4", "estimate", "FF", "RAMs", "multipliers", "MHz"):
        table.add_column(name, justify="right")
    for row in rows:
        clock = "" if row["fmax_mhz"] is None else f"{row['fmax_mhz']:.1f}"
        table.add_row(
            str(row["engine"]["pes"]), f"{row['lut4']:,}", f"{row['estimate']['lut4']:,}",
            f"{row['ff']:,}", str(row["bram"]), str(row["mult"]), clock,
        )  # fmt: skip
    Console().print(table)
    if args.json:
        write_whole(args.json, json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()

"""Every board with LeNet-300-100: what its top takes of the chip, its clock and images a second.

    python bench/boards.py --json build/boards.json
    python bench/boards.py --boards icebreaker ulx3s-85f:16
    python bench/boards.py --boards ulx3s-45f --model lenet_5_small

Each is built as `pleach build --board NAME bench/models/lenet_300_100_small.pleach` builds it, and
the ULX3S-85F with 16 and 64 PEs (NAME:PES). A board that holds no engine for it has its own. The
placer's seed is 1, or another (NAME@SEED). Bitstreams are below build/boards. Cycles are the cycle
model's, means of ten MNIST images; images over the link and load time are those of the bytes on the
wire at the board's baud rate. What the tools make is cached by content: routing all of it takes
hours of a core. `bench/results.py --run boards` keeps the rows of boards that are not asked for.
"""

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path

from pleach import data
from pleach.engine import EngineConfig
from pleach.errors import CapacityError
from pleach.files import write_whole
from pleach.format import load
from pleach_cli.output import print_table
from pleach_hw.boards import board
from pleach_hw.build.bitstream import build
from pleach_hw.build.sizing import Speed, Trial, fastest_engine

MODELS = Path(__file__).parent / "models"
FOLDER = Path("build/boards")

#: what is built of each: the planner's choice, or an engine of so many PEs
BOARDS = (
    "ulx3s-85f:64", "ulx3s-85f:16", "ulx3s-25f", "orangecrab-25f", "tang-nano-20k", "tang-nano-9k",
    "icebreaker",
)  # fmt: skip
#: figures of `Speed` with their digits
SPEED = {
    "latency_cycles": 0, "images_per_second": 0, "images_per_second_link": 0, "load_seconds": 2,
}  # fmt: skip
#: of 64 PEs each holds few weights; the chip has not the RAMs for the default capacities
ENGINES = {
    16: EngineConfig(pes=16),
    64: EngineConfig(pes=64, groups=4, lanes=8, columns=512, block=4, entries=512),
}


def measure(asked: str, file: Path, trial: Trial) -> dict:
    """One row: the board's top built, and the model's speed on it."""
    model = load(file)
    asked, _, other = asked.partition("@")
    seed = int(other or 1)
    name, _, pes = asked.partition(":")
    chip, fits = board(name), True
    if pes:
        config = ENGINES[int(pes)]
        config.check(model)
    else:
        try:
            config = fastest_engine(model, trial.taken, chip).engine
        except CapacityError:  # the board's own engine, which runs smaller networks
            config, fits = chip.engine, False
    folder = FOLDER / f"{asked.replace(':', '-')}-{file.stem}"
    built = build(config, chip, folder, seed=seed, progress=lambda step: print(f"{name}: {step}"))
    speed = dict.fromkeys(field.name for field in fields(Speed))
    if fits:
        clocks = {"clock_mhz": built.pll_mhz, "baud": built.baud}
        speed = asdict(Speed.of(model, trial, file.read_bytes(), config, **clocks))
    row = {"asked": asked, "model": file.stem} | built.as_json() | speed
    del row["bitstream"]  # where it is on this machine
    return row | {"engine": asdict(config), "seed": seed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", nargs="+", default=list(BOARDS), metavar="NAME[:PES][@SEED]")
    parser.add_argument("--model", default="lenet_300_100_small", help="of bench/models")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()

    file = MODELS / f"{args.model}.pleach"
    model = load(file)
    inputs = model.quantise(data.load("mnist").test_images[:10])
    trial = Trial.of(model, inputs, "10 images of MNIST")
    rows = []
    for name in args.boards:
        rows.append(measure(name, file, trial))
        if args.json:  # what is there, should the next one take too long
            write_whole(args.json, json.dumps({"boards": rows}, indent=2))
    print_table(
        f"{file.stem} on the boards",
        (
            "board", "PEs", "LUT4", "RAMs", "mult", "MHz\nrouted", "MHz", "cycles",
            "images/s", "over link", "load, s", "bytes",
        ),
        [
            (
                row["board"], str(row["pes"]), f"{row['lut4']:,}", str(row["bram"]),
                str(row["mult"]), f"{row['fmax_mhz']:.1f}", f"{row['pll_mhz']:.2f}",
                *(
                    "none" if row[name] is None else f"{row[name]:,.{digits}f}"
                    for name, digits in SPEED.items()
                ),
                f"{row['bitstream_bytes']:,}",
            )
            for row in rows
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()

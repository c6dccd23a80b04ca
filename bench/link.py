"""The serial link: random faults, and images a second on the wire and in the engine.

    python bench/link.py                     # 10,000 faults, then the rates
    python bench/link.py --faults 500 --seed 7 --json build/link.json

Faults: simulated boards of one PE, each at the end of a cable that drops, doubles and flips bytes
both ways. On each a network is loaded and run in turn; an answer that differs from the reference's,
or an exception, is counted: there is none to be. Several run at once, as a line with faults is
mostly waited for. Rates: what bytes a model and its images are on the
wire, hence the images a second that the baud rate bounds, beside those of the cycle model.
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import numpy as np

from pleach import data
from pleach.cycles import CycleModel
from pleach.engine import EngineConfig
from pleach.errors import LinkError
from pleach.files import write_whole
from pleach.format import load
from pleach.host import Driver, SerialLink, load_packet, run_packet, serial, wire_bytes
from pleach.reference import Reference
from pleach_cli.output import print_table
from pleach_sim.board import board_program
from pleach_sim.cable import Cable, Noise

HERE = Path(__file__).parent
ENGINE = EngineConfig(
    pes=1, lanes=1, layers=3, columns=128, entries=512, codebook=32, accumulators=64, ram_latency=1
)
SMALL = HERE.parent / "tests/golden/model.pleach"
LARGE = HERE / "models/lenet_300_100_small.pleach"
#: bytes of which something happens to one
RATES = 80, 150, 300
#: inputs between two loads
RUNS = 20
#: cables at once
CABLES = 3
BAUDS = 115_200, 1_000_000, 3_000_000
#: seconds that the driver waits at most: a simulated board is as slow as this machine is busy
LONGEST_PATIENCE = 5.0


def damaged(count: int, seed: int) -> dict[str, float]:
    """Loads and runs over damaged cables until so many faults were there: what came of them."""
    serial.LONGEST_PATIENCE = LONGEST_PATIENCE
    board_program(ENGINE)  # once, before several want it
    start = time.monotonic()
    with ThreadPoolExecutor(CABLES) as pool:
        found = list(
            pool.map(_one_cable, [-(-count // CABLES)] * CABLES, range(seed, seed + CABLES))
        )
    total = {name: sum(each[name] for each in found) for name in found[0]}
    slowest = max(each["slowest_seconds"] for each in found)
    return total | {"slowest_seconds": slowest, "seconds": time.monotonic() - start}


def _one_cable(count: int, seed: int) -> dict[str, float]:
    model = load(SMALL)
    inputs = np.random.default_rng(seed).integers(-(2**15), 2**15, (RUNS, model.inputs))
    inputs = inputs.astype(np.int16)
    wanted = Reference(model).run(inputs)
    noises = Noise(RATES[0], 2 * seed), Noise(RATES[0], 2 * seed + 1)
    tally = dict.fromkeys(("loads", "runs", "wrong", "exceptions"), 0)
    slowest = 0.0
    with Cable(ENGINE, *noises) as cable:
        driver = Driver(SerialLink(cable.name), timeout=60)
        for rate in cycle(RATES):
            if sum(noise.faults for noise in noises) >= count:
                break
            for noise in noises:
                noise.rate = rate
            begun = time.monotonic()
            try:
                driver.load(SMALL)
                tally["loads"] += 1
                outputs = driver.run(inputs)
                tally["runs"] += len(outputs)
                tally["wrong"] += int((outputs != wanted).any(axis=1).sum())
            except LinkError as error:
                print(error)
                tally["exceptions"] += 1
            slowest = max(slowest, time.monotonic() - begun)
    to, of = (noise.faults for noise in noises)
    return tally | {
        "faults": to + of, "to_board": to, "from_board": of, "slowest_seconds": slowest,
    }  # fmt: skip


def rates(images: int) -> dict:
    """A network and MNIST on the wire and in the engine."""
    model = load(LARGE)
    found = data.load("mnist")
    inputs = model.quantise(found.test_images[:images])
    config = EngineConfig().grown(model)
    file = wire_bytes([load_packet(LARGE.read_bytes())])
    image = wire_bytes(run_packet(values, model.input_type) for values in inputs) / len(inputs)
    return {
        "model": LARGE.stem,
        "images": len(inputs),
        "input_bytes": model.inputs * model.input_type.dtype.itemsize,
        "wire_bytes": image,
        "load_wire_bytes": file,
        "pes": config.pes,
        "latency_cycles": float(CycleModel(model, config).run(inputs).latency.mean()),
        "bauds": [
            {
                "baud": baud,
                "load_seconds": 10 * file / baud,
                "images_per_second": baud / 10 / image,
            }
            for baud in BAUDS
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=200, help="of MNIST; 0: no rates")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()

    found = {"seed": args.seed, "noise": damaged(args.faults, args.seed)}
    print_table(
        "a damaged cable", tuple(found["noise"]), [[f"{v:,.6g}" for v in found["noise"].values()]]
    )
    if args.images:
        found["rates"] = speed = rates(args.images)
        columns = ("baud", "seconds to load", "images a second")
        rows = [[f"{v:,.4g}" for v in row.values()] for row in speed["bauds"]]
        print_table(
            f"{speed['model']}: {speed['input_bytes']} bytes of an image are "
            f"{speed['wire_bytes']:.0f} on the wire; {speed['latency_cycles']:.0f} cycles in the "
            f"engine of {speed['pes']} PEs", columns, rows,
        )  # fmt: skip
    if args.json:
        write_whole(args.json, json.dumps(found, indent=1) + "\n")
    if found["noise"]["wrong"] or found["noise"]["exceptions"]:
        raise SystemExit("something was wrong")


if __name__ == "__main__":
    main()

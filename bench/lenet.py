"""LeNet-300-100 on the engine: cycles of an image, their breakdown, images per second.

    python bench/lenet.py --json lenet.json
    python bench/lenet.py --kept 0.08 --pes 16 64

The network is bench/models/lenet_300_100_accurate.pleach, or with `--kept` the same with weights of
its codebooks added at seeded random places until that share of the original is there. The cycles
are the cycle model's; `--rtl N` runs the first N images on Verilator, too, where every output and
every count must be equal. `--balance` deals the neurons out to the PEs by the work that training
images give them. With `--timing` the table has images per second, at the clock of an engine with as
many PEs at speed grade 6.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from pleach import data
from pleach.compile.balance import balanced
from pleach.compile.explore import memory_bits
from pleach.cycles import BREAKDOWN, CycleModel
from pleach.engine import EngineConfig
from pleach.files import write_whole
from pleach.format import load
from pleach.model import CompressedModel
from pleach_cli.output import print_table
from pleach_sim.simulate import Job, simulate_jobs

MODEL = Path(__file__).parent / "models/lenet_300_100_accurate.pleach"

#: groups, lanes and block of the engine with each number of PEs
SHAPES = {4: (1, 4, 4), 8: (1, 4, 4), 16: (1, 4, 4), 32: (2, 8, 4), 64: (4, 8, 4)}


def denser(model: CompressedModel, kept: float, seed: int) -> CompressedModel:
    """The model with weights of its codebooks at random places until `kept` of all are there."""
    rng = np.random.default_rng(seed)
    share = kept * model.dense_bytes / 4 / sum(x.kept for x in model.layers)
    layers = []
    for layer in model.layers:
        more = min(round(share * layer.kept), layer.size) - layer.kept
        free = np.setdiff1d(np.arange(layer.size), layer.positions)
        positions = np.concatenate([layer.positions, rng.choice(free, more, replace=False)])
        codes = np.concatenate([layer.codes, rng.choice(layer.codes, more)])
        order = np.argsort(positions)
        layers.append(replace(layer, positions=positions[order], codes=codes[order]))
    return replace(model, layers=tuple(layers))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pes", type=int, nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--groups", type=int, help="in place of the usual ones")
    parser.add_argument("--lanes", type=int, help="in place of the usual ones")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--kept", type=float, help="density of the network, all layers together")
    parser.add_argument("--balance", action="store_true")
    parser.add_argument("--rtl", type=int, default=0, metavar="N", help="images to run on the RTL")
    parser.add_argument("--timing", type=Path, help="JSON of bench/timing.py")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()

    clocks = {}
    if args.timing:
        for row in json.loads(args.timing.read_text()):
            if row["design"] == "engine" and row["chip"] == "LFE5U-85F-6":
                clocks[row["pes"]] = row["fmax_mhz"]
    found = data.load("mnist")
    model = load(MODEL)
    if args.kept:
        model = denser(model, args.kept, seed=1)
    images = model.quantise(found.test_images[: args.images])
    training = model.quantise(found.train_images[:100])
    rows = []
    for pes in args.pes:
        groups, lanes, block = SHAPES[pes]
        least = {"columns": 2 * block, "entries": 2, "codebook": 16, "accumulators": 2}
        config = EngineConfig(
            pes=pes, groups=args.groups or groups, lanes=args.lanes or lanes, block=block,
            outputs=512, **least,
        ).grown(model)  # fmt: skip
        chosen = balanced(model, training, config) if args.balance else model
        cycles = CycleModel(chosen, config).run(images)
        if args.rtl:
            job = Job("lenet", chosen, images[: args.rtl])
            (result,) = simulate_jobs([job], config)
            assert result.bit_exact, str(result.mismatch)
            assert result.latency_cycles == cycles.latency[: args.rtl].tolist()
            assert result.compute_cycles == cycles.compute[: args.rtl].tolist()
        rows.append(
            {
                "engine": asdict(config),
                "latency_cycles": cycles.latency.tolist(),
                "mean_latency_cycles": float(cycles.latency.mean()),
                "compute_cycles": cycles.compute.mean(axis=0).tolist(),
                "breakdown": {
                    name: cycles.breakdown[..., n].mean(axis=0).tolist()
                    for n, name in enumerate(BREAKDOWN)
                },
                "memory_bits": memory_bits(chosen, config),
                "images_compared_with_rtl": args.rtl,
            }
        )
        if pes in clocks:
            rows[-1]["mhz"] = clocks[pes]
            rows[-1]["images_per_second"] = clocks[pes] * 1e6 / rows[-1]["mean_latency_cycles"]

    kept = sum(x.kept for x in model.layers) / (model.dense_bytes / 4)
    layers = [layer.name for layer in model.layers]
    print_table(
        f"LeNet-300-100, {100 * kept:.1f} % kept, means of {len(images)} images",
        ("PEs", "groups", "lanes", "bits", "latency", *layers, *BREAKDOWN, "images/s"),
        [
            (
                *(str(row["engine"][name]) for name in ("pes", "groups", "lanes")),
                f"{row['memory_bits']:.1f}",
                f"{row['mean_latency_cycles']:.0f}", *(f"{c:.0f}" for c in row["compute_cycles"]),
                *(f"{sum(row['breakdown'][name]):.0f}" for name in BREAKDOWN),
                f"{row['images_per_second']:,.0f}" if "images_per_second" in row else "",
            )
            for row in rows
        ],
    )  # fmt: skip
    if args.json:
        write_whole(args.json, json.dumps({"kept": kept, "runs": rows}, indent=2))


if __name__ == "__main__":
    main()

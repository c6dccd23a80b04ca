"""What even loads cost in error and buy in cycles, on the digits data set.

    python bench/balance.py --json balance.json

One dense network is pruned to several densities: by magnitude alone, the same with its neurons
dealt out to the PEs (`pleach balance`), and by magnitude within each PE's rows
(PruneConfig.balance). Errors and cycles are of the test images, means over seeds.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pleach import data
from pleach.compile.balance import balanced
from pleach.compression import (
    CompressConfig,
    PruneConfig,
    ShareConfig,
    TrainConfig,
    compress,
    train,
)
from pleach.compression.train import as_floats
from pleach.cycles import CycleModel
from pleach.engine import EngineConfig
from pleach.files import write_whole
from pleach.metrics import wrong_percent
from pleach.reference import Reference
from pleach_cli.output import print_table

PES = 16


def measure(model, found) -> dict[str, float]:
    config = EngineConfig(pes=PES, accumulators=64).grown(model)
    inputs = model.quantise(found.test_images)
    trace = Reference(model).trace(inputs)
    cycles = CycleModel(model, config).run(inputs)
    macs = sum(layer.macs.mean() for layer in trace)
    return {
        "error": wrong_percent(model.dequantise(trace[-1].outputs), found.test_labels),
        "compute_cycles": float(cycles.compute.sum(axis=1).mean()),
        "utilisation": float(macs / PES / cycles.compute.sum(axis=1).mean()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--densities", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = data.load("digits")
    short = TrainConfig(epochs=20)
    runs = {}
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        dense = nn.Sequential(
            nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
        )
        inputs = as_floats(dense, found.train_images)
        train(dense, inputs, found.train_labels, TrainConfig(epochs=40), seed=seed)
        for density in args.densities:
            for even in (1, PES):
                stage = PruneConfig(
                    density=density, ramp=10, balance=even, remove=False, train=short
                )
                settings = CompressConfig(
                    prune=(stage,), share=ShareConfig(train=short), order=False, seed=seed
                )
                model = compress(dense, found.train_images, found.train_labels, settings)
                name = "pruned evenly" if even > 1 else "as pruned"
                runs.setdefault((density, name), []).append(measure(model, found))
                if even == 1:
                    config = EngineConfig(pes=PES, accumulators=64).grown(model)
                    dealt = balanced(model, model.quantise(found.train_images[:200]), config)
                    runs.setdefault((density, "dealt out"), []).append(measure(dealt, found))
    rows = [
        {"density": density, "loads": name}
        | {key: float(np.mean([run[key] for run in group])) for key in group[0]}
        for (density, name), group in sorted(runs.items())
    ]
    print_table(
        f"Digits, 64-256-128-10 at {PES} PEs, means of {args.seeds} seeds",
        ("loads", "kept", "error", "cycles", "utilisation"),
        [
            (
                row["loads"], f"{100 * row['density']:.0f} %", f"{row['error']:.2f} %",
                f"{row['compute_cycles']:.0f}", f"{row['utilisation']:.3f}",
            )
            for row in rows
        ],
    )  # fmt: skip
    if args.json:
        write_whole(args.json, json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()

"""The nine layers of EIE's benchmark on the RTL, cycle for cycle beside EIE.

    python bench/eie.py --pes 64 --json eie.json

Each layer has a seeded uniform random pattern of weights and activations at the densities of EIE's
Table III. It runs on Verilator, every output is compared with the reference, and the counted cycles
with those of the cycle model. `--balance` deals the rows out to the PEs by their work, on other
inputs than the one that is measured. `--model` leaves the RTL out. `--sweep FOLDER` draws what the
model says of queue depths and PE counts, as the paper does in its figures 8, 11 and 13 (its figure
12 counts filler zeros, and there are none).
"""

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from pleach.compile.balance import balanced
from pleach.compile.explore import memory_bits
from pleach.cycles import CycleModel
from pleach.engine import EngineConfig
from pleach.files import write_whole
from pleach.model import Activation, CompressedLayer, CompressedModel
from pleach.reference import Reference
from pleach.spread import spread
from pleach_cli.output import print_table
from pleach_sim.simulate import Job, simulate_jobs

# Han et al., EIE, ISCA 2016: inputs, outputs, densities of weights and activations in per cent from
# Table III; actual time in µs at 64 PEs from Table IV, in cycles of 800 MHz.
LAYERS = {
    "Alex-6": (9216, 4096, 9, 35.1, 24240),
    "Alex-7": (4096, 4096, 9, 35.3, 9760),
    "Alex-8": (4096, 1000, 25, 37.5, 7920),
    "VGG-6": (25088, 4096, 4, 18.3, 27520),
    "VGG-7": (4096, 4096, 4, 37.5, 6960),
    "VGG-8": (4096, 1000, 23, 41.1, 6720),
    "NT-We": (4096, 600, 10, 100, 6400),
    "NT-Wd": (600, 8791, 11, 100, 11120),
    "NT-LSTM": (1201, 2400, 10, 100, 6000),
}

#: the engine that is measured: columns in groups, deep queues, a wide drain into a large buffer
ENGINE = {"groups": 2, "lanes": 32, "block": 4, "queue_depth": 32, "outputs": 16384}


def job(name: str, seed: int, image: int = 0) -> Job:
    """A layer of the benchmark with one input."""
    inputs, outputs, density, active, _ = LAYERS[name]
    rng = np.random.default_rng([seed, list(LAYERS).index(name)])
    positions = np.flatnonzero(rng.random(inputs * outputs) < density / 100)
    layer = CompressedLayer(
        name=name,
        inputs=inputs,
        outputs=outputs,
        bias=False,
        positions=positions,
        codes=rng.integers(0, 16, len(positions)),
        codebook=rng.permutation(np.arange(-2000, 2000))[:16],
        shift=8,
        activation=Activation.RELU,
        bias_exponent=0,
        output_fraction=0,
    )
    rng = np.random.default_rng([seed, list(LAYERS).index(name), 1 + image])
    values = rng.integers(1, 256, (1, inputs), np.uint8)
    values[rng.random(values.shape) >= active / 100] = 0
    return Job(name, CompressedModel((layer,)), values)


def utilisation(name: str, seed: int, pes: int, depth: int) -> tuple[float, int]:
    """Of a layer by the cycle model, as its rows are, and its cycles."""
    each = job(name, seed)
    groups = min(ENGINE["groups"], pes)
    config = EngineConfig(  # capacities do not matter to the cycles
        pes=pes, groups=groups, lanes=min(ENGINE["lanes"], pes // groups), queue_depth=depth,
        block=ENGINE["block"], outputs=ENGINE["outputs"],
    )  # fmt: skip
    (trace,) = Reference(each.model).trace(each.inputs)
    cycles = int(CycleModel(each.model, config).cycles([(trace.inputs, trace.skips)]).compute[0, 0])
    return float(trace.macs[0] / pes / cycles), cycles


def sweep(folder: Path, seed: int) -> None:
    from matplotlib.figure import Figure

    depths, counts = [8, 16, 32, 64], [1, 2, 4, 8, 16, 32, 64]
    points = [(64, depth) for depth in depths] + [(pes, ENGINE["queue_depth"]) for pes in counts]
    with spread() as jobs:
        for name in LAYERS:
            for point in points:
                jobs.submit((name, *point), utilisation, name, seed, *point)
        found = {key: outcome.result() for key, outcome in jobs.finished()}
    figure = Figure(figsize=(13, 4), layout="constrained")
    by_depth, speed, by_pes = figure.subplots(1, 3)
    for name in LAYERS:
        by_depth.plot(depths, [found[name, 64, depth][0] for depth in depths], "o-", label=name)
        cycles = [found[name, pes, ENGINE["queue_depth"]][1] for pes in counts]
        speed.plot(counts, [cycles[0] / c for c in cycles], "o-", label=name)
        by_pes.plot(counts, [found[name, pes, ENGINE["queue_depth"]][0] for pes in counts], "o-")
    speed.plot(counts, counts, "--", color="0.6")
    by_depth.set(xlabel="queue depth, 64 PEs", ylabel="utilisation", xscale="log")
    speed.set(xlabel="PEs", ylabel="speed-up", xscale="log", yscale="log")
    by_pes.set(xlabel="PEs", ylabel="utilisation", xscale="log")
    for axes, ticks in ((by_depth, depths), (speed, counts), (by_pes, counts)):
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    speed.legend(fontsize=7)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "eie.svg")
    rows = [
        {"layer": name, "pes": pes, "queue_depth": depth, "utilisation": use, "cycles": cycles}
        for (name, pes, depth), (use, cycles) in found.items()
    ]
    write_whole(folder / "eie_sweep.json", json.dumps(rows, indent=2))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pes", type=int, default=64)
    for name, default in ENGINE.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=LAYERS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--balance", action="store_true", help="deal the rows out to the PEs")
    parser.add_argument("--model", action="store_true", help="only the cycle model, not the RTL")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--sweep", type=Path, metavar="FOLDER", help="plots to write, and no table")
    args = parser.parse_args()
    if args.sweep:
        sweep(args.sweep, args.seed)
        return

    jobs = [job(name, args.seed) for name in args.layers]
    chosen = {name: getattr(args, name) for name in ENGINE}
    least = {"columns": 2 * args.block, "entries": 2, "codebook": 16, "accumulators": 2}
    config = EngineConfig(pes=args.pes, layers=2, **least, **chosen)
    for each in jobs:
        config = config.grown(each.model)
    rows = []
    for each in jobs:
        if args.balance:
            # Other inputs than the one that is measured, of the same statistics: which activations
            # will be zero is not known beforehand.
            others = [job(each.name, args.seed, 100 + n).inputs for n in range(8)]
            others = np.concatenate(others)
            each = replace(each, model=balanced(each.model, others, config, outputs=True))
        start = time.monotonic()
        model = CycleModel(each.model, config)
        trace = Reference(each.model).trace(each.inputs)
        predicted = model.cycles([(layer.inputs, layer.skips) for layer in trace])
        seconds = time.monotonic() - start
        macs, cycles = int(trace[0].macs[0]), int(predicted.compute[0, 0])
        row = {
            "layer": each.name,
            "nonzero_macs": macs,
            "predicted_cycles": cycles,
            "predicted_latency": int(predicted.latency[0]),
            "prediction_seconds": seconds,
            "memory_bits": memory_bits(each.model, replace(config, **least).grown(each.model)),
            "eie_cycles": LAYERS[each.name][-1],
        }
        if not args.model:
            (result,) = simulate_jobs([each], config, bulk=True)
            cycles = result.compute_cycles[0][0]
            row |= {"bit_exact": result.bit_exact, "latency": result.latency_cycles[0]}
        row |= {"cycles": cycles, "utilisation": macs / args.pes / cycles}
        rows.append(row)
        print(f"{each.name}: {cycles:,} cycles", file=sys.stderr)

    print_table(
        f"EIE's benchmark at {args.pes} PEs",
        ("layer", "MACs", "cycles", "predicted", "EIE", "EIE / ours", "utilisation", "bits"),
        [
            (
                row["layer"], f"{row['nonzero_macs']:,}", f"{row['cycles']:,}",
                f"{row['predicted_cycles']:,}", f"{row['eie_cycles']:,}",
                f"{row['eie_cycles'] / row['cycles']:.3f}", f"{row['utilisation']:.3f}",
                f"{row['memory_bits']:.1f}",
            )
            for row in rows
        ],
    )  # fmt: skip
    mean = math.exp(np.mean([math.log(row["eie_cycles"] / row["cycles"]) for row in rows]))
    print(f"geometric mean of EIE / ours: {mean:.3f}")
    if args.json:
        found = {"engine": asdict(config), "geometric_mean": mean, "layers": rows}
        write_whole(args.json, json.dumps(found, indent=2))
    if not args.model:
        wrong = [
            r["layer"] for r in rows if not r["bit_exact"] or r["cycles"] != r["predicted_cycles"]
        ]
        if wrong:
            raise SystemExit(f"not as the reference or not as predicted: {', '.join(wrong)}")


if __name__ == "__main__":
    main()

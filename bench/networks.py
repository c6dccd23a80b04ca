"""Convolutional networks on the engine: cycles of an image, utilisation, teams of each layer.

    python bench/networks.py --json networks.json

Trained ones are files of bench/models, each on the test images of the data set that its recipe
names (bench/recipes); those that are not there are left out. Of made ones the weights are at seeded
places, their rows dealt out to the PEs by them: LeNet-5 at the densities of Deep Compression takes
MNIST's test images, ResNet-8 and DS-CNN, in the shapes of MLPerf Tiny, take values that are at
seeded places, too (bench/shapes.py). No figure is that benchmark's. Cycles are the cycle model's,
from the first value of a map read to the last one written. Of some of the trained networks the
first images run on Verilator, and their cycles are those that the RTL counts; every output and
every count must be equal. `--rtl 0` leaves that out.

Each network is measured twice: as it is, and with its channels dealt out to the PEs (`pleach
balance`), of trained ones by the work of training images. `--no-balance` leaves that out.
"""

import argparse
import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import compression
import numpy as np
import shapes

from pleach import data
from pleach.compile.balance import balanced, dealt
from pleach.compile.explore import macs
from pleach.compile.plan import chosen, counted_by
from pleach.cycles.maps import MapCycles
from pleach.engine import EngineConfig
from pleach.engine.plan import LayerPlan, base_engine, fitted
from pleach.files import write_whole
from pleach.format import dumps, load
from pleach.metrics import wrong_percent
from pleach.model import CompressedModel, InputType
from pleach.reference import Reference
from pleach_cli.output import print_table
from pleach_sim.simulate import Job, simulate_jobs

MODELS = Path(__file__).parent / "models"
#: of each number of PEs what the engine has that others have not
Engines = dict[int, dict[str, int]]
MORE_TEAMS = {"groups": 8, "neighbours": 16}
TRAINED: dict[str, Engines] = {
    "lenet_5_small": {4: {}, 16: {}, 32: {}, 64: {}},
    "lenet_5_accurate": {16: {}, 64: {}},
    "resnet_8": {16: {}, 32: {}, 64: {}},
    "ds_cnn": {16: MORE_TEAMS},
}
SEEDED: dict[str, Engines] = {
    "lenet_5": {16: {}, 64: {}},
    "resnet_8": {16: {}, 32: {}, 64: {}},
    "ds_cnn": {16: MORE_TEAMS},
}
#: how the seeded ones are made, with the PEs of a team
MADE = {"lenet_5": shapes.lenet_5, "resnet_8": shapes.resnet8, "ds_cnn": shapes.ds_cnn}
#: trained ones that `--rtl` runs, with their PEs
IN_RTL = (("lenet_5_small", 16), ("lenet_5_small", 64), ("resnet_8", 16), ("ds_cnn", 16))
#: images that a plan is made by
PLANNED_BY = 4


def engine_of(model: CompressedModel, pes: int, **given) -> EngineConfig:
    return fitted(model, replace(base_engine(model, pes), **given), fixed=given)


def measured(
    model: CompressedModel, config: EngineConfig, taken: list, macs: float
) -> tuple[dict, np.ndarray, tuple[LayerPlan, ...]]:
    """A network on an engine, by what its layers take; the cycles of each image, and the plan."""
    few = [(a[:PLANNED_BY], b[:PLANNED_BY]) for a, b in taken]
    plans = chosen(model, config, counted_by(model, config, few))
    counted = MapCycles(model, config, plans)
    latency, compute, _ = counted.run(taken)
    each = counted.span(compute)
    cycles = float(each.mean())
    row = {
        "pes": config.pes,
        "groups": config.groups,
        "teams": [each.teams for each in plans],
        "sides": [each.side for each in plans],
        "cycles": cycles,
        "predicted_cycles": cycles,
        "latency_cycles": float(latency.mean()),
        "layer_cycles": compute.mean(axis=0).tolist(),
        "utilisation": macs / config.pes / cycles,
        "engine": asdict(config),
    }
    return row, each, plans


def trained(
    name: str, pes: int, given: dict[str, int], images: int, rtl: int, balance: bool
) -> dict:
    """A file of bench/models, on test images."""
    path = MODELS / f"{name}.pleach"
    model = load(path)
    found = data.load(compression.read(name).data)
    inputs = model.quantise(found.test_images[:images])
    config = engine_of(model, pes, **given)
    if balance:
        model = balanced(model, model.quantise(found.train_images[:images]), config)
    row, cycles, plans = on_images(model, config, inputs)
    row = {"network": name, "weights": "trained"} | row
    rtl = min(rtl, len(inputs)) if (name, pes) in IN_RTL else 0
    if rtl:
        cycles[:rtl] = in_rtl(name, model, config, plans, inputs[:rtl])
        row["cycles"] = float(cycles.mean())
    row["images"], row["images_in_rtl"] = len(inputs), rtl
    row["bytes"] = len(dumps(model)) if balance else path.stat().st_size
    row["ratio"] = model.dense_bytes / row["bytes"]
    row["error_pct"] = error_of(name)
    training = path.with_suffix(".json")
    if training.exists():
        row["dense_error_pct"] = json.loads(training.read_text())["dense_error_pct"]
    return row


def in_rtl(
    name: str,
    model: CompressedModel,
    config: EngineConfig,
    plans: tuple[LayerPlan, ...],
    inputs: np.ndarray,
) -> np.ndarray:
    """The cycles that the RTL counts of each image, where all of it is as predicted."""
    (run,) = simulate_jobs([Job(name, model, inputs, plan=plans)], config)
    counted = MapCycles(model, config, plans)
    latency, compute, _ = counted.run(taken_of(model, inputs))
    if not run.bit_exact:
        raise SystemExit(f"{name} on {config.pes} PEs: {run.mismatch}")
    found, predicted = (run.latency_cycles, run.pass_cycles), (latency.tolist(), compute.tolist())
    if found != predicted:
        raise SystemExit(f"{name} on {config.pes} PEs: {found} cycles, not {predicted}")
    return counted.span(np.array(run.pass_cycles))


@cache
def error_of(name: str) -> float:
    """Of a file of bench/models, on all test images, in per cent."""
    model = load(MODELS / f"{name}.pleach")
    inputs, labels = data.load(compression.read(name).data).tests
    outputs = Reference(model).run(model.quantise(inputs))
    return wrong_percent(model.dequantise(outputs), labels)


def taken_of(model: CompressedModel, inputs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Which values of its source and its skip each layer finds not to be zero."""
    return [(t.inputs != 0, t.skips != 0) for t in Reference(model).trace(inputs)]


def on_images(
    model: CompressedModel, config: EngineConfig, inputs: np.ndarray
) -> tuple[dict, np.ndarray, tuple[LayerPlan, ...]]:
    """As `measured`, of a network that takes these inputs."""
    traces = Reference(model).trace(inputs)
    taken = [(t.inputs != 0, t.skips != 0) for t in traces]
    return measured(model, config, taken, float(sum(t.macs.mean() for t in traces)))


def seeded(name: str, pes: int, given: dict[str, int], images: int, balance: bool) -> dict:
    """A network of bench/shapes.py."""
    net = MADE[name](pes // given.get("groups", min(max(1, pes // 4), 8)))
    row = {"network": name, "weights": "seeded"}
    if name == "lenet_5":
        model = net.model(InputType.UINT8)
        found, config = data.load("mnist"), engine_of(model, pes, **given)
        if balance:
            model = balanced(model, model.quantise(found.train_images[:images]), config)
        row |= on_images(model, config, model.quantise(found.test_images[:images]))[0]
        return row | {"images": images}
    model, taken = net.model(), net.taken()
    config = engine_of(model, pes, **given)
    if balance:
        model, taken = dealt(model, taken, config)
    return row | measured(model, config, taken, macs(model, taken))[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=[*TRAINED, *SEEDED])
    parser.add_argument("--weights", nargs="+", default=["trained", "seeded"])
    parser.add_argument("--pes", type=int, nargs="+")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rtl", type=int, default=2, help="images of each that run on Verilator")
    parser.add_argument(
        "--balance", action=argparse.BooleanOptionalAction, default=True,
        help="with channels dealt out, too",
    )  # fmt: skip
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for weights, networks in (("trained", TRAINED), ("seeded", SEEDED)):
        for name, engines in networks.items():
            if weights not in args.weights or name not in args.networks:
                continue
            if weights == "trained" and not (MODELS / f"{name}.pleach").exists():
                print(f"{name}: there is no file of it in {MODELS}", flush=True)
                continue
            for pes, given in engines.items():
                if args.pes and pes not in args.pes:
                    continue
                for balance in (False, True)[: 1 + args.balance]:
                    if weights == "trained":
                        rtl = 0 if balance else args.rtl
                        row = trained(name, pes, given, args.images, rtl, balance)
                    else:
                        row = seeded(name, pes, given, args.images, balance)
                    rows.append(row | {"balanced": balance})
                    dealt_out = "balanced" if balance else ""
                    print(name, weights, pes, round(row["cycles"]), dealt_out, flush=True)
    print_table(
        "Cycles of an image",
        ("network", "weights", "PEs", "channels", "teams", "cycles", "utilisation", "in RTL"),
        [
            (
                row["network"], row["weights"], str(row["pes"]),
                "dealt out" if row["balanced"] else "",
                " ".join(map(str, row["teams"])), f"{row['cycles']:.0f}",
                f"{row['utilisation']:.3f}", str(row.get("images_in_rtl", 0)),
            )
            for row in rows
        ],
    )  # fmt: skip
    if args.json:
        write_whole(args.json, json.dumps({"networks": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

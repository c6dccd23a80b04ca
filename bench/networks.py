"""Convolutional networks on the engine: cycles of an image, utilisation, teams of each layer.

    python bench/networks.py --json networks.json

LeNet-5 are the files of bench/models on MNIST's test images. ResNet-8 and DS-CNN have the shapes of
MLPerf Tiny (bench/shapes.py) and seeded weights and activations, dealt out to the PEs by their
weights; no figure of them is that benchmark's. Cycles are the cycle model's, from the first value
of a map read to the last one written; `--rtl N` runs the first N images of the trained networks on
Verilator, too, where every output and every count must be equal.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapes

from pleach import data
from pleach.compile.plan import chosen, counted_by
from pleach.cycles.maps import MapCycles
from pleach.engine import EngineConfig
from pleach.engine.plan import base_engine, fitted, geometry
from pleach.files import write_whole
from pleach.format import load
from pleach.model import CompressedLayer, CompressedModel
from pleach.reference import Reference
from pleach_cli.output import print_table
from pleach_sim.simulate import Job, simulate_jobs

MODELS = Path(__file__).parent / "models"
#: trained networks, and the numbers of PEs that each is measured with
TRAINED = {"lenet_5_small": (4, 16, 32, 64), "lenet_5_accurate": (16, 64)}
#: made ones: how, and of each number of PEs what the engine has that others have not
SEEDED = {
    "resnet_8": (shapes.resnet8, {16: {}, 32: {}, 64: {}}),
    "ds_cnn": (shapes.ds_cnn, {16: {"groups": 8, "neighbours": 16}}),
}
#: images that a plan is made by
PLANNED_BY = 4


def engine_of(model: CompressedModel, pes: int, **given) -> EngineConfig:
    return fitted(model, replace(base_engine(model, pes), **given), fixed=given)


def measured(model: CompressedModel, config: EngineConfig, taken: list, macs: float) -> dict:
    """The cycles of a network on an engine, by what its layers take."""
    few = [(a[:PLANNED_BY], b[:PLANNED_BY]) for a, b in taken]
    plans = chosen(model, config, counted_by(model, config, few))
    counted = MapCycles(model, config, plans)
    latency, compute, _ = counted.run(taken)
    cycles = float(counted.span(compute).mean())
    return {
        "pes": config.pes,
        "groups": config.groups,
        "teams": [each.teams for each in plans],
        "sides": [each.side for each in plans],
        "cycles": cycles,
        "predicted_cycles": cycles,
        "latency_cycles": float(latency.mean()),
        "layer_cycles": compute.mean(axis=0).tolist(),
        "utilisation": macs / config.pes / cycles,
        "entries": config.entries,
        "maps": config.maps,
        "accumulators": config.accumulators,
    } | {"plan": plans}


def trained(name: str, pes: int, images: int, rtl: int) -> dict:
    """A file of bench/models, on test images."""
    path = MODELS / f"{name}.pleach"
    model = load(path)
    found = data.load("mnist")
    inputs, labels = found.tests
    chosen_inputs = model.quantise(inputs[:images])
    traces = Reference(model).trace(chosen_inputs)
    taken = [(t.inputs != 0, t.skips != 0) for t in traces]
    config = engine_of(model, pes)
    macs = float(sum(t.macs.mean() for t in traces))
    row = {"network": name, "weights": "trained"} | measured(model, config, taken, macs)
    plans = row.pop("plan")
    if rtl:
        job = Job(name, model, chosen_inputs[:rtl], plan=plans)
        (run,) = simulate_jobs([job], config)
        predicted = MapCycles(model, config, plans).run([(a[:rtl], b[:rtl]) for a, b in taken])
        if not run.bit_exact or run.latency_cycles != predicted[0].tolist():
            raise SystemExit(f"{name} on {pes} PEs: the RTL differs: {run.mismatch}")
    row["images"], row["images_in_rtl"] = images, rtl
    row["bytes"] = path.stat().st_size
    row["ratio"] = model.dense_bytes / row["bytes"]
    answers = Reference(model).run(model.quantise(inputs))
    row["error_pct"] = 100 * float((answers.argmax(axis=1) != labels).mean())
    return row


def seeded(name: str, pes: int) -> dict:
    """A network of bench/shapes.py."""
    make, engines = SEEDED[name]
    given = engines[pes]
    own = pes // given.get("groups", min(max(1, pes // 4), 8))
    net = make(own)
    model, taken = net.model(), net.taken()
    config = engine_of(model, pes, **given)
    macs = products(model, taken)
    row = {"network": name, "weights": "seeded"} | measured(model, config, taken, macs)
    row.pop("plan")
    return row


def products(model: CompressedModel, taken: list) -> float:
    """Products of a kept weight and a value that is not zero, biases included."""
    nodes = [node for node in model.graph.nodes if isinstance(node.op, CompressedLayer)]
    shapes_of, total = model.graph.shapes(), 0
    for node, (source, skip) in zip(nodes, taken, strict=True):
        layer, shape = node.op, geometry(node.op)
        kept = np.bincount(layer.column_of, minlength=layer.columns)
        (k_h, k_w), (s_y, s_x), (h, w) = shape.kernel, shape.stride, shape.map
        over = layer.convolution
        top, left, bottom, right = over.padding if over else (0, 0, 0, 0)
        mask = source[0].reshape(shape.height, shape.width, shape.channels)
        mask = np.pad(mask, ((top, bottom), (left, right), (0, 0)))
        active = [
            mask[y : y + s_y * h : s_y, x : x + s_x * w : s_x][:h, :w].sum(axis=(0, 1))
            for y in range(k_h)
            for x in range(k_w)
        ]
        active = np.concatenate(active)
        if layer.skip is not None:
            channels, height, width = shapes_of[node.sources[1]]
            t_y, t_x = layer.skip.stride
            second = skip[0].reshape(height, width, channels)[::t_y, ::t_x][:h, :w]
            active = np.concatenate([active, second.sum(axis=(0, 1))])
        total += int(kept[: len(active)] @ active) + int(kept[len(active) :].sum()) * h * w
    return float(total)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=[*TRAINED, *SEEDED])
    parser.add_argument("--pes", type=int, nargs="+")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rtl", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for name in given.networks:
        for pes in TRAINED[name] if name in TRAINED else SEEDED[name][1]:
            if given.pes and pes not in given.pes:
                continue
            if name in TRAINED:
                rows.append(trained(name, pes, given.images, given.rtl))
            else:
                rows.append(seeded(name, pes))
            print(name, pes, round(rows[-1]["cycles"]), flush=True)
    print_table(
        "Cycles of an image",
        ("network", "weights", "PEs", "teams", "cycles", "utilisation"),
        [
            (
                row["network"], row["weights"], str(row["pes"]),
                " ".join(map(str, row["teams"])), f"{row['cycles']:.0f}",
                f"{row['utilisation']:.3f}",
            )
            for row in rows
        ],
    )  # fmt: skip
    if given.json:
        write_whole(given.json, json.dumps({"networks": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

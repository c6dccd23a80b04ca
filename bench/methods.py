"""Every method on LeNet-5 and MNIST, from the same dense network, at one budget.

    python bench/methods.py --list                            # what is run, what is not, and why
    python bench/methods.py --json methods.json               # all, half a minute of a core each
    python bench/methods.py --kept --json methods.json        # those only that have been run
    python bench/methods.py obs twn --epochs 1 --images 2000  # two, to try

Each run begins with the dense network of its seed, prunes to the same density and shares the
weights (or does what the method does in the place of either), with the same epochs of retraining.
The file that comes out is read again, its error is measured on the 10,000 test images through the
fixed-point reference, its cycles on an engine of 16 PEs that is as large as it needs. No setting
was chosen for a method by its error; the figures compare methods as they come, and are no records.

A run is kept in build/methods under a hash of everything that it depends on: settings, images,
dense network and the method's own file. What is there is not run again, so an interrupted bench
goes on where it was. Runs are spread over the processors (--processes), or over the workers of a
dask scheduler (--scheduler). --plot writes a picture: error against bytes, and against cycles.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from markupsafe import Markup

import pleach
from pleach import models
from pleach.compile.plan import planned_by
from pleach.compression import (
    CompressConfig,
    Factorise,
    Prune,
    PruneConfig,
    Share,
    ShareConfig,
    Step,
    TrainConfig,
    compress,
    train,
)
from pleach.compression.methods import Method, methods
from pleach.compression.teachers import TEACHERS
from pleach.cycles.energy import energies
from pleach.cycles.maps import MapCycles
from pleach.data import load
from pleach.engine import EngineConfig
from pleach.engine.plan import base_engine, fitted
from pleach.errors import ConfigError, PleachError
from pleach.files import write_whole
from pleach.format import parse
from pleach.metrics import wrong_percent
from pleach.model import CompressedModel
from pleach.page.svg import svg, text
from pleach.reference import Reference
from pleach.spread import spread
from pleach_cli.output import print_table

FOLDER = Path(__file__).parents[1] / "build/methods"
NETWORK = "lenet_5"
#: side of a panel of the plot, in pixels, and the colours of the kinds
SIDE = 420
COLOURS = (
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2",
)  # fmt: skip
#: test images whose cycles are counted
COUNTED = 20
#: what a setting without a default is given
GIVEN = {
    ("allocation", "balance"): {"pes": 16},
    ("allocation", "threshold"): {"quality": 1.2},
    ("regulariser", "l1"): {"strength": 1e-5},
    ("regulariser", "weight_decay"): {"strength": 1e-4},
    ("regulariser", "group_lasso"): {"strength": 1e-3},
    ("teacher", "attention"): {"pairs": {"conv2": "conv2"}},
    ("teacher", "hints"): {"pairs": {"conv2": "conv2"}, "weight": 1e-3},
}
#: what a file is measured for
FIGURES = {"error_pct", "bytes", "ratio", "entries", "cycles_16_pes", "energy_nj", "file"}
#: weights and biases of the layers, and the densities of the small ones (Deep Compression, table 3)
SIZES = {"conv1": 520, "conv2": 25_050, "fc1": 400_500, "fc2": 5_010}
LAYERS = {"conv1": 0.66, "conv2": 0.12, "fc2": 0.19}
#: scores that say the same in every layer
COMPARABLE = {"saliency", "obd", "taylor", "feature_taylor"}
#: what this network has no use for
NOT_HERE = {
    ("criterion", "slimming"): "LeNet-5 has no batch normalisations",
    ("regulariser", "slimming"): "LeNet-5 has no batch normalisations",
    ("granularity", "layer"): "LeNet-5 has no sum around a layer",
    ("teacher", "model"): "it is what every other run has: the dense network teaches",
    ("regulariser", "admm"): "it is run as the quantiser admm",
}


@dataclass(frozen=True)
class Budget:
    """What every run has.

    Args:
        density: kept in the end, of the whole network.
        epochs: of retraining while it is pruned; half as many while values are shared.
        dense_epochs: of the dense network.
        images: training images.
    """

    density: float = 0.05
    epochs: int = 4
    dense_epochs: int = 10
    images: int = 12_000

    @property
    def training(self) -> TrainConfig:
        return TrainConfig(epochs=self.epochs, distillation=0.5)

    def share(self, **settings) -> Share:
        """The step that most methods end with."""
        few = TrainConfig(epochs=max(1, self.epochs // 2), learning_rate=3e-4, distillation=0.5)
        return Share(ShareConfig(**{"clusters": 16, "train": few} | settings))

    def prune(self, name: str = "pruned", epochs: int | None = None, **settings) -> Prune:
        """The step that most methods begin with: saliency, over the whole network."""
        count = epochs or self.epochs
        common = {
            "density": self.density,
            "criterion": "saliency",
            "scope": "network",
            "ramp": 0.7 * count,
            "every": 0.1 * count,
            "train": TrainConfig(epochs=count, distillation=0.5),
        }
        chosen = common | settings
        scope = chosen["scope"]
        kind = scope["kind"] if isinstance(scope, dict) else scope
        if kind in ("layer", "balance") and chosen["density"] == self.density:
            chosen["layers"] = self.layers
        return Prune(PruneConfig(**chosen), name)

    @property
    def layers(self) -> dict[str, float]:
        """Densities of the layers, where each has one of its own: those of Deep Compression, and
        what is left of the whole for the largest."""
        own = sum(share * SIZES[name] for name, share in LAYERS.items())
        left = self.density * sum(SIZES.values()) - own
        return LAYERS | {"fc1": max(left, 0.0) / SIZES["fc1"]}


def steps_of(method: Method, budget: Budget) -> list[Step]:
    """What is done to show a method.

    Raises:
        ConfigError: nothing would show it here; says why.
    """
    key = method.kind, method.name
    if key in NOT_HERE:
        raise ConfigError(NOT_HERE[key])
    table = {"kind": method.name} | GIVEN.get(key, {})
    share = budget.share()
    match method.kind:
        case "criterion":
            return [*_criterion(method, table, budget), share]
        case "granularity":
            if method.name == "element":
                return [budget.prune(criterion="magnitude", scope="layer"), share]
            return [*_coarse(budget, granularity=table, criterion="magnitude"), share]
        case "allocation":
            own = {"threshold": {"criterion": "magnitude"}, "balance": {"remove": False}}
            return [budget.prune(scope=table, **own.get(method.name, {})), share]
        case "schedule":
            return [budget.prune(schedule=table), share]
        case "regulariser":
            training = TrainConfig(epochs=budget.epochs, distillation=0.5, regularisers=(table,))
            return [budget.prune(criterion="magnitude", scope="layer", train=training), share]
        case "quantiser":
            return [budget.prune(), budget.share(quantiser=table)]
        case "activation":
            return [budget.prune(), budget.share(activations=table)]
        case "factoriser":
            few = TrainConfig(epochs=1, distillation=0.5)
            return [Factorise(table, train=few), budget.prune(), share]
        case "teacher":
            return [budget.prune(), share]
    raise ConfigError(f"no run shows a {method.kind}")


def _criterion(method: Method, table: dict, budget: Budget) -> list[Step]:
    scope = "network" if method.name in COMPARABLE else "layer"
    if "granularity channel" in method.needs:
        return _coarse(budget, criterion=table, granularity="channel", scope=scope)
    rounds = {"every": 0.7 * budget.epochs / 4} if "samples" in method.needs else {}
    return [budget.prune(criterion=table, scope=scope, **rounds)]


def _coarse(budget: Budget, **settings) -> list[Step]:
    """Whole groups first, down to three tenths of the weights, then single weights."""
    epochs = max(1, budget.epochs // 2)
    first = {"scope": "layer", "every": 0.7 * epochs / 4, "density": 0.3}
    return [
        budget.prune("pruned in groups", epochs, **first | settings),
        budget.prune("pruned", epochs, start=0.3),
    ]


def dense_network(budget: Budget, seed: int, images, labels):
    """The dense network of a seed, and a hash of its weights; from build/ where it is there."""
    training = TrainConfig(epochs=budget.dense_epochs, dropout=0.3)
    key = _hash([NETWORK, seed, asdict(training), len(images), sha256(images).hexdigest()])
    path = FOLDER / f"dense-{key}.safetensors"
    model = getattr(models, NETWORK)(seed=seed)
    if not path.exists():
        train(model, images, labels, training, seed=seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        models.save_checkpoint(model, path)
    model.load_state_dict(models.load_checkpoint(path))
    return model, sha256(path.read_bytes()).hexdigest()


def run(method: Method, budget: Budget, seed: int, kept_only: bool = False) -> dict:
    """One row; from build/ where it is there, and not run if it is to be `kept_only`."""
    row = {"method": method.name, "kind": method.kind, "network": NETWORK, "seed": seed}
    try:
        steps = steps_of(method, budget)
    except PleachError as error:
        return row | {"left_out": str(error)}
    data = load("mnist")
    images, labels = data.train_images[: budget.images], data.train_labels[: budget.images]
    dense, weights = dense_network(budget, seed, images, labels)
    code = Path(importlib.import_module(method.module).__file__ or "").read_text("utf-8")
    given = GIVEN.get((method.kind, method.name), {})
    key = _hash([method.kind, repr(steps), given, asdict(budget), seed, weights, code])
    path = FOLDER / f"{method.kind}-{method.name}-{seed}-{key}"
    kept = path.with_suffix(".json")
    if kept.exists():
        found = json.loads(kept.read_text("utf-8"))
        if (
            "left_out" not in found and not found.keys() >= FIGURES
        ):  # measured before there were all
            found |= measured(path.with_suffix(".pleach"), data)
            write_whole(kept, json.dumps(found))
        return found
    if kept_only:
        return row | {"left_out": "not run yet"}
    start = time.monotonic()
    config = CompressConfig(seed=seed, codebook_bits=8)
    try:
        teacher = None
        if method.kind == "teacher":
            teacher = TEACHERS.of({"kind": method.name, "model": dense} | given, "teacher")
        model = compress(dense, images, labels, config, steps=steps, teacher=teacher)
    except PleachError as error:
        row |= {"left_out": str(error)}
    else:
        pleach.save(model, path.with_suffix(".pleach"))
        row |= measured(path.with_suffix(".pleach"), data)
    row["seconds"] = round(time.monotonic() - start, 1)
    write_whole(kept, json.dumps(row))
    return row


def measured(path: Path, data) -> dict:
    """The figures of a file, as it is read again."""
    model, _ = parse(path.read_bytes())
    outputs = Reference(model).run(model.quantise(data.test_images))
    config = fitted(model, base_engine(model, 16))
    few = model.quantise(data.test_images[:COUNTED])
    return {
        "error_pct": wrong_percent(model.dequantise(outputs), data.test_labels),
        "bytes": path.stat().st_size,
        "ratio": model.dense_bytes / path.stat().st_size,
        "entries": sum(layer.kept for layer in model.layers),
        "cycles_16_pes": cycles(model, config, few),
        "energy_nj": sum(energies(model, config, few)) / 1000,
        "file": path.name,
    }


def cycles(model: CompressedModel, config: EngineConfig, inputs: np.ndarray) -> float:
    """Of an image on 16 PEs, the mean: from the first value of a map read to the last one
    written, on the smallest engine that holds the network."""
    taken = Reference(model).taken(inputs)
    counted = MapCycles(model, config, planned_by(model, config, taken))
    _, compute, _ = counted.run(taken)
    return float(counted.span(compute).mean())


def _hash(of: object) -> str:
    return sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="*", help="names or kinds; all without one")
    parser.add_argument("--list", action="store_true", help="run nothing, show what would be")
    parser.add_argument("--density", type=float, default=Budget.density)
    parser.add_argument("--epochs", type=int, default=Budget.epochs)
    parser.add_argument("--dense-epochs", type=int, default=Budget.dense_epochs)
    parser.add_argument("--images", type=int, default=Budget.images)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--scheduler", help="a dask scheduler's address, in place of processes")
    parser.add_argument("--kept", action="store_true", help="run nothing, show what was run")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--plot", type=Path, help="SVG to write")
    given = parser.parse_args()
    budget = Budget(given.density, given.epochs, given.dense_epochs, given.images)
    found = [
        method
        for method in methods()
        if method.kind != "network"
        and (not given.methods or {method.name, method.kind} & set(given.methods))
    ]
    if given.list:
        show_list(found, budget)
        return
    jobs = [(method, seed) for seed in given.seeds for method in found]
    rows = []
    with spread(given.scheduler, processes=given.processes, shared=(budget, given.kept)) as pool:
        for row in pool.map(_run, jobs):
            rows.append(row)
            print(row["kind"], row["method"], row["seed"], _said(row), flush=True)
    show(rows)
    if given.json:
        runs = {"budget": asdict(budget), "pleach": pleach.__version__, "runs": rows}
        write_whole(given.json, json.dumps(runs, indent=1) + "\n")
    if given.plot:
        write_whole(given.plot, plot(rows))


def _run(budget: Budget, kept_only: bool, job: tuple[Method, int]) -> dict:
    return run(job[0], budget, job[1], kept_only)


def _said(row: dict) -> str:
    if "left_out" in row:
        return f"left out: {row['left_out']}"
    return f"{row['error_pct']:.2f} %, {row['bytes']:,} bytes, {row['cycles_16_pes']:,.0f} cycles"


def show_list(found: list[Method], budget: Budget) -> None:
    """What would be run."""
    for method in found:
        try:
            steps = ", ".join(step.name for step in steps_of(method, budget))
        except PleachError as error:
            steps = f"left out: {error}"
        print(f"{method.kind} {method.name}: {steps}")


def show(rows: list[dict]) -> None:
    """The table, smallest error first."""
    done = sorted((r for r in rows if "error_pct" in r), key=lambda row: row["error_pct"])
    print_table(
        f"{NETWORK}, every method at one budget",
        ("method", "kind", "seed", "error %", "bytes", "ratio", "cycles, 16 PEs", "nJ"),
        [
            (
                row["method"], row["kind"], str(row["seed"]), f"{row['error_pct']:.2f}",
                f"{row['bytes']:,}", f"{row['ratio']:.0f}", f"{row['cycles_16_pes']:,.0f}",
                f"{row['energy_nj']:,.0f}",
            )
            for row in done
        ],
    )  # fmt: skip


def plot(rows: list[dict]) -> str:
    """Both figures as an SVG: a circle a run, its kind by colour, its name under the pointer."""
    done = [row for row in rows if "error_pct" in row]
    kinds = dict(zip(dict.fromkeys(row["kind"] for row in done), COLOURS, strict=False))
    panels = [
        _panel(done, "bytes", "bytes of the file", 0, kinds),
        _panel(done, "cycles_16_pes", "cycles of an image at 16 PEs", SIDE, kinds),
    ]
    key = [
        Markup('<circle cx="{}" cy="{}" r="4" fill="{}"/>').format(at, SIDE + 12, colour)
        + text(at + 8, SIDE + 16, kind)
        for (kind, colour), at in zip(kinds.items(), range(56, 2 * SIDE, 104), strict=False)
    ]
    paper = Markup('<rect width="100%" height="100%" fill="white"/>')
    said = f"{len(done)} runs: error against bytes and cycles"
    found = svg(2 * SIDE, SIDE + 24, said, paper, *panels, *key)
    opening = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="11" '
    return str(found).replace("<svg ", opening, 1) + "\n"


def _panel(rows: list[dict], figure: str, said: str, left: float, kinds: dict[str, str]) -> Markup:
    """Runs by a figure, to the right, and their error, upwards; both axes logarithmic."""
    edge, room = 48, SIDE - 64
    spans = [
        (min(row[name] for row in rows) * 0.9, max(row[name] for row in rows) * 1.1)
        for name in (figure, "error_pct")
    ]

    def along(value: float, axis: int) -> float:
        low, high = spans[axis]
        return room * math.log(value / low) / math.log(high / low)

    marks = [
        Markup('<path d="M{0} {1}V{2}H{3}" fill="none" stroke="#777"/>').format(
            left + edge, SIDE - edge - room, SIDE - edge, left + edge + room
        ),
        text(left + edge + room / 2, SIDE - 14, said, anchor="middle"),
        text(left + edge, SIDE - edge - room - 4, "error, % of the test images"),
    ]
    for axis, (low, high) in enumerate(spans):
        for tick in (
            digit * 10.0**power
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
            for digit in (1, 2, 5)
        ):
            if low <= tick <= high:
                at = along(tick, axis)
                x, y, anchor = (
                    (left + edge - 4, SIDE - edge - at + 4, "end")
                    if axis
                    else (left + edge + at, SIDE - edge + 14, "middle")
                )
                marks.append(text(x, y, f"{tick:,g}", anchor=anchor))
    for row in rows:
        marks.append(
            Markup(
                '<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="{}" fill-opacity="0.75">'
                "<title>{} {}: {:.2f} %, {:,} bytes, {:,.0f} cycles</title></circle>"
            ).format(
                left + edge + along(row[figure], 0),
                SIDE - edge - along(row["error_pct"], 1),
                kinds[row["kind"]],
                row["kind"],
                row["method"],
                row["error_pct"],
                row["bytes"],
                row["cycles_16_pes"],
            )
        )
    return Markup("").join(marks)


if __name__ == "__main__":
    main()

"""Every method on LeNet-5 and MNIST, from the same dense network, at one budget.

    python bench/methods.py --list                            # what is run, what is not, and why
    python bench/methods.py --json methods.json               # all, half a minute of a core each
    python bench/methods.py --kept --json methods.json        # those only that have been run
    python bench/methods.py obs twn --epochs 1 --images 2000  # two, to try
    python bench/methods.py --network small_conv kmeans       # one on the other network

Each run begins with the dense network of its seed, prunes to the same density and shares the
weights (or does what the method does in the place of either), with the same epochs of retraining.
The file that comes out is read again, its error is measured on the 10,000 test images through the
fixed-point reference, its cycles on an engine of 16 PEs that is as large as it needs. No setting
was chosen for a method by its error; the figures compare methods as they come, and are no records.
Beside the methods runs Deep Compression's own path, the kind `path`: pruned once by magnitude, each
layer to the density that it has there, retrained, and shared by k-means from even centroids.

A network of few bits is a kind of its own, `low_bit`: nothing is pruned, weights and activations
have the bits that a paper gives them, and they learn for three times as long.

`--best 10` goes on with the ten whose product of error and bytes is the least, and with the path:
with two seeds more, and with three on a small convolutional network on Fashion-MNIST.

A run is kept in build/methods under a hash of everything that it depends on: settings, images,
dense network and the method's own file. What is there is not run again, so an interrupted bench
goes on where it was. Runs are spread over the processors (--processes), or over the workers of a
dask scheduler (--scheduler). --plot writes a picture: error against bytes, and against cycles.
`--files` copies the files of the first seed into a folder. `--rtl` has the RTL's loader read each
file, and runs an image through one of each kind on Verilator: all must be equal.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from markupsafe import Markup
from torch import nn

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
    error_percent,
    train,
)
from pleach.compression.methods import Method, methods
from pleach.compression.quantisers import QUANTISERS
from pleach.compression.teachers import TEACHERS
from pleach.cycles.energy import energies
from pleach.cycles.maps import MapCycles
from pleach.data import Dataset, load
from pleach.engine import EngineConfig
from pleach.engine.plan import base_engine, fitted
from pleach.errors import ConfigError, PleachError
from pleach.files import write_whole
from pleach.format import parse
from pleach.metrics import wrong_percent
from pleach.model import CompressedModel
from pleach.models import layers_of
from pleach.page.svg import svg, text
from pleach.reference import Reference
from pleach.spread import spread
from pleach_cli.output import print_table
from pleach_sim.readback import read_back
from pleach_sim.simulate import Job, simulate_jobs

FOLDER = Path(__file__).parents[1] / "build/methods"
#: side of a panel of the plot, in pixels, and the colours of the kinds
SIDE = 420
COLOURS = (
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2",
    "#bcbd22", "#000000", "#7f7f7f",
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
    # The 255 values of 8 bits leave biases one alone.
    ("quantiser", "fixed_point"): {"bits": 6},
    # Of a trained matrix so much of the squares is in so many directions that nothing is gained.
    ("factoriser", "svd"): {"rank": 64},
    ("factoriser", "tensor_train"): {"rank": 10},
    ("teacher", "attention"): {"pairs": {"conv2": "conv2"}},
    ("teacher", "hints"): {"pairs": {"conv2": "conv2"}, "weight": 1e-3},
}
#: what a file is measured for
FIGURES = {"error_pct", "bytes", "ratio", "entries", "cycles_16_pes", "energy_nj", "file"}
#: scores that say the same in every layer
COMPARABLE = {"saliency", "obd", "taylor", "feature_taylor"}
#: what a network of this kind has no use for
NOT_HERE = {
    ("criterion", "slimming"): "it has no batch normalisations",
    ("regulariser", "slimming"): "it has no batch normalisations",
    ("granularity", "layer"): "it has no sum around a layer",
    ("teacher", "model"): "it is what every other run has: the dense network teaches",
    ("regulariser", "admm"): "it is run as the quantiser admm",
}
#: PEs of the engine that runs files in RTL
RTL_PES = 4


def small_conv(*, seed: int = 0) -> nn.Sequential:
    """Two convolutions and two fully connected layers: 60,074 weights and biases."""
    modules = OrderedDict(
        image=nn.Unflatten(1, (1, 28, 28)),
        conv1=nn.utils.skip_init(nn.Conv2d, 1, 16, 5),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.utils.skip_init(nn.Conv2d, 16, 32, 5),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.utils.skip_init(nn.Linear, 512, 90),
        relu3=nn.ReLU(),
        fc2=nn.utils.skip_init(nn.Linear, 90, 10),
    )
    return models.networks._initial(nn.Sequential(modules), seed)


@dataclass(frozen=True)
class Target:
    """A network that methods are run on.

    Args:
        make: the network before training.
        data: what it is trained and measured on.
        density: kept in the end, of the whole.
        layers: densities of the small layers where each has its own; the largest has what is left.
    """

    make: Callable[..., nn.Module]
    data: str
    density: float
    layers: Mapping[str, float] = field(default_factory=dict)


TARGETS = {
    # Deep Compression, table 3.
    "lenet_5": Target(models.lenet_5, "mnist", 0.05, {"conv1": 0.66, "conv2": 0.12, "fc2": 0.19}),
    "small_conv": Target(
        small_conv, "fashion-mnist", 0.15, {"conv1": 0.66, "conv2": 0.25, "fc2": 0.4}
    ),
}


@cache
def data_of(network: str) -> Dataset:
    return load(TARGETS[network].data)


@cache
def sizes(network: str) -> dict[str, int]:
    """Weights and biases of the layers of a network."""
    layers = layers_of(TARGETS[network].make())
    return {layer.name: sum(p.numel() for p in layer.module.parameters()) for layer in layers}


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

    def prune(
        self, network: str, name: str = "pruned", epochs: int | None = None, **settings
    ) -> Prune:
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
            chosen["layers"] = self.layers(network)
        return Prune(PruneConfig(**chosen), name)

    def layers(self, network: str) -> dict[str, float]:
        """Densities of the layers, where each has one of its own: what is left of the whole for the
        largest."""
        size, given = sizes(network), TARGETS[network].layers
        own = sum(share * size[name] for name, share in given.items())
        left = self.density * sum(size.values()) - own
        (largest,) = size.keys() - given.keys()
        return dict(given) | {largest: max(left, 0.0) / size[largest]}


def steps_of(method: Method, budget: Budget, network: str) -> list[Step]:
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
            return [*_criterion(method, table, budget, network), share]
        case "granularity":
            if method.name == "element":
                return [budget.prune(network, criterion="magnitude", scope="layer"), share]
            return [*_coarse(budget, network, granularity=table, criterion="magnitude"), share]
        case "allocation":
            own = {"threshold": {"criterion": "magnitude"}, "balance": {"remove": False}}
            return [budget.prune(network, scope=table, **own.get(method.name, {})), share]
        case "schedule":
            return [budget.prune(network, schedule=table), share]
        case "regulariser":
            training = TrainConfig(epochs=budget.epochs, distillation=0.5, regularisers=(table,))
            return [
                budget.prune(network, criterion="magnitude", scope="layer", train=training),
                share,
            ]
        case "quantiser":
            size = getattr(QUANTISERS.of(table, "quantiser"), "size", 0)
            room = {"clusters": size + 8} if size >= 16 else {}  # biases have values of their own
            return [budget.prune(network), budget.share(quantiser=table, **room)]
        case "activation":
            return [budget.prune(network), budget.share(activations=table)]
        case "factoriser":
            few = TrainConfig(epochs=1, distillation=0.5)
            return [Factorise(table, train=few), budget.prune(network), share]
        case "teacher":
            return [budget.prune(network), share]
        case "path":
            once = {"criterion": "magnitude", "scope": "layer", "schedule": "one_shot"}
            return [budget.prune(network, **once, ramp=0.0), share]
        case "low_bit":
            return LOW_BIT[method.name].steps(budget)
    raise ConfigError(f"no run shows a {method.kind}")


def _criterion(method: Method, table: dict, budget: Budget, network: str) -> list[Step]:
    scope = "network" if method.name in COMPARABLE else "layer"
    if "granularity channel" in method.needs:
        return _coarse(budget, network, criterion=table, granularity="channel", scope=scope)
    rounds = {"every": 0.7 * budget.epochs / 4} if "samples" in method.needs else {}
    return [budget.prune(network, criterion=table, scope=scope, **rounds)]


def _coarse(budget: Budget, network: str, **settings) -> list[Step]:
    """Whole groups first, down to three tenths of the weights, then single weights."""
    epochs = max(1, budget.epochs // 2)
    first = {"scope": "layer", "every": 0.7 * epochs / 4, "density": 0.3}
    return [
        budget.prune(network, "pruned in groups", epochs, **first | settings),
        budget.prune(network, "pruned", epochs, start=0.3),
    ]


@dataclass(frozen=True)
class LowBit:
    """A network of few bits.

    Args:
        quantiser, activations: settings of `ShareConfig`.
        paper: what was published of its distance from the network in floats, in points of error.
        source: where.
    """

    quantiser: dict
    activations: dict | None
    paper: str
    source: str

    def steps(self, budget: Budget) -> list[Step]:
        train = TrainConfig(epochs=3 * budget.epochs, distillation=0.5)
        more = {"activations": self.activations} if self.activations else {}
        # Room for the values of the largest set, and for biases.
        return [budget.share(clusters=32, quantiser=self.quantiser, train=train, **more)]


LOW_BIT = {
    "BNN": LowBit(
        {"kind": "bnn"}, {"kind": "sign"},
        "0.1: 1.40 % beside 1.30 % (fully connected, MNIST)",
        "Courbariaux et al. 2016, arXiv:1602.02830, table 1, and 2015, arXiv:1511.00363, table 2",
    ),
    "XNOR-Net": LowBit(
        {"kind": "bwn"}, {"kind": "sign"},
        "12.4: 55.8 % beside 43.4 % (AlexNet, ImageNet, top 1)",
        "Rastegari et al. 2016, arXiv:1603.05279, table 1",
    ),
    "BWN": LowBit(
        {"kind": "bwn"}, None,
        "0.36: 0.95 % beside 0.59 % (a larger LeNet-5, MNIST)",
        "Li et al. 2016, arXiv:1605.04711, table 2, as BPWN",
    ),
    "TWN": LowBit(
        {"kind": "twn"}, None,
        "0.06: 0.65 % beside 0.59 % (a larger LeNet-5, MNIST)",
        "Li et al. 2016, arXiv:1605.04711, table 2",
    ),
    "TTQ": LowBit(
        {"kind": "ttq"}, None,
        "0.64: 8.87 % beside 8.23 % (ResNet-20, CIFAR-10)",
        "Zhu et al. 2017, arXiv:1612.01064, table 1",
    ),
    "DoReFa, k = 2": LowBit(
        {"kind": "dorefa", "bits": 2}, {"kind": "dorefa", "bits": 2},
        "9.8: 53.9 % beside 44.1 % (AlexNet, ImageNet, top 1; 1 bit, 2 of activations)",
        "Zhou et al. 2016, arXiv:1606.06160, abstract and table 2",
    ),
    "DoReFa, k = 4": LowBit(
        {"kind": "dorefa", "bits": 4}, {"kind": "dorefa", "bits": 4},
        "none of 4 bits",
        "Zhou et al. 2016, arXiv:1606.06160",
    ),
    "INQ": LowBit(
        {"kind": "inq"}, None,
        "−0.15: 42.61 % beside 42.76 % (AlexNet, ImageNet, top 1)",
        "Zhou et al. 2017, arXiv:1702.03044, table 1",
    ),
}  # fmt: skip


#: no method of its own: the path that Deep Compression went
PATH = Method(
    "deep_compression", "path", "Han et al. 2016, arXiv:1510.00149", "Deep Compression's own path",
    "", "", (), {}, "pleach.compression.steps",
)  # fmt: skip


def all_methods() -> list[Method]:
    """What is run: the methods, the path, the networks of few bits."""
    found = [method for method in methods() if method.kind != "network"]
    return [
        *found,
        PATH,
        *(
            replace(PATH, name=name, kind="low_bit", source=each.source)
            for name, each in LOW_BIT.items()
        ),
    ]


def dense_file(network: str, budget: Budget, seed: int, images) -> tuple[Path, TrainConfig]:
    """Where the dense network of a seed is kept, and how it is trained."""
    training = TrainConfig(epochs=budget.dense_epochs, dropout=0.3)
    key = _hash([network, seed, asdict(training), len(images), sha256(images).hexdigest()])
    return FOLDER / f"dense-{key}.safetensors", training


def dense_network(network: str, budget: Budget, seed: int, images, labels):
    """The dense network of a seed, and a hash of its weights; from build/ where it is there."""
    path, training = dense_file(network, budget, seed, images)
    model = TARGETS[network].make(seed=seed)
    if not path.exists():
        train(model, images, labels, training, seed=seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        models.save_checkpoint(model, path)
    model.load_state_dict(models.load_checkpoint(path))
    return model, sha256(path.read_bytes()).hexdigest()


def run(method: Method, budget: Budget, network: str, seed: int, kept_only: bool = False) -> dict:
    """One row; from build/ where it is there, and not run if it is to be `kept_only`."""
    row = {"method": method.name, "kind": method.kind, "network": network, "seed": seed}
    try:
        steps = steps_of(method, budget, network)
    except PleachError as error:
        return row | {"left_out": str(error)}
    data = data_of(network)
    images, labels = data.train_images[: budget.images], data.train_labels[: budget.images]
    if kept_only and not dense_file(network, budget, seed, images)[0].exists():
        return row | {"left_out": "not run yet"}
    dense, weights = dense_network(network, budget, seed, images, labels)
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
        if method.kind == "factoriser" and len(model.layers) == len(sizes(network)):
            raise SystemExit(f"{method.name} put no layer of {network} in smaller ones")
        pleach.save(model, path.with_suffix(".pleach"))
        row |= measured(path.with_suffix(".pleach"), data)
        row["dense_error_pct"] = dense_error(network, budget, seed)
        if method.kind == "low_bit":
            row |= {"paper": LOW_BIT[method.name].paper, "source": method.source}
    row["seconds"] = round(time.monotonic() - start, 1)
    write_whole(kept, json.dumps(row))
    return row


@cache
def dense_error(network: str, budget: Budget, seed: int) -> float:
    """Of the dense network of a seed, on the test images, in per cent."""
    data = data_of(network)
    images, labels = data.train_images[: budget.images], data.train_labels[: budget.images]
    model, _ = dense_network(network, budget, seed, images, labels)
    return error_percent(model, data.test_images, data.test_labels)


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
    parser.add_argument("--network", choices=TARGETS, default="lenet_5")
    parser.add_argument("--density", type=float, help="in the place of the network's own")
    parser.add_argument("--epochs", type=int, default=Budget.epochs)
    parser.add_argument("--dense-epochs", type=int, default=Budget.dense_epochs)
    parser.add_argument("--images", type=int, default=Budget.images)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--best", type=int, default=0, help="so many go on, and the path")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--scheduler", help="a dask scheduler's address, in place of processes")
    parser.add_argument("--kept", action="store_true", help="run nothing, show what was run")
    parser.add_argument(
        "--rtl",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="files through the RTL, too",
    )
    parser.add_argument("--files", type=Path, help="folder that files of the first seed go into")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--plot", type=Path, help="SVG to write")
    given = parser.parse_args()
    found = [
        method
        for method in all_methods()
        if not given.methods or {method.name, method.kind} & set(given.methods)
    ]

    def budget(network: str) -> Budget:
        density = given.density or TARGETS[network].density
        return Budget(density, given.epochs, given.dense_epochs, given.images)

    if given.list:
        show_list(found, budget(given.network), given.network)
        return
    rows: list[dict] = []

    def go(jobs: list[tuple[Method, str, int]]) -> None:
        done = [(method, budget(network), network, seed) for method, network, seed in jobs]
        with spread(given.scheduler, processes=given.processes, shared=(given.kept,)) as pool:
            for row in pool.map(_run, done):
                rows.append(row)
                print(
                    row["network"], row["kind"], row["method"], row["seed"], _said(row), flush=True
                )

    go([(method, given.network, seed) for seed in given.seeds for method in found])
    if given.best:
        going = best(rows, given.best)
        further = [method for method in found if (method.kind, method.name) in going]
        go([(method, given.network, seed) for seed in (1, 2) for method in further])
        (other,) = TARGETS.keys() - {given.network}
        go([(method, other, seed) for seed in (0, 1, 2) for method in further])
    if given.rtl:
        in_rtl(rows)
    for network in TARGETS:
        show(network, [row for row in rows if row["network"] == network])
    if given.files:
        keep(rows, given.files)
    if given.json:
        budgets = {network: asdict(budget(network)) for network in TARGETS}
        runs = {"budgets": budgets, "pleach": pleach.__version__, "runs": rows}
        write_whole(given.json, json.dumps(runs, indent=1) + "\n")
    if given.plot:
        write_whole(given.plot, plot([r for r in rows if r["network"] == given.network]))


def _run(kept_only: bool, job: tuple[Method, Budget, str, int]) -> dict:
    return run(*job, kept_only)


def best(rows: list[dict], count: int) -> set[tuple[str, str]]:
    """Those of the first seed whose product of error and bytes is the least, and the path."""
    first = [row for row in rows if "error_pct" in row and row["kind"] not in ("path", "low_bit")]
    first = [row for row in first if row["seed"] == first[0]["seed"]]
    first.sort(key=lambda row: row["error_pct"] * row["bytes"])
    # Kinds that are what others have by default gave the very same file.
    files: dict[str, dict] = {}
    for row in first:
        files.setdefault(sha256((FOLDER / row["file"]).read_bytes()).hexdigest(), row)
    chosen = list(files.values())[:count]
    return {(row["kind"], row["method"]) for row in chosen} | {(PATH.kind, PATH.name)}


def in_rtl(rows: list[dict]) -> None:
    """Have the RTL's loader read each file, and one of each kind run an image on the RTL; say so in
    the rows.

    Raises:
        SystemExit: anything is not equal.
    """
    done = [row for row in rows if "error_pct" in row]
    for row in done:
        _once(["read", row["file"]], lambda row=row: _read(FOLDER / row["file"]))
        row["read_back"] = True
    chosen = list({(row["network"], row["kind"]): row for row in reversed(done)}.values())
    found = [parse((FOLDER / row["file"]).read_bytes())[0] for row in chosen]
    engines = [asdict(fitted(model, base_engine(model, RTL_PES))) for model in found]
    config = EngineConfig(**{name: max(each[name] for each in engines) for name in engines[0]})
    images = [
        model.quantise(data_of(row["network"]).test_images[:1])
        for row, model in zip(chosen, found, strict=True)
    ]
    jobs = [
        Job(row["file"], model, few) for row, model, few in zip(chosen, found, images, strict=True)
    ]
    _once(["run", repr(config), *(job.name for job in jobs)], lambda: _ran(jobs, config))
    for row in chosen:
        row["run_in_rtl"] = True


def _once(what: list[str], do: Callable[[], None]) -> None:
    """Do what ends the bench if anything is not equal, unless it was done with the same gateware;
    the name of a file has the hash of all that it was made by."""
    path = FOLDER / f"rtl-{_hash([_gateware(), *what])}"
    if not path.exists():
        do()
        path.touch()
    print(*what, "equal", flush=True)


@cache
def _gateware() -> str:
    found = sha256()
    for folder in ("hw", "sim"):
        for path in sorted((Path(__file__).parents[1] / folder).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


def _read(path: Path) -> None:
    file = path.read_bytes()
    model, _ = parse(file)
    for (positions, values), layer in zip(read_back(file), model.layers, strict=True):
        if not (
            np.array_equal(positions, layer.positions) and np.array_equal(values, layer.values)
        ):
            raise SystemExit(f"{path}: the RTL's loader reads other weights of {layer.name}")


def _ran(jobs: list[Job], config: EngineConfig) -> None:
    for job, run in zip(jobs, simulate_jobs(jobs, config), strict=True):
        if not run.bit_exact:
            raise SystemExit(f"{job.name}: {run.mismatch}")


def keep(rows: list[dict], folder: Path) -> None:
    """Copy the files of the first seed."""
    for row in rows:
        if "file" in row and row["seed"] == rows[0]["seed"]:
            to = folder / row["network"] / f"{row['kind']}-{row['method']}.pleach"
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(FOLDER / row["file"], to)


def _said(row: dict) -> str:
    if "left_out" in row:
        return f"left out: {row['left_out']}"
    return f"{row['error_pct']:.2f} %, {row['bytes']:,} bytes, {row['cycles_16_pes']:,.0f} cycles"


def show_list(found: list[Method], budget: Budget, network: str) -> None:
    """What would be run."""
    for method in found:
        try:
            steps = ", ".join(step.name for step in steps_of(method, budget, network))
        except PleachError as error:
            steps = f"left out: {error}"
        print(f"{method.kind} {method.name}: {steps}")


def show(network: str, rows: list[dict]) -> None:
    """The table, smallest error first."""
    done = sorted((r for r in rows if "error_pct" in r), key=lambda row: row["error_pct"])
    if not done:
        return
    print_table(
        f"{network}, every method at one budget",
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
    """Both figures as an SVG: a circle a run, its kind by colour, its name under the pointer; those
    that no other beats in both have it beside them, and so has the path."""
    done = [row for row in rows if "error_pct" in row]
    kinds = dict(zip(dict.fromkeys(row["kind"] for row in done), COLOURS, strict=False))
    panels = [
        _panel(done, "bytes", "bytes of the file", 0, kinds),
        _panel(done, "cycles_16_pes", "cycles of an image at 16 PEs", SIDE, kinds),
    ]
    key = [
        Markup('<circle cx="{}" cy="{}" r="4" fill="{}"/>').format(at, SIDE + 12, colour)
        + text(at + 8, SIDE + 16, kind)
        for (kind, colour), at in zip(kinds.items(), range(24, 2 * SIDE, 74), strict=False)
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
        (min(row[name] for row in rows) * 0.8, max(row[name] for row in rows) * 1.1)
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
    taken: list[tuple[float, float, float, float]] = []
    for row in sorted(rows, key=lambda row: row["error_pct"]):
        x = left + edge + along(row[figure], 0)
        y = SIDE - edge - along(row["error_pct"], 1)
        marks.append(
            Markup(
                '<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="{}" fill-opacity="0.75">'
                "<title>{} {}: {:.2f} %, {:,} bytes, {:,.0f} cycles</title></circle>"
            ).format(
                x, y, kinds[row["kind"]], row["kind"], row["method"], row["error_pct"],
                row["bytes"], row["cycles_16_pes"],
            )
        )  # fmt: skip
        if row["kind"] == PATH.kind or not any(
            other[figure] <= row[figure]
            and other["error_pct"] <= row["error_pct"]
            and (other[figure], other["error_pct"]) != (row[figure], row["error_pct"])
            for other in rows
        ):
            marks.append(_label(row["method"], x, y, left + edge, taken))
    return Markup("").join(marks)


def _label(
    words: str, x: float, y: float, left: float, taken: list[tuple[float, float, float, float]]
) -> Markup:
    """A name beside a circle, to its left where there is room, below what is there already."""
    width = 5.6 * len(words)
    start = x - 8 - width if x - 8 - width > left else x + 8
    level = y + 11
    while any(
        start < right and first < start + width and abs(level - other) < 11
        for first, right, other, _ in taken
    ):
        level += 4
    taken.append((start, start + width, level, y))
    line = Markup('<path d="M{:.1f} {:.1f}L{:.1f} {:.1f}" stroke="#bbb"/>').format(
        x, y, start + (width if start < x else 0), level - 3
    )
    return line + text(start, level, words)


if __name__ == "__main__":
    main()

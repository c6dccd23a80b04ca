"""Train and compress the networks of bench/recipes from seeds, into bench/models/.

    python bench/compression.py                           # all, for hours
    python bench/compression.py lenet_5_small             # one
    python bench/compression.py lenet_5_small --hold-out 10000
    python bench/compression.py --files                   # measures the files there, in minutes

A recipe is a file in bench/recipes: the network, how it is trained, how it is compressed, and what
is asked of the result. It is chosen with `--hold-out`, which keeps that many of the 60,000 training
images back, trains on the others, prints the error on those kept back and writes no model. Without
it the network is trained on all 60,000 and the 10,000 test images are looked at once, at the end,
through the fixed-point reference and the file as it was written; the dense network's error on them
is put beside the file.

The dense network is trained once for all recipes that begin with it, and kept in build/. The same
seed gives the same bytes on the same kind of processor.
"""

import argparse
import importlib
import json
import logging
import time
import tomllib
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import nn

import pleach
from pleach import models
from pleach.compression import (
    CompressConfig,
    PruneConfig,
    TrainConfig,
    compress,
    error_percent,
    prune_,
    remove_neurons_,
    train,
)
from pleach.compression.teachers import Teacher
from pleach.compression.train import predict
from pleach.data import load
from pleach.errors import ConfigError
from pleach.files import write_whole
from pleach.format import dumps, parse
from pleach.metrics import wrong_percent
from pleach.models.checkpoint import save_state_dict
from pleach.reference import Reference
from pleach.report import entropy_bound, layer_reports
from pleach.settings import from_dict
from pleach_cli.output import print_table
from pleach_sim.readback import read_back

FOLDER = Path(__file__).parent
RECIPES, MODELS = FOLDER / "recipes", FOLDER / "models"
BUILD = FOLDER.parent / "build/compression"
TEST = "10,000 test images"

# Deep Compression, tables 2 and 3: kept %, weight bits and index bits after Huffman, rate %.
PAPER = {
    "lenet_300_100": {
        "fc1": (8, 4.4, 3.7, 2.32), "fc2": (9, 4.4, 4.3, 3.04), "fc3": (26, 4.3, 3.2, 12.70),
    },
    "lenet_5": {
        "conv1": (66, 7.2, 1.5, 67.45), "conv2": (12, 7.2, 3.9, 5.28),
        "fc1": (8, 4.5, 4.5, 2.45), "fc2": (19, 5.2, 3.7, 6.13),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What a file in bench/recipes says.

    Args:
        network: a function of `pleach.models`, or module:function of a file beside this one.
        data: set that it is trained and measured on, as `pleach.data.load` takes it.
        most_error: per cent of the test images, of the fixed-point reference.
        least_ratio: float32 bytes of the dense network over bytes of the file.
        start: if set, the recipe whose file training begins with, in the place of a dense network.
        teacher: if set, the recipe whose file teaches; by default what training begins with does.
        seed: of the dense network, its training and the compression.
        dense, compress: their settings.
    """

    network: str = "lenet_300_100"
    data: str = "mnist"
    most_error: float = 100.0
    least_ratio: float = 1.0
    start: str = ""
    teacher: str = ""
    seed: int = 0
    dense: TrainConfig = field(default_factory=TrainConfig)
    compress: CompressConfig = field(default_factory=CompressConfig)


def read(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        ConfigError: no such recipe, or a setting that is wrong.
    """
    path = RECIPES / f"{name}.toml"
    if not path.exists():
        there = ", ".join(sorted(each.stem for each in RECIPES.glob("*.toml")))
        raise ConfigError(f"no recipe is called {name!r}: there are {there}")
    return from_dict(Recipe(), tomllib.loads(path.read_text("utf-8")))


def dense(recipe: Recipe) -> nn.Module:
    """The network as it is before training."""
    module, colon, function = recipe.network.rpartition(":")
    return getattr(importlib.import_module(module) if colon else models, function)(seed=recipe.seed)


def of_recipe(name: str, folder: Path) -> nn.Module:
    """The network of a recipe's file as torch has it: pruned as it is there, its dead neurons
    removed.

    Raises:
        ConfigError: it has not been trained yet.
    """
    path = folder / f"{name}.pleach"
    if not path.exists():
        raise ConfigError(f"{path} is not there: python bench/compression.py {name}")
    model = dense(read(name))
    found = pleach.load(path).weights()
    with torch.no_grad():
        for layer, (weight, bias) in zip(models.layers_of(model), found, strict=True):
            for part, values in (("weight", weight), ("bias", bias)):
                tensor = getattr(layer.module, part).zero_()
                tensor[tuple(map(slice, values.shape))] = torch.from_numpy(values).float()
    prune_(model, PruneConfig(density=1.0))  # zeros are what was pruned
    remove_neurons_(model)
    return model


@dataclass(frozen=True, kw_only=True)
class Told(Teacher):
    """What a recipe's file says of the training images; from build/ if it was asked before.

    Args:
        name: of the recipe.
        folder: where its file is.
    """

    kind = "told"

    name: str
    folder: Path

    def outputs(self, inputs: torch.Tensor) -> torch.Tensor:
        of = (self.folder / f"{self.name}.pleach").read_bytes() + inputs.numpy().tobytes()
        path = BUILD / f"{self.name}-{sha256(of).hexdigest()[:16]}.npy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, predict(of_recipe(self.name, self.folder), inputs).numpy())
        return torch.from_numpy(np.load(path))


def dense_network(recipe: Recipe, images, labels, say):
    """The trained dense network, from build/ if it was trained before, and the seconds it took."""
    settings = {"network": recipe.network, "seed": recipe.seed, "train": asdict(recipe.dense)}
    key = json.dumps(settings | {"images": sha256(images.tobytes()).hexdigest()}, sort_keys=True)
    name = recipe.network.rpartition(":")[2]
    path = BUILD / f"{name}-{sha256(key.encode()).hexdigest()[:16]}.safetensors"
    model = dense(recipe)
    seconds = path.with_suffix(".json")
    if not seconds.exists():
        start = time.monotonic()
        train(
            model, images, labels, recipe.dense, seed=recipe.seed,
            progress=lambda epoch, epochs, loss: say("dense", epoch, epochs, loss),
        )  # fmt: skip
        save_state_dict(model.state_dict(), path)
        write_whole(seconds, json.dumps(time.monotonic() - start))
    model.load_state_dict(models.load_checkpoint(path))
    return model, json.loads(seconds.read_text())


def run(name: str, hold_out: int, seed: int | None = None) -> dict:
    """Train, compress and measure one recipe; another seed than its own goes into build/."""
    recipe = read(name)
    own = seed in (None, recipe.seed)
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    settings = replace(recipe.compress, seed=recipe.seed)
    folder = BUILD if hold_out else MODELS
    data = load(recipe.data)
    rest, held = data.held_out(hold_out) if hold_out else (data, None)
    images, labels = rest.training

    def say(stage, epoch, epochs, loss):
        print(f"{name}: {stage}, epoch {epoch} of {epochs}, loss {loss:.4f}", flush=True)

    if recipe.start:
        model, dense_seconds = of_recipe(recipe.start, folder), 0.0
    else:
        model, dense_seconds = dense_network(recipe, images, labels, say)
    teacher = Told(name=recipe.teacher, folder=folder) if recipe.teacher else None
    stages = []

    def report(stage):
        stages.append(stage)
        if stage.error is not None:
            print(f"{name}: {stage.name} {stage.error:.2f} %, {100 * stage.kept:.2f} % kept")

    start = time.monotonic()
    compressed = compress(
        model, images, labels, settings, validation=held, teacher=teacher, report=report,
        progress=say,
    )  # fmt: skip
    seconds = time.monotonic() - start
    path = folder / f"{name}.pleach" if own else BUILD / f"{name}-{recipe.seed}.pleach"
    path.parent.mkdir(parents=True, exist_ok=True)
    pleach.save(compressed, path)
    inputs, answers = held or (data.test_images, data.test_labels)
    result = measure(path, recipe, inputs, answers) | {
        "error_of": f"{hold_out} training images kept back" if hold_out else TEST,
        "dense_error_pct": error_percent(model, inputs, answers),
        "dense_seconds": dense_seconds,
        "compress_seconds": seconds,
    }
    if not hold_out:
        training = {n: result[n] for n in ("dense_error_pct", "dense_seconds", "compress_seconds")}
        write_whole(path.with_suffix(".json"), json.dumps(training, indent=1) + "\n")
    show(result)
    return result


def measure(path: Path, recipe: Recipe, inputs, answers) -> dict:
    """The figures of a file, its error on images uint8 ``[n, pixels]`` with their labels."""
    file = path.read_bytes()
    loaded, sizes = parse(file)
    decoded = zip(read_back(file), loaded.layers, strict=True)
    bound = entropy_bound(loaded)
    return {
        "recipe": path.stem,
        "network": recipe.network,
        "error_of": TEST,
        "error_pct": wrong_percent(
            loaded.dequantise(Reference(loaded).run(loaded.quantise(inputs))), answers
        ),
        "most_error_pct": recipe.most_error,
        "start": recipe.start,
        "teacher": recipe.teacher,
        "bytes": len(file),
        "ratio": loaded.dense_bytes / len(file),
        "least_ratio": recipe.least_ratio,
        "entropy_bound_bytes": bound,
        "over_bound": len(file) / bound,
        "over_bound_without_fields": (len(file) - fields_bytes(loaded)) / bound,
        "sha256": sha256(file).hexdigest(),
        "loader_exact": all(
            np.array_equal(positions, layer.positions) and np.array_equal(values, layer.values)
            for (positions, values), layer in decoded
        ),
        "layers": [asdict(row) for row in layer_reports(loaded, sizes)],
        "pleach": pleach.__version__,
    }


def fields_bytes(model: pleach.CompressedModel) -> int:
    """What a file takes that no code could shorten: header, section heads and fields, as the
    network takes them without a weight."""
    layers = [replace(each, positions=[], codes=[], codebook=[]) for each in model.layers]
    return len(dumps(replace(model, layers=tuple(layers))))


def of_file(name: str) -> dict:
    """Measure the file in bench/models as it is."""
    recipe = read(name)
    data = load(recipe.data)
    result = measure(MODELS / f"{name}.pleach", recipe, data.test_images, data.test_labels)
    show(result)
    return result


def show(result: dict) -> None:
    """The figures of a file beside the paper's; ours are of the shapes left of dead neurons."""
    rows = []
    for row in result["layers"]:
        paper = PAPER.get(result["network"], {}).get(row["name"], ("", "", "", ""))
        cells = (100 * row["density"], row["weight_bits"], row["index_bits"], row["rate"])
        cells = [f"{ours:.2f} ({theirs})" for ours, theirs in zip(cells, paper, strict=True)]
        shape = "×".join(map(str, row["shape"]))
        rows.append((row["name"], shape, *cells, f"{row['bytes']:,}"))
    print_table(
        f"{result['recipe']} beside Deep Compression's rows (in brackets)",
        ("layer", "shape", "kept %", "weight bits", "index bits", "rate %", "bytes"),
        rows,
    )
    print(
        f"{result['recipe']}: {result['bytes']:,} bytes, {result['ratio']:.1f}× (asked "
        f"{result['least_ratio']:g}×), error {result['error_pct']:.2f} % of "
        f"{result['error_of']} (at most {result['most_error_pct']:.2f} %); "
        f"{result['over_bound']:.3f} of the entropy bound; the RTL loader decodes "
        f"{'the same weights' if result['loader_exact'] else 'OTHER weights'}"
    )
    if "dense_seconds" in result:
        print(
            f"{result['recipe']}: dense {result['dense_error_pct']:.2f} %; "
            f"{result['dense_seconds']:.0f} s dense, {result['compress_seconds']:.0f} s compression"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", help="names; all without one")
    parser.add_argument("--hold-out", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, help="in the place of the recipe's")
    parser.add_argument("--files", action="store_true", help="train nothing, measure the files")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    if args.files and args.hold_out:
        parser.error("--files measures the test images: leave --hold-out out")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    names = args.recipes or sorted(path.stem for path in RECIPES.glob("*.toml"))
    if args.files and not args.recipes:
        missing = [name for name in names if not (MODELS / f"{name}.pleach").exists()]
        names = [name for name in names if name not in missing]
        for name in missing:
            print(f"{name}: not trained yet, there is no file")
    results = [
        of_file(name) if args.files else run(name, args.hold_out, args.seed) for name in names
    ]
    if args.json:
        write_whole(args.json, json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

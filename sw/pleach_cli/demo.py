"""`pleach demo`: the whole path on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pleach_cli.common import Json
from pleach_cli.output import print_json, progress, say
from pleach_cli.views import show_compression, show_simulation

if TYPE_CHECKING:
    from pleach.data import Dataset
    from pleach.report import CompressionReport


def command(
    folder: Annotated[Path, typer.Option(help="Where its files go.", file_okay=False)] = Path(
        "build/demo"
    ),
    dataset: Annotated[str, typer.Option(help="mnist or digits.")] = "mnist",
    images: Annotated[int, typer.Option(min=1, help="Test images to run on the engine.")] = 20,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train again.")] = False,
    json: Json = False,
) -> None:
    """Train, prune, share, code; then load the file into the RTL engine and classify with it.

    LeNet-300-100 on MNIST, or a small network on scikit-learn's digits (needs no download). What
    was trained before is used again.

    Example: [bold]pleach demo --dataset digits[/bold]
    """
    from pleach.data import load
    from pleach.engine import EngineConfig
    from pleach.errors import ConfigError
    from pleach.format import load as load_model
    from pleach.report import Answers
    from pleach_cli.common import ChosenEngine
    from pleach_sim.simulate import simulate

    if dataset not in ("mnist", "digits"):
        raise ConfigError(f"the demo runs on mnist or digits, not {dataset!r}: pleach compress")
    found = load(dataset)
    compressed, made = _compressed(folder, found, fresh)
    if not json:
        say(f"data: {found.describe()}")
        show_compression(made)
    model = load_model(compressed)
    given = EngineConfig(pes=16)
    chosen = ChosenEngine(given.grown(model), given, compressed)
    if not json:
        say(f"network: {model.line}")
        say(chosen.describe())
    inputs = model.quantise(found.test_images[:images])
    with progress(f"building the engine, {given.pes} PEs; loading the file; {images} images"):
        result = simulate(compressed, inputs, chosen.config)
    answers = Answers.of(model, inputs, found)
    if json:
        simulation = result.as_json() | chosen.as_json() | answers.as_json()
        about = {"network": model.line, "data": found.as_json()}
        print_json(about | made.as_json() | {"simulation": simulation})
    else:
        dense, fixed = (made.stages[at].error or 0.0 for at in (0, -1))
        show_simulation(result, answers)
        said = (
            f"{dataset}: error {dense:.2f} % dense, {fixed:.2f} % compressed "
            f"{made.file.ratio:.1f}× into {made.file.file_bytes:,} bytes, the very file that the "
            "engine loaded"
        )
        say((said, "bold"))
    if not result.bit_exact:
        raise typer.Exit(1)


def _compressed(folder: Path, found: Dataset, fresh: bool) -> tuple[Path, CompressionReport]:
    """The compressed network and its description, made now or by an earlier call."""
    import json
    import time
    from dataclasses import asdict, replace

    import pleach
    from pleach.compression import CompressConfig, TrainConfig, lenet_recipe, train
    from pleach.files import write_whole
    from pleach.models import lenet_300_100, mlp, save_checkpoint
    from pleach.report import CompressionReport, Stage
    from pleach_cli.common import compress_on, saved

    if found.name == "mnist":
        model, (dense, config) = lenet_300_100(), lenet_recipe()
    else:
        model = mlp([found.train_images.shape[1], 48, 32, 10])
        dense, config = TrainConfig(epochs=60), CompressConfig()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{found.name}.pleach"
    description = file.with_suffix(".json")
    recipe = {"version": pleach.__version__, "train": asdict(dense), "compress": asdict(config)}
    recipe = json.loads(json.dumps(recipe))  # as it comes out of the file
    if not fresh and file.exists() and description.exists():
        before = _described(description)
        if before.get("recipe") == recipe and before["summary"]["sha256"] == _sha256(file):
            return file, CompressionReport.from_json(before["summary"])

    start = time.monotonic()
    with progress("training the dense network") as update:
        train(
            model, found.train_images, found.train_labels, dense, seed=config.seed,
            progress=lambda epoch, epochs, loss: update(
                "training the dense network", epoch, epochs, f"loss {loss:.4f}"
            ),
        )  # fmt: skip
        training = time.monotonic() - start
        save_checkpoint(model, folder / f"{found.name}.safetensors")
        stages: list[Stage] = []
        compressed = compress_on(found, model, config, update, stages.append)
    stages[0] = replace(stages[0], seconds=training)
    made = saved(compressed, file, stages)
    described = {"recipe": recipe, "summary": made.as_json()}
    write_whole(description, json.dumps(described, indent=2))
    return file, made


def _described(path: Path) -> dict:
    """What an earlier call wrote; nothing where it cannot be read."""
    import json

    try:
        found = json.loads(path.read_text("utf-8"))
        return found if isinstance(found["summary"]["sha256"], str) else {}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}


def _sha256(file: Path) -> str:
    from hashlib import sha256

    return sha256(file.read_bytes()).hexdigest()

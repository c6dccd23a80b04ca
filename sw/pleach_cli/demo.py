"""`pleach demo`: the whole path on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pleach_cli.common import Json, Picture, engine_for
from pleach_cli.output import print_json, progress, say
from pleach_cli.views import show_compression, show_simulation

if TYPE_CHECKING:
    from torch import nn

    from pleach.compression import CompressConfig, TrainConfig
    from pleach.data import Dataset
    from pleach.report import CompressionReport

#: networks on MNIST
NETWORKS = ("lenet_300_100", "lenet_5")


def command(
    folder: Annotated[
        Path, typer.Option(help="Folder that its files go to.", file_okay=False)
    ] = Path("build/demo"),
    network: Annotated[
        str | None,
        typer.Option(help="lenet_300_100 or lenet_5, on mnist.", show_default="lenet_300_100"),
    ] = None,
    dataset: Annotated[str, typer.Option(help="mnist or digits.")] = "mnist",
    images: Annotated[
        int, typer.Option("--inputs", "--images", min=1, help="Test images to run on the engine.")
    ] = 20,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train again, whatever was trained before.")
    ] = False,
    picture: Picture = None,
    json: Json = False,
) -> None:
    """Train, prune, share, code; then load the file into the RTL engine and classify with it.

    LeNet-300-100 or LeNet-5 on MNIST, or a small network on scikit-learn's digits (needs no
    download). What was trained before is used again. The convolutions of LeNet-5 run on an engine
    with a map memory.

    Example: [bold]pleach demo --network lenet_5 --picture build/demo/digits.png[/bold]
    """
    from pleach.data import load
    from pleach.errors import ConfigError
    from pleach.format import load as load_model
    from pleach.reference import Reference
    from pleach.report import Answers
    from pleach_cli import picture as pictures
    from pleach_sim.simulate import simulate

    if dataset not in ("mnist", "digits"):
        raise ConfigError(f"the demo runs on mnist or digits, not {dataset!r}: pleach compress")
    if network is not None and network not in NETWORKS:
        raise ConfigError(f"the demo's networks are {' and '.join(NETWORKS)}, not {network!r}")
    if network is not None and dataset != "mnist":
        raise ConfigError(f"{network} takes the images of mnist: leave out --dataset {dataset}")
    found = load(dataset)
    compressed, made = _compressed(folder, found, network, fresh)
    if not json:
        say(f"data: {found.describe()}")
        show_compression(made)
    model = load_model(compressed)
    chosen = engine_for(16, None, None, model, compressed)
    if not json:
        say(f"network: {model.line}")
        say(chosen.describe())
    inputs = model.quantise(found.test_images[:images])
    pes = chosen.config.pes
    with progress(f"building the engine, {pes} PEs; loading the file; {images} images"):
        result = simulate(compressed, inputs, chosen.config)
    answers = Answers.of(model, inputs, found)
    classified = pictures.Classified(
        images=found.test_images[: len(inputs)].reshape(-1, *found.shape),
        labels=found.test_labels,
        logits=model.dequantise(Reference(model).run(inputs)),
    )
    if picture and result.bit_exact:
        pictures.draw(classified, picture)
    if json:
        simulation = result.as_json() | chosen.as_json() | answers.as_json()
        about = {"network": model.line, "data": found.as_json()}
        about |= {"logits": classified.logits.tolist(), "picture": picture and str(picture)}
        print_json(about | made.as_json() | {"simulation": simulation})
    else:
        dense, fixed = (made.stages[at].error or 0.0 for at in (0, -1))
        if result.bit_exact:
            pictures.show(classified)
        show_simulation(result, answers)
        if picture and result.bit_exact:
            say(f"picture of all {len(inputs)}: {picture}")
        said = (
            f"{dataset}: error {dense:.2f} % dense, {fixed:.2f} % compressed "
            f"{made.file.ratio:.1f}× into {made.file.file_bytes:,} bytes, the very file that the "
            "engine loaded"
        )
        say((said, "bold"))
    if not result.bit_exact:
        raise typer.Exit(1)


def _recipe(found: Dataset, network: str | None) -> tuple[nn.Module, TrainConfig, CompressConfig]:
    """The network as it is made, and how it is trained and compressed."""
    from pleach.compression import CompressConfig, TrainConfig, lenet_5_recipe, lenet_recipe
    from pleach.models import lenet_5, lenet_300_100, mlp

    if network == "lenet_5":
        return lenet_5(), *lenet_5_recipe()
    if found.name == "mnist":
        return lenet_300_100(), *lenet_recipe()
    widths = [found.train_images.shape[1], 48, 32, 10]
    return mlp(widths), TrainConfig(epochs=60), CompressConfig()


def _compressed(
    folder: Path, found: Dataset, network: str | None, fresh: bool
) -> tuple[Path, CompressionReport]:
    """The compressed network and its description, made now or by an earlier call."""
    import json
    import time
    from dataclasses import asdict, replace

    import pleach
    from pleach.compression import train
    from pleach.files import write_whole
    from pleach.models import save_checkpoint
    from pleach.report import CompressionReport, Stage
    from pleach_cli.common import compress_on, saved

    model, dense, config = _recipe(found, network)
    folder.mkdir(parents=True, exist_ok=True)
    name = "lenet_5" if network == "lenet_5" else found.name
    file = folder / f"{name}.pleach"
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
        save_checkpoint(model, folder / f"{name}.safetensors")
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

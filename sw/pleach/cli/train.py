"""`pleach train`: a dense network to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach.cli.common import Json, output_option
from pleach.cli.output import print_json, progress, say


def command(
    output: Annotated[Path, output_option("Checkpoint to write.")] = Path("dense.safetensors"),
    dataset: Annotated[str, typer.Option(help="mnist, digits or an .npz file.")] = "mnist",
    hidden: Annotated[
        str, typer.Option(help="Widths of the hidden layers, with commas between.")
    ] = "300,100",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 25,
    dropout: Annotated[float, typer.Option(help="Share of hidden activations dropped.")] = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    json: Json = False,
) -> None:
    """Train a dense network of fully connected layers and write a checkpoint.

    Example: [bold]pleach train --dataset digits --hidden 48,32 -o digits.safetensors[/bold]
    """
    from pleach import data
    from pleach.compression import TrainConfig, error_percent, train
    from pleach.errors import ConfigError
    from pleach.models import mlp, save_checkpoint

    try:
        widths = [int(width) for width in hidden.split(",") if width]
    except ValueError:
        widths = [0]
    if min(widths, default=1) < 1:
        raise ConfigError(f"--hidden takes widths like 300,100, not {hidden!r}")
    config = TrainConfig(epochs=epochs, dropout=dropout)
    found = data.load(dataset)
    classes = int(max(found.train_labels.max(), found.test_labels.max())) + 1
    model = mlp([found.train_images.shape[1], *widths, classes], seed=seed)
    with progress("training") as update:
        train(
            model, found.train_images, found.train_labels, config, seed=seed,
            progress=lambda epoch, total, loss: update(
                "training", epoch, total, f"loss {loss:.4f}"
            ),
        )  # fmt: skip
    error = error_percent(model, found.test_images, found.test_labels)
    save_checkpoint(model, output)
    if json:
        print_json({"checkpoint": str(output), "error_pct": error, "epochs": epochs, "seed": seed})
    else:
        say((output, "bold"), f": {error:.2f} % error on the test images of {dataset}")

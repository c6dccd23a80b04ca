"""`pleach train`: a dense network to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach.cli.common import Json, console, print_json, progress


def command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write.")] = Path(
        "dense.safetensors"
    ),
    dataset: Annotated[str, typer.Option(help="mnist, digits or an .npz file.")] = "mnist",
    hidden: Annotated[
        str, typer.Option(help="Widths of the hidden layers, with commas between.")
    ] = "300,100",
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 25,
    dropout: Annotated[float, typer.Option(help="Share of hidden activations dropped.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    json: Json = False,
) -> None:
    """Train a dense network of fully connected layers and write a checkpoint.

    Example: [bold]pleach train --dataset digits --hidden 48,32 -o digits.safetensors[/bold]
    """
    from pleach import data
    from pleach.compress import TrainConfig, error_percent, train
    from pleach.errors import ConfigError
    from pleach.models import mlp, save_checkpoint

    try:
        widths = [int(width) for width in hidden.split(",") if width]
    except ValueError:
        raise ConfigError(f"--hidden takes widths like 300,100, not {hidden!r}") from None
    config = TrainConfig(epochs=epochs, dropout=dropout)
    found = data.load(dataset)
    classes = int(max(found.train_labels.max(), found.test_labels.max())) + 1
    model = mlp([found.train_images.shape[1], *widths, classes], seed=seed)
    with progress("training") as update:
        train(
            model, found.train_images, found.train_labels, config, seed=seed,
            progress=lambda epoch, total, loss: update(f"loss {loss:.4f}", epoch, total),
        )  # fmt: skip
    error = error_percent(model, found.test_images, found.test_labels)
    save_checkpoint(model, output)
    if json:
        print_json({"checkpoint": str(output), "error_pct": error, "epochs": epochs, "seed": seed})
    else:
        console().print(f"[bold]{output}[/bold]: {error:.2f} % error on {dataset}'s test images")

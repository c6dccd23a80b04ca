"""`pleach train`: a dense network to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach.cli.common import DATA, Json, line_of, output_option
from pleach.cli.output import print_json, progress, say


def command(
    output: Annotated[Path, output_option("Checkpoint to write.")] = Path("dense.safetensors"),
    dataset: Annotated[str, typer.Option(help=DATA)] = "mnist",
    hidden: Annotated[
        str, typer.Option(help="Widths of the hidden layers, with commas between.")
    ] = "300,100",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 25,
    dropout: Annotated[float, typer.Option(help="Share of hidden activations dropped.")] = 0.3,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="Of everything random.")] = 0,
    json: Json = False,
) -> None:
    """Train a dense network of fully connected layers and write a checkpoint.

    Example: [bold]pleach train --dataset digits --hidden 48,32 -o digits.safetensors[/bold]
    """
    from pleach import data
    from pleach.compression import TrainConfig, train
    from pleach.compression.train import predict
    from pleach.errors import ConfigError
    from pleach.metrics import for_targets
    from pleach.models import mlp, save_checkpoint

    try:
        widths = [int(width) for width in hidden.split(",") if width]
    except ValueError:
        widths = [0]
    if not all(1 <= width <= 65535 for width in widths):
        raise ConfigError(f"--hidden takes widths like 300,100, up to 65535, not {hidden!r}")
    config = TrainConfig(epochs=epochs, dropout=dropout)
    found = data.load(dataset)
    outputs = found.targets or max(2, found.classes)
    model = mlp([found.train_images.shape[1], *widths, outputs], seed=seed)
    with progress("training") as update:
        train(
            model, found.train_images, found.train_labels, config, seed=seed,
            progress=lambda epoch, total, loss: update(
                "training", epoch, total, f"loss {loss:.4f}"
            ),
        )  # fmt: skip
    metric = for_targets(found.test_labels, outputs)
    error = metric(predict(model, found.test_images).numpy(), found.test_labels)
    save_checkpoint(model, output)
    network = line_of(model, found)
    if json:
        print_json(
            {
                "checkpoint": str(output),
                "network": network,
                "data": found.as_json(),
                "metric": metric.name,
                metric.name: error,
                "epochs": epochs,
                "seed": seed,
            }
        )
        return
    say(f"network: {network}")
    say(f"data: {found.describe()}")
    said = f"{error:.2f} % error" if metric.unit else f"{metric.name} {metric.text(error)}"
    say((output, "bold"), f": {said} on the test inputs of {dataset}")

"""`pleach train`: a dense network to start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pleach.numbers import SIZE_MAX
from pleach_cli.common import DATA, Json, Loss, labels_as, line_of, output_option
from pleach_cli.output import print_json, progress, say

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


def command(
    output: Annotated[Path, output_option("Checkpoint to write.")] = Path("dense.safetensors"),
    dataset: Annotated[str, typer.Option(help=DATA)] = "mnist",
    hidden: Annotated[
        str, typer.Option(help="Widths of the hidden layers, with commas between.")
    ] = "300,100",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training inputs.")] = 25,
    dropout: Annotated[
        float, typer.Option(help="Share of hidden activations that is dropped.")
    ] = 0.3,
    hold_out: Annotated[
        int | None,
        typer.Option(
            min=1, help="Training inputs to leave out, the same that pleach search holds out."
        ),
    ] = None,
    loss: Loss = None,
    seed: Annotated[
        int, typer.Option(min=0, max=(1 << 63) - 1, help="Seed of everything random.")
    ] = 0,
    json: Json = False,
) -> None:
    """Train a dense network of fully connected layers and write a checkpoint.

    Example: [bold]pleach train --dataset digits --hidden 48,32 -o digits.safetensors[/bold]
    """
    import numpy as np

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
    if not all(1 <= width <= SIZE_MAX for width in widths):
        raise ConfigError(f"--hidden takes widths like 300,100, up to {SIZE_MAX}, not {hidden!r}")
    config = TrainConfig(epochs=epochs, dropout=dropout)
    found = data.load(dataset)
    outputs = found.targets or (1 if loss in ("binary", "mse") else max(2, found.classes or 0))
    found = labels_as(found, outputs, loss)
    if hold_out is not None:
        found, _ = found.held_out(hold_out)
    model = mlp([found.train_images.shape[1], *widths, outputs], seed=seed)
    (images, labels), unit = found.training, None
    if outputs > 1 and labels.ndim > 1 and loss != "binary":  # each target counts alike
        unit = labels.mean(0), np.where(labels.std(0) > 0, labels.std(0), 1)
        labels = (labels - unit[0]) / unit[1]
    with progress("training") as update:
        train(
            model, images, labels, config, seed=seed, loss=loss,
            progress=lambda epoch, total, loss: update(
                "training", epoch, total, f"loss {loss:.4f}"
            ),
        )  # fmt: skip
    if unit is not None:
        _give_in(model, *unit)
    tests, expected = found.tests
    metric = for_targets(expected, outputs, loss)
    error = metric(predict(model, tests).numpy(), expected)
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
    say((output, "bold"), f": {metric.said(error)} on the test inputs of {dataset}")


def _give_in(model: nn.Sequential, mean: np.ndarray, deviation: np.ndarray) -> None:
    """Make the last layer give (what it gives) · deviation + mean."""
    import torch
    from torch import nn

    last = list(model)[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        shift, factor = (torch.from_numpy(x).to(last.weight.dtype) for x in (mean, deviation))
        last.weight.mul_(factor[:, None])
        last.bias.mul_(factor).add_(shift)

"""`pleach sensitivity`: how much each layer of a network can lose."""

from __future__ import annotations

from typing import Annotated

import typer

from pleach_cli.common import (
    ActivationOption,
    GivenDataset,
    Json,
    Loss,
    Mean,
    Network,
    Order,
    Plot,
    Scale,
    Std,
    Weights,
    labels_as,
    line_of,
    network_for,
    say_made,
    shaped,
)
from pleach_cli.output import print_json, print_table, progress, say


def command(
    network: Network,
    dataset: GivenDataset = None,
    weights: Weights = None,
    order: Order = None,
    activation: ActivationOption = None,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    images: Annotated[
        int,
        typer.Option(
            "--inputs",
            "--images",
            min=1,
            help="Training inputs that the error is measured on, the last ones.",
        ),
    ] = 10_000,
    loss: Loss = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Prune each layer alone, by magnitude and without retraining, and show the error.

    It is measured on training inputs, so that the test inputs are left for the final figure.

    Example: [bold]pleach sensitivity digits.safetensors --dataset digits[/bold]
    """
    from dataclasses import asdict

    from pleach.compression import sensitivity as scan
    from pleach.compression.scan import plot as draw
    from pleach.compression.train import predict
    from pleach.metrics import for_targets
    from pleach.models import graph_of

    model, found = network_for(network, weights, order, activation, dataset, scale, mean, std)
    found = labels_as(found, graph_of(model, found.shape).outputs, loss)
    line = line_of(model, found)
    inputs, labels = shaped(found, found.train_images[-images:]), found.training[1][-images:]
    outputs = predict(model, inputs).numpy()
    metric = for_targets(labels, outputs.shape[1], loss)
    dense = metric(outputs, labels)
    with progress("pruning") as update:
        curves = scan(
            model, inputs, labels, metric=metric, progress=lambda layer, *_: update(layer)
        )
    if plot is not None:
        draw(curves, plot, dense=dense, metric=metric.title)
    if json:
        print_json(
            {
                "network": line,
                "data": found.as_json(),
                "metric": metric.name,
                f"dense_{metric.name}": dense,
                "layers": [asdict(curve) for curve in curves],
            }
        )
        return
    say_made(network, weights, model)
    say(f"network: {line}")
    say(f"data: {found.describe()}")
    shown = "{:.2f}".format if metric.unit else "{:.4g}".format
    print_table(
        f"{'Error in %' if metric.unit else metric.title} of {len(inputs):,} training inputs, "
        f"dense {shown(dense)}, at % kept",
        ("layer", *(f"{100 * density:g}" for density in curves[0].densities)),
        [(curve.layer, *map(shown, curve.errors)) for curve in curves],
    )

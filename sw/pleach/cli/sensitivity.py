"""`pleach sensitivity`: how much each layer of a network can lose."""

from __future__ import annotations

from typing import Annotated

import typer

from pleach.cli.common import Checkpoint, DatasetOption, Json, Plot, dataset_for
from pleach.cli.output import print_json, print_table, progress


def command(
    checkpoint: Checkpoint,
    dataset: DatasetOption = None,
    images: Annotated[
        int,
        typer.Option(min=1, help="Training images that the error is measured on, the last ones."),
    ] = 10_000,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Prune each layer alone, by magnitude and without retraining, and show the error.

    It is measured on training images, so that the test images are left for the final figure.

    Example: [bold]pleach sensitivity digits.safetensors --dataset digits[/bold]
    """
    from dataclasses import asdict

    from pleach.compression import error_percent
    from pleach.compression import sensitivity as scan
    from pleach.compression.sensitivity import plot as draw
    from pleach.models import from_state_dict, layers_of, load_checkpoint

    model = from_state_dict(load_checkpoint(checkpoint))
    layers = layers_of(model, (784,))
    found = dataset_for(dataset, layers[0].values_in, layers[-1].values_out)
    inputs, labels = found.train_images[-images:], found.train_labels[-images:]
    dense = error_percent(model, inputs, labels)
    with progress("pruning") as update:
        curves = scan(model, inputs, labels, progress=lambda layer, *_: update(layer))
    if plot is not None:
        draw(curves, plot, dense=dense)
    if json:
        print_json({"dense_error_pct": dense, "layers": [asdict(curve) for curve in curves]})
        return
    print_table(
        f"Error in % of {len(inputs):,} training images, dense {dense:.2f}, at % kept",
        ("layer", *(f"{100 * density:g}" for density in curves[0].densities)),
        [(curve.layer, *(f"{error:.2f}" for error in curve.errors)) for curve in curves],
    )

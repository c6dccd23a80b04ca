"""`pleach trace`: what each layer gave, float beside fixed, and where the error came in."""

from __future__ import annotations

from typing import Annotated

import typer

from pleach_cli.common import (
    DatasetOption,
    FirstInput,
    Json,
    ModelFile,
    dataset_for,
    inputs_line,
    some_inputs,
)
from pleach_cli.output import print_json, print_table, progress, say


def command(
    file: ModelFile,
    dataset: DatasetOption = None,
    images: Annotated[
        int, typer.Option("--inputs", "--images", min=1, help="Test inputs to run.")
    ] = 100,
    first: FirstInput = None,
    json: Json = False,
) -> None:
    """Compare what each layer gives with what it would give if nothing were rounded.

    An error is the root of its mean square, over all values of all inputs, in the numbers that the
    integers stand for. `own` is the part that came in at that layer.

    Example: [bold]pleach trace model.pleach --input 7 --images 1[/bold]
    """
    from dataclasses import asdict

    from pleach.format import load
    from pleach.reference.unrounded import errors

    model = load(file)
    found = dataset_for(dataset, model, labels=False)
    numbers = some_inputs(found, images, first)
    inputs = model.quantise(found.test_images[numbers])
    with progress("running the network with and without rounding"):
        rows = errors(model, inputs)
    worst = max(rows, key=lambda row: row.own / (row.rms or 1.0))
    if json:
        print_json(
            {
                "file": str(file),
                "data": found.as_json(),
                "numbers": numbers.tolist(),
                "inputs": len(inputs),
            }
            | {"layers": [asdict(row) for row in rows], "worst": worst.name}
        )
        return
    say(f"network: {model.line}")
    say(f"data: {found.describe()}")
    say(inputs_line(numbers))
    print_table(
        f"{len(inputs)} test inputs: integers against numbers not rounded",
        ("layer", "fraction\nbits", "rms", "error", "of rms", "own", "largest", "saturated"),
        [
            (
                row.name, str(row.fraction), f"{row.rms:.4g}", f"{row.error:.2g}",
                f"{100 * row.error / (row.rms or 1.0):.3f} %", f"{row.own:.2g}",
                f"{row.largest:.2g}", f"{100 * row.saturated:.2f} %",
            )
            for row in rows
        ],
    )  # fmt: skip
    say(f"The largest error, of what is given there, came in at {worst.name}.")

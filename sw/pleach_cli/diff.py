"""`pleach diff`: two files, or a file and the network that it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pleach_cli.common import (
    ActivationOption,
    DatasetOption,
    Inputs,
    Json,
    Mean,
    ModelFile,
    Network,
    Order,
    Scale,
    Std,
    Weights,
    dataset_for,
    say_scaled_already,
)
from pleach_cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    from pleach.data import Dataset
    from pleach.difference import Answered, LayerDifference

#: inputs that changed class which are listed
SHOWN = 20


def command(
    file: ModelFile,
    other: Network,
    dataset: DatasetOption = None,
    weights: Weights = None,
    order: Order = None,
    activation: ActivationOption = None,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    pes: Annotated[int, typer.Option(help="PEs of the engines whose cycles are compared.")] = 16,
    images: Annotated[
        int, typer.Option("--inputs", "--images", min=1, help="Test inputs for the cycles.")
    ] = 20,
    json: Json = False,
) -> None:
    """Compare two compressed networks: weights, bytes, cycles, and the inputs that change class.

    The second may be the network that the first was made from: a checkpoint, an ONNX file, or
    MODULE:FUNCTION, with the options that pleach compress had. Then the answers are compared.

    Example: [bold]pleach diff before.pleach after.pleach --dataset mnist[/bold]

    [bold]pleach diff net.pleach net.safetensors --dataset digits[/bold]
    """
    from dataclasses import asdict

    from pleach.difference import Answered, layer_differences, real_outputs
    from pleach.format import load
    from pleach.metrics import for_targets

    model = load(file)
    found = dataset_for(dataset, model, labels=False)
    given = Inputs(weights, order, activation, scale, mean, std)
    compressed = isinstance(other, Path) and other.suffix == ".pleach"
    say_scaled_already(file, given, None if compressed else other)
    layers: list[LayerDifference] = []
    about: dict[str, Any] = {"files": [str(file), str(other)], "data": found.as_json()}
    with progress("running both networks"):
        outputs = [real_outputs(model, found.test_images)]
        if compressed:
            second = load(other)
            _check_alike(file, other, model, second)
            outputs.append(real_outputs(second, found.test_images))
            layers = layer_differences(file.read_bytes(), other.read_bytes())
            about["bytes"] = [each.stat().st_size for each in (file, other)]
            about["cycles"] = [_cycles(each, found, pes, images) for each in (model, second)]
        else:
            outputs.append(given.outputs(other, found))
    answered = Answered.of(*outputs)
    if found.test_labels is not None:
        metric = for_targets(found.test_labels, model.outputs)
        about["metric"] = metric.name
        about["errors"] = [metric(each, found.test_labels) for each in outputs]
    about["layers"] = [asdict(layer) for layer in layers]
    if json:
        print_json(about | answered.as_json())
        return
    say(f"network: {model.line}")
    say(f"data: {found.describe()}")
    _show(about, layers, answered, pes)


def _check_alike(file: Path, other: Path, one, second) -> None:
    from pleach.errors import ModelError

    if (one.inputs, one.outputs) != (second.inputs, second.outputs):
        raise ModelError(
            f"{file} takes {one.inputs} inputs and gives {one.outputs} outputs, {other} "
            f"{second.inputs} and {second.outputs}: they answer different questions"
        )


def _cycles(model, found: Dataset, pes: int, images: int) -> float:
    from pleach.difference import mean_cycles
    from pleach.engine.plan import base_engine, fitted

    config = fitted(model, base_engine(model, pes))
    return mean_cycles(model, found.test_images[found.few(images)], config)


def _show(
    about: dict[str, Any], layers: list[LayerDifference], answered: Answered, pes: int
) -> None:
    if layers:
        print_table(
            "Layers, first and second",
            ("layer", "weights", "in both", "other\nvalue", "rms apart", "values", "bytes"),
            [
                (
                    row.name, _pair(row.kept),
                    "" if row.common is None else f"{row.common:,}",
                    "" if row.changed is None else f"{row.changed:,}",
                    "" if row.rms is None else f"{row.rms:.2g}",
                    _pair(row.codebook), _pair(row.bytes),
                )
                for row in layers
            ],
        )  # fmt: skip
        if other := [row.name for row in layers if row.common is None]:
            say(
                f"{', '.join(other)}: of another shape in each file, or in one alone, for instance "
                "as neurons or filters without weights were removed: no places to compare"
            )
        say(f"files: {_pair(about['bytes'])} bytes")
        say(f"cycles an input on {pes} PEs: {_pair([round(each) for each in about['cycles']])}")
    if "errors" in about:
        one, other = about["errors"]
        say(f"{about['metric']}: {one:.4g} and {other:.4g} on {answered.inputs:,} test inputs")
    say(f"outputs: {answered.rms:.3g} apart in the root of the mean square")
    changed = [f"{number} ({a} → {b})" for number, a, b in answered.changed[:SHOWN]]
    more = len(answered.changed) - len(changed)
    listed = f": {', '.join(changed)}{f' and {more} more' if more > 0 else ''}" if changed else ""
    say(f"inputs that change class: {len(answered.changed)}{listed}")


def _pair(values) -> str:
    one, other = values
    return f"{one:,}" if one == other else f"{one:,} → {other:,}"

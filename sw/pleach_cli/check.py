"""`pleach check`: what of a network runs where, before anybody trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pleach_cli.common import (
    ActivationOption,
    GivenDataset,
    Json,
    Mean,
    Network,
    Order,
    Scale,
    Std,
    Weights,
    say_made,
    scaling_of,
)
from pleach_cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from pleach.models.check import Checked

Shape = Annotated[
    str | None,
    typer.Option(
        metavar="SIZES",
        help="Shape of an input, without the axis of the batch, such as 1,28,28. Not needed with "
        "--dataset, nor where an ONNX file says it.",
    ),
]


def command(
    network: Network,
    dataset: GivenDataset = None,
    shape: Shape = None,
    weights: Weights = None,
    order: Order = None,
    activation: ActivationOption = None,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    json: Json = False,
) -> None:
    """Say of each layer of a network where it runs once it is compressed, and of what does not run
    why not.

    Nothing is trained. With the --scale, --mean and --std that pleach compress is to have, the node
    is listed that scales the inputs, where it takes one. The exit code is 1 where something is not
    supported.

    Example: [bold]pleach check net.onnx[/bold]

    [bold]pleach check mynet:make --shape 1,28,28[/bold]
    """
    from dataclasses import asdict

    from pleach.models import fold_inputs, graph_of
    from pleach.models.check import REFUSED, check

    sizes, stored = _inputs(dataset, shape)
    made, rows = _checked(network, sizes, weights, order, activation)
    given = scaling_of(scale, mean, std)
    if given and made is not None and all(row.runs != REFUSED for row in rows):
        sizes = sizes or graph_of(made).shape
        rows = check(fold_inputs(made, kind=stored or "uint8", shape=sizes, **given), sizes)
        if stored is None and not json:
            say("inputs: taken to be stored as uint8; --data says what they are")
    refused = sum(row.runs == REFUSED for row in rows)
    if json:
        print_json({"nodes": [asdict(row) for row in rows], "supported": not refused})
    else:
        if made is not None:
            say_made(network, weights, made)
        columns = ("node", "computes", "runs on") + ("why not",) * any(row.why for row in rows)
        table = [(row.name, row.computes, row.runs, row.why)[: len(columns)] for row in rows]
        print_table(f"Where {network} runs", columns, table)
        say(_verdict(rows, refused))
    if refused:
        raise typer.Exit(1)


def _inputs(dataset: str | None, shape: str | None) -> tuple[tuple[int, ...] | None, Any]:
    """Shape and type of the inputs, None of what is not said."""
    from pleach import data
    from pleach.errors import ConfigError

    if dataset is not None and shape is not None:
        raise ConfigError("--shape is for a network without --dataset")
    if dataset is not None:
        found = data.load(dataset, labels=False)
        return tuple(found.shape), found.train_images.dtype
    if shape is None:
        return None, None
    parts = shape.replace("x", ",").replace("×", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise ConfigError(f"--shape {shape}: give sizes from 1, 1,28,28")
    return tuple(map(int, parts)), None


def _checked(source: Path | str, sizes: tuple[int, ...] | None, weights, order, activation):
    """The network, where it could be read, and its nodes."""
    from pleach.errors import ConfigError
    from pleach.models import Factory, read_network
    from pleach.models.check import check, check_onnx

    if isinstance(source, Path) and source.suffix.lower() == ".onnx":
        return check_onnx(source, sizes)
    if isinstance(source, str):
        model = Factory.parse(source).build(weights)
    else:
        names = None if order is None else [name.strip() for name in order.split(",")]
        model = read_network(source, order=names, activation=activation)
    if sizes is None:
        raise ConfigError("give --shape, or --dataset: what an input is decides what is computed")
    return model, check(model, sizes)


def _verdict(rows: list[Checked], refused: int) -> str:
    from pleach.models.check import ENGINE
    from pleach.models.read import OPERATORS

    if refused:
        return f"{refused} of {len(rows)} nodes are not supported; {OPERATORS}"
    if rows[0].runs == ENGINE:
        return "All of it runs on an engine, with or without a map memory."
    return "All of it runs on an engine with a map memory (pleach plan says how)."

"""`pleach report`: a compressed network on one page."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pleach_cli.common import (
    ActivationOption,
    EngineFile,
    EngineSet,
    GivenDataset,
    Inputs,
    Json,
    Mean,
    ModelFile,
    Order,
    Pes,
    Scale,
    Std,
    dataset_for,
    engine_for,
    labels_as,
    output_option,
    say_scaled_already,
)
from pleach_cli.output import print_json, progress, say

if TYPE_CHECKING:
    from pleach.model import CompressedModel
    from pleach.report import Stage

Dense = Annotated[
    str | None,
    typer.Option(
        "--dense",
        metavar="CHECKPOINT|ONNX|MODULE:FUNCTION",
        help="The network that it was made from, as pleach compress took it: the page shows what "
        "changed class.",
    ),
]
Stages = Annotated[
    Path | None,
    typer.Option(
        "--stages",
        help="What pleach compress --json printed: the error after each step.",
        exists=True,
        dir_okay=False,
    ),
]


def command(
    file: ModelFile,
    output: Annotated[
        Path | None, output_option("Page to write; the file's name with .html by default.")
    ] = None,
    dataset: GivenDataset = None,
    pes: Pes = None,
    images: Annotated[
        int, typer.Option("--inputs", "--images", min=1, help="Test inputs for the cycles.")
    ] = 10,
    dense: Dense = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Checkpoint for --dense MODULE:FUNCTION.", exists=True, dir_okay=False),
    ] = None,
    order: Order = None,
    activation: ActivationOption = None,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    stages: Stages = None,
    engine: EngineFile = None,
    set_: EngineSet = None,
    json: Json = False,
) -> None:
    """Write a page on a compressed network: its layers and codebooks, the cycles of an engine and
    of each PE, its errors, and the engines and boards that hold it.

    The page is one file of HTML that needs nothing else. The cycles are those of the cycle model,
    which equals the RTL. With --json it prints the same data instead. --dense takes the options of
    pleach compress with it that say how the network is read.

    Example: [bold]pleach report model.pleach --dataset mnist --pes 16[/bold]
    """
    from pleach.errors import ConfigError
    from pleach.format import load
    from pleach.page import Facts, Page

    model = load(file)
    if dense is not None and dataset is None:
        raise ConfigError("give --dataset with --dense: both networks run on its test inputs")
    found = labels_as(dataset_for(dataset, model, labels=False), model.outputs, None)
    chosen = engine_for(pes, engine, set_, model, file)
    steps = () if stages is None else _stages(stages)
    given = Inputs(weights, order, activation, scale, mean, std)
    say_scaled_already(file, given, dense)
    with progress("running the network"):
        facts = Facts.of(
            file,
            data=found,
            engine=chosen.config,
            images=images,
            dense=None if dense is None else given.outputs(_source(dense), found),
            stages=steps,
            boards=_engines(model),
            made=_made(),
        )
    if json:
        print_json(facts.as_json())
        return
    path = output or file.with_suffix(".html").name
    Page(facts).write(path)
    say(f"network: {model.line}")
    say(f"data: {found.describe()}")
    say(chosen.describe())
    say((str(path), "bold"), f": {Path(path).stat().st_size:,} bytes, open it in a browser")


def _source(dense: str) -> Path | str:
    return Path(dense) if Path(dense).exists() else dense


def _stages(path: Path) -> tuple[Stage, ...]:
    from json import JSONDecodeError, loads

    from pleach.errors import DataError
    from pleach.report import Stage

    try:
        return tuple(Stage(**stage) for stage in loads(path.read_text("utf-8"))["stages"])
    except (JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not what pleach compress --json prints: {error}") from error


def _engines(model: CompressedModel) -> tuple[dict[str, Any], ...]:
    """Engines by size, and the boards that hold them, as `pleach info` has them."""
    from pleach.compile.explore import catalogue
    from pleach_hw.build.candidates import Fit

    rows = []
    for each in catalogue(model):
        fit = Fit.of(each.engine)
        rows.append(
            {
                "PEs": each.engine.pes,
                "weights a PE": f"{each.needs['entries']:,}",
                "LUT4, estimate": f"{fit.estimate['lut4']:,}",
                "RAMs": fit.estimate["bram"],
                "boards": ", ".join(fit.boards) or "none",
            }
        )
    return tuple(rows)


def _made() -> tuple[tuple[str, str], ...]:
    from pleach import __version__

    command = shlex.join(["pleach", *sys.argv[1:]])
    return (("command", command), ("Pleach", __version__))

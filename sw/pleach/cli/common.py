"""What the commands share: their options, and what these stand for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pleach.cli.output import print_table

if TYPE_CHECKING:
    from pleach.model import CompressedModel
    from pleach.reference import EngineConfig

ModelFile = Annotated[
    Path, typer.Argument(help="A .pleach file.", exists=True, dir_okay=False, metavar="FILE")
]
Checkpoint = Annotated[
    Path,
    typer.Argument(help="State dict: .safetensors or torch's.", exists=True, dir_okay=False),
]


def _writable(path: Path | None) -> Path | None:
    from pleach.files import check_writable

    if path is not None:
        check_writable(path)
    return path


def _figure(path: Path | None) -> Path | None:
    from pleach.files import check_figure

    if path is not None:
        check_figure(path)
    return path


def output_option(help: str, *names: str):
    """A file to write: what cannot be written is refused before the work."""
    return typer.Option(*(names or ("--output", "-o")), help=help, callback=_writable)


#: parameters that are files to write; every other path of a command's is one that it reads
OUTPUTS = ("output", "plot", "wave")


def careful(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, which refuses, before it begins, to write over a file that it reads."""

    @functools.wraps(command)
    def run(**given) -> None:
        from pleach.files import check_apart

        files = {name: Path(v) for name, v in given.items() if isinstance(v, Path)}
        if given.get("dataset"):
            files["dataset"] = Path(given["dataset"])
        written = [files.pop(name) for name in OUTPUTS if name in files]
        check_apart(written, list(files.values()))
        command(**given)

    return run


Plot = Annotated[
    Path | None, typer.Option(help="Plot to write, .png, .svg or .pdf.", callback=_figure)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="mnist, digits, or an .npz file with train_images, train_labels, test_images and "
        "test_labels. By default the one whose images have the network's number of inputs.",
    ),
]
Pes = Annotated[
    int | None,
    typer.Option(help="Processing elements, a power of two to 64.", show_default="the engine's"),
]
EngineFile = Annotated[
    Path | None,
    typer.Option(
        "--engine", help="TOML file with the engine's parameters.", exists=True, dir_okay=False
    ),
]


EngineSet = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An engine parameter, over the file's: groups, lanes, block, columns, entries, "
        "codebook, accumulators, queue_depth, … (docs/engine.md). Can be repeated.",
    ),
]


def engine_config(
    pes: int | None,
    engine: Path | None,
    settings: list[str] | None,
    model: CompressedModel | None = None,
    default: EngineConfig | None = None,
) -> EngineConfig:
    """The engine of the options, over the file's parameters, over the defaults.

    With a model and no capacity given, the default engine grows to hold it. `default` is what is
    not given.

    Raises:
        ConfigError: an unknown parameter, or one out of range.
        CapacityError: the capacities given do not hold the model.
    """
    from pleach.errors import ConfigError
    from pleach.reference import EngineConfig
    from pleach.settings import from_dict, from_toml

    default = default or EngineConfig()
    config = default if engine is None else from_toml(default, engine)
    given = {}
    for setting in settings or ():
        name, _, value = (part.strip() for part in setting.partition("="))
        if value in ("true", "false"):
            given[name] = value == "true"
        elif value.isdecimal():
            given[name] = int(value)
        else:
            raise ConfigError(
                f"--set takes NAME=VALUE with a whole number, true or false, not {setting!r}"
            )
    config = from_dict(config, given if pes is None else {**given, "pes": pes})
    if model is None:
        return config
    if engine is None and not given:
        return config.grown(model)
    config.check(model)
    return config


def dataset_for(name: str | None, inputs: int, classes: int):
    """The data set of that name, or the one with images of `inputs` pixels, for a network that
    tells `classes` apart.

    Raises:
        DataError: it cannot be had, its images have another number of pixels, or it has more
            classes.
    """
    from pleach import data
    from pleach.errors import DataError

    if name is None:
        name = {784: "mnist", 64: "digits"}.get(inputs)
        if name is None:
            raise DataError(f"no data set has {inputs} inputs; give --dataset")
    found = data.load(name)
    pixels = found.test_images.shape[1]
    if pixels != inputs:
        raise DataError(f"the network takes {inputs} inputs, the images of {name} have {pixels}")
    highest = int(max(found.train_labels.max(), found.test_labels.max()))
    if highest >= classes:
        raise DataError(f"the network has {classes} outputs, {name} has labels up to {highest}")
    return found


def layer_table(reports) -> None:
    """Rows of `pleach.report.LayerReport` in the shape of Deep Compression's tables."""
    rows = []
    for row in reports:
        weights = round(row.kept / row.density) if row.density else prod(row.shape)
        rows.append(
            (
                row.name, f"{weights:,}", f"{100 * row.density:.1f}", str(row.codebook_size),
                str(row.fixed_weight_bits), f"{row.weight_bits:.2f}",
                str(row.fixed_index_bits), f"{row.index_bits:.2f}",
                f"{row.fixed_rate:.2f}", f"{row.rate:.2f}", f"{row.bytes:,}",
            )
        )  # fmt: skip
    print_table(
        "Per layer: P pruned, Q weights shared, H Huffman-coded",
        (
            "layer", "weights", "kept\n%", "code-\nbook", "weight\nbits\nP+Q", "P+Q+H",
            "index\nbits\nP+Q", "P+Q+H", "rate\n%\nP+Q", "P+Q+H", "bytes",
        ),
        rows,
    )  # fmt: skip

"""What the commands share: their options, and what these stand for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pleach.numbers import PES_MAX
from pleach_cli.output import say

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from pleach.compression import CompressConfig
    from pleach.data import Dataset
    from pleach.engine import EngineConfig
    from pleach.model import CompressedModel
    from pleach.report import CompressionReport, Stage

ModelFile = Annotated[
    Path, typer.Argument(help="A .pleach file.", exists=True, dir_okay=False, metavar="FILE")
]


def _network(text: str) -> Path | str:
    """A checkpoint's path, or the name of what makes a network in Python."""
    path = Path(text)
    if path.suffix == ".py":
        raise typer.BadParameter(f"a network in Python is {path.stem}:FUNCTION, not {text}")
    if path.exists() and not path.is_dir():
        return path
    file, colon, function = text.partition(":")
    if colon and file.endswith(".py"):
        module = file.removesuffix(".py").replace("/", ".")
        raise typer.BadParameter(
            f"a network in Python is MODULE:FUNCTION, not {text}: did you mean {module}:{function}?"
        )
    if ":" in text:
        return text
    raise typer.BadParameter(
        f"{text} is a folder" if path.is_dir() else f"the file {text} does not exist"
    )


Network = Annotated[
    Any,
    typer.Argument(
        help="State dict, .safetensors or torch's; an ONNX file; or package.module:function, a "
        "function or class of yours that makes the network when it is called.",
        metavar="CHECKPOINT|ONNX|MODULE:FUNCTION",
        parser=_network,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Checkpoint for the network that MODULE:FUNCTION makes, under its own names; without, "
        "it has to be trained as it is made.",
        metavar="FILE",
        exists=True,
        dir_okay=False,
    ),
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
OUTPUTS = ("output", "plot", "picture", "wave")


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
Picture = Annotated[
    Path | None,
    typer.Option(
        help="Picture to write of what it classified, .png, .svg or .pdf.", callback=_figure
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Address of a dask scheduler, tcp://HOST:PORT, whose workers do the work.",
        show_default="processes of this machine",
    ),
]
DATA = (
    "mnist, fashion-mnist or digits; an .npz file with train_inputs, train_labels, test_inputs and "
    "test_labels (labels are classes, or floats of a regression); a .csv file with a column label, "
    "or target; or a folder of images with a folder for each class (docs/networks.md)."
)
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "--data",
        help=f"{DATA} By default the one whose inputs are as many as the network's.",
    ),
]
GivenDataset = Annotated[
    str | None,
    typer.Option("--dataset", "--data", help=f"{DATA} It has to be given."),
]
Order = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME,…",
        help="The layers as they run, where the checkpoint does not tell.",
    ),
]
ActivationOption = Annotated[
    str | None,
    typer.Option(
        "--activation",
        metavar="relu|none",
        help="The function after every layer but the last, where the checkpoint does not tell.",
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(
        metavar="FACTOR",
        help="The factor by which the training multiplied a stored input, for instance 1/255. By "
        "default uint8 inputs are seen as value / 256, floats as they are.",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="N[,N…]",
        help="What the training subtracted after that: a number, or one for each channel or "
        "feature, with commas between.",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        metavar="N[,N…]",
        help="What the training divided by at last: a number, or one for each channel or feature.",
    ),
]
FirstInput = Annotated[
    int | None,
    typer.Option(
        "--input",
        min=0,
        help="Number of the first test input to run, from 0. Without, they are the first, or, of a "
        "set in the order of its classes, evenly spaced ones.",
        show_default=False,
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        metavar="cross_entropy|binary|mse",
        help="What the labels say: cross_entropy, the class; binary, yes or no, where the outputs "
        "are logits; mse, numbers that the outputs are to be like.",
        show_default="the one for the data set's labels",
    ),
]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="FILE",
        help="A .pleach file that the engine is to hold: capacities that are not given grow.",
        exists=True,
        dir_okay=False,
    ),
]
Pes = Annotated[
    int | None,
    typer.Option(
        help=f"Processing elements, a power of two to {PES_MAX}.", show_default="the engine's"
    ),
]
EngineFile = Annotated[
    Path | None,
    typer.Option(
        "--engine",
        help="TOML file with the engine's parameters, as pleach explore -o writes one.",
        exists=True,
        dir_okay=False,
    ),
]
EngineSet = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An engine parameter, over the file's: groups, lanes, block, columns, entries, "
        "codebook, accumulators, queue_depth, … (docs/engine.md). Can be repeated. A capacity that "
        "is given stays, here or in the file; the others grow to hold the model.",
    ),
]


@dataclass(frozen=True)
class ChosenEngine:
    """An engine as the options have it.

    Args:
        config: the engine.
        given: as it was before it grew to hold the model.
        model: the model's file; None where there is none.
    """

    config: EngineConfig
    given: EngineConfig
    model: Path | None

    @property
    def derived(self) -> dict[str, int]:
        """The parameters that grew."""
        before = asdict(self.given)
        return {name: new for name, new in asdict(self.config).items() if new != before[name]}

    @property
    def reasons(self) -> list[str]:
        """What was derived, each value with the model and the default."""
        return [
            f"{name} {new} for {self.model}, {getattr(self.given, name)} by default"
            for name, new in self.derived.items()
        ]

    def describe(self) -> str:
        """The engine on one line, in the words of --set, and what was derived."""
        values = " ".join(f"{name}={str(v).lower()}" for name, v in asdict(self.config).items())
        grown = ", ".join(self.reasons)
        return f"engine: {values}{'; ' if grown else ''}{grown}"

    def as_json(self) -> dict[str, Any]:
        """What `describe` says, for a program."""
        return {"engine": asdict(self.config), "engine_derived": self.derived}


def engine_for(
    pes: int | None,
    engine: Path | None,
    settings: list[str] | None,
    model: CompressedModel | None = None,
    file: Path | None = None,
    default: EngineConfig | None = None,
) -> ChosenEngine:
    """The engine of the options, over the file's parameters, over the defaults: one rule for every
    command.

    Capacities that are given, in the file or by --set, stay. With a model, which comes from `file`,
    all others grow to hold it. `default` is what is not given.

    Raises:
        ConfigError: an unknown parameter, or one out of range.
        CapacityError: the capacities given do not hold the model, or no engine's do.
    """
    from pleach.engine import EngineConfig
    from pleach.engine.plan import base_engine, fitted
    from pleach.errors import ConfigError
    from pleach.numbers import PES_MAX
    from pleach.settings import from_dict, from_toml, toml_table

    given: dict[str, Any] = {} if engine is None else toml_table(engine)
    for setting in settings or ():
        name, _, value = (part.strip() for part in setting.partition("="))
        if value in ("true", "false"):
            given[name] = value == "true"
        elif value.isascii() and value.isdecimal() and len(value) < 20:
            given[name] = int(value)
        else:
            raise ConfigError(
                f"--set takes NAME=VALUE with a whole number, true or false, not {setting!r}"
            )
    if pes is not None:
        given["pes"] = pes
    if default is None:
        default = EngineConfig()
        count = given.get("pes", default.pes)
        if model is not None and isinstance(count, int) and 1 <= count <= PES_MAX:
            default = base_engine(model, count)
    try:
        config = from_dict(default, given)
    except ConfigError:
        if engine is not None:
            from_toml(default, engine)  # a mistake in the file is one of the file
        raise
    if model is None:
        return ChosenEngine(config, config, None)
    return ChosenEngine(fitted(model, config, fixed=given), config, file)


def dataset_for(name: str | None, model: CompressedModel, *, labels: bool = True) -> Dataset:
    """The data set of that name, or the one with as many inputs, for a bitstream's network, which
    takes inputs as they are stored. A line says which one it is that nobody gave.

    Args:
        labels: whether it has to have them.

    Raises:
        DataError: it cannot be had, its inputs have another size, or its labels are not what the
            network gives.
    """
    from pleach import data
    from pleach.errors import DataError

    given, name = name, name or KNOWN.get(model.inputs)
    if name is None:
        raise DataError(f"no data set has {model.inputs} inputs; give --data")
    found = data.load(name, labels=labels)
    chosen = f"no --data is given, and {name} has {model.inputs} inputs, as the network does"
    try:
        check_fits(found, model.inputs, model.outputs)
    except DataError as error:
        raise error if given else DataError(f"{chosen}, but {error}: give --data") from None
    if not given:
        say(f"{chosen}: it is taken", stderr=True)
    return replace(found, seen=data.AS_STORED)


def some_inputs(found: Dataset, count: int, first: int | None = None) -> np.ndarray:
    """Numbers of the test inputs to run: `Dataset.few`, or so many from `first`.

    Raises:
        DataError: there are none from there.
    """
    import numpy as np

    from pleach.errors import DataError

    if first is None:
        return found.few(count)
    there = len(found.test_images)
    if first >= there:
        raise DataError(f"{found.name} has {there:,} test inputs, none from {first}")
    return np.arange(first, min(first + count, there))


def inputs_line(numbers: np.ndarray) -> str:
    """Which test inputs are run.

    >>> import numpy as np
    >>> inputs_line(np.array([3, 4, 5])), inputs_line(np.array([0, 160, 320]))
    ('test inputs: 3 to 5', 'test inputs: 0, 160, 320, evenly spaced: the set is in order')
    """
    first, *_, last = *numbers, numbers[-1]
    if last - first == len(numbers) - 1:
        return f"test inputs: {first}" + f" to {last}" * (len(numbers) > 1)
    shown = ", ".join(map(str, numbers[:6])) + ", …" * (len(numbers) > 6)
    return f"test inputs: {shown}, evenly spaced: the set is in order"


def say_scaled_already(file: Path, given: Inputs, other: object | None) -> None:
    """Where options that scale inputs are given, say that a bitstream has that in it, and which
    network they are for."""
    if (given.scale, given.mean, given.std) != (None, None, None):
        does = "change nothing" if other is None else f"say how {other} sees its inputs"
        say(
            ("note:", "yellow"),
            f" --scale, --mean and --std {does}; the scaling of {file} is in the file",
            stderr=True,
        )


#: data sets by the values of an input
KNOWN = {784: "mnist", 64: "digits"}


def network_for(
    source: Path | str,
    weights: Path | None,
    order: str | None,
    activation: str | None,
    dataset: str | None,
    scale: str | None = None,
    mean: str | None = None,
    std: str | None = None,
) -> tuple[nn.Module, Dataset]:
    """The network in a checkpoint, or from Python, and the data that it is trained or measured on,
    which have to be given; the network takes their inputs as they are stored.

    Raises:
        ConfigError: no data set, options that do not go together, or what `pleach.models.Factory`
            or `pleach.models.fold_inputs` refuses.
        DataError, ModelError: as `pleach.models.read_network`, `pleach.models.Factory`,
            `pleach.models.onnx_file.read_onnx`, `pleach.data.load` and
            `pleach.models.fold_inputs`, or they do not fit each other.
    """
    from pleach import data
    from pleach.errors import ConfigError
    from pleach.models import (
        Factory,
        fold_inputs,
        graph_of,
        is_network,
        network_of,
        read_network,
    )

    if isinstance(source, str):
        if order is not None or activation is not None:
            raise ConfigError(
                f"{source} says itself how it runs: it goes with neither --order nor --activation"
            )
        model = Factory.parse(source).build(weights)
    elif weights is not None:
        raise ConfigError(f"--weights is for a network from Python; {source} has its own")
    elif source.suffix.lower() == ".onnx":
        if order is not None or activation is not None:
            raise ConfigError(
                f"{source} says itself how it runs: it goes with neither --order nor --activation"
            )
        model = None  # which needs the inputs' shape
    else:
        names = None if order is None else [name.strip() for name in order.split(",")]
        model = read_network(source, order=names, activation=activation)
    if dataset is None:
        raise ConfigError(
            f"give --dataset: {', '.join(KNOWN.values())}, or your own .npz or .csv file or folder "
            "of images; what a network is trained on is not guessed"
        )
    found = data.load(dataset)
    if model is None:
        from pleach.models.onnx_file import read_onnx

        model = read_onnx(source, found.shape)
    elif not is_network(model, found.shape):
        model = network_of(model, found.shape)
    graph = graph_of(model, found.shape)
    check_fits(found, graph.inputs, graph.outputs)
    given = scaling_of(scale, mean, std)
    if given:
        model = fold_inputs(model, kind=found.train_images.dtype, shape=found.shape, **given)
        found = replace(found, seen=_seen(given, scale, found.scaling))
    return model, found


@dataclass(frozen=True)
class Inputs:
    """What says how a network, which a bitstream was made from, is read and sees its inputs: the
    options of `pleach compress`."""

    weights: Path | None = None
    order: str | None = None
    activation: str | None = None
    scale: str | None = None
    mean: str | None = None
    std: str | None = None

    def outputs(self, source: Path | str, found: Dataset) -> np.ndarray:
        """What that network gives for the test inputs, ``[n, outputs]``.

        Raises:
            ConfigError, DataError, ModelError: as `network_for`.
        """
        from pleach.compression.train import predict

        model, data = network_for(
            source, self.weights, self.order, self.activation, found.name, self.scale, self.mean,
            self.std,
        )  # fmt: skip
        return predict(model, shaped(data, data.test_images)).numpy()


def say_made(source: Path | str, weights: Path | None, model: nn.Module) -> None:
    """Say how a network from Python was made, and what was read of an ONNX file; nothing of one
    out of a checkpoint."""
    from pleach.models import Network

    for note in model.notes if isinstance(model, Network) else ():
        say(f"{source}: {note}")
    if isinstance(source, str):
        having = "as it makes it" if weights is None else f"weights of {weights}"
        say(f"made by: {source} called, in {Path.cwd()} or installed; {having}")


def shaped(found: Dataset, inputs: np.ndarray) -> np.ndarray:
    """Rows of a data set in the shape in which it has them."""
    return inputs.reshape(len(inputs), *found.shape)


def line_of(model: nn.Module, found: Dataset) -> str:
    """A torch network on one line."""
    from pleach.model import network_line
    from pleach.models import graph_of

    return network_line(graph_of(model, found.shape))


def check_fits(found: Dataset, inputs: int, outputs: int) -> None:
    """Refuse a data set whose inputs or labels are not a network's.

    Raises:
        DataError: they are not.
    """
    from pleach.errors import DataError

    values = found.test_images.shape[1]
    if values != inputs:
        raise DataError(f"the network takes {inputs} inputs, those of {found.name} have {values}")
    count = f"{outputs} output{'s' * (outputs > 1)}"
    if found.classes is not None and found.classes > (most := max(outputs, 2)):
        present = [x for x in (found.train_labels, found.test_labels) if x is not None]
        from_one = found.classes == most + 1 and min(labels.min() for labels in present) == 1
        raise DataError(
            f"the network has {count}, {found.name} has labels up to {found.classes - 1}"
            f"{': classes start at 0' if from_one else ''}"
        )
    if found.targets is not None and found.targets != outputs:
        raise DataError(
            f"the network has {count}, {found.name} has {found.targets} "
            f"target{'s' * (found.targets > 1)} an input"
            f"{': integers make classes, its labels are floats' if found.targets == 1 else ''}"
        )


def labels_as(found: Dataset, outputs: int, loss: str | None) -> Dataset:
    """The data set with its labels as the loss takes them.

    Raises:
        ConfigError: no such loss, or none where labels are floats that are all 0 or 1: they may be
            classes as well as numbers.
        DataError: labels that are not for that loss.
    """
    from dataclasses import replace

    from pleach.data import one_hot
    from pleach.errors import ConfigError

    parts: dict[str, Any] = {"train_labels": found.train_labels, "test_labels": found.test_labels}
    parts = {name: labels for name, labels in parts.items() if labels is not None}
    if loss is not None:
        from pleach.compression.train import objective

        as_taken: dict[str, Any] = {
            name: objective(loss, labels, len(labels), outputs)[1] for name, labels in parts.items()
        }
        return replace(found, **as_taken)
    if parts and all(
        labels.dtype.kind == "f" and ((labels == 0) | (labels == 1)).all()
        for labels in parts.values()
    ):
        raise ConfigError(
            f"the labels of {found.name} are floats, all of them 0 or 1: give --loss binary where "
            "they say no or yes and the outputs are logits, --loss mse where they are numbers that "
            "the outputs are to be like; integers as labels make classes"
            f"{', here labels.argmax(1)' if all(map(one_hot, parts.values())) else ''}"
        )
    return found


def scaling_of(scale: str | None, mean: str | None, std: str | None) -> dict[str, Any]:
    """What `pleach.models.fold_inputs` takes of the options that are given.

    Raises:
        ConfigError: no numbers.
    """
    return {
        name: _numbers(name, text)
        for name, text in (("scale", scale), ("mean", mean), ("std", std))
        if text is not None
    }


def _numbers(name: str, text: str) -> float | list[float]:
    """A number or several, each of which may be a fraction."""
    from pleach.errors import ConfigError

    try:
        parts = [[float(term) for term in part.split("/", 1)] for part in text.split(",")]
        numbers = [top / bottom[0] if bottom else top for top, *bottom in parts]
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"--{name} takes numbers like 0.5 or 1/255, not {text!r}") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _seen(given: dict[str, float | list[float]], scale: str | None, plain: str) -> str:
    """What the options of `fold_inputs` make of a stored value, which else is seen as `plain`.

    >>> _seen({"scale": 1 / 255, "mean": 0.3, "std": [0.38, 0.4]}, "1/255", "")
    '(value · 1/255 − 0.3) / (0.38, 0.4)'
    >>> _seen({"mean": -1.0}, None, "as it is")
    'value − (-1)'
    """

    def text(value: float | list[float]) -> str:
        if not isinstance(value, list):
            return f"{value:g}" if value >= 0 else f"({value:g})"
        few = [f"{each:g}" for each in value[:4]]
        return f"({', '.join(few)}{', …' * (len(value) > 4)})"

    seen = "value" if plain == "as it is" else plain
    if scale is not None:
        seen = f"value · {scale.strip()}"
    if "mean" in given:
        seen += f" − {text(given['mean'])}"
    if "std" in given:
        seen = f"({seen})" if " " in seen else seen
        seen += f" / {text(given['std'])}"
    return seen


def compress_on(
    found: Dataset,
    model: nn.Module,
    settings: CompressConfig,
    update: Callable[..., None],
    report: Callable[[Stage], None],
    loss: str | None = None,
) -> CompressedModel:
    """Compress on a data set, showing progress: the compressed network."""
    from pleach.compression import compress

    return compress(
        model, shaped(found, found.train_images), found.train_labels, settings, loss=loss,
        validation=(shaped(found, found.test_images), found.tests[1]), report=report,
        progress=lambda stage, epoch, epochs, loss: update(
            stage, epoch, epochs, f"loss {loss:.4f}"
        ),
    )  # fmt: skip


def saved(compressed: CompressedModel, output: Path, stages: Sequence[Stage]) -> CompressionReport:
    """Write the bitstream: what it is, after these stages."""
    from pleach.files import write_whole
    from pleach.format import dumps
    from pleach.report import CompressionReport, FileReport

    write_whole(output, data := dumps(compressed))
    return CompressionReport(FileReport.of(data, output)[1], tuple(stages))

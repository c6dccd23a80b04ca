"""`pleach compress`: from a checkpoint to a bitstream."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pleach.numbers import CODEBOOK_MAX
from pleach_cli.common import (
    ActivationOption,
    GivenDataset,
    Json,
    Loss,
    Mean,
    Network,
    Order,
    Scale,
    Std,
    Weights,
    compress_on,
    labels_as,
    line_of,
    network_for,
    output_option,
    saved,
    say_made,
    shaped,
)
from pleach_cli.output import print_json, progress, say
from pleach_cli.views import named, notes_of, show_compression

if TYPE_CHECKING:
    from pleach.compression import CompressConfig, TrainConfig
    from pleach.errors import TrainingError
    from pleach.models.graph import Graph
    from pleach.report import CompressionReport, Stage

#: points, or share of a regression's error, that --expect may be off
CLOSE, CLOSE_SHARE = 0.5, 0.1

Expect = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="ERROR",
        help="The dense network's error on the test inputs as you know it: in per cent; of a "
        "regression rmse, in the targets' unit, of several outputs nrmse, in each target's "
        "deviation. Where it is half a point, or a tenth of a regression's, off, nothing is "
        "trained.",
    ),
]
Density = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Share of the weights to keep in every layer, in place of the settings'."
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Epochs of retraining around the pruning, in place of the settings'; the ramp and "
        "the fine-tuning are as long in proportion.",
    ),
]


def command(
    network: Network,
    output: Annotated[Path, output_option("Bitstream to write.")] = Path("model.pleach"),
    dataset: GivenDataset = None,
    weights: Weights = None,
    order: Order = None,
    activation: ActivationOption = None,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    expect: Expect = None,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Take even a network that is hardly better than a guess."),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings, TOML; see docs/compression.md.", exists=True, dir_okay=False),
    ] = None,
    density: Density = None,
    epochs: Epochs = None,
    clusters: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=CODEBOOK_MAX,
            help="Values in every layer's codebook, in place of the settings'.",
        ),
    ] = None,
    normalise: Annotated[
        str | None,
        typer.Option(
            metavar="folded|all|none",
            help="Layers that have a batch normalisation while they are pruned: those that one was "
            "folded into, or all but the last, for a file that was written with them folded.",
            show_default="the settings'",
        ),
    ] = None,
    as_is: Annotated[
        bool,
        typer.Option(
            "--as-is",
            help="Quantise only, train nothing: the network is pruned and shared already, or "
            "--clusters shares it.",
        ),
    ] = False,
    loss: Loss = None,
    output_scale: Annotated[
        str | None,
        typer.Option(
            metavar="auto|shared|each",
            help="Whether each output gets a fraction of its own, as a regression's may want.",
            show_default="the settings'",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of everything random, in place of the settings'."),
    ] = None,
    json: Json = False,
) -> None:
    """Prune, share, fine-tune and code a trained network into one bitstream.

    The network is an ONNX file; a checkpoint that pleach.models.save_checkpoint or pleach train
    wrote; or any other state dict of Linear layers. Or it is a torch module that a function or
    class of yours makes: its name is package.module:function, the current folder is looked into,
    and --weights has its checkpoint. The training inputs retrain it, the test inputs only measure.

    Example: [bold]pleach compress digits.safetensors --dataset digits -o digits.pleach[/bold]

    [bold]pleach compress net.onnx --data photos --scale 1/255[/bold]

    [bold]pleach compress mynet:make --weights mynet.pt --dataset mine.npz[/bold]
    """
    from pleach.compression import CompressConfig
    from pleach.compression.as_is import quantise
    from pleach.errors import TrainingError
    from pleach.models import graph_of

    _check_toml(config)
    model, found = network_for(network, weights, order, activation, dataset, scale, mean, std)
    settings = CompressConfig.from_toml(config) if config else CompressConfig()
    settings = _over(
        settings, seed=seed, density=density, epochs=epochs, clusters=clusters, as_is=as_is,
        output_scale=output_scale, normalise=normalise,
    )  # fmt: skip
    found = labels_as(found, graph_of(model, found.shape).outputs, loss)
    about = {"network": line_of(model, found), "data": found.as_json()}
    if not json:
        say_made(network, weights, model)
        say(f"network: {about['network']}")
        say(f"data: {found.describe()}")
    stages: list[Stage] = []

    def report(stage: Stage) -> None:
        if not stages and expect is not None:
            _check_expected(expect, stage, found.name)
        stages.append(stage)

    with progress("compressing") as update, _guesses_refused(anyway):
        if as_is:
            compressed = quantise(
                model, shaped(found, found.train_images), settings, clusters=clusters, loss=loss,
                validation=(shaped(found, found.test_images), found.tests[1]),
                report=report, progress=update,
            )  # fmt: skip
        else:
            try:
                compressed = compress_on(found, model, settings, update, report, loss)
            except TrainingError as error:
                raise _unfinished(error, output, found.name, config, loss) from error
    made = saved(compressed, output, stages)
    notes = notes_of(stages, clusters=as_is and clusters is not None)
    if json:
        print_json(made.as_json() | about | {"notes": notes})
    else:
        show_compression(made, notes)
        _say_removed(graph_of(model, found.shape), made)


def _check_toml(config: Path | None) -> None:
    """Refuse settings that are no TOML before the network is read; what they say is read after it,
    as a module of the user's may bring kinds that they name."""
    from pleach.settings import toml_table

    if config:
        toml_table(config)


def _say_removed(graph: Graph, made: CompressionReport) -> None:
    if removed := _removed(graph, made):
        say(f"removed, as pruning left nothing into them or out of them: {removed}")


def _removed(graph: Graph, made: CompressionReport) -> str:
    """Neurons and filters that the network had and the file has not, layer by layer."""
    left = {row.name: row.shape[0] for row in made.file.layers}
    found = []
    for node in graph.nodes:
        outputs = node.op.module.weight.shape[0] if hasattr(node.op, "module") else 0
        if gone := outputs - left.get(node.name, outputs):
            found.append(f"{gone} of {outputs} in {node.name}")
    return ", ".join(found)


def _over(
    settings: CompressConfig,
    *,
    seed: int | None,
    density: float | None,
    epochs: int | None,
    clusters: int | None,
    as_is: bool,
    output_scale: str | None,
    normalise: str | None,
) -> CompressConfig:
    """The settings with what the options say instead of them.

    Raises:
        ConfigError: options that do not go together, or settings that come out wrong.
    """
    from dataclasses import replace

    from pleach.errors import ConfigError

    if as_is and (density is not None or epochs is not None):
        raise ConfigError("--as-is trains nothing: it goes with neither --density nor --epochs")
    if seed is not None:
        settings = replace(settings, seed=seed)
    if output_scale is not None:
        settings = replace(settings, output_scale=output_scale)
    if clusters is not None:
        settings = replace(settings, share=replace(settings.share, clusters=clusters, layers={}))
    *before, last = settings.prune
    if density is not None:
        last = replace(last, density=density, quality=None, layers={})
    stages = [*before, last]
    if normalise is not None:
        stages = [
            replace(stage, train=replace(stage.train, normalise=normalise)) for stage in stages
        ]
    if epochs is not None:
        total = sum(stage.train.epochs for stage in stages)
        if epochs and not total:
            raise ConfigError("--epochs is in proportion to the settings', which train nothing")
        factor = epochs / total if total else 0.0
        stages = [
            replace(
                stage,
                train=_shortened(stage.train, factor),
                ramp=min(stage.ramp * factor, _shortened(stage.train, factor).epochs),
            )
            for stage in stages
        ]
        tuned = _shortened(settings.share.train, factor)
        settings = replace(settings, share=replace(settings.share, train=tuned))
    return replace(settings, prune=tuple(stages))


def _shortened(train: TrainConfig, factor: float) -> TrainConfig:
    from dataclasses import replace

    least = 1 if factor and train.epochs else 0
    return replace(train, epochs=max(least, round(train.epochs * factor)))


_ASK = (
    "are the order of its layers and their functions (--order, --activation), the scale of its "
    "inputs (--scale, --mean, --std) and the data those of its training?"
)


def _check_expected(expect: float, stage: Stage, data: str) -> None:
    from pleach.errors import ConfigError

    close = CLOSE if stage.metric == "error_pct" else CLOSE_SHARE * expect
    if stage.error is None or not abs(stage.error - expect) <= close:
        raise ConfigError(
            f"the dense network's error on the test inputs of {data} is "
            f"{named(stage.metric, stage.error or 0.0)}, {named(stage.metric, expect)} was "
            f"expected: {_ASK}"
        )


def _of_training(message: Warning | str) -> str:
    """The warning of a guess with what its figure is of; those of the stages are of test inputs."""
    figure, colon, help = str(message).partition(":")
    return f"{figure} (on the training inputs){colon}{help}"


@contextmanager
def _guesses_refused(anyway: bool) -> Iterator[None]:
    """A network that is hardly better than a guess is an error, or with `anyway` a warning."""
    import warnings

    from pleach.errors import ConfigError, GuessWarning, PleachWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", PleachWarning)
        warnings.simplefilter("always" if anyway else "error", GuessWarning)
        warnings.showwarning = lambda message, kind, *_, **__: say(
            ("pleach: warning:", "yellow"),
            f" {_of_training(message) if issubclass(kind, GuessWarning) else message}",
            stderr=True,
        )
        try:
            yield
        except GuessWarning as warning:
            raise ConfigError(
                f"{_of_training(warning).partition(':')[0]}: {_ASK}; --anyway takes it all the same"
            ) from warning


def _unfinished(
    error: TrainingError, output: Path, dataset: str, config: Path | None, loss: str | None
) -> TrainingError:
    """The error, with what was trained in a file of its own and how to go on from there."""
    from pleach.errors import TrainingError
    from pleach.models import save_checkpoint

    why = f"after the stage {error.stages[-1].name}: {error.__cause__ or error}"
    network = error.network
    if network is None or not all(
        bool(tensor.isfinite().all()) for tensor in network.state_dict().values()
    ):
        return TrainingError(f"{why}; there is nothing to keep of the network")
    name, number = f"{output.stem}.unfinished", 1
    while (path := output.with_name(f"{name}.safetensors")).exists():
        number += 1
        name = f"{output.stem}.unfinished-{number}"
    save_checkpoint(network, path)
    shared = any(stage.name == "shared" for stage in error.stages)
    words = ["pleach", "compress", path, "--dataset", dataset, "-o", output]
    words += ["--loss", loss] * (loss is not None)
    words += ["--config", config] * (config is not None) + ["--as-is", "--anyway"] * shared
    return TrainingError(
        f"{why}\nWhat was trained until then is in {path}; to go on from there:\n"
        + shlex.join(map(str, words)),
        error.network,
        error.stages,
    )

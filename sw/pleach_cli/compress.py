"""`pleach compress`: from a checkpoint to a bitstream."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
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
    labels_as,
    layer_table,
    line_of,
    network_for,
    output_option,
    say_made,
    shaped,
)
from pleach_cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    from pleach.compression import CompressConfig, Stage
    from pleach.errors import TrainingError

#: points, or share of a regression's error, that --expect may be off
CLOSE, CLOSE_SHARE = 0.5, 0.1
#: points, or share of a regression's error, that a stage takes with a note
DEAR, DEAR_SHARE = 5.0, 0.25


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
    expect: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="ERROR",
            help="The dense network's error on the test inputs as you know it: in per cent; of a "
            "regression rmse, in the targets' unit, of several outputs nrmse, in each target's "
            "deviation. Where it is half a point, or a tenth of a regression's, off, nothing is "
            "trained.",
        ),
    ] = None,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Take a network that is hardly better than a guess, too."),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings, TOML; see docs/compression.md.", exists=True, dir_okay=False),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of the weights to keep in every layer, over the settings'."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of retraining around the pruning, over the settings'; the ramp and the "
            "fine-tuning are as long in proportion.",
        ),
    ] = None,
    clusters: Annotated[
        int | None,
        typer.Option(
            min=1, max=CODEBOOK_MAX, help="Values in every layer's codebook, over the settings'."
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
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the settings' seed.")] = None,
    json: Json = False,
) -> None:
    """Prune, share, fine-tune and code a trained network into one bitstream.

    A network of Linear and Conv2d layers that pleach.models.save_checkpoint or pleach train wrote;
    from any other file Linear layers, or LeNet-5. Or a torch module of your own, which a function
    or class in a Python file makes: its name is package.module:function, the current folder is
    looked into, and --weights has its checkpoint. The training inputs retrain the network, the test
    inputs only measure it.

    Example: [bold]pleach compress digits.safetensors --dataset digits -o digits.pleach[/bold]

    [bold]pleach compress mynet:make --weights mynet.pt --dataset mine.npz[/bold]
    """
    from pleach.compression import CompressConfig
    from pleach.errors import TrainingError
    from pleach.models import graph_of

    settings = CompressConfig.from_toml(config) if config else CompressConfig()
    settings = _over(
        settings, seed=seed, density=density, epochs=epochs, clusters=clusters, as_is=as_is,
        output_scale=output_scale,
    )  # fmt: skip
    model, found = network_for(network, weights, order, activation, dataset, scale, mean, std)
    found = labels_as(found, graph_of(model, found.shape).outputs, loss)
    about = {"network": line_of(model, found), "data": found.as_json()}
    if not json:
        say_made(network, weights)
        say(f"network: {about['network']}")
        say(f"data: {found.describe()}")
    stages = []

    def report(stage: Stage) -> None:
        if not stages and expect is not None:
            _check_expected(expect, stage, found.name)
        stages.append(stage)

    with progress("compressing") as update, _guesses_refused(anyway):
        if as_is:
            compressed = quantise_on(found, model, settings, update, report, clusters, loss)
        else:
            try:
                compressed = compress_on(found, model, settings, update, report, loss)
            except TrainingError as error:
                raise _saved(error, output, dataset, config, loss) from error
    summary = describe(compressed, output, stages) | about
    summary["notes"] = notes_of(stages, clusters=as_is and clusters is not None)
    if json:
        print_json(summary)
    else:
        show(summary)


def compress_on(
    found,
    model,
    settings: CompressConfig,
    update: Callable[..., None],
    report: Callable[[Stage], None],
    loss: str | None = None,
):
    """Compress on a data set, showing progress: the compressed network."""
    from pleach.compression import compress

    return compress(
        model, shaped(found, found.train_images), found.train_labels, settings, loss=loss,
        validation=(shaped(found, found.test_images), found.test_labels), report=report,
        progress=lambda stage, epoch, epochs, loss: update(
            stage, epoch, epochs, f"loss {loss:.4f}"
        ),
    )  # fmt: skip


def quantise_on(
    found,
    model,
    settings: CompressConfig,
    update: Callable[..., None],
    report: Callable[[Stage], None],
    clusters: int | None,
    loss: str | None = None,
):
    """The network as it is in fixed point, its weights shared where `clusters` says so."""
    import time
    import warnings

    from pleach.compression import ShareConfig, Stage, finish, share_
    from pleach.compression.pipeline import FIXED_HELP
    from pleach.compression.train import predict
    from pleach.errors import GuessWarning, PleachWarning
    from pleach.metrics import BINARY, doubt, for_targets, in_doubt
    from pleach.models import graph_of, layers_of
    from pleach.reference import Reference

    outputs = graph_of(model, found.shape).outputs
    metric = for_targets(found.test_labels, outputs, loss)
    tests = shaped(found, found.test_images)
    start = time.monotonic()

    def done(name: str, kept: int, outputs) -> None:
        nonlocal start
        seconds = time.monotonic() - start
        error = metric(outputs, found.test_labels)
        report(Stage(name, error, kept / size, seconds, metric.name))
        start = time.monotonic()

    layers = layers_of(model, found.shape)
    if clusters is None:
        _check_shared(layers)
    modules = [layer.module for layer in layers]
    tensors = [t for module in modules for t in (module.weight, module.bias) if t is not None]
    size = sum(tensor.numel() for tensor in tensors)
    dense = predict(model, tests).numpy()
    done("dense", sum(int(t.count_nonzero()) for t in tensors), dense)
    known = None  # logits of floats are not to be like them
    if metric is not BINARY:
        known = in_doubt(dense, found.test_labels)
        if said := doubt(dense, found.test_labels):
            warnings.warn(said, GuessWarning, stacklevel=1)
    if clusters is not None:
        update("sharing")
        share_(model, ShareConfig(clusters=clusters, initialisation="optimal"), seed=settings.seed)
    update("fixed point")
    own = settings.output_scale == "auto" and (found.targets or 0) > 1
    compressed = finish(
        model,
        shaped(found, found.train_images),
        accumulator_bits=settings.accumulator_bits,
        codebook_bits=settings.codebook_bits,
        order=settings.order,
        output_scale="each" if own else settings.output_scale,
    )
    real = compressed.dequantise(Reference(compressed).run(compressed.quantise(tests)))
    done("fixed point", sum(layer.kept for layer in compressed.layers), real)
    if known is not None and (said := doubt(real, found.test_labels, known)):
        more = "share more values (--clusters); " if clusters is not None else ""
        warnings.warn(f"after compression {said}: {more}{FIXED_HELP}", PleachWarning, stacklevel=1)
    return compressed


def _check_shared(layers) -> None:
    import torch

    from pleach.errors import ConfigError

    for layer in layers:
        parts = [t.flatten() for t in (layer.module.weight, layer.module.bias) if t is not None]
        distinct = int(torch.cat(parts).unique().count_nonzero())
        if distinct > CODEBOOK_MAX:
            raise ConfigError(
                f"layer {layer.name!r} has {distinct:,} distinct weights and biases, a file holds "
                f"{CODEBOOK_MAX}: --clusters {CODEBOOK_MAX} shares them, without --as-is they are "
                "retrained too"
            )


def describe(compressed, output: Path, stages) -> dict:
    """Write the bitstream and describe it."""
    from dataclasses import asdict
    from hashlib import sha256

    from pleach.files import write_whole
    from pleach.format import dumps, parse
    from pleach.report import layer_reports

    data = dumps(compressed)
    write_whole(output, data)
    reports = layer_reports(*parse(data))
    return {
        "file": str(output),
        "sha256": sha256(data).hexdigest(),
        "file_bytes": len(data),
        "dense_bytes": compressed.dense_bytes,
        "ratio": compressed.dense_bytes / len(data),
        "stages": [asdict(stage) for stage in stages],
        "layers": [asdict(report) for report in reports],
    }


def notes_of(stages, *, clusters: bool = False) -> list[str]:
    """What each stage that costs much took, and the options that help.

    Args:
        clusters: the last stage has shared the weights, too.
    """
    more = "more --clusters (regressions often want 64 or more)"
    helps = {
        "pruned": "a higher --density keeps more weights, more --epochs retrain them longer",
        "shared": f"{more} or more --epochs",
        "fixed point": f"{more}, or " * clusters + "look at the range of inputs and outputs: scale "
        "features of very different size alike, or give --output-scale each",
    }
    notes = []
    for before, after in pairwise(stages):
        if before.error is None or after.error is None:
            continue
        classes = after.metric == "error_pct"
        most = before.error + DEAR if classes else before.error * (1 + DEAR_SHARE)
        if after.error > before.error and after.error >= most:
            help = next(text for name, text in helps.items() if after.name.startswith(name))
            notes.append(
                f"{after.name} takes the error from {_named(before.metric, before.error)} to "
                f"{error_text(after.metric, after.error)}; what helps: {help}"
            )
    return notes


def show(summary: dict) -> None:
    """What `describe` found, on the terminal."""
    from pleach.metrics import BY_NAME
    from pleach.report import LayerReport

    name = summary["stages"][0]["metric"]
    figure = "error" if name == "error_pct" else name
    print_table(
        f"Stages and their test {'error' if name == 'error_pct' else BY_NAME[name].title}",
        ("stage", figure, "kept", "time"),
        [
            (
                stage["name"],
                error_text(stage["metric"], stage["error"]),
                f"{100 * stage['kept']:.2f} %",
                f"{stage['seconds']:.0f} s",
            )
            for stage in summary["stages"]
        ],
    )
    for note in summary.get("notes", ()):
        say(("note:", "yellow"), f" {note}")
    layer_table([LayerReport(**layer) for layer in summary["layers"]])
    say(
        (summary["file"], "bold"),
        f": {summary['file_bytes']:,} bytes for {summary['dense_bytes']:,} of float32, ",
        (f"{summary['ratio']:.1f}×", "bold"),
    )
    say(f"sha256 {summary['sha256']}")


def error_text(metric: str, error: float | None) -> str:
    """A stage's figure with its unit."""
    from pleach.metrics import BY_NAME

    return "" if error is None else BY_NAME[metric].text(error)


def _named(metric: str, error: float) -> str:
    """A figure with its name, where the unit does not say enough."""
    return f"{metric} " * (metric != "error_pct") + error_text(metric, error)


def _over(
    settings: CompressConfig,
    *,
    seed: int | None,
    density: float | None,
    epochs: int | None,
    clusters: int | None,
    as_is: bool,
    output_scale: str | None,
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


def _shortened(train, factor: float):
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
    if not abs(stage.error - expect) <= close:
        raise ConfigError(
            f"the dense network's error on the test inputs of {data} is "
            f"{_named(stage.metric, stage.error)}, {_named(stage.metric, expect)} was "
            f"expected: {_ASK}"
        )


@contextmanager
def _guesses_refused(anyway: bool) -> Iterator[None]:
    """A network that is hardly better than a guess is an error, or with `anyway` a warning."""
    import warnings

    from pleach.errors import ConfigError, GuessWarning, PleachWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", PleachWarning)
        warnings.simplefilter("always" if anyway else "error", GuessWarning)
        warnings.showwarning = lambda message, *_: say(
            ("pleach: warning:", "yellow"), f" {message}", stderr=True
        )
        try:
            yield
        except GuessWarning as warning:
            raise ConfigError(
                f"{str(warning).partition(':')[0]}: {_ASK}; --anyway takes it all the same"
            ) from warning


def _saved(
    error: TrainingError, output: Path, dataset: str, config: Path | None, loss: str | None
) -> TrainingError:
    """The error, with what was trained in a file of its own and how to go on from there."""
    from pleach.errors import TrainingError
    from pleach.models import save_checkpoint

    why = f"after the stage {error.stages[-1].name}: {error.__cause__ or error}"
    finite = error.network is not None and all(
        bool(tensor.isfinite().all()) for tensor in error.network.state_dict().values()
    )
    if not finite:
        return TrainingError(f"{why}; there is nothing to keep of the network")
    name, number = f"{output.stem}.unfinished", 1
    while (path := output.with_name(f"{name}.safetensors")).exists():
        number += 1
        name = f"{output.stem}.unfinished-{number}"
    save_checkpoint(error.network, path)
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

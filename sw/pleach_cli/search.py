"""`pleach search`: the smallest file, or the fewest cycles, over settings of the compression."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pleach_cli.common import (
    ActivationOption,
    GivenDataset,
    Json,
    Loss,
    Mean,
    Network,
    Order,
    Scale,
    Scheduler,
    Std,
    Weights,
    labels_as,
    line_of,
    network_for,
    output_option,
    say_made,
    shaped,
)
from pleach_cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from pleach.compression import CompressConfig
    from pleach.data import Dataset
    from pleach.metrics import Metric
    from pleach.search import Found, Problem, SearchConfig, Trial

#: points, or share of a regression's error, that the default bound leaves above the dense network
MORE, MORE_SHARE = 0.5, 0.1
#: trials that the table shows
SHOWN = 10
#: of a default study: epochs of retraining in a trial
EPOCHS = 12


Recipe = Annotated[
    Path | None,
    typer.Option(
        help="Recipe, TOML, with a table [search]; see docs/how-to/search.md.",
        exists=True,
        dir_okay=False,
    ),
]
Minimise = Annotated[
    str | None,
    typer.Option(
        metavar="bytes|cycles|error",
        help="What is to be the least, in place of what the recipe says; bytes by default.",
    ),
]
MostError = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="The largest error that is allowed on the inputs held out, in place of the recipe's.",
    ),
]
Trials = Annotated[int | None, typer.Option(min=1, help="Networks to compress.")]
Together = Annotated[
    int | None, typer.Option(min=1, help="Trials under way at once; the study depends on it.")
]
Epochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Epochs of retraining around the pruning, in each trial.",
        show_default=f"the recipe's, without one {EPOCHS}",
    ),
]
HoldOut = Annotated[
    int | None,
    typer.Option(
        min=1, help="Training inputs that are held out to choose by.", show_default="one in six"
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        help="Folder in which the study is kept, and from which it goes on.",
        show_default="OUTPUT with the suffix .search",
        file_okay=False,
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        min=1, help="Processes of this machine that do the work.", show_default="one a processor"
    ),
]


def command(
    network: Network,
    output: Annotated[Path, output_option("Bitstream to write, the best one.")] = Path(
        "model.pleach"
    ),
    dataset: GivenDataset = None,
    weights: Weights = None,
    order: Order = None,
    activation: ActivationOption = None,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    config: Recipe = None,
    minimise: Minimise = None,
    most_error: MostError = None,
    most_bytes: Annotated[
        float | None, typer.Option(min=1, help="The most bytes that the file may have.")
    ] = None,
    most_cycles: Annotated[
        float | None, typer.Option(min=1, help="The most cycles that an input may take.")
    ] = None,
    trials: Trials = None,
    together: Together = None,
    epochs: Epochs = None,
    hold_out: HoldOut = None,
    folder: Folder = None,
    scheduler: Scheduler = None,
    processes: Processes = None,
    loss: Loss = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of what is tried.")] = None,
    json: Json = False,
) -> None:
    """Look for the smallest file at a given error, or for the fewest cycles, over densities,
    clusters and methods.

    Each trial compresses the network with other settings. Training inputs that are held out
    choose; the test inputs measure the best one, once. What is tried stands in the recipe's table
    [search], or is density, clusters and what is pruned first.

    An interrupted study goes on with the same command. The same settings give the same study on
    one machine or many.

    Example: [bold]pleach search digits.safetensors --dataset digits --trials 20[/bold]
    """
    from pleach.search import search
    from pleach.settings import toml_table

    table = toml_table(config) if config else {}
    recipe = _recipe_beside(output, config)
    model, whole = network_for(network, weights, order, activation, dataset, scale, mean, std)
    given = {
        "minimise": minimise, "most_error": most_error, "most_bytes": most_bytes,
        "most_cycles": most_cycles, "trials": trials, "together": together,
        "hold_out": hold_out, "seed": seed,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    task = _Task.of(model, whole, table, given, epochs, loss)
    folder = folder or output.with_suffix(".search")
    about = {"network": line_of(model, task.found), "data": task.found.as_json()}
    if not json:
        say_made(network, weights, model)
        say(f"network: {about['network']}")
        for line in task.lines:
            say(line)
        say(f"kept in {folder}")
    with progress("searching") as update:
        study = search(
            task.problem(loss), task.base, task.wanted, task.axes, folder,
            scheduler=scheduler, processes=processes,
            progress=lambda done, of, how: update("searching", done, of, how),
            started=lambda jobs: say(f"trials are done by {jobs.place}", stderr=True),
        )  # fmt: skip
    test = _write(study, output, recipe, task.whole, loss)
    if json:
        file = None if study.best is None else str(output)
        print_json(about | task.as_json(study) | {"test_error": test, "file": file})
    else:
        _show(study, task, output, recipe, test)
    if study.best is None:
        raise typer.Exit(1)


def _recipe_beside(output: Path, config: Path | None) -> Path:
    """Where the best recipe goes; what cannot be written, or is read, is refused."""
    from pleach.files import check_apart, check_writable

    recipe = output.with_suffix(".toml")
    check_writable(recipe)
    check_apart([recipe], [config] if config else [])
    return recipe


def _write(
    study: Found, output: Path, recipe: Path, whole: Dataset, loss: str | None
) -> float | None:
    """The best trial's file and recipe; its figure on the test inputs, the first look at them."""
    from pleach.files import write_whole
    from pleach.format import load
    from pleach.report import Answers

    if study.best is None or study.best.file is None:
        return None
    write_whole(output, study.best.file.read_bytes())
    write_whole(recipe, study.best.file.with_suffix(".toml").read_text("utf-8"))
    small = load(output)
    return Answers.of(small, small.quantise(whole.test_images), whole, loss).error


@dataclass(frozen=True)
class _Task:
    """What is searched.

    Args:
        model: the network.
        whole, found: the data, and without the inputs held out.
        held: those, with their labels.
        wanted: the search; it has a bound.
        base: the settings that stay.
        axes: those that are tried.
        metric, dense: the figure, and what the network has of it on the inputs held out.
    """

    model: nn.Module
    whole: Dataset
    found: Dataset
    held: tuple[np.ndarray, np.ndarray]
    wanted: SearchConfig
    base: CompressConfig
    axes: dict[str, Any]
    metric: Metric
    dense: float

    @classmethod
    def of(
        cls,
        model: nn.Module,
        whole: Dataset,
        table: dict[str, Any],
        given: dict[str, Any],
        epochs: int | None,
        loss: str | None,
    ) -> _Task:
        """Out of a recipe and what the options say over it.

        Raises:
            ConfigError: whatever is wrong with either; the network hardly better than a guess.
        """
        from pleach.compression import CompressConfig
        from pleach.models import graph_of
        from pleach.search import SearchConfig, space
        from pleach.settings import from_dict

        outputs = graph_of(model, whole.shape).outputs
        whole = labels_as(whole, outputs, loss)
        table = dict(table)
        wanted = replace(from_dict(SearchConfig(), table.pop("search", {}), "search."), **given)
        base = CompressConfig.from_dict(table)
        if epochs is not None or not table:
            base = base.with_(epochs=EPOCHS if epochs is None else epochs)
        count = wanted.hold_out or max(1, len(whole.train_images) // 6)
        found, held = whole.held_out(count)
        metric, dense = _dense(model, whole, held, outputs, loss)
        wanted = replace(wanted, hold_out=count)
        if wanted.minimise != "error" and wanted.most_error is None:
            most = dense + MORE if metric.name == "error_pct" else dense * (1 + MORE_SHARE)
            wanted = replace(wanted, most_error=most)
        axes = space(wanted, base, classes=metric.name == "error_pct")
        _check(model, found, base, axes)
        return cls(model, whole, found, held, wanted, base, axes, metric, dense)

    def problem(self, loss: str | None) -> Problem:
        """What all trials have."""
        from pleach.search import Problem

        inputs, labels = self.found.training
        return Problem(
            self.model,
            shaped(self.found, inputs),
            labels,
            (shaped(self.found, self.held[0]), self.held[1]),
            loss,
            self.wanted.pes if self.wanted.counts else None,
            self.wanted.inputs,
        )

    @property
    def lines(self) -> list[str]:
        """What was taken."""
        wanted, count = self.wanted, self.wanted.hold_out
        bounds = [
            f"{name} at most {self.metric.text(most) if name == 'error' else f'{most:,.6g}'}"
            for name, most in wanted.bounds.items()
        ]
        engine = f"; cycles on {wanted.pes} PEs" * wanted.counts
        epochs = sum(stage.train.epochs for stage in (*self.base.prune, self.base.share))
        return [
            f"data: {self.found.describe()}",
            f"looked for: {', '.join([f'the least {wanted.minimise}', *bounds])}{engine}",
            f"dense: {self.metric.said(self.dense)} on the inputs held out; where they were in its "
            f"training they look better than they are: pleach train --hold-out {count}",
            *(f"tried: {name}: {axis}" for name, axis in self.axes.items()),
            f"{wanted.trials} trials, {wanted.together} together, each of {epochs} epochs",
        ]

    def as_json(self, study: Found) -> dict[str, Any]:
        """For a program."""
        return {
            "minimise": self.wanted.minimise,
            "bounds": self.wanted.bounds,
            "metric": self.metric.name,
            "held_out": self.wanted.hold_out,
            "dense_error": self.dense,
            "trials": [trial.as_json() for trial in study.trials],
            "again": study.again,
            "best": None if study.best is None else study.best.as_json(),
        }


def _dense(
    model: nn.Module, whole: Dataset, held: tuple, outputs: int, loss: str | None
) -> tuple[Metric, float]:
    """The figure for the labels, and what the network has of it on the inputs held out.

    Raises:
        ConfigError: it is hardly better than a guess.
    """
    from pleach.compression.train import predict
    from pleach.errors import ConfigError
    from pleach.metrics import as_targets, doubt, for_targets

    inputs, labels = held
    real = predict(model, shaped(whole, inputs)).numpy()
    targets = as_targets(labels, len(labels), outputs)
    if said := doubt(real, targets):
        raise ConfigError(f"{said}, of those held out: is it trained, on these data?")
    metric = for_targets(targets, outputs, loss)
    return metric, metric(real, targets)


def _check(model: nn.Module, found: Dataset, base: CompressConfig, axes: dict[str, Any]) -> None:
    """Refuse what the network has not, a layer's name above all, before the first epoch."""
    from pleach.compression.pipeline import check_steps
    from pleach.compression.steps import default_steps
    from pleach.compression.taken import taken
    from pleach.errors import ConfigError, PleachError
    from pleach.search import applied

    student = taken(model, found.shape)
    classes = found.classes is not None
    check_steps(student, found.shape, default_steps(base), classes)
    for name, axis in axes.items():
        for value in axis.samples:
            try:
                steps = default_steps(applied(base, {name: value}))
            except ConfigError:  # goes with others alone
                continue
            try:
                check_steps(student, found.shape, steps, classes)
            except PleachError as error:
                raise ConfigError(f"search.settings: {name} = {value!r}: {error}") from error


def _show(study: Found, task: _Task, output: Path, recipe: Path, test: float | None) -> None:
    wanted, metric = task.wanted, task.metric
    done = [trial for trial in study.trials if trial.figures]
    key = wanted.minimise

    def rank(trial: Trial) -> tuple:
        over = sum(max(0.0, trial.figures[n] - most) for n, most in wanted.bounds.items())
        return not trial.allowed, 0.0 if trial.allowed else over, trial.figures[key], trial.number

    done.sort(key=rank)
    counts = ("cycles",) * wanted.counts
    names = list(study.trials[0].settings) if study.trials else []
    print_table(
        f"The best {min(SHOWN, len(done))} of {len(study.trials)} trials",
        ("trial", metric.name, "bytes", *counts, "", *names),
        [
            (
                str(trial.number),
                metric.text(trial.figures["error"]),
                f"{trial.figures['bytes']:,.0f}",
                *(f"{trial.figures[name]:,.0f}" for name in counts),
                "" if trial.allowed else "over",
                *(
                    f"{value:.4g}" if isinstance(value, float) else str(value)
                    for value in trial.settings.values()
                ),
            )
            for trial in done[:SHOWN]
        ],
    )
    refused = [trial for trial in study.trials if trial.refused]
    if refused:
        say(f"{len(refused)} trials were refused, the first, {refused[0].number}: "
            f"{refused[0].refused}")  # fmt: skip
    if study.again:
        say(f"{study.again} of the trials are from an earlier call")
    if study.best is None:
        say(("no trial keeps the bounds", "red"), ": give more trials, or another bound")
        return
    tested = "" if test is None else f"; {metric.said(test)} on the test inputs"
    say(
        (output, "bold"),
        f": trial {study.best.number}, {study.best.figures['bytes']:,.0f} bytes, "
        f"{metric.said(study.best.figures['error'])} on those held out{tested}",
    )
    say(f"its recipe: {recipe}, for pleach compress --config")

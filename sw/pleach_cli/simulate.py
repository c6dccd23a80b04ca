"""`pleach simulate`: the RTL engine on real inputs, against the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach_cli.common import (
    DatasetOption,
    EngineFile,
    EngineSet,
    Json,
    Loss,
    ModelFile,
    Pes,
    dataset_for,
    engine_for,
    labels_as,
    output_option,
)
from pleach_cli.output import print_json, print_table, progress, say


def command(
    file: ModelFile,
    pes: Pes = None,
    images: Annotated[int, typer.Option(min=1, help="Test images to run.")] = 10,
    dataset: DatasetOption = None,
    loss: Loss = None,
    simulator: Annotated[str, typer.Option(help="verilator or icarus.")] = "verilator",
    wave: Annotated[Path | None, output_option("Waveform to write.", "--wave")] = None,
    engine: EngineFile = None,
    set_: EngineSet = None,
    json: Json = False,
) -> None:
    """Load a bitstream into the RTL engine under cocotb, run images, compare every output bit.

    The very file is loaded. Capacities of the engine that are not given grow to hold it. Ends with
    exit code 1 where an output differs.

    Example: [bold]pleach simulate model.pleach --pes 16 --images 20[/bold]
    """
    from pleach.errors import ConfigError
    from pleach.format import load
    from pleach_sim.runner import require
    from pleach_sim.simulate import simulate

    if simulator not in ("verilator", "icarus"):
        raise ConfigError(f"--simulator is verilator or icarus, not {simulator!r}")
    require(simulator)
    model = load(file)
    model.check_runs()
    chosen = engine_for(pes, engine, set_, model, file)
    found = labels_as(dataset_for(dataset, model, labels=False), model.outputs, loss)
    if not json:
        say(f"network: {model.line}")
        say(f"data: {found.describe()}")
        say(chosen.describe())
    inputs = model.quantise(found.test_images[:images])
    with progress(f"building and running {chosen.config.pes} PEs in {simulator}"):
        result = simulate(file, inputs, chosen.config, simulator=simulator, wave=wave)
    answers = answers_of(model, inputs, found, loss)
    if json:
        about = {"network": model.line, "data": found.as_json()}
        print_json(about | as_json(result) | chosen.as_json() | answers)
    else:
        show(result, answers)
    if not result.bit_exact:
        raise typer.Exit(1)


def as_json(result) -> dict:
    """A `SimulationResult` as the command prints it."""
    from dataclasses import asdict

    return {
        "bit_exact": result.bit_exact,
        "outputs_compared": result.outputs_compared,
        "images": result.images,
        "latency_cycles": result.latency_cycles,
        "load_cycles": result.load_cycles,
        "simulator": result.simulator,
        "layers": [asdict(layer) for layer in result.layers],
        "engine": asdict(result.config),
        "mismatch": None if result.mismatch is None else asdict(result.mismatch),
        "wave": None if result.wave is None else str(result.wave),
    }


def answers_of(model, inputs, found, loss: str | None = None) -> dict:
    """What the reference answers: classes where the labels are classes, else real numbers; and the
    error where there are labels."""
    from pleach.metrics import for_targets
    from pleach.reference import Reference

    real = model.dequantise(Reference(model).run(inputs))
    if found.classes is None:
        answers = {"outputs": real.tolist()}
    elif model.outputs == 1:
        answers = {"predictions": (real[:, 0] > 0).astype(int).tolist()}
    else:
        answers = {"predictions": real.argmax(axis=1).tolist()}
    if found.test_labels is not None:
        metric = for_targets(found.test_labels, model.outputs, loss)
        answers |= {
            "metric": metric.name,
            metric.name: metric(real, found.test_labels[: len(real)]),
        }
    return answers


def show(result, answers: dict) -> None:
    """A `SimulationResult` and `answers_of` on the terminal."""
    from statistics import mean

    from pleach.metrics import BY_NAME

    print_table(
        f"{result.config.pes} PEs, means of {result.images} images",
        ("layer", "cycles", "MACs", "utilisation"),
        [
            (
                layer.name,
                f"{layer.compute_cycles:.0f}",
                f"{layer.macs:.0f}",
                f"{100 * layer.utilisation:.0f} %",
            )
            for layer in result.layers
        ],
    )
    say(
        f"{mean(result.latency_cycles):.0f} cycles an image, {min(result.latency_cycles)} to "
        f"{max(result.latency_cycles)}: layers overlap; {result.load_cycles:,} to load the file"
    )
    if result.bit_exact:
        if "predictions" in answers:
            few = answers["predictions"][:20]
            more = ", …" * (len(few) < result.images)
            say(f"classes: {', '.join(map(str, few))}{more}")
        else:
            few = [f"{value:.4g}" for value in answers["outputs"][0][:20]]
            more = ", …" * (len(few) < len(answers["outputs"][0]))
            say(f"outputs of the first input: {', '.join(few)}{more}")
        if "metric" in answers:
            name = answers["metric"]
            figure = BY_NAME[name].said(answers[name]).removesuffix(" error")
            say(f"error of these images: {figure}")
        equal = f"{result.outputs_compared} output words compared with the reference, all equal"
        say((equal, "green"), f" ({result.simulator})")
    else:
        say(("differs from the reference:", "red"), f" {result.mismatch}")
    if result.wave is not None:
        say(f"waveform: {result.wave}")

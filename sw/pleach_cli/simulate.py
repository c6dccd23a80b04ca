"""`pleach simulate`: the RTL engine on real inputs, against the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach_cli.common import (
    DatasetOption,
    EngineFile,
    EngineSet,
    FirstInput,
    Json,
    Loss,
    ModelFile,
    Pes,
    dataset_for,
    engine_for,
    inputs_line,
    labels_as,
    output_option,
    some_inputs,
)
from pleach_cli.output import print_json, progress, say
from pleach_cli.views import show_simulation


def command(
    file: ModelFile,
    pes: Pes = None,
    images: Annotated[
        int, typer.Option("--inputs", "--images", min=1, help="Test inputs to run.")
    ] = 10,
    first: FirstInput = None,
    dataset: DatasetOption = None,
    loss: Loss = None,
    simulator: Annotated[str, typer.Option(help="verilator or icarus.")] = "verilator",
    wave: Annotated[
        Path | None, output_option("Waveform to write, and NAME.gtkw for GTKWave.", "--wave")
    ] = None,
    engine: EngineFile = None,
    set_: EngineSet = None,
    json: Json = False,
) -> None:
    """Load a bitstream into the RTL engine under cocotb, run inputs, compare every output bit.

    The very file is loaded. Capacities of the engine that are not given grow to hold it. Ends with
    exit code 1 where an output differs.

    Example: [bold]pleach simulate model.pleach --pes 16 --images 20[/bold]
    """
    from pleach.errors import ConfigError
    from pleach.format import load
    from pleach.report import Answers
    from pleach_sim.runner import require
    from pleach_sim.simulate import simulate

    if simulator not in ("verilator", "icarus"):
        raise ConfigError(f"--simulator is verilator or icarus, not {simulator!r}")
    require(simulator)
    model = load(file)
    chosen = engine_for(pes, engine, set_, model, file)
    found = labels_as(dataset_for(dataset, model, labels=False), model.outputs, loss)
    numbers = some_inputs(found, images, first)
    if not json:
        say(f"network: {model.line}")
        say(f"data: {found.describe()}")
        say(inputs_line(numbers))
        say(chosen.describe())
    inputs = model.quantise(found.test_images[numbers])
    with progress(f"{len(inputs)} inputs on {chosen.config.pes} PEs in {simulator}") as update:
        result = simulate(
            file, inputs, chosen.config, simulator=simulator, wave=wave, progress=update
        )
    answers = Answers.of(model, inputs, found, loss, numbers)
    if json:
        about = {"network": model.line, "data": found.as_json(), "numbers": numbers.tolist()}
        print_json(about | result.as_json() | chosen.as_json() | answers.as_json())
    else:
        show_simulation(result, answers)
    if not result.bit_exact:
        raise typer.Exit(1)

"""`pleach run`: a network on a board's engine, against the reference."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from pleach.host.frames import DEFAULT_BAUD
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
    inputs_line,
    labels_as,
    some_inputs,
)
from pleach_cli.output import print_json, progress, say
from pleach_cli.views import show_answers


def command(
    file: ModelFile,
    port: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Serial port of the board, such as /dev/ttyUSB0 or COM3.",
            show_default="the only board's that is plugged in",
        ),
    ] = None,
    baud: Annotated[
        int,
        typer.Option(
            min=1, help="Bits a second of the serial port, as the bitstream was built for."
        ),
    ] = (DEFAULT_BAUD),
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Run on a simulated board, through the same link.")
    ] = False,
    held: Annotated[
        bool,
        typer.Option("--held", help="Load nothing: the engine has FILE from its flash."),
    ] = False,
    images: Annotated[
        int | None,
        typer.Option(
            "--inputs", "--images", min=1, help="Test inputs to run.", show_default="all of them"
        ),
    ] = None,
    dataset: DatasetOption = None,
    loss: Loss = None,
    pes: Pes = None,
    engine: EngineFile = None,
    set_: EngineSet = None,
    json: Json = False,
) -> None:
    """Load a bitstream into a board's engine, run inputs, compare every output with the reference.

    The engine is the board's; --pes, --set and --engine are those of a simulated one. Ends with
    exit code 1 where an output differs.

    Example: [bold]pleach run model.pleach --port /dev/ttyUSB0[/bold]
    """
    import numpy as np

    from pleach.compile.plan import planned
    from pleach.errors import ConfigError
    from pleach.format import load
    from pleach.host import Engine
    from pleach.reference import Reference
    from pleach.report import Answers

    if simulated and port is not None:
        raise ConfigError("--simulated has no --port")
    if not simulated and (pes or engine or set_):
        raise ConfigError("--pes, --set and --engine are of --simulated: a board has its engine")
    model = load(file)
    model.check_runs()
    found = labels_as(dataset_for(dataset, model, labels=False), model.outputs, loss)
    numbers = some_inputs(found, images or len(found.test_images))
    if not json:
        say(f"network: {model.line}")
        say(f"data: {found.describe()}")
        say(inputs_line(numbers))
    inputs = model.quantise(found.test_images[numbers])
    wanted = Reference(model).run(inputs)
    plan = None
    if simulated:
        chosen = engine_for(pes, engine, set_, model, file)
        with progress(f"building {chosen.config.pes} PEs and a serial link in verilator"):
            opened = Engine.simulated(chosen.config)
        plan = planned(model, chosen.config, inputs)
    else:
        opened = Engine.open(port, baud=baud)
    with opened:
        board = opened.status()
        if not json:
            at = "simulated" if simulated else f"{opened.link.port} at {baud} baud"
            say(
                f"board: {at}, {board.pes} PEs, {board.entries} weights each, gateware version "
                f"{board.version}"
            )
        start = time.monotonic()
        opened.adopt(file) if held else opened.load(file, plan=plan)
        loading = time.monotonic() - start
        with progress(f"running {len(inputs)} images"):
            start = time.monotonic()
            outputs = opened.run(inputs)
            running = time.monotonic() - start
        cycles = opened.status().latency_cycles
    different = np.flatnonzero((outputs != wanted).any(axis=1))
    answers = Answers.of(model, inputs, found, loss, numbers)
    if json:
        print_json(
            {
                "network": model.line,
                "data": found.as_json(),
                "numbers": numbers.tolist(),
                "inputs": len(inputs),
                "bit_exact": not len(different),
                "load_seconds": None if held else loading,
                "run_seconds": running,
                "last_latency_cycles": cycles,
            }
            | answers.as_json()
        )
    else:
        before = "held already" if held else f"{loading:.2f} s to load"
        say(
            f"{before}, {len(inputs) / running:,.0f} images a second over the link; "
            f"{cycles:,} cycles in the engine for the last one"
        )
        if len(different):
            say(("differs from the reference:", "red"), f" image {different[0]} and others")
        else:
            show_answers(answers, len(inputs))
            say((f"{wanted.size} outputs compared with the reference, all equal", "green"))
    if len(different):
        raise typer.Exit(1)

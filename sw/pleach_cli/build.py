"""`pleach build`: a bitstream for a board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pleach_cli.common import (
    DatasetOption,
    EngineFile,
    EngineSet,
    Json,
    Pes,
    dataset_for,
    engine_for,
)
from pleach_cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    from pleach.model import CompressedModel
    from pleach_hw.build.bitstream import Built
    from pleach_hw.build.sizing import Trial


def command(
    board: Annotated[
        str,
        typer.Option(
            help="ulx3s-12f, -25f, -45f or -85f, orangecrab-25f or -85f, icebreaker, tang-nano-9k "
            "or -20k, or a FILE.py with BOARDS of your own.",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A .pleach file that the engine is to be the fastest for.",
            exists=True,
            dir_okay=False,
            metavar="[MODEL]",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder to write to.",
            show_default="build/BOARD",
            file_okay=False,
        ),
    ] = None,
    pes: Pes = None,
    engine: EngineFile = None,
    set_: EngineSet = None,
    baud: Annotated[
        int | None,
        typer.Option(help="Bits a second of the serial port.", show_default="the board's, 1000000"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the placer.")] = 1,
    flash: Annotated[
        bool,
        typer.Option("--flash", help="The engine loads MODEL by itself, from the board's flash."),
    ] = False,
    dataset: DatasetOption = None,
    json: Json = False,
) -> None:
    """Make a bitstream for a board: the engine with its serial link, its clock and its pins.

    With a model and no parameters the engine is the fastest for it, by the cycle model, of those
    that the chip holds by estimate. Parameters that are given stay, and capacities grow to hold the
    model. Without a model it is the board's own engine. A model that does not fit is refused at
    once, with what would fit.

    With --flash the folder has an image of the model for the board's flash too, and the engine
    loads itself from there when it is switched on.

    Takes minutes; what the tools make is cached by content. The PLL is set to the clock that
    routing reached. Hand the bitstream to the board with pleach program.

    Example: [bold]pleach build --board ulx3s-85f net.pleach[/bold]
    """
    from dataclasses import asdict, fields
    from hashlib import sha256

    from pleach.engine.plan import base_engine
    from pleach.errors import ConfigError
    from pleach.format import load
    from pleach_hw.boards import board as find
    from pleach_hw.build.bitstream import IMAGE, build, image_for
    from pleach_hw.build.sizing import Speed, fastest_engine

    if flash and model is None:
        raise ConfigError("--flash is of a model: give its file too")
    chip = find(board)
    folder = output or Path("build") / chip.name
    network, trial, image = None, None, None
    lines, about = [], {}
    if model is not None:
        if flash:
            image_for(chip, image := model.read_bytes())
        network = load(model)
        trial = _trial(network, dataset)
        about = {"model": {"sha256": sha256(model.read_bytes()).hexdigest(), "is": network.line}}
        lines += [f"network: {network.line}", f"data: {trial.source}"]
    if network is not None and trial is not None and not (pes or engine or set_):
        with progress(f"sizing an engine for {chip.name}") as update:
            found = fastest_engine(
                network,
                trial.taken,
                chip,
                progress=lambda done, of: update("measuring engines", done, of),
            )
        config = found.engine
        lines.append(found.describe())
    else:
        # The board's own engine has no map memory.
        own = None if network is not None and base_engine(network).maps else chip.engine
        chosen = engine_for(pes, engine, set_, network, model, own)
        config = chosen.config
        lines.append(chosen.describe())
    for line in [] if json else lines:
        say(line)
    with progress("building") as update:
        built = build(
            config, chip, folder,
            baud=baud, seed=seed, network=image, about=about, progress=update,
        )  # fmt: skip
    speed = None
    if network is not None and trial is not None and model is not None:
        speed = Speed.of(
            network, trial, model.read_bytes(), config, clock_mhz=built.pll_mhz, baud=built.baud
        )
    if json:
        none = dict.fromkeys(field.name for field in fields(Speed))
        print_json(built.as_json() | about | (asdict(speed) if speed else none))
        return
    _show(built)
    if speed:
        say(speed.describe())
    say((built.bitstream, "bold"), f": {built.bitstream.stat().st_size:,} bytes")
    if flash and chip.flash is not None:
        say(f"{folder / IMAGE}: the model, for byte {chip.flash.address:#x} of the board's flash")
    say(f"for the board: pleach program {folder}")


def _trial(network: CompressedModel, dataset: str | None) -> Trial:
    """Ten inputs of the data set, or where none is known or there random ones."""
    from pleach.errors import DataError
    from pleach_hw.build.sizing import Trial

    try:
        found = dataset_for(dataset, network, labels=False)
    except DataError:
        if dataset is not None:
            raise
        return Trial.random(network)
    inputs = network.quantise(found.test_images[found.few(10)])
    return Trial.of(network, inputs, f"{len(inputs)} images of {found.describe()}")


def _show(built: Built) -> None:
    """Utilisation and clocks."""
    from pleach_hw.build.estimate import RESOURCES

    found, chip = built.result, built.result.board
    print_table(
        f"{built.engine.pes} PEs on {chip.name} ({chip.device})",
        ("", "used", "of", "share"),
        [
            (RESOURCES[name], f"{getattr(found, name):,}", f"{getattr(chip, name):,}", f"{s:.0%}")
            for name, s in found.shares().items()
        ],
    )
    print_table(
        "Clocks",
        ("", "MHz", "routed for"),
        [
            ("engine, from the PLL", f"{built.pll_mhz:.2f}", f"{found.fmax_mhz:.2f}"),
            ("link, from the oscillator", f"{built.clock_mhz:.2f}", f"{built.link_mhz:.2f}"),
        ],
    )

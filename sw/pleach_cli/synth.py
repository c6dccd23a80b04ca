"""`pleach synth`: what the engine takes of a board's chip, and its clock."""

from __future__ import annotations

from typing import Annotated

import typer

from pleach_cli.common import EngineFile, EngineSet, Json, ModelOption, Pes, engine_for
from pleach_cli.output import print_json, print_table, progress, say


def command(
    board: Annotated[
        str,
        typer.Option(
            help="The board whose chip it is for: ulx3s-25f, -45f or -85f, icebreaker, or a "
            "FILE.py with BOARDS of your own."
        ),
    ] = "ulx3s-85f",
    pes: Pes = None,
    seed: Annotated[int, typer.Option(help="Seed of the placer.")] = 1,
    engine: EngineFile = None,
    set_: EngineSet = None,
    model: ModelOption = None,
    json: Json = False,
) -> None:
    """Synthesise, place and route the engine for a board's chip with the open tools.

    Takes minutes; the result is cached by content. Parameters that are not given are those of the
    board's own engine, which fits it; with --model its capacities grow to hold that network.

    Example: [bold]pleach synth --board ulx3s-85f --pes 16[/bold]
    """
    from pleach.format import load
    from pleach_hw.boards import board as find
    from pleach_hw.build.estimate import RESOURCES
    from pleach_hw.build.synth import synth

    chip = find(board)
    network = load(model) if model else None
    chosen = engine_for(pes, engine, set_, network, model, chip.engine)
    config = chosen.config
    about = {"network": network.line} if network else {}
    if not json:
        if network:
            say(f"network: {network.line}")
        say(chosen.describe())
    with progress("synthesising") as update:
        result = synth(config, chip, seed=seed, progress=update)
    if json:
        print_json(result.as_json() | about | chosen.as_json())
        return
    device = f"{chip.device}-{chip.speed}".rstrip("-")
    rows = [
        (RESOURCES[name], f"{getattr(result, name):,}", f"{getattr(chip, name):,}", f"{share:.0%}")
        for name, share in result.shares().items()
    ]
    print_table(f"{config.pes} PEs on {device} ({chip.name})", ("", "used", "of", "share"), rows)
    say(f"{result.ff:,} flip-flops; ", (f"{result.fmax_mhz:.1f} MHz", "bold"), " after routing")

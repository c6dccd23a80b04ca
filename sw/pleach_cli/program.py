"""`pleach program`: a bitstream to its board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach_cli.output import say


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            help="What pleach build wrote.", exists=True, file_okay=False, metavar="FOLDER"
        ),
    ],
) -> None:
    """Hand a bitstream to the board, with the board's own tool.

    That is openFPGALoader, or what the board has instead: dfu-util for OrangeCrab, iceprog for
    iCEBreaker. The board is connected by USB; it forgets the bitstream when it is switched off,
    where its tool can load it without writing the flash. What was built with --flash is written
    into the flash: the network and the bitstream.

    Example: [bold]pleach program build/ulx3s-85f[/bold]
    """
    from pleach_hw.build.program import program

    program(folder, say=lambda line: say(line))
    say("done")

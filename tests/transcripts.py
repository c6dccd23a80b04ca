"""What a page says that a command prints."""

from __future__ import annotations

import re
from pathlib import Path


def transcript(page: Path, start: str) -> tuple[str, str]:
    """The one command of a page's console blocks that begins so and has an output, and that.

    Lines that are left out are ``…`` in the page.
    """
    found = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, printed = part.partition("\n")
            if command.startswith(start) and printed:
                found.append((command, printed))
    ((command, printed),) = found
    return command, printed

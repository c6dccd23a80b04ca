"""A bitstream for a board: the engine in the board's top, routed, its PLL set, packed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pleach
from pleach.engine import EngineConfig
from pleach.engine.flash import flash_image
from pleach.engine.protocol import GATEWARE_VERSION
from pleach.errors import CapacityError, ConfigError, ToolError
from pleach.files import write_whole
from pleach_hw.boards import Board, boards
from pleach_hw.build import tools
from pleach_hw.build.cache import cached
from pleach_hw.build.estimate import check_fits
from pleach_hw.build.flows import Flow, flow_of
from pleach_hw.build.synth import SynthResult, synth
from pleach_hw.build.top import BoardTop

#: MHz that the PLL has while the engine is placed: no engine reaches it, so that the tools do what
#: they can
AIM_MHZ = {"ecp5": 200.0, "iCE40": 100.0, "gowin": 200.0}

#: and MHz that a flash's clock has at most, should one
FLASH_MHZ = 12.5

MANIFEST, IMAGE = "manifest.json", "flash.bin"


@dataclass(frozen=True, kw_only=True)
class Built:
    """A bitstream and what is in it.

    Args:
        result: what the board's top takes, and the engine's clock as routed.
        engine: its parameters.
        pll_mhz: the clock that it has: the fastest of the PLL's steps that routing reached.
        clock_mhz, link_mhz: the oscillator's, which the link has, and what routing reached for it.
        baud: of the serial port.
        folder: where `bitstream` is, with reports, Verilog, constraints and the manifest.
    """

    result: SynthResult
    engine: EngineConfig
    pll_mhz: float
    clock_mhz: float
    link_mhz: float
    baud: int
    folder: Path
    bitstream: Path

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        found = self.result
        return {
            "board": found.board.name,
            "pes": self.engine.pes,
            "routed": found.routed,
            "fmax_mhz": found.fmax_mhz,
            "pll_mhz": self.pll_mhz,
            "lut4": found.lut4,
            "ff": found.ff,
            "bram": found.bram,
            "spram": found.spram,
            "mult": found.mult,
            "baud": self.baud,
            "bitstream": str(self.bitstream),
            "bitstream_bytes": self.bitstream.stat().st_size,
        }


def build(
    config: EngineConfig,
    chip: Board,
    folder: str | Path,
    *,
    baud: int | None = None,
    seed: int = 1,
    network: bytes | None = None,
    about: dict[str, Any] | None = None,
    progress: Callable[[str], None] = lambda step: None,
    timeout: float = 7200,
) -> Built:
    """Make a bitstream with an engine for a board. What the tools make is cached by content.

    Args:
        config: of the engine.
        chip: the board.
        folder: to write to, made where there is none: the bitstream, ``top.v``, the constraints,
            the tools' logs and reports, and ``manifest.json``, which comes last and names the rest.
        baud: of the serial port; by default the board's.
        seed: of the placer.
        network: a ``.pleach`` file that the engine is to load by itself from the board's flash: its
            image is then in the folder too, as ``flash.bin``.
        about: what the manifest says besides, such as the model that the engine is for.
        progress: called with a line before each step.
        timeout: seconds that each tool may take.

    Raises:
        ConfigError: the board has no serial port, or its oscillator is too slow for the baud rate;
            or it has no flash that is known.
        CapacityError: the chip does not hold the engine, or the flash not the network.
        FormatError: the network is no file for a flash.
        ToolError: a tool failed, or the clock that routing reached is below all of the PLL's.
    """
    image = None if network is None else image_for(chip, network)
    check_fits(config, chip)
    flow = flow_of(chip.family)
    clock_mhz = chip.pins().default_clk_frequency / 1e6
    baud = chip.baud if baud is None else baud
    if not 0 < 4 * baud <= clock_mhz * 1e6:
        raise ConfigError(
            f"the serial port of {chip.name} has {clock_mhz:g} MHz and does up to "
            f"{clock_mhz / 4:g} million baud, not {baud:,}"
        )
    aimed = flow.pll(chip, clock_mhz, AIM_MHZ[chip.family])
    divider = None if image is None else math.ceil(AIM_MHZ[chip.family] / (2 * FLASH_MHZ))
    top = BoardTop(config, chip, aimed, baud, flash=divider)
    result = synth(top, chip, top=True, seed=seed, progress=progress, timeout=timeout)
    placed = result.log.parent
    engine_mhz, link_mhz = _routed(result, flow, clock_mhz)
    result = replace(result, fmax_mhz=engine_mhz)
    try:
        pll = flow.pll(chip, clock_mhz, engine_mhz)
    except ValueError:
        raise ToolError(
            f"routing reached {engine_mhz:.1f} MHz, and the PLL of {chip.device} makes no "
            f"such clock of {clock_mhz:g} MHz: another seed may do"
        ) from None

    def pack(work: Path) -> None:
        progress(f"setting the PLL to {pll.mhz:g} MHz and packing")
        for name in (flow.routed[1], "nextpnr.log"):
            shutil.copyfile(placed / name, work / name)
        flow.set_pll(chip, work, pll)
        tool, arguments = flow.pack(chip)
        tools.run_tool(tool, arguments, work, "pack.log", timeout)
        for name in (flow.routed[1], "nextpnr.log"):
            (work / name).unlink()

    key = [str(placed), repr(pll), *map(repr, flow.pack(chip)), tools.version(flow.pack(chip)[0])]
    packed = cached("packed", key, pack)

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        flow.bitstream: packed / flow.bitstream,
        "top.v": result.netlist_folder / "top.v",
        "yosys.log": result.netlist_folder / "yosys.log",
        f"pins{flow.pins[1]}": placed / f"pins{flow.pins[1]}",
        "nextpnr.log": result.log,
        "timing.json": placed / "report.json",
    }
    (folder / MANIFEST).unlink(missing_ok=True)  # of files that are no more
    for name, source in found.items():
        write_whole(folder / name, source.read_bytes())
    (folder / IMAGE).unlink(missing_ok=True)
    if chip.flash is not None and image is not None:
        write_whole(folder / IMAGE, image)
        about = {"flash": {"address": chip.flash.address, "image": IMAGE}} | (about or {})
    built = Built(
        result=result,
        engine=config,
        pll_mhz=pll.mhz,
        clock_mhz=clock_mhz,
        link_mhz=link_mhz,
        baud=baud,
        folder=folder,
        bitstream=folder / flow.bitstream,
    )
    packages = [tools.YOSYS, flow.nextpnr]
    manifest = {
        "pleach": pleach.__version__,
        "gateware": GATEWARE_VERSION,
        **built.as_json(),
        "bitstream": flow.bitstream,
        "device": chip.device,
        "seed": seed,
        "engine": asdict(config),
        "pll": pll.dividers,
        "tools": {
            "amaranth": importlib.metadata.version("amaranth"),
            **dict(tools.version(tool).split(" ") for tool in packages),
        },
        "options": flow.options(chip),
        **(about or {}),
        "sha256": {name: _digest(folder / name) for name in [*found, *([IMAGE] if image else [])]},
    }
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return built


def image_for(chip: Board, network: bytes) -> bytes:
    """What stands in the board's flash for a ``.pleach`` file.

    Raises:
        ConfigError: Pleach knows of no flash of the board.
        CapacityError: it is too small.
        FormatError: no file for a flash.
    """
    if chip.flash is None:
        known = ", ".join(each.name for each in boards() if each.flash)
        raise ConfigError(
            f"Pleach knows no flash of {chip.name} that an engine could load itself from; it does "
            f"of {known}"
        )
    image = flash_image(network)
    if chip.flash.address + len(image) > chip.flash.size:
        raise CapacityError(
            f"the flash of {chip.name} has {chip.flash.size - chip.flash.address:,} bytes for a "
            f"network, and this one is {len(image):,}"
        )
    return image


def _routed(result: SynthResult, flow: Flow, clock_mhz: float) -> tuple[float, float]:
    """What routing reached for the PLL's clock, and for the link's, which has to do."""
    cell, port = flow.pll_clock
    file = result.netlist_folder / "netlist.json"
    top = tools.read_json(file, "Yosys", result.netlist_folder / "yosys.log")["modules"]["top"]
    (pll,) = (each for each in top["cells"].values() if each["type"] == cell)
    (net,) = pll["connections"][port]
    names = {name for name, each in top["netnames"].items() if each["bits"] == [net]}
    by_engine = {
        name.removeprefix("$glbnet$") in names: mhz for name, mhz in result.clocks_mhz.items()
    }
    if by_engine.keys() != {True, False} or len(result.clocks_mhz) != 2:
        raise ToolError(
            f"nextpnr reports the clocks {', '.join(result.clocks_mhz)}, and there are to be that "
            f"of the engine and that of the link; its log is {result.log}"
        )
    if by_engine[False] < clock_mhz:
        raise ToolError(
            f"the link was routed for {by_engine[False]:.1f} MHz, and the oscillator has "
            f"{clock_mhz:g}: another seed may do"
        )
    return by_engine[True], by_engine[False]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

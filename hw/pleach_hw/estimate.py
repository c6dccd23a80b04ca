"""What an engine takes of an ECP5, estimated without synthesis.

Block RAMs and multipliers are counted from the memories' shapes. LUT4 are fitted to the netlists of
`bench/timing.py`, within a twentieth of them at 1, 4, 16 and 64 PEs; placing adds about a sixth.
`pleach synth` has the real figures.
"""

from __future__ import annotations

from amaranth.hdl import Shape

from pleach.reference import EngineConfig
from pleach_hw.arithmetic import LUT_CODEBOOK
from pleach_hw.pointer_read import block_layout
from pleach_hw.primitives.ecp5 import block_rams
from pleach_hw.weight_read import entry_layout

#: the chips that it is for
FAMILY = "ecp5"


def estimate(config: EngineConfig) -> dict[str, int]:
    """LUT4, block RAMs and multipliers of an engine, as `Board.holds` takes them."""
    blocks = config.columns // config.block
    pointers = block_rams(blocks, Shape.cast(block_layout(config)).width)
    entries = block_rams(config.entries, Shape.cast(entry_layout(config)).width)
    large = config.codebook > LUT_CODEBOOK
    codebook = block_rams(config.codebook, 16) if large else 0
    # LUT RAM comes in 16 words of 4 bits, 4 LUT4 each; deeper ones want multiplexers too.
    accumulators = -(-config.accumulators // 16) * config.accumulator_bits * 1.25
    pe = 290 + accumulators + config.queue_depth * 3 + (0 if large else config.codebook * 2.3)
    return {
        "lut4": round(BASE_LUT4 + config.lanes * 250 + config.pes * pe),
        "bram": config.pes * (pointers + entries + codebook),
        "mult": config.pes,
    }


# Host link, loader with its decoder, control, LNZD.
BASE_LUT4 = 5700

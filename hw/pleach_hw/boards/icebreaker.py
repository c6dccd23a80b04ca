"""iCEBreaker: an iCE40UP5K."""

from __future__ import annotations

from amaranth_boards.icebreaker import ICEBreakerPlatform

from pleach.engine import EngineConfig
from pleach_hw.boards.definition import Board, Flash

BOARDS = (
    Board(
        name="icebreaker",
        platform=ICEBreakerPlatform,
        lut4=5280,
        bram=30,
        mult=8,
        spram=4,
        # The link takes what a second PE would; this one has a single-port RAM for its entries.
        engine=EngineConfig(
            pes=1,
            lanes=1,
            layers=3,
            columns=128,
            entries=512,
            codebook=32,
            accumulators=64,
            accumulator_bits=32,
            vectors=1,
            outputs=16,
            queue_depth=8,
            ram_latency=1,
            serial_loader=True,
        ),
        program=("iceprog",),
        flash=Flash(
            size=1 << 24,
            address=0x2_0000,  # a bitstream has 104,090 bytes
            bitstream=("iceprog",),
            image=("iceprog", "-o", "128k"),
        ),
    ),
)

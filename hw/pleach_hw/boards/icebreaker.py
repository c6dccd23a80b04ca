"""iCEBreaker: an iCE40UP5K."""

from __future__ import annotations

from pleach.engine import EngineConfig
from pleach_hw.boards.definition import Board, constraints

BOARDS = (
    Board(
        name="icebreaker",
        family="iCE40",
        device="iCE40UP5K",
        speed="",
        nextpnr=("--up5k", "--package", "sg48"),
        constraints=constraints("icebreaker.pcf"),
        lut4=5280,
        bram=30,
        mult=8,
        spram=4,
        # Each PE has a single-port RAM for its entries, and a pointer of 16 bits.
        engine=EngineConfig(
            pes=4,
            lanes=1,
            layers=3,
            columns=256,
            entries=1024,
            codebook=128,
            accumulators=32,
            accumulator_bits=32,
            vectors=1,
            outputs=32,
            queue_depth=8,
            ram_latency=1,
            serial_loader=True,
        ),
    ),
)

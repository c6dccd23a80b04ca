"""Tang Nano 20K and 9K: a Gowin GW2AR-18 and a GW1NR-9."""

from __future__ import annotations

from amaranth.build import Attrs, Clock, Pins, Resource
from amaranth.vendor import GowinPlatform
from amaranth_boards.resources import LEDResources, SPIFlashResources, UARTResource
from amaranth_boards.tang_nano_9k import TangNano9kPlatform

from pleach.engine import EngineConfig
from pleach_hw.boards.definition import Board, Flash

_3V3 = Attrs(IO_TYPE="LVCMOS33")


class TangNano20kPlatform(GowinPlatform):
    """Without its buttons, of which sources differ whether they are high or low while pressed."""

    part = "GW2AR-LV18QN88C8/I7"
    family = "GW2AR-18C"
    default_clk = "clk27"
    resources = [  # noqa: RUF012, a list is what Amaranth's are
        Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), _3V3),
        *LEDResources(pins="15 16 17 18 19 20", invert=True, attrs=_3V3),
        UARTResource(0, rx="70", tx="69", attrs=Attrs(PULL_MODE="UP", IO_TYPE="LVCMOS33")),
        *SPIFlashResources(0, cs_n="60", clk="59", copi="61", cipo="62", attrs=_3V3),
    ]
    connectors = []  # noqa: RUF012


BOARDS = (
    Board(
        name="tang-nano-9k",
        platform=TangNano9kPlatform,
        lut4=8640,
        bram=26,
        mult=20,
        engine=EngineConfig(
            pes=1,
            lanes=1,
            layers=3,
            columns=1024,
            entries=4096,
            codebook=64,
            accumulators=64,
            vectors=2,
            outputs=16,
            serial_loader=True,
        ),
        program=("openFPGALoader", "-b", "tangnano9k"),
        # The bitstream is in the chip's own flash.
        flash=Flash(
            size=1 << 22,
            address=0,
            bitstream=("openFPGALoader", "-b", "tangnano9k", "-f"),
            image=("openFPGALoader", "-b", "tangnano9k", "--external-flash", "-f"),
        ),
    ),
    Board(
        name="tang-nano-20k",
        platform=TangNano20kPlatform,
        lut4=20_736,
        bram=46,
        mult=48,
        # A flip-flop without a table in front takes a table's place: the large loader would be as
        # large as two PEs.
        engine=EngineConfig(
            pes=4, lanes=4, codebook=64, accumulators=128, vectors=4, outputs=16, serial_loader=True
        ),
        program=("openFPGALoader", "-b", "tangnano20k"),
        flash=Flash(
            size=1 << 23,
            address=0x20_0000,  # a bitstream has 0.6 MB
            bitstream=("openFPGALoader", "-b", "tangnano20k", "-f"),
            image=("openFPGALoader", "-b", "tangnano20k", "-f", "-o", f"{0x20_0000}"),
        ),
    ),
)

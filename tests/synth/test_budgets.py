"""What each block of an engine of 16 PEs takes stays within a budget: nothing grows unnoticed."""

import pytest

from pleach.engine import EngineConfig
from pleach_hw.boards import board
from pleach_hw.build.synth import synth
from pleach_hw.compute.control import ControlUnit
from pleach_hw.compute.drain import DrainUnit
from pleach_hw.compute.lnzd import NonZeroDetector
from pleach_hw.compute.pe import ProcessingElement
from pleach_hw.compute.requantize import RequantizeUnit
from pleach_hw.compute.router import VectorRouter
from pleach_hw.io.host_link import HostLink
from pleach_hw.io.packing import InputUnpack, OutputPack
from pleach_hw.io.status import StatusBank
from pleach_hw.load.entry_decoder import EntryDecoder
from pleach_hw.load.loader import Loader
from pleach_hw.load.scatter import Scatter

pytestmark = pytest.mark.timeout(600)

ENGINE = EngineConfig(pes=16)
#: LUT4 and block RAMs of the netlist: what they are, and a tenth.
BLOCKS = {
    "processing element": (ProcessingElement(EngineConfig(pes=1, accumulators=64)), 540, 5),
    "host link": (HostLink(ENGINE), 370, 0),
    "status": (StatusBank(ENGINE), 115, 0),
    "loader": (Loader(ENGINE), 4720, 0),
    "entry decoder": (EntryDecoder(1 << 20), 2850, 0),
    "scatter": (Scatter(ENGINE), 290, 0),
    "input": (InputUnpack(lanes=4), 200, 0),
    "non-zero detection": (NonZeroDetector(), 250, 0),
    "router": (VectorRouter(ENGINE), 160, 0),
    "control": (ControlUnit(ENGINE), 440, 0),
    "drain": (DrainUnit(ENGINE), 1830, 0),
    "requantisation": (RequantizeUnit(accumulator_bits=32), 260, 0),
    "output": (OutputPack(lanes=4), 95, 0),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_block_is_within_its_budget(name):
    block, lut4, bram = BLOCKS[name]
    result = synth(block, route=False)
    assert result.lut4 <= lut4 and result.bram <= bram, (result.lut4, result.bram)


def test_a_small_chip_holds_its_engine():
    """Placing fills the logic cells: netlists of more than this did not get through."""
    chip = board("icebreaker")
    result = synth(chip.engine, chip, route=False)
    # The link takes a thousand logic cells; from nine in ten taken on placing fails.
    assert (result.bram, result.spram, result.mult) == (12, 1, 1)
    assert result.lut4 <= 3100 and result.ff <= 2400, (result.lut4, result.ff)

"""An engine in a system, as the tests have it: built once."""

from pleach.engine import EngineConfig
from tests.golden import make

DIGITS = make.HERE / "digits.pleach"
#: holds that network of digits, and little more
ENGINE = EngineConfig(
    pes=1,
    lanes=1,
    layers=2,
    columns=128,
    entries=512,
    codebook=32,
    accumulators=64,
    queue_depth=8,
    outputs=16,
    vectors=1,
    ram_latency=1,
    serial_loader=True,
)
FLASH_AT = 0x20_0000

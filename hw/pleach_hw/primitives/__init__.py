"""The only places that memories and multipliers come from: vendor-neutral, of known latency."""

from pleach_hw.primitives.delay import delay, hop
from pleach_hw.primitives.memory import BlockRam, LutRam
from pleach_hw.primitives.multiplier import Multiplier

__all__ = ["BlockRam", "LutRam", "Multiplier", "delay", "hop"]

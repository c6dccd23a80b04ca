"""An engine among others: on a bus, with registers, loading itself from flash."""

from pleach_hw.system.arbiter import PacketArbiter
from pleach_hw.system.bank import RegisterBank
from pleach_hw.system.flash import FlashBoot
from pleach_hw.system.selfloading import SelfLoadingEngine
from pleach_hw.system.system import System

__all__ = ["FlashBoot", "PacketArbiter", "RegisterBank", "SelfLoadingEngine", "System"]

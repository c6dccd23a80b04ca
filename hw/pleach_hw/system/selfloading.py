"""An engine that loads itself."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from pleach.engine import EngineConfig
from pleach_hw.engine import Engine
from pleach_hw.system.flash import PINS, FlashBoot
from pleach_hw.system.streams import AXIS, host, through


class SelfLoadingEngine(wiring.Component):
    """An `Engine` that after reset LOADs what the board's flash holds: its ports, and the flash's.

    A packet of a host waits until that has ended; `boot` of the status words says how.

    Args:
        config: of the engine.
        address, divider: of `FlashBoot`.
    """

    def __init__(self, config: EngineConfig, *, address: int, divider: int = 2):
        self._engine = Engine(config, inside=True)
        self._flash = FlashBoot(address=address, divider=divider)
        super().__init__(AXIS | PINS)

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine, m.submodules.flash = engine, flash = self._engine, self._flash
        host(m, self, flash.i, flash.o)
        through(m, flash.packets, flash.answers, engine)
        m.d.comb += engine.boot.eq(flash.boot)
        for pin, member in PINS.items():
            inner, outer = getattr(flash, pin), getattr(self, pin)
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        return m

"""An engine that loads itself."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from pleach.engine import EngineConfig
from pleach_hw.buses import StatusBus
from pleach_hw.engine import Engine
from pleach_hw.system.flash import PINS, FlashBoot
from pleach_hw.system.streams import AXIS, host, same, through


class SelfLoadingEngine(wiring.Component):
    """An `Engine` that after reset LOADs what the board's flash holds: its ports, and the flash's.

    A packet of a host waits until that has ended; `boot` of the status words says how.

    Args:
        config, inside: of the engine.
        address, divider: of `FlashBoot`.

    Ports, of one that is inside:
        booted: strobe, it has ended.
        status, status_ready: of the engine.
    """

    def __init__(
        self, config: EngineConfig, *, address: int, divider: int = 2, inside: bool = False
    ):
        self._engine = Engine(config, inside=True)
        self._flash = FlashBoot(address=address, divider=divider)
        self._inside = inside
        around = {"booted": Out(1), "status": In(StatusBus(config)), "status_ready": Out(1)}
        super().__init__(AXIS | PINS | (around if inside else {}))

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine, m.submodules.flash = engine, flash = self._engine, self._flash
        host(m, self, flash.i, flash.o)
        through(m, flash.packets, flash.answers, engine)
        same(m, self, flash, PINS)
        m.d.comb += engine.boot.eq(flash.boot)
        if self._inside:
            connect(m, flipped(self.status), engine.status)
            m.d.comb += [
                self.booted.eq(flash.booted),
                self.status_ready.eq(engine.status_ready),
            ]
        return m

"""An engine on a bus."""

from __future__ import annotations

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect

from pleach.engine import EngineConfig
from pleach.engine.registers import ADDRESS_BITS
from pleach_hw.engine import Engine
from pleach_hw.system.arbiter import PacketArbiter
from pleach_hw.system.axi_lite import subordinate
from pleach_hw.system.bank import RegisterBank
from pleach_hw.system.flash import PINS
from pleach_hw.system.selfloading import SelfLoadingEngine
from pleach_hw.system.streams import AXIS, host, same, through


class System(wiring.Component):
    """An `Engine` for a bus: AXI4-Stream in and out, its registers on AXI4-Lite, an interrupt.

    Packets may come from `s_axis`, whose answers go to `m_axis`, and from the registers; one after
    the other, whole. docs/registers.md has the registers.

    Args:
        config: of the engine.
        flash: byte of the board's flash where a network is that the engine loads after reset;
            `None` leaves that away, and its pins.
        divider: of `pleach_hw.system.flash.SpiReader`.

    Ports:
        s_axis_*, m_axis_*: as the engine has them.
        s_axil_*: AXI4-Lite, 32 bits.
        irq: interrupt, 1 while there is one.
        cs_n, sck, copi, cipo: the flash's pins.

    Raises:
        ValueError: an address in the flash, or a divider, that cannot be.
    """

    def __init__(self, config: EngineConfig, *, flash: int | None = None, divider: int = 2):
        self._config = config
        self._pins = {} if flash is None else PINS
        if flash is None:
            self._engine = Engine(config, inside=True)
        else:
            self._engine = SelfLoadingEngine(config, address=flash, divider=divider, inside=True)
        self._bus = subordinate("s_axil", ADDRESS_BITS) | {"irq": Out(1)}
        super().__init__(AXIS | self._bus | self._pins)

    def elaborate(self, platform):
        m = Module()
        engine, arbiter = self._engine, PacketArbiter(2)
        m.submodules.bank = bank = RegisterBank(self._config)
        reset = ResetInserter(bank.reset)
        m.submodules.engine, m.submodules.arbiter = reset(engine), reset(arbiter)
        host(m, self, arbiter.i[0], arbiter.o[0])
        connect(m, bank.packets, arbiter.i[1])
        connect(m, bank.answers, arbiter.o[1])
        through(m, arbiter.packets, arbiter.answers, engine)
        same(m, self, bank, self._bus)
        same(m, self, engine, self._pins)
        connect(m, bank.status, engine.status)
        m.d.comb += [
            bank.busy.eq(arbiter.busy),
            bank.answered.word.eq(arbiter.answers.payload),
            bank.answered.taken.eq(arbiter.answers.valid & arbiter.answers.ready),
            bank.status_ready.eq(engine.status_ready),
        ]
        if self._pins:
            m.d.comb += bank.booted.eq(engine.booted)
        return m

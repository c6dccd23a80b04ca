"""The top of an Arty A7: an engine at the board's serial port."""

from amaranth.hdl import ClockDomain, ClockSignal, Module
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.host.frames import DEFAULT_BAUD
from pleach_hw.engine import Engine
from pleach_hw.link import UartLink
from pleach_hw.system.streams import through

CLOCK_HZ = 100_000_000


class ArtyTop(wiring.Component):
    """An engine and its link, with the oscillator's clock.

    Args:
        config: of the engine.
        baud: of the serial port.

    Ports:
        clk100, rst_n, uart_rx, uart_tx: pins.
        led: on after the link noticed a damaged frame.
    """

    def __init__(self, config: EngineConfig, *, baud: int = DEFAULT_BAUD):
        self._config, self._baud = config, baud
        pins = {"clk100": In(1), "rst_n": In(1), "uart_rx": In(1), "uart_tx": Out(1)}
        super().__init__(pins | {"led": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.d.comb += ClockSignal().eq(self.clk100)
        m.submodules.reset = ResetSynchronizer(~self.rst_n)
        m.submodules.engine = engine = Engine(self._config)
        m.submodules.link = link = UartLink(clock_hz=CLOCK_HZ, baud=self._baud)
        through(m, link.o, link.i, engine)
        m.d.comb += [link.rx.eq(self.uart_rx), self.uart_tx.eq(link.tx)]
        with m.If(link.error):
            m.d.sync += self.led.eq(1)
        return m

"""What is in a board's chip: the engine, its clock and its way to the host."""

from __future__ import annotations

from contextlib import suppress

from amaranth.build import ResourceError
from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Elaboratable, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import connect

from pleach.engine import EngineConfig
from pleach.engine.protocol import RESPONSE_WORD, STATUS_WORDS, Boot, Command, EngineError
from pleach.errors import ConfigError
from pleach_hw.boards import Board
from pleach_hw.build.flows import flow_of
from pleach_hw.build.flows.flow import Pll
from pleach_hw.crossing import Crossing
from pleach_hw.engine import Engine
from pleach_hw.layouts import PACKET_WORD, layout
from pleach_hw.link import UartLink
from pleach_hw.system.selfloading import SelfLoadingEngine

#: names of the two clocks, by which they are found again in the tools' reports
ENGINE_CLOCK, LINK_CLOCK = "clk_engine", "clk_link"


class BoardTop(Elaboratable):
    """An engine at the pins of a board.

    The engine has the PLL's clock. The serial link has the oscillator's, so that no logic depends
    on how fast the PLL is, and it can be set once the engine's clock is known. All is in reset
    until the PLL is locked, and while the board's first button is pressed.

    The first LED blinks, about once a second. The second is on while a model is held, the third
    after an answer that has an error, until the next without; and while the flash has an image that
    is damaged or refused, until a model is held.

    Args:
        config: of the engine.
        board: whose ``pins()`` it is elaborated for.
        pll: settings.
        baud: of the serial port.
        flash: cycles of half a period of the flash's clock; the engine then loads itself from the
            flash of the board. `None` leaves the flash alone.
    """

    def __init__(
        self, config: EngineConfig, board: Board, pll: Pll, baud: int, *, flash: int | None = None
    ):
        self._config = config
        self._board = board
        self._pll = pll
        self._baud = baud
        self._flash = flash

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.domains.link = ClockDomain()
        engine_clock, link_clock = Signal(name=ENGINE_CLOCK), Signal(name=LINK_CLOCK)
        locked, reset = Signal(), Signal()
        pin = platform.request(platform.default_clk, dir="-")
        flow_of(self._board.family).clocks(
            m, self._board, pin, self._pll, engine_clock, link_clock, locked
        )
        m.d.comb += [
            ClockSignal("sync").eq(engine_clock),
            ClockSignal("link").eq(link_clock),
            reset.eq(~locked),
        ]
        with suppress(ResourceError):
            m.submodules.button = button = io.Buffer("i", platform.request("button", 0, dir="-"))
            m.d.comb += reset.eq(~locked | button.i)
        for domain in ("sync", "link"):
            m.submodules[f"reset_{domain}"] = ResetSynchronizer(reset, domain=domain)

        clock_hz = platform.default_clk_frequency
        m.submodules.engine = engine = self._engine(m, platform)
        m.submodules.link = link = DomainRenamer("link")(self._link(round(clock_hz)))
        m.submodules.to_engine = to = Crossing(PACKET_WORD, source="link", target="sync")
        m.submodules.from_engine = back = Crossing(PACKET_WORD, source="sync", target="link")
        connect(m, link.o, to.i)
        connect(m, back.o, link.i)
        m.d.comb += [
            engine.s_axis_tdata.eq(to.o.p.data),
            engine.s_axis_tlast.eq(to.o.p.last),
            engine.s_axis_tvalid.eq(to.o.valid),
            to.o.ready.eq(engine.s_axis_tready),
            back.i.p.data.eq(engine.m_axis_tdata),
            back.i.p.last.eq(engine.m_axis_tlast),
            back.i.valid.eq(engine.m_axis_tvalid),
            engine.m_axis_tready.eq(back.i.ready),
        ]
        uart = platform.request("uart", 0, dir=dict.fromkeys(parts(platform, "uart"), "-"))
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [link.rx.eq(rx.i), tx.o.eq(link.tx)]

        beat = Signal(range(int(clock_hz)), reset_less=True)
        m.d.link += beat.eq(beat + 1)
        held, failed = self._answers(m, back)
        if self._flash is not None:
            held, failed = self._booted(m, engine, failed)
        for number, light in enumerate((beat[-1], held, failed)):
            with suppress(ResourceError):
                led = io.Buffer("o", platform.request("led", number, dir="-"))
                m.submodules[f"led_{number}"] = led
                m.d.comb += led.o.eq(light)
        return m

    def _engine(self, m, platform):
        """It, and where it loads itself the flash's pins."""
        if self._flash is None:
            return Engine(self._config)
        assert self._board.flash is not None  # whoever wants it has looked
        engine = SelfLoadingEngine(
            self._config, address=self._board.flash.address, divider=self._flash, inside=True
        )
        flash_pins(m, platform, self._board, engine)
        return engine

    def _booted(self, m, engine, failed):
        """Whether the engine holds a model, from wherever; and an answer or the flash failed."""
        held, damaged = Signal(), Signal()
        status = Signal(layout(STATUS_WORDS[0]))
        m.d.comb += [engine.status.index.eq(0), status.eq(engine.status.word)]
        with m.If(engine.status_ready):
            m.d.sync += [
                held.eq(status.model_held),
                damaged.eq((status.boot == Boot.DAMAGED) | (status.boot == Boot.REFUSED)),
            ]
        return held, failed | damaged & ~held

    def _link(self, clock_hz):
        # Each of its buffers is a block RAM.
        small = {"depth": 512, "ram_latency": 1} if self._board.family == "iCE40" else {}
        return UartLink(clock_hz=clock_hz, baud=self._baud, **small)

    def _answers(self, m, back):
        """What the engine's answers say: whether it holds a model, and whether the last one has an
        error."""
        held, failed, first = Signal(), Signal(), Signal(init=1)
        answer = Signal(layout(RESPONSE_WORD))
        m.d.comb += answer.eq(back.i.p.data)
        with m.If(back.i.valid & back.i.ready):
            m.d.sync += first.eq(back.i.p.last)
            with m.If(first):
                m.d.sync += failed.eq(answer.error != EngineError.OK)
                with m.If(answer.command == Command.LOAD):
                    m.d.sync += held.eq(answer.error == EngineError.OK)
        return held, failed


def parts(platform, name):
    """The signals of a resource, requested or not."""
    return [part.name for part in platform.lookup(name).ios]


def flash_pins(m, platform, board, reader):
    """Join a board's flash with the pins of its reader, `pleach_hw.system.flash.PINS`.

    Raises:
        ConfigError: the flash has no pin for its clock, and the chip no cell.
    """
    names = parts(platform, board.flash.resource)
    pins = platform.request(board.flash.resource, 0, dir=dict.fromkeys(names, "-"))
    drive = {"cs": ~reader.cs_n, "clk": reader.sck, "copi": reader.copi, "wp": 0, "hold": 0}
    for name in names:
        buffer = io.Buffer("o" if name in drive else "i", getattr(pins, name))
        m.submodules[f"flash_{name}"] = buffer
        if name in drive:
            m.d.comb += buffer.o.eq(drive[name])
        else:
            m.d.comb += reader.cipo.eq(buffer.i)
    if "clk" not in names:
        clock = flow_of(board.family).flash_clock
        if clock is None:
            raise ConfigError(
                f"{board.flash.resource} of {board.name} has no clk, and {board.device} no cell "
                "for it"
            )
        clock(m, reader.sck)

"""The files of `constraints`: the pins of each board's top, for a flow of one's own.

python -m pleach_hw.build.pinout constraints
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from amaranth.build import ResourceError
from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Module, Signal
from amaranth.lib import io

from pleach.files import write_whole
from pleach_hw.boards import Board, boards
from pleach_hw.build.flows import flow_of
from pleach_hw.build.synth import elaborated
from pleach_hw.build.top import parts


class EveryPin(Elaboratable):
    """A board's top without an engine: the inputs that it has, folded into its serial output and
    its LEDs, at the board's clock."""

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain(reset_less=True)
        pin = platform.request(platform.default_clk, dir="-")
        m.submodules.clk = clk = io.Buffer("i", pin)
        uart = platform.request("uart", 0, dir=dict.fromkeys(parts(platform, "uart"), "-"))
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += ClockSignal().eq(clk.i)
        seen = Signal()
        m.d.sync += seen.eq(rx.i)
        folded = seen
        with suppress(ResourceError):
            m.submodules.button = button = io.Buffer("i", platform.request("button", 0, dir="-"))
            folded = folded ^ button.i
        m.d.sync += tx.o.eq(folded)
        for number in range(3):
            with suppress(ResourceError):
                led = io.Buffer("o", platform.request("led", number, dir="-"))
                m.submodules[f"led_{number}"] = led
                m.d.comb += led.o.eq(tx.o)
        return m


def pinout(board: Board) -> tuple[str, str]:
    """The name of a board's file of constraints, and its text.

    Raises:
        ConfigError: the board has not the pins that its top requests.
    """
    # What Amaranth says of itself in remarks changes with its version.
    lines = elaborated(EveryPin(), board)[1].splitlines()
    text = "".join(f"{line}\n" for line in lines if line and line[0] not in "#/")
    return f"{board.name}{flow_of(board.family).pins[1]}", text


def main(folder: str) -> None:
    """Write the file of each board."""
    for board in boards():
        name, text = pinout(board)
        write_whole(Path(folder, name), text)


if __name__ == "__main__":
    main(sys.argv[1])

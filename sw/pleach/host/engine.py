"""An engine on a board or in simulation, as somebody with Python has it; and where boards are."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pleach.engine import EngineConfig
from pleach.errors import LinkError
from pleach.extras import need
from pleach.format import load
from pleach.host.driver import Driver
from pleach.host.frames import DEFAULT_BAUD
from pleach.host.serial import SerialLink
from pleach.model import CompressedModel

#: USB vendor and product of the serial adapters on boards: FTDI's, the BL616 of Sipeed's boards,
#: and the numbers of boards that are one themselves
ADAPTERS = {
    (0x0403, 0x6015): "FT231X: ULX3S and others",
    (0x0403, 0x6010): "FT2232H: iCEBreaker, Tang Nano 9K and 20K, Arty A7, and others",
    (0x0403, 0x6014): "FT232H",
    (0x1209, 0x5AF0): "OrangeCrab",
    (0x1209, 0x6146): "iCEBreaker bitsy",
}


@dataclass(frozen=True)
class Port:
    """A serial port that there is.

    Args:
        name: to open it.
        adapter: what it may belong to; empty where it is none of `ADAPTERS`.
        description: in the operating system's words.
    """

    name: str
    adapter: str
    description: str


def ports() -> list[Port]:
    """The serial ports with a USB device behind them, those that may be boards first.

    Raises:
        NotInstalledError: pyserial is not installed.
    """
    need("serial")
    from serial.tools import list_ports

    found = [
        Port(each.device, ADAPTERS.get((each.vid, each.pid), ""), each.description or "")
        for each in list_ports.comports()
        if each.vid is not None
    ]
    return sorted(found, key=lambda port: (not port.adapter, port.name))


class Engine(Driver):
    """An engine: `open` one on a board, or have one `simulated`.

    It connects anew by itself when it is used after a `LinkError`; then the network has to be
    loaded again. As a context manager it is closed at the end.

    Args:
        link: to the engine.
        timeout: seconds for an answer, where a call gives none of its own.
        ended: called when it is closed.
    """

    def __init__(
        self, link: SerialLink, *, timeout: float = 10.0, ended: Callable[[], None] | None = None
    ):
        super().__init__(link, timeout=timeout)
        self.link = link
        self._ended = ended

    @classmethod
    def open(
        cls, port: str | None = None, *, baud: int = DEFAULT_BAUD, timeout: float = 10.0
    ) -> Self:
        """The engine on the board at a serial port; what a network does on it stays loaded.

        Args:
            port: its name; by default that of the only board there is, as `ports` has them.
            baud: bits a second, those of the bitstream.
            timeout: seconds for an answer, where a call gives none of its own.

        Raises:
            NotInstalledError: pyserial is not installed.
            LinkError: there is not one board alone; or the port is in use or cannot be opened, no
                engine answers there, or its gateware is of another version.
        """
        if port is None:
            boards = [each.name for each in ports() if each.adapter]
            if len(boards) != 1:
                which = f"{', '.join(boards)}: name one" if boards else "no board is plugged in"
                raise LinkError(f"which port? {which}; pleach ports lists what there is")
            (port,) = boards
        link = SerialLink(port, baud)
        link.connect()
        return cls(link, timeout=timeout)

    @classmethod
    def simulated(
        cls,
        what: EngineConfig | CompressedModel | str | Path,
        *,
        timeout: float = 600.0,
    ) -> Self:
        """A simulated engine behind a simulated link, which the same driver talks to.

        Its gateware, link included, runs in Verilator, which is built when it is first needed.

        Args:
            what: the engine; or a model or its file, which is not loaded yet: then the default
                engine, with room for it.
            timeout: seconds for an answer, where a call gives none of its own.

        Raises:
            NotInstalledError: what simulates is not installed.
            CapacityError: no engine holds the model.
            ToolError: the simulator could not be built.
        """
        need("serial", "verilator", "amaranth")
        if not isinstance(what, EngineConfig):
            model = what if isinstance(what, CompressedModel) else load(what)
            what = EngineConfig().grown(model)
        # By name: the simulation stands on this package.
        port = importlib.import_module("pleach_sim.board").SimulatedPort(what)
        try:
            link = SerialLink(port.name)
            link.connect()
        except BaseException:
            port.close()
            raise
        return cls(link, timeout=timeout, ended=port.close)

    def close(self) -> None:
        """Close the port. The board keeps its network; a simulation ends."""
        self.link.close()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

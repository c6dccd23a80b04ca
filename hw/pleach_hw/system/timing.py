"""The timing diagram of docs/registers.md, drawn of the gateware as it is simulated.

python -m pleach_hw.system.timing docs/registers.md    # draw it anew
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from amaranth.sim import Simulator

from pleach.engine import EngineConfig
from pleach.engine.protocol import Command, command_word
from pleach.engine.registers import BY_NAME
from pleach_hw.system.bank import RegisterBank

#: between these lines the diagram is in a page
BEGIN, END = "<!-- drawn: registers -->\n", "<!-- end -->"
#: signals of the diagram, below `RegisterBank`: those of a write, of a read, and what comes of them
ROWS = (
    "s_axil_awvalid", "s_axil_awaddr", "s_axil_awready", "s_axil_wvalid", "s_axil_wdata",
    "s_axil_wready", "s_axil_bvalid", "s_axil_bresp", "packets.valid", "packets.payload.last",
    "s_axil_arvalid", "s_axil_araddr", "s_axil_arready", "s_axil_rvalid", "s_axil_rdata",
)  # fmt: skip
CYCLES = 8


def drawn(values: Mapping[str, Sequence[int]], wide: Mapping[str, str]) -> str:
    """Signals cycle by cycle as text.

    Args:
        values: of each signal, one a cycle.
        wide: signals that are numbers, each with the one that says when it counts.

    >>> print(drawn({"go": [0, 1, 1], "word": [0, 5, 10]}, {"word": "go"}))
             0        1        2
    go   _________/‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾
    word              5        a
    """
    margin, width = 1 + max(map(len, values)), 9
    length = len(next(iter(values.values())))
    lines = [" " * margin + "".join(f"{cycle:^{width}}" for cycle in range(length))]
    for name, each in values.items():
        line, last = "", each[0]
        for cycle, value in enumerate(each):
            if name in wide:
                line += f"{f'{value:x}':^{width}}" if values[wide[name]][cycle] else " " * width
            else:
                edge = "" if value == last else "/" if value else "\\"
                line += edge + ("‾" if value else "_") * (width - len(edge))
            last = value
        lines.append(f"{name:{margin}}{line}")
    return "\n".join(line.rstrip() for line in lines)


def registers() -> str:
    """A STATUS request is written to ``packet_last``, and ``state`` read at once."""
    dut, seen = RegisterBank(EngineConfig(pes=1)), {name: [] for name in ROWS}
    signals = []
    for name in ROWS:
        signal = dut
        for part in name.split("."):
            signal = getattr(signal, part)
        signals.append(signal)

    async def record(ctx):
        for _ in range(CYCLES):
            values = await ctx.tick().sample(*signals)
            for row, value in zip(seen.values(), values[2:], strict=True):
                row.append(int(value))

    async def write(ctx):
        await ctx.tick()
        ctx.set(dut.s_axil_awaddr, BY_NAME["packet_last"].offset)
        ctx.set(dut.s_axil_wdata, command_word(Command.STATUS))
        ctx.set(dut.s_axil_wstrb, 0xF)
        for signal in (dut.s_axil_awvalid, dut.s_axil_wvalid, dut.s_axil_bready):
            ctx.set(signal, 1)
        await ctx.tick().until(dut.s_axil_awready & dut.s_axil_wready)
        for signal in (dut.s_axil_awvalid, dut.s_axil_wvalid):
            ctx.set(signal, 0)

    async def read(ctx):
        await ctx.tick().repeat(4)
        ctx.set(dut.s_axil_araddr, BY_NAME["state"].offset)
        for signal in (dut.s_axil_arvalid, dut.s_axil_rready):
            ctx.set(signal, 1)
        await ctx.tick().until(dut.s_axil_arready)
        ctx.set(dut.s_axil_arvalid, 0)

    async def engine(ctx):
        await ctx.tick().until(dut.packets.valid)
        ctx.set(dut.packets.ready, 1)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    for bench in (record, write, read, engine):
        simulator.add_testbench(bench)
    simulator.run()
    wide = {
        f"s_axil_{channel}{part}": f"s_axil_{channel}valid"
        for channel, part in (
            ("aw", "addr"), ("w", "data"), ("b", "resp"), ("ar", "addr"), ("r", "data"),
        )
    }  # fmt: skip
    return drawn(seen, wide)


def filled(page: str) -> str:
    """A page with the diagram drawn anew, where it has one."""
    return re.sub(
        f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}```text\n{registers()}\n```\n{END}", page, flags=re.S
    )


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(filled(path.read_text("utf-8")), "utf-8")

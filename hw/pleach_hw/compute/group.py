"""The processing elements that share a broadcast."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from pleach.engine import EngineConfig
from pleach_hw.buses import (
    BroadcastBus,
    CodebookBus,
    DrainBus,
    LoadBus,
    StandingBus,
    WindowsBus,
    deal,
    hopped,
    share,
)
from pleach_hw.compute.pe import ProcessingElement


class PeGroup(wiring.Component):
    """`row_pes` processing elements that take the same columns; row `r` of a pass belongs to PE
    ``r % row_pes`` of the group.

    Ports are those of a `ProcessingElement`, for all. Of what the PEs say, `issued`, `waiting` and
    `overflow` come a cycle later; `ready` comes in the same one. Where there are several groups,
    what is loaded and what stands still have a register here on their way to the PEs.

    Args:
        number: of the group among the engine's; PEs are named ``pe_<number in the engine>``.
    """

    def __init__(self, config: EngineConfig, *, number: int = 0):
        self._config = config
        self._first = number * config.row_pes
        windows = {"windows": In(WindowsBus())} if config.maps else {}
        super().__init__(
            {
                "broadcast": In(BroadcastBus(config)),
                "standing": In(StandingBus(config)),
                "drain": In(DrainBus(config, pes=config.row_pes)),
                **windows,
                "load": In(LoadBus(config, pes=config.row_pes)),
                "codebook": In(CodebookBus(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        pes = [ProcessingElement(config) for _ in range(config.row_pes)]
        for number, pe in enumerate(pes, self._first):
            m.submodules[f"pe_{number}"] = pe
        load, codebook, standing = (
            flipped(bus) if config.groups == 1 else hopped(m, bus, name=name)
            for name, bus in (
                ("load", self.load),
                ("codebook", self.codebook),
                ("standing", self.standing),
            )
        )
        connect(m, codebook, *(pe.codebook for pe in pes))
        connect(m, standing, *(pe.standing for pe in pes))
        deal(m, load, [pe.load for pe in pes])
        for number, pe in enumerate(pes):
            share(m, self.broadcast, pe.broadcast)
            share(m, self.drain, pe.drain, but={"valid"})
            m.d.comb += [
                pe.drain.valid.eq(self.drain.valid[number]),
                self.drain.drained[number].eq(pe.drain.drained[0]),
            ]
            if config.maps:
                share(m, self.windows, pe.windows)
        m.d.comb += self.broadcast.ready.eq(Cat(pe.broadcast.ready for pe in pes).all())
        m.d.sync += load.overflow.eq(Cat(pe.load.overflow for pe in pes).any())
        if config.maps:
            m.d.sync += self.windows.waiting.eq(Cat(pe.windows.waiting for pe in pes).all())
        else:
            m.d.sync += self.broadcast.issued.eq(Cat(pe.broadcast.issued for pe in pes).all())
        return m

"""The processing elements that share a broadcast."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from pleach.engine import EngineConfig
from pleach_hw.buses import BroadcastBus, CodebookBus, DrainBus, LoadBus, StandingBus, deal, hopped
from pleach_hw.compute.pe import ProcessingElement


class PeGroup(wiring.Component):
    """`row_pes` processing elements that take the same columns; row `r` of a pass belongs to PE
    ``r % row_pes`` of the group.

    Ports are those of a `ProcessingElement`, for all. Of what the PEs say, `issued` and `overflow`
    come a cycle later; `ready` comes in the same one. Where there are several groups, what is
    loaded and what stands still have a register here on their way to the PEs.

    Args:
        number: of the group among the engine's; PEs are named ``pe_<number in the engine>``.
    """

    def __init__(self, config: EngineConfig, *, number: int = 0):
        self._config = config
        self._first = number * config.row_pes
        super().__init__(
            {
                "broadcast": In(BroadcastBus(config)),
                "standing": In(StandingBus(config)),
                "drain": In(DrainBus(config, pes=config.row_pes)),
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
            m.d.comb += [
                pe.broadcast.valid.eq(self.broadcast.valid),
                pe.broadcast.column.eq(self.broadcast.column),
                pe.broadcast.activation.eq(self.broadcast.activation),
                pe.drain.valid.eq(self.drain.valid[number]),
                pe.drain.row.eq(self.drain.row),
                pe.drain.parity.eq(self.drain.parity),
                self.drain.drained[number].eq(pe.drain.drained[0]),
            ]
        m.d.comb += self.broadcast.ready.eq(Cat(pe.broadcast.ready for pe in pes).all())
        m.d.sync += [
            self.broadcast.issued.eq(Cat(pe.broadcast.issued for pe in pes).all()),
            load.overflow.eq(Cat(pe.load.overflow for pe in pes).any()),
        ]
        return m

"""From a column's share to its entries, one after the other."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach_hw.layouts import entry_layout, work_layout
from pleach_hw.primitives import BlockRam


class WeightRead(wiring.Component):
    """Issues the entries of each piece of work, the first in the cycle after it was taken, one a
    cycle and across pieces without a gap.

    `issued` and `activation` belong to the entry that `entry` shows `ram_latency` cycles
    later. `hold` keeps the entry of this cycle back for the next; there is no other back-pressure.
    Reset drops the work; the entries stay. They are written through `write_*`, only while not
    `busy`.

    With a map memory `base` goes with `issued`, too; work with the mark `last` raises `passed` as
    its last entry is issued, and takes a cycle where it has none.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        marked = {"base": Out(range(config.accumulators)), "passed": Out(1)}
        super().__init__(
            {
                "i": In(stream.Signature(work_layout(config))),
                "hold": In(1),
                "busy": Out(1),
                "issued": Out(1),
                "activation": Out(signed(16)),
                "entry": Out(entry_layout(config)),
                **(marked if config.maps else {}),
                "write_en": In(1),
                "write_addr": In(range(config.entries)),
                "write_entry": In(entry_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.entries = entries = BlockRam(
            shape=entry_layout(self._config),
            depth=self._config.entries,
            latency=self._config.ram_latency,
            apart=True,
        )
        work = Signal(work_layout(self._config), reset_less=True)
        start, count = work.pointer.start, work.pointer.count
        last = Signal()  # count == 1, known early
        next_last = self.i.p.pointer.count == 1
        issued = self.busy & ~self.hold
        if self._config.maps:
            next_last |= ~self.i.p.some
            m.d.comb += [self.base.eq(work.base), self.passed.eq(issued & last & work.last)]
            issued &= work.some
        # The entries' writes and reads never meet: they are written before any is read.
        m.d.comb += [
            entries.write_en.eq(self.write_en),
            entries.write_addr.eq(self.write_addr),
            entries.write_data.eq(self.write_entry),
            entries.read_addr.eq(start),
            self.entry.eq(entries.read_data),
            self.issued.eq(issued),
            self.activation.eq(work.activation),
            self.i.ready.eq(~self.busy | (~self.hold & last)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                work.eq(self.i.payload),
                last.eq(next_last),
                self.busy.eq(self.i.valid),
            ]
        with m.Elif(self.issued):
            m.d.sync += [start.eq(start + 1), count.eq(count - 1), last.eq(count == 2)]
        return m

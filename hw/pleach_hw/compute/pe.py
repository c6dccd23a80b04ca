"""The processing element."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.maps import MOST_SLOTS
from pleach.engine.pipeline import accumulator_latency, issue_latency
from pleach_hw.buses import (
    BroadcastBus,
    CodebookBus,
    DrainBus,
    LoadBus,
    StandingBus,
    WindowsBus,
    hopped,
)
from pleach_hw.compute.arithmetic import ArithmeticUnit
from pleach_hw.compute.pointer_read import PointerRead
from pleach_hw.compute.weight_read import WeightRead
from pleach_hw.layouts import block_layout


class ProcessingElement(wiring.Component):
    """Holds the weights of every `pes`-th row and accumulates their products with the activations
    broadcast; one MAC or drain a cycle. The first MAC of a column is issued `issue_latency` cycles
    after its broadcast where nothing is ahead of it; columns without a weight here cost nothing.

    Whatever comes in has a register here, so it may come from far away.

    Reset drops all work held; pointers, entries, codebook and accumulators stay. So drain every row
    after a reset, before the first pass.

    Ports:
        broadcast: a column may come only while `ready`, or in the two cycles after: `ready` falls
            while there are still places for what is on its way. `issued` says that no MAC is left
            to be issued of what was broadcast two cycles ago and before: drains may come, and what
            `standing` gives may change, from this very cycle on. The last sum is written within
            `drain_latency` cycles.
        drain: the sum of a row over every MAC issued before shows `drain_latency` cycles later,
            with `drained_valid`, and the row begins again at 0. Drains go before MACs and are never
            refused.
        load: only when all sums are written: `clear`, then the columns in rising order, each as
            its entries followed by `column_end`; of a block of columns the first is never left out.
            An entry too many is dropped and raises `overflow` until the next `clear`.
        codebook: only when all sums are written.

    With a map memory the accumulators are a ring, in which windows of output pixels follow each
    other: a column names the ring's word that its rows count from, and the last of a window has a
    mark. There is no `issued`; in its place
        windows: `waiting` says that of a window the last MAC is issued, and that it was not taken;
            `take` takes it, which `waiting` heeds three cycles later.
        drain: `drained` comes a cycle later, and is 0 but when `drained_valid`.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        windows = {"windows": In(WindowsBus())} if config.maps else {}
        super().__init__(
            {
                "broadcast": In(BroadcastBus(config)),
                "standing": In(StandingBus(config)),
                "drain": In(DrainBus(config, pes=1)),
                "drained_valid": Out(1),
                **windows,
                "load": In(LoadBus(config, pes=1)),
                "codebook": In(CodebookBus(config)),
            }
        )

    @property
    def drain_latency(self) -> int:
        return 1 + accumulator_latency(self._config) + bool(self._config.maps)

    @property
    def issue_latency(self) -> int:
        return issue_latency(self._config)

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.pointer_read = pointers = PointerRead(config)
        m.submodules.weight_read = weights = WeightRead(config)
        m.submodules.arithmetic = arithmetic = ArithmeticUnit(config)

        # Everything that comes from outside has a register here, so that it may come from far away.
        broadcast = hopped(m, self.broadcast, name="broadcast_here")
        standing = hopped(m, self.standing, name="standing_here")
        drain = hopped(m, self.drain, name="drain_here")
        load = hopped(m, self.load, name="load_here")
        codebook = hopped(m, self.codebook, name="codebook_here")

        wiring.connect(m, pointers.o, weights.i)
        wiring.connect(m, codebook, arithmetic.codebook)
        m.d.sync += broadcast.ready.eq(pointers.ready)
        if config.maps:
            windows = hopped(m, self.windows, name="windows_here")
            passed = Signal(range(MOST_SLOTS + 1))
            m.d.sync += [
                passed.eq(passed + weights.passed - windows.take),
                windows.waiting.eq(passed != 0),
            ]
            m.d.comb += [
                pointers.base.eq(broadcast.base),
                pointers.last.eq(broadcast.last),
                pointers.present.eq(broadcast.present),
                arithmetic.base.eq(weights.base),
            ]
        else:
            m.d.sync += broadcast.issued.eq(pointers.empty & ~pointers.column_valid & ~weights.busy)
            m.d.comb += [
                arithmetic.parity.eq(standing.parity),
                arithmetic.drain_parity.eq(drain.parity),
            ]
        m.d.comb += [
            pointers.column_valid.eq(broadcast.valid),
            pointers.column.eq(broadcast.column),
            pointers.activation.eq(broadcast.activation),
            weights.hold.eq(drain.valid),
            arithmetic.mac.eq(weights.issued),
            arithmetic.activation.eq(weights.activation),
            arithmetic.codebook_base.eq(standing.codebook_base),
            arithmetic.entry.eq(weights.entry),
            arithmetic.drain.eq(drain.valid),
            arithmetic.drain_row.eq(drain.row),
        ]
        drained = Signal.like(arithmetic.drained)
        if config.maps:
            m.d.sync += [
                drained.eq(Mux(arithmetic.drained_valid, arithmetic.drained, 0)),
                self.drained_valid.eq(arithmetic.drained_valid),
            ]
        else:
            m.d.comb += [
                drained.eq(arithmetic.drained),
                self.drained_valid.eq(arithmetic.drained_valid),
            ]
        m.d.comb += drain.drained[0].eq(drained)

        # Loading: `fill` entries are there, `count` of them since `start`, the last column's end.
        # A block is written again with each of its columns, the cycle after it ends.
        fill = Signal(range(config.entries + 1), reset_less=True)
        start = Signal(range(config.entries), reset_less=True)
        count = Signal(range(config.named_rows + 1), reset_less=True)
        full = fill[-1]  # the capacity is a power of two
        append = load.entry_valid & ~full
        block = Signal(block_layout(config), reset_less=True)
        block_number = Signal.like(pointers.write_block, reset_less=True)
        block_bits = (config.block - 1).bit_length()
        within = load.column[:block_bits]
        begins = load.column_end & (within == 0)
        with m.If(begins):
            m.d.sync += block.start.eq(start)
        for column in range(config.block):
            with m.If(begins & (column != 0)):
                m.d.sync += block.counts[column].eq(0)
            with m.Elif(load.column_end & (within == column)):
                m.d.sync += block.counts[column].eq(count)
        m.d.sync += [
            pointers.write_en.eq(load.column_end),
            block_number.eq(load.column >> block_bits),
        ]
        m.d.comb += [
            weights.write_en.eq(append),
            weights.write_addr.eq(fill),
            weights.write_entry.eq(load.entry),
            pointers.write_block.eq(block_number),
            pointers.write_data.eq(block),
        ]
        with m.If(load.clear):
            m.d.sync += [fill.eq(0), start.eq(0), count.eq(0), load.overflow.eq(0)]
        with m.Elif(load.column_end):
            m.d.sync += [start.eq(fill), count.eq(0)]
        with m.Elif(load.entry_valid):
            m.d.sync += [fill.eq(fill + append), count.eq(count + append)]
            m.d.sync += load.overflow.eq(load.overflow | full)
        return m

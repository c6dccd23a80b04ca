"""The processing element."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.pipeline import accumulator_latency, issue_latency
from pleach_hw.compute.arithmetic import ArithmeticUnit
from pleach_hw.compute.pointer_read import PointerRead, block_layout
from pleach_hw.compute.weight_read import WeightRead, entry_layout
from pleach_hw.primitives import hop

#: Inputs of a processing element that say when others hold.
STROBES = (
    "column_valid",
    "drain_valid",
    "load_clear",
    "entry_valid",
    "column_end",
    "codebook_write",
)


class ProcessingElement(wiring.Component):
    """Holds the weights of every `pes`-th row and accumulates their products with the activations
    broadcast; one MAC or drain a cycle. The first MAC of a column is issued `issue_latency` cycles
    after its broadcast where nothing is ahead of it; columns without a weight here cost nothing.

    Broadcast: with `column_valid`, `column` (layer base added) and `activation` are taken; it may
    come only while `ready`, or in the two cycles after: `ready` falls while there are still places
    for what is on its way. Whatever comes in has a register here, so it may come from far away.

    Drain: with `drain_valid`, `drained` shows `drain_latency` cycles later, with `drained_valid`,
    the sum of `drain_row` over every MAC issued before, and the row begins again at 0. Drains go
    before MACs and are never refused. `issued` says that no MAC is left to be issued of what was
    broadcast two cycles ago and before: drains may come, and `parity` and `codebook_base` may
    change, from this very cycle on. The last sum is written within `drain_latency` cycles.

    Loading, only when all sums are written: `load_clear`, then the columns in rising order, each as
    its entries (`entry_valid`) followed by `column_end`; of a block of columns the first is never
    left out. An entry too many is dropped and raises `overflow` until the next `load_clear`. The
    codebook is written through `codebook_*`.

    Reset drops all work held; pointers, entries, codebook and accumulators stay. So drain every row
    after a reset, before the first layer.

    On ECP5, speed grade 6, with 2048 columns, 2048 entries, a codebook of 128 and 32-bit
    accumulators: 5 DP16KD, 1 MULT18X18D, 463 LUT4 for 32 local rows and 599 for 64, 165-173 MHz.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        row = range(config.accumulators)
        column = range(config.columns)
        code_address = range(config.codebook)
        super().__init__(
            {
                "column_valid": In(1),
                "column": In(column),
                "activation": In(signed(16)),
                "ready": Out(1, init=1),
                "parity": In(1),
                "codebook_base": In(code_address),
                "drain_valid": In(1),
                "drain_row": In(row),
                "drain_parity": In(1),
                "drained": Out(signed(config.accumulator_bits)),
                "drained_valid": Out(1),
                "issued": Out(1, init=1),
                "load_clear": In(1),
                "entry_valid": In(1),
                "entry": In(entry_layout(config)),
                "column_end": In(1),
                "column_end_column": In(column),
                "overflow": Out(1),
                "codebook_write": In(1),
                "codebook_addr": In(code_address),
                "codebook_data": In(signed(16)),
            }
        )

    @property
    def drain_latency(self):
        return 1 + accumulator_latency(self._config)

    @property
    def issue_latency(self):
        return issue_latency(self._config)

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.pointer_read = pointers = PointerRead(config)
        m.submodules.weight_read = weights = WeightRead(config)
        m.submodules.arithmetic = arithmetic = ArithmeticUnit(config)

        # Everything that comes from outside has a register here, so that it may come from far away.
        here = {
            name: hop(m, getattr(self, name), name=f"{name}_here", reset_less=name not in STROBES)
            for name, member in self.signature.members.items()
            if member.flow is In
        }

        wiring.connect(m, pointers.o, weights.i)
        m.d.sync += [
            self.ready.eq(pointers.ready),
            self.issued.eq(pointers.empty & ~pointers.column_valid & ~weights.busy),
        ]
        m.d.comb += [
            pointers.column_valid.eq(here["column_valid"]),
            pointers.column.eq(here["column"]),
            pointers.activation.eq(here["activation"]),
            weights.hold.eq(here["drain_valid"]),
            arithmetic.mac.eq(weights.issued),
            arithmetic.activation.eq(weights.activation),
            arithmetic.parity.eq(here["parity"]),
            arithmetic.codebook_base.eq(here["codebook_base"]),
            arithmetic.entry.eq(weights.entry),
            arithmetic.drain.eq(here["drain_valid"]),
            arithmetic.drain_row.eq(here["drain_row"]),
            arithmetic.drain_parity.eq(here["drain_parity"]),
            self.drained.eq(arithmetic.drained),
            self.drained_valid.eq(arithmetic.drained_valid),
        ]

        # Loading: `fill` entries are there, `count` of them since `start`, the last column's end;
        # `pointers_before` are those of the columns of its block that ended before.
        fill = Signal(range(config.entries + 1), reset_less=True)
        start = Signal(range(config.entries), reset_less=True)
        count = Signal(range(config.accumulators + 1), reset_less=True)
        full = fill[-1]  # the capacity is a power of two
        append = here["entry_valid"] & ~full
        block = Signal(block_layout(config))
        pointers_before = Signal(block_layout(config), reset_less=True)
        block_bits = (config.block - 1).bit_length()
        within = here["column_end_column"][:block_bits]
        first = within == 0
        m.d.comb += block.start.eq(Mux(first, start, pointers_before.start))
        for column in range(config.block):
            before = Mux(first, 0, pointers_before.counts[column])
            m.d.comb += block.counts[column].eq(Mux(within == column, count, before))
        m.d.comb += [
            weights.write_en.eq(append),
            weights.write_addr.eq(fill),
            weights.write_entry.eq(here["entry"]),
            pointers.write_en.eq(here["column_end"]),
            pointers.write_block.eq(here["column_end_column"] >> block_bits),
            pointers.write_data.eq(block),
            arithmetic.codebook_write.eq(here["codebook_write"]),
            arithmetic.codebook_addr.eq(here["codebook_addr"]),
            arithmetic.codebook_data.eq(here["codebook_data"]),
        ]
        with m.If(here["load_clear"]):
            m.d.sync += [fill.eq(0), start.eq(0), count.eq(0), self.overflow.eq(0)]
        with m.Elif(here["column_end"]):
            m.d.sync += [start.eq(fill), count.eq(0), pointers_before.eq(block)]
        with m.Elif(here["entry_valid"]):
            m.d.sync += [fill.eq(fill + append), count.eq(count + append)]
            m.d.sync += self.overflow.eq(self.overflow | full)
        return m

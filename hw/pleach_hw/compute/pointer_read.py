"""From broadcast columns to this PE's share of them."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.pipeline import COLUMNS_AHEAD, pointer_latency
from pleach_hw.layouts import block_layout, pointer_layout, work_layout
from pleach_hw.primitives import BlockRam, delay
from pleach_hw.queue import Queue


class PointerRead(wiring.Component):
    """Looks a broadcast column's pointer up and offers the work from a queue, `latency` + 1 cycles
    later; a column a cycle. Columns without an entry take no place in the queue, but for those with
    the mark `last` of an engine with a map memory.

    Back-pressure: `ready` says that `COLUMNS_AHEAD` columns are welcome, whatever is on its way
    already; a column more is an error. Places are counted when a column is accepted, so that what
    is on its way through the memory always finds one. Reset drops everything held; the pointers
    stay. Blocks of pointers are written through `write_*`, only while `empty`.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        marked = {"base": In(range(config.accumulators)), "last": In(1), "present": In(1)}
        super().__init__(
            {
                "column_valid": In(1),
                "column": In(range(config.columns)),
                "activation": In(signed(16)),
                **(marked if config.maps else {}),
                "ready": Out(1),
                "o": Out(stream.Signature(work_layout(config))),
                "empty": Out(1),
                "write_en": In(1),
                "write_block": In(range(config.columns // config.block)),
                "write_data": In(block_layout(config)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a column to its pointer."""
        return pointer_latency(self._config)

    def elaborate(self, platform):
        m = Module()
        config = self._config
        depth, block_bits = config.queue_depth, (config.block - 1).bit_length()
        m.submodules.blocks = blocks = BlockRam(
            shape=block_layout(config),
            depth=config.columns // config.block,
            latency=config.ram_latency,
        )
        m.submodules.queue = queue = Queue(shape=work_layout(config), depth=depth)
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        # The blocks' one write and one read never meet: they are written before a column comes.
        m.d.comb += [
            blocks.write_en.eq(self.write_en),
            blocks.write_addr.eq(self.write_block),
            blocks.write_data.eq(self.write_data),
            blocks.read_addr.eq(self.column >> block_bits),
        ]
        found = delay(m, self.column_valid, self.latency, name="found", reset_less=False)
        activation = delay(m, self.activation, self.latency, name="activation")

        # The column's pointer: its block's start and the counts of the columns before it.
        pointer = Signal(pointer_layout(config), reset_less=True)
        block = blocks.read_data
        if block_bits:
            start, before = (
                Signal.like(block.start, name=n, reset_less=True) for n in ("start", "before")
            )
            within = delay(m, self.column[:block_bits], blocks.latency, name="within")
            m.d.sync += start.eq(block.start)
            with m.Switch(within):
                for column in range(config.block):
                    with m.Case(column):
                        m.d.sync += [
                            before.eq(sum(block.counts[:column])),
                            pointer.count.eq(block.counts[column]),
                        ]
            m.d.comb += pointer.start.eq(start + before)
        else:
            m.d.comb += [pointer.start.eq(block.start), pointer.count.eq(block.counts[0])]

        wanted = pointer.count != 0
        if config.maps:
            last, present = (
                delay(m, value, self.latency, name=name)
                for name, value in (("last", self.last), ("present", self.present))
            )
            m.d.comb += [
                queue.i.payload.base.eq(delay(m, self.base, self.latency, name="base")),
                queue.i.payload.last.eq(last),
                queue.i.payload.some.eq(present & wanted),
            ]
            wanted |= last
        m.d.comb += [
            queue.i.payload.pointer.eq(pointer),
            queue.i.payload.activation.eq(activation),
            queue.i.valid.eq(found & wanted),
        ]
        # Places taken, counted from where the highest bit says that too few are left.
        reserved = Signal(range(depth + COLUMNS_AHEAD), init=COLUMNS_AHEAD - 1)
        # Without a map memory they are given back a cycle late: in the many PEs of a large engine
        # the counts come far too late for a carry chain.
        dropped, left = Signal(), Signal()
        given_back = m.d.comb if config.maps else m.d.sync
        given_back += [dropped.eq(found & ~wanted), left.eq(queue.o.valid & queue.o.ready)]
        m.d.sync += reserved.eq(reserved + self.column_valid - dropped - left)
        m.d.comb += [
            self.ready.eq(~reserved[-1]),
            self.empty.eq(reserved == COLUMNS_AHEAD - 1),
        ]
        return m

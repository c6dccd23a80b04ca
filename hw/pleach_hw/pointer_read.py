"""From broadcast columns to this PE's share of them."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.reference import EngineConfig
from pleach_hw.primitives import BlockRam, delay
from pleach_hw.queue import Queue


def pointer_layout(config: EngineConfig) -> data.StructLayout:
    """Where a PE's entries of a column start, and how many they are."""
    return data.StructLayout(
        {"start": range(config.entries), "count": range(config.accumulators + 1)}
    )


def work_layout(config: EngineConfig) -> data.StructLayout:
    """A column's entries in this PE, one or more, and the activation that they multiply."""
    return data.StructLayout({"pointer": pointer_layout(config), "activation": signed(16)})


class PointerRead(wiring.Component):
    """Looks a broadcast column's pointer up and offers the work from a queue, `BlockRam.latency`
    + 1 cycles later; a column a cycle. Columns without an entry take no place in the queue.

    Back-pressure: `ready` says that a column is welcome in this cycle and in the next, whatever it
    is then; a column at another time is an error. Places are counted when a column is accepted, so
    that what is on its way through the memory always finds one. Reset drops everything held; the
    pointers stay. Pointers are written through `write_*`, only while `empty`.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "column_valid": In(1),
                "column": In(range(config.columns)),
                "activation": In(signed(16)),
                "ready": Out(1),
                "o": Out(stream.Signature(work_layout(config))),
                "empty": Out(1),
                "write_en": In(1),
                "write_column": In(range(config.columns)),
                "write_pointer": In(pointer_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = self._config.queue_depth
        m.submodules.pointers = pointers = BlockRam(
            shape=pointer_layout(self._config), depth=self._config.columns
        )
        m.submodules.queue = queue = Queue(shape=work_layout(self._config), depth=depth)
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        found = delay(m, self.column_valid, pointers.latency, name="found", reset_less=False)
        activation = delay(m, self.activation, pointers.latency, name="activation")
        pointer = pointers.read_data
        # The pointers' one write and one read never meet: they are written before a column comes.
        m.d.comb += [
            pointers.write_en.eq(self.write_en),
            pointers.write_addr.eq(self.write_column),
            pointers.write_data.eq(self.write_pointer),
            pointers.read_addr.eq(self.column),
            queue.i.payload.pointer.eq(pointer),
            queue.i.payload.activation.eq(activation),
            queue.i.valid.eq(found & (pointer.count != 0)),
        ]
        reserved = Signal(range(depth + 1))
        m.d.sync += reserved.eq(
            reserved
            + self.column_valid
            - (found & (pointer.count == 0))
            - (queue.o.valid & queue.o.ready)
        )
        m.d.comb += [
            self.ready.eq(reserved < depth - 1),
            self.empty.eq(reserved == 0),
        ]
        return m

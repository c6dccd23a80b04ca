"""A group's front: from vectors of windows to the columns that its PEs are told."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach_hw.buses import BroadcastBus, PixelsBus, WindowVectorBus
from pleach_hw.layouts import map_pass_layout, window_vector_layout
from pleach_hw.primitives import LutRam
from pleach_hw.queue import Queue

#: output pixels that a row of a window has, and rows of them, at most
SIDE = 4
#: passes that can wait for their turn on the broadcast
PASSES = 4


def lowest(bits: Value) -> Value:
    """The lowest bit of `bits` that is set, alone."""
    return Cat(bits[n] & ~bits[:n].any() for n in range(len(bits)))


def without_lowest(bits: Value) -> Value:
    """`bits` without the lowest one that is set."""
    return Cat(bits[n] & bits[:n].any() for n in range(len(bits)))


def number_of(one_hot: Value) -> Value:
    """Which bit is set, of one at most."""
    bits = (len(one_hot) - 1).bit_length()
    return Cat(
        Cat(one_hot[n] for n in range(len(one_hot)) if n >> bit & 1).any() for bit in range(bits)
    )


def up_to(edge: Value) -> Value:
    """A bit for each pixel of a row up to number `edge`."""
    return Cat(edge >= number for number in range(SIDE))


class Front(wiring.Component):
    """Takes a vector of a window a cycle and gives a column a cycle: for each output pixel that
    the vector is for, a row of pixels after the other, what is not zero, bank by bank. After the
    last vector of a window come the biases of its pixels; the very last column carries the mark.
    Where there is no bias, the mark comes alone.

    A vector's share of a pixel is a pass. A pass has its column and its place in the ring from a
    table that `pixels` fills; it waits in a short queue, so that the next one is there when the one
    before was sent. There is a column four cycles after its vector came, when nothing waits.

    Whoever sends vectors counts places: there are `config.vectors`, and `back` gives one back.
    Reset drops all that wait; what is in the table stays.

    Ports:
        start: a pass over maps begins; the front is empty then.
        pass_: its record, which stands from then on.
        pixels: what columns and places of the pixels differ by, before the first one is needed; and
            the column of biases.
        vectors: of windows.
        back: a vector's last column was sent, the cycle before.
        broadcast: to the group's PEs. Nothing is sent in a cycle after one in which they were not
            ready; what was sent is out a cycle later.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "pass_": In(map_pass_layout(config)),
                "pixels": In(PixelsBus(config)),
                "vectors": In(WindowVectorBus(config, fronts=1)),
                "back": Out(1),
                "broadcast": Out(BroadcastBus(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        index = range(max(2, config.vectors))
        self._entry = data.StructLayout(
            {
                "index": index,
                "start": range(config.neighbours),
                "mask": config.neighbours,
                "several": 1,  # bits of the mask are set, more than one
                "column": range(config.columns),
                "base": range(config.accumulators),
                "bias": 1,
                "last": 1,
                "final": 1,
            }
        )
        # Of a vector the values stay where they entered, until its last pass was sent.
        values = data.StructLayout({"values": data.ArrayLayout(signed(16), config.neighbours)})
        vector = self.vectors.vector
        m.submodules.values = held = LutRam(shape=values, depth=len(index))
        about = data.StructLayout(
            {
                name: shape
                for name, shape in window_vector_layout(config).members.items()
                if name not in values.members
            }
        )
        m.submodules.about = waiting = LutRam(shape=about, depth=len(index))
        tail = Signal(range(2 * len(index)))
        for ram, layout in ((held, values), (waiting, about)):
            m.d.comb += [
                ram.write_en.eq(self.vectors.valid),
                ram.write_addr.eq(tail),
            ]
            m.d.comb += [ram.write_data[name].eq(vector[name]) for name in layout.members]
        with m.If(self.vectors.valid):
            m.d.sync += tail.eq(tail + 1)

        m.submodules.queue = queue = Queue(shape=self._entry, depth=PASSES)
        popped = Signal()
        self._passes(m, waiting, tail, queue, popped)
        self._sender(m, held, queue, popped)
        return m

    def _passes(self, m, waiting, tail, queue, popped):
        """From the vectors that wait to passes in the queue, one a cycle."""
        config, entry = self._config, self._entry
        head = Signal.like(tail)
        vector = Signal(waiting.shape, reset_less=True)
        place = Signal(self._entry["index"].shape, reset_less=True)  # where its values are
        valid, biases = Signal(), Signal()
        rows, columns, every = (Signal(SIDE, name=name) for name in ("rows", "columns", "every"))
        pass_, pass_valid = Signal(entry, reset_less=True), Signal()
        # Places of the queue, by what is on its way to it, too.
        taken = Signal(range(PASSES + 1))
        step = Signal()
        m.d.comb += step.eq(valid & ~taken[-1])
        m.d.sync += taken.eq(taken + step - popped)

        rows_after, columns_after = without_lowest(rows), without_lowest(columns)
        ends = Signal()  # no pass of the vector, or of the window's biases, is left
        m.d.comb += ends.eq(~rows_after.any() & ~columns_after.any())
        final = Signal()
        m.d.comb += final.eq(ends & (biases | ~vector.last))
        with m.If(step):
            with m.If(columns_after.any()):
                m.d.sync += columns.eq(columns_after)
            with m.Else():
                m.d.sync += [columns.eq(every), rows.eq(rows_after)]
        edge_rows, edge_columns = Signal(SIDE), Signal(SIDE)
        m.d.comb += [
            edge_rows.eq(Mux(self.pass_.bias, up_to(vector.edge_y), 1)),
            edge_columns.eq(Mux(self.pass_.bias, up_to(vector.edge_x), 1)),
        ]
        next_ = waiting.read_data
        m.d.comb += waiting.read_addr.eq(head)
        with m.If(step & ends & ~final):
            m.d.sync += [
                biases.eq(1),
                rows.eq(edge_rows),
                columns.eq(edge_columns),
                every.eq(edge_columns),
            ]
        with m.Elif(~valid | (step & final)):
            # One without a lane, the last of its window, begins with the biases.
            some = next_.some.any() & next_.rows.any()
            m.d.sync += [
                vector.eq(next_),
                valid.eq(head != tail),
                biases.eq(~some),
                rows.eq(next_.rows),
                columns.eq(next_.some),
                every.eq(next_.some),
            ]
            with m.If(~some):
                edges = (
                    Mux(self.pass_.bias, up_to(edge), 1) for edge in (next_.edge_x, next_.edge_y)
                )
                edge_x, edge_y = edges
                m.d.sync += [columns.eq(edge_x), every.eq(edge_x), rows.eq(edge_y)]
            m.d.sync += place.eq(head)
            with m.If(head != tail):
                m.d.sync += head.eq(head + 1)

        # The pixel's offsets.
        m.submodules.pixels = pixels = LutRam(
            shape=data.StructLayout(
                {"column": range(config.columns), "base": range(config.accumulators)}
            ),
            depth=SIDE * SIDE,
        )
        a, b = lowest(rows), lowest(columns)
        m.d.comb += [
            pixels.write_en.eq(self.pixels.write),
            pixels.write_addr.eq(self.pixels.index),
            pixels.write_data.column.eq(self.pixels.column),
            pixels.write_data.base.eq(self.pixels.base),
            pixels.read_addr.eq(Cat(number_of(b), number_of(a))),
        ]
        slot, slot_base = Signal.like(self.pass_.slots), Signal(range(config.accumulators))
        with m.If(self.start):
            m.d.sync += [slot.eq(1), slot_base.eq(0)]
        with m.Elif(step & final & vector.last):
            with m.If(slot == self.pass_.slots):
                m.d.sync += [slot.eq(1), slot_base.eq(0)]
            with m.Else():
                m.d.sync += [slot.eq(slot + 1), slot_base.eq(slot_base + self.pass_.slot)]

        chosen = Cat(
            Cat(b[n] & vector.masks[n][lane] for n in range(SIDE)).any()
            for lane in range(config.neighbours)
        )
        first = Signal(config.neighbours)
        m.d.comb += first.eq(self.pass_.bias)
        own = Mux(vector.skip, 0, pixels.read_data.column)
        m.d.sync += [
            pass_valid.eq(step),
            pass_.index.eq(place),
            pass_.start.eq(Mux(biases, 0, vector.start)),
            pass_.mask.eq(Mux(biases, first, chosen)),
            pass_.column.eq(Mux(biases, self.pixels.bias_column, vector.column - own)),
            pass_.base.eq(slot_base + pixels.read_data.base),
            pass_.bias.eq(biases),
            pass_.last.eq(final & vector.last),
            pass_.final.eq(final),
        ]
        m.d.comb += [
            queue.i.payload.eq(pass_),
            queue.i.payload.several.eq(without_lowest(pass_.mask).any()),
            queue.i.valid.eq(pass_valid),
        ]

    def _sender(self, m, held, queue, popped):
        """From passes to columns on the broadcast, one a cycle."""
        lanes = self._config.neighbours
        # The bank that is sent has registers of its own: it chooses the value at once. And whether
        # others follow is known as it comes, so that nothing waits for all of the mask.
        pass_, valid = Signal(self._entry, reset_less=True), Signal()
        more = Signal(reset_less=True)
        bank = Signal(lanes, reset_less=True)
        ready = Signal(init=1)
        m.d.sync += ready.eq(self.broadcast.ready)
        # `ready` comes from far away, so all that it does is to enable.
        loads, moves = Signal(), Signal()
        left = Signal(lanes)
        m.d.comb += [
            loads.eq(~valid | ~more),
            moves.eq(~valid | ready),
            queue.o.ready.eq(loads & moves),
            popped.eq(queue.o.valid & queue.o.ready),
            left.eq(Mux(loads, queue.o.p.mask, pass_.mask)),
        ]
        with m.If(moves):
            with m.If(loads):
                m.d.sync += [pass_.eq(queue.o.payload), valid.eq(queue.o.valid)]
            m.d.sync += [
                bank.eq(lowest(left)),
                pass_.mask.eq(without_lowest(left)),
                more.eq(Mux(loads, queue.o.p.several, without_lowest(pass_.mask).any())),
            ]
        sends = valid & ready

        out = self.broadcast
        m.d.comb += held.read_addr.eq(pass_.index)
        lane = Signal(range(lanes))
        m.d.comb += lane.eq(number_of(bank) - pass_.start)
        chosen = [
            Value.cast(value) & (bank[n] & ~pass_.bias).replicate(16)
            for n, value in enumerate(held.read_data["values"])
        ]
        m.d.sync += [
            out.valid.eq(sends),
            out.column.eq(pass_.column + lane),
            out.activation.eq(reduce(or_, chosen, self.pixels.bias & pass_.bias.replicate(16))),
            out.base.eq(pass_.base),
            out.last.eq(pass_.last & ~more),
            out.present.eq(bank.any()),
            self.back.eq(sends & loads & pass_.final),
        ]

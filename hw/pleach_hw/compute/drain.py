"""The way back: from the PEs' accumulators to vectors of activations."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.pipeline import drain_ages, drain_latency, drain_places
from pleach_hw.compute.lnzd import column_width, vector_layout
from pleach_hw.compute.requantize import RequantizeUnit
from pleach_hw.primitives.delay import KEPT, delay, delays
from pleach_hw.queue import Queue


class DrainUnit(wiring.Component):
    """Drains a layer's rows in order, `lanes` a cycle, and gives them requantised as vectors; the
    first `latency` cycles after `start`.

    Row `r` is local row ``r // row_pes`` of PE ``r % row_pes`` in each group, and the sum of what
    the groups' PEs hold. All `lanes` accumulators of a vector are drained, those past the last row,
    too; the vector's mask leaves them out. `start` may come while not `busy`; `last_row`,
    `shift`, `relu` and `parity` belong to it and stand still until `done`, which is high in
    the cycle in which the last vector enters the queue at the output.

    Back-pressure: rows are drained only when their vector is sure of a place in that queue, so
    that no PE ever waits. The queue is deep enough for one vector a cycle, and for `outputs` rows.

    `clear` drains every row of every PE, `accumulators` cycles while `clear_busy`, and gives
    nothing: after a reset, which leaves the accumulators. Reset drops all else.

    On ECP5, with 32-bit accumulators: 1669 LUT4 for 16 PEs.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        self._parts = config.row_pes // config.drained  # vectors in a local row
        self._ages = drain_ages(config)
        self._depth = drain_places(config)
        self._vector = vector_layout(lanes=config.drained, column_width=column_width(config))
        super().__init__(
            {
                "start": In(1),
                "last_row": In(range(config.most_rows)),
                "shift": In(6),
                "relu": In(1),
                "parity": In(1),
                "busy": Out(1),
                "done": Out(1),
                "clear": In(1),
                "clear_busy": Out(1),
                "drain_valid": Out(config.pes),
                "drain_row": Out(data.ArrayLayout(range(config.accumulators), config.groups)),
                "drain_parity": Out(config.groups),
                "drained": In(data.ArrayLayout(signed(config.accumulator_bits), config.pes)),
                "o": Out(stream.Signature(self._vector)),
            }
        )

    @property
    def latency(self):
        """Cycles from `start` to the first vector at the output."""
        return drain_latency(self._config)

    def elaborate(self, platform):
        m = Module()
        config = self._config
        lanes, parts = config.drained, self._parts
        lane_bits, part_bits = (lanes - 1).bit_length(), (parts - 1).bit_length()
        number = range(parts * config.accumulators)  # of a vector in its layer
        last_number = self.last_row[lane_bits:]

        # Which vector goes next; `places` of the queue are taken by those on their way or in it.
        active = Signal()
        sweep = Signal(range(config.accumulators))
        next_number = Signal(number)
        places = Signal(range(self._depth + 1))
        room = ~places[-1]  # the depth is a power of two
        go = (self.start | active) & room
        is_last = next_number == last_number
        with m.If(go):
            m.d.sync += [next_number.eq(next_number + 1), active.eq(1)]
            with m.If(is_last):
                m.d.sync += [next_number.eq(0), active.eq(0)]
        with m.Elif(self.start):
            m.d.sync += active.eq(1)
        m.d.sync += [
            self.clear_busy.eq(self.clear | (self.clear_busy & (sweep != config.accumulators - 1))),
            sweep.eq(sweep + self.clear_busy),
        ]
        for group in range(config.groups):  # the same for all, from registers on the way
            row = Signal(range(config.accumulators), name=f"row_{group}", attrs=KEPT)
            parity = Signal(name=f"parity_{group}", attrs=KEPT)
            m.d.comb += [self.drain_row[group].eq(row), self.drain_parity[group].eq(parity)]
            m.d.sync += [
                row.eq(Mux(self.clear_busy, sweep, next_number[part_bits:])),
                parity.eq(self.parity),
            ]
        for pe in range(config.pes):
            chosen = go & (next_number[:part_bits] == pe % config.row_pes // lanes)
            m.d.sync += self.drain_valid[pe].eq(chosen | self.clear_busy)
        valid = delays(m, go, self._ages.queued, name="valid", reset_less=False)
        last = delay(m, is_last, self._ages.queued, name="last")

        # The accumulators of the vector drained, added up over the groups and requantised. Sums
        # wrap, and none does: each is part of one that the compiler proved to fit.
        m.submodules.queue = queue = Queue(shape=self._vector, depth=self._depth)
        vector = queue.i.payload
        accumulator = signed(config.accumulator_bits)
        for lane in range(lanes):
            m.submodules[f"requantize_{lane}"] = unit = RequantizeUnit(
                accumulator_bits=config.accumulator_bits
            )
            sums = []
            # Each lane counts by itself, close to what it chooses from.
            part = Signal(part_bits, name=f"part_{lane}", attrs=KEPT)
            with m.If(valid[self._ages.drained]):
                m.d.sync += part.eq(part + 1)
            with m.Elif(self.start):
                m.d.sync += part.eq(0)
            for group in range(config.groups):
                first = group * config.row_pes + lane
                choice = Array(self.drained[first : (group + 1) * config.row_pes : lanes])
                sums.append(Signal(accumulator, name=f"acc_{lane}_{group}", reset_less=True))
                m.d.sync += sums[-1].eq(choice[part])
            while len(sums) > 1:
                pairs = list(zip(sums[::2], sums[1::2], strict=True))
                sums = [Signal(accumulator, reset_less=True) for _ in pairs]
                m.d.sync += [total.eq(a + b) for total, (a, b) in zip(sums, pairs, strict=True)]
            m.d.comb += [
                unit.acc.eq(sums[0]),
                unit.shift.eq(self.shift),
                unit.relu.eq(self.relu),
                vector.values[lane].eq(unit.result),
            ]

        # The vector queued.
        queued_number = Signal(number)
        queued = valid[-1]
        m.d.comb += [
            queue.i.valid.eq(queued),
            vector.column.eq(queued_number << lane_bits),
            vector.last.eq(last),
            vector.mask.eq(Cat(~last | (n <= self.last_row[:lane_bits]) for n in range(lanes))),
            self.done.eq(queued & vector.last),
        ]
        with m.If(queued):
            m.d.sync += queued_number.eq(Mux(vector.last, 0, queued_number + 1))
        given = Signal()  # late, so that what comes from the host ends here
        m.d.sync += [
            self.busy.eq((self.busy | self.start) & ~self.done),
            given.eq(queue.o.valid & queue.o.ready),
        ]
        with m.If(go ^ given):
            m.d.sync += places.eq(places + Mux(given, -1, 1))
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m

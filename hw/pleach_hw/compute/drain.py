"""The way back: from the PEs' accumulators to vectors of activations."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.pipeline import drain_ages, drain_latency, drain_places
from pleach_hw.buses import DrainBus, DrainCommandBus
from pleach_hw.compute.requantize import RequantizeUnit
from pleach_hw.layouts import column_width, vector_layout
from pleach_hw.primitives.delay import KEPT, delay, delays
from pleach_hw.queue import Queue


class DrainUnit(wiring.Component):
    """Drains a layer's rows in order, `lanes` a cycle, and gives them requantised as vectors; the
    first `latency` cycles after `start`.

    Row `r` is local row ``r // row_pes`` of PE ``r % row_pes`` in each group, and the sum of what
    the groups' PEs hold. All `lanes` accumulators of a vector are drained, those past the last row,
    too; the vector's mask leaves them out. A start may come while not `busy`; `done` is high
    in the cycle in which the last vector enters the queue at the output.

    Back-pressure: rows are drained only when their vector is sure of a place in that queue, so
    that no PE ever waits. The queue is deep enough for one vector a cycle, and for `outputs` rows.

    A clear takes `accumulators` cycles, while `clear_busy`: after a reset, which leaves the
    accumulators. Reset drops all else.

    Ports:
        command: from the control unit.
        busy: a layer is drained.
        groups: to and from the PEs of each group.
        o: the vectors.
        back: strobe, a vector that was taken gives its place in that queue back.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        self._parts = config.row_pes // config.drained  # vectors in a local row
        self._ages = drain_ages(config)
        self._depth = drain_places(config)
        self._vector = vector_layout(lanes=config.drained, column_width=column_width(config))
        super().__init__(
            {
                "command": In(DrainCommandBus(config)),
                "busy": Out(1),
                "groups": Out(DrainBus(config, pes=config.row_pes)).array(config.groups),
                "o": Out(stream.Signature(self._vector)),
                "back": In(1),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from `start` to the first vector at the output."""
        return drain_latency(self._config)

    def elaborate(self, platform):
        m = Module()
        config = self._config
        command = self.command
        lanes, parts = config.drained, self._parts
        lane_bits, part_bits = (lanes - 1).bit_length(), (parts - 1).bit_length()
        number = range(parts * config.accumulators)  # of a vector in its layer
        last_number = command.last_row[lane_bits:]

        # Which vector goes next; `places` of the queue are taken by those on their way or in it.
        active = Signal()
        sweep = Signal(range(config.accumulators))
        next_number = Signal(number)
        places = Signal(range(self._depth + 1))
        room = ~places[-1]  # the depth is a power of two
        go = (command.start | active) & room
        is_last = next_number == last_number
        with m.If(go):
            m.d.sync += [next_number.eq(next_number + 1), active.eq(1)]
            with m.If(is_last):
                m.d.sync += [next_number.eq(0), active.eq(0)]
        with m.Elif(command.start):
            m.d.sync += active.eq(1)
        m.d.sync += [
            command.clear_busy.eq(
                command.clear | (command.clear_busy & (sweep != config.accumulators - 1))
            ),
            sweep.eq(sweep + command.clear_busy),
        ]
        for index, group in enumerate(self.groups):  # the same for all, from registers on the way
            row = Signal(range(config.accumulators), name=f"row_{index}", attrs=KEPT)
            parity = Signal(name=f"parity_{index}", attrs=KEPT)
            m.d.comb += [group.row.eq(row), group.parity.eq(parity)]
            m.d.sync += [
                row.eq(Mux(command.clear_busy, sweep, next_number[part_bits:])),
                parity.eq(command.parity),
            ]
            for pe in range(config.row_pes):
                chosen = go & (next_number[:part_bits] == pe // lanes)
                m.d.sync += group.valid[pe].eq(chosen | command.clear_busy)
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
            with m.Elif(command.start):
                m.d.sync += part.eq(0)
            for index, group in enumerate(self.groups):
                choice = Array(group.drained[lane::lanes])
                sums.append(Signal(accumulator, name=f"acc_{lane}_{index}", reset_less=True))
                m.d.sync += sums[-1].eq(choice[part])
            while len(sums) > 1:
                pairs = list(zip(sums[::2], sums[1::2], strict=True))
                sums = [Signal(accumulator, reset_less=True) for _ in pairs]
                m.d.sync += [total.eq(a + b) for total, (a, b) in zip(sums, pairs, strict=True)]
            m.d.comb += [
                unit.acc.eq(sums[0]),
                unit.shift.eq(command.shift),
                unit.relu.eq(command.relu),
                vector.values[lane].eq(unit.result),
            ]

        # The vector queued.
        queued_number = Signal(number)
        queued = valid[-1]
        m.d.comb += [
            queue.i.valid.eq(queued),
            vector.column.eq(queued_number << lane_bits),
            vector.last.eq(last),
            vector.mask.eq(Cat(~last | (n <= command.last_row[:lane_bits]) for n in range(lanes))),
            command.done.eq(queued & vector.last),
        ]
        with m.If(queued):
            m.d.sync += queued_number.eq(Mux(vector.last, 0, queued_number + 1))
        given = Signal()  # late, so that what comes from the host ends here
        m.d.sync += [
            self.busy.eq((self.busy | command.start) & ~command.done),
            given.eq(self.back),
        ]
        with m.If(go ^ given):
            m.d.sync += places.eq(places + Mux(given, -1, 1))
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m

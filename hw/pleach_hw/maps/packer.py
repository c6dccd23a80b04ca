"""From values at any addresses to rows of the map memory."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.pipeline import PLACES
from pleach_hw.buses import MapWriteBus
from pleach_hw.layouts import place_layout
from pleach_hw.primitives import LutRam


class Packer(wiring.Component):
    """Collects values whose addresses follow each other in a row of the map memory, and writes the
    row when the next value is for another one or the window has ended, in the group's turn: one
    cycle in `groups`, counted from `start`.

    Places come early, their values follow in the same order, at most `PLACES` of both are held:
    `back` says in the cycle after that one was taken. `written` comes with the write of a window's
    last value. Reset drops all that is held.

    Args:
        number: of the group.
    """

    def __init__(self, config: EngineConfig, *, number: int = 0):
        self._config = config
        self._number = number
        super().__init__(
            {
                "start": In(1),
                "place_valid": In(1),
                "place": In(place_layout(config)),
                "values_valid": In(1),
                "values": In(data.ArrayLayout(signed(16), config.drained)),
                "back": Out(1),
                "write": Out(MapWriteBus(config)),
                "written": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        size, lanes = config.neighbours, config.drained
        lane_bits, slot_bits = lanes.bit_length() - 1, size.bit_length() - 1

        # The turn.
        turn = Signal(config.groups)
        with m.If(self.start):
            m.d.sync += turn.eq(1)
        with m.Else():
            m.d.sync += turn.eq(turn.rotate_left(1))
        ours = turn[self._number]

        # Places and values wait side by side. Of a place it is known as it comes whether it begins
        # in another row than the one before ended in.
        place_in = Signal(
            data.StructLayout(place_layout(config).members | {"other": 1}), name="place_in"
        )
        row_in, end = place_in.address[slot_bits:], Signal(range(config.maps // size))
        reaches = Signal(2 * size)
        m.d.comb += [
            *(place_in[name].eq(self.place[name]) for name in place_layout(config).members),
            place_in.other.eq(row_in != end),
            reaches.eq(self.place.mask << self.place.address[:slot_bits]),
        ]
        with m.If(self.place_valid):
            m.d.sync += end.eq(row_in + reaches[size:].any())
        m.submodules.places = places = LutRam(shape=place_in.shape(), depth=PLACES)
        m.submodules.values = values = LutRam(shape=self.values.shape(), depth=PLACES)
        place_tail, tail, head = (
            Signal(range(2 * PLACES), name=name) for name in ("place_tail", "tail", "head")
        )
        for ram, valid, data_in, number in (
            (places, self.place_valid, place_in, place_tail),
            (values, self.values_valid, self.values, tail),
        ):
            m.d.comb += [
                ram.write_en.eq(valid),
                ram.write_addr.eq(number),
                ram.write_data.eq(data_in),
                ram.read_addr.eq(head),
            ]
            m.d.sync += number.eq(number + valid)

        # The oldest in the slots of its row, `beat`; what goes beyond the row follows.
        beat = Signal(
            data.StructLayout(
                {
                    "row": range(config.maps // size),
                    "mask": size,
                    "last": 1,
                    "other": 1,  # the row is another one than that of the beat before
                    "values": data.ArrayLayout(signed(16), lanes),
                }
            )
        )
        beat_valid, beat_taken, beyond = Signal(), Signal(), Signal()
        place = places.read_data
        first_slot = place.address[:slot_bits]
        spread = Signal(2 * size)
        m.d.comb += spread.eq(place.mask << first_slot)
        crosses = spread[size:].any() & ~beyond
        loads = (tail != head) & (~beat_valid | beat_taken)
        m.d.sync += self.back.eq(loads & ~crosses)
        with m.If(loads):
            m.d.sync += [
                beat.row.eq(place.address[slot_bits:] + beyond),
                beat.mask.eq(Mux(beyond, spread[size:], spread[:size])),
                beat.last.eq(place.last & ~crosses),
                beat.other.eq(place.other | beyond),
                beyond.eq(crosses),
                head.eq(head + ~crosses),
            ]
            for lane in range(lanes):
                from_lane = (lane - place.address[:lane_bits])[:lane_bits] if lane_bits else 0
                m.d.sync += beat.values[lane].eq(values.read_data[from_lane])
        with m.If(loads | beat_taken):
            m.d.sync += beat_valid.eq(loads)

        # The row that is collected, and its write.
        row = Signal.like(self.write.row)
        held, enables, flush = Signal(), Signal(size), Signal()
        collected = Signal(self.write.values.shape(), reset_less=True)
        emits = ours & held & (flush | (beat_valid & beat.other))
        # What is held is written in the group's turn, if it has to be.
        m.d.comb += beat_taken.eq(beat_valid & (~held | ours | ~(flush | beat.other)))
        with m.If(beat_taken):
            m.d.sync += [
                held.eq(1),
                row.eq(beat.row),
                flush.eq(beat.last),
                enables.eq(Mux(held & ~emits, enables, 0) | beat.mask),
            ]
            for slot in range(size):
                with m.If(beat.mask[slot]):
                    m.d.sync += collected[slot].eq(beat.values[slot % lanes])
        with m.Elif(emits):
            m.d.sync += held.eq(0)
        m.d.sync += [
            self.written.eq(emits & flush),
            self.write.row.eq(Mux(emits, row, 0)),
            self.write.enables.eq(Mux(emits, enables, 0)),
            self.write.values.eq(Mux(emits, collected, 0)),
        ]
        return m

"""Pooling from map to map, past the array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.numbers import INT16_MIN
from pleach_hw.buses import MapWriteBus
from pleach_hw.compute.requantize import RequantizeUnit
from pleach_hw.layouts import map_pass_layout
from pleach_hw.primitives.delay import delay, delays


def one_of(values: Sequence[Value], index: Value) -> Value:
    """The one of a power of two of `values` that `index` names; as a tree, which takes least."""
    for bit in index:
        values = [Mux(bit, odd, even) for even, odd in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def _last(m: Module, size: Value, by: Value | Literal[1], again: Value, on: Value) -> Signal:
    """Whether a loop's round is its last one, known as it comes; of size 0 there is one, too.

    Args:
        size, by: what it goes over, and how much a round takes of it.
        again, on: the loop begins, or else goes on to its next round.
    """
    left, last = Signal.like(size, reset_less=True), Signal()
    with m.If(again):
        m.d.sync += [left.eq(size), last.eq(size <= by)]
    with m.Elif(on):
        # One by one it comes to two for certain.
        second_last = left == 2 if isinstance(by, int) else left <= (by << 1)
        m.d.sync += [left.eq(left - by), last.eq(second_last)]
    return last


class PoolUnit(wiring.Component):
    """Reads windows over a map, and writes the largest value or the sum of each.

    A window takes a cycle for each of its places, inside of the map or not, for every
    `group_channels` channels, but at least as many cycles as those: so many values of it leave one
    after the other. All windows are read for a pixel's channels before the next pixel's.

    Args:
        latency: cycles from an address to its values.

    Ports:
        start: strobe, the record of the pass stands until `done`.
        address, values: read port of the map memory, in the order of its banks; 0 while it does not
            read.
        write: to the map memory.
        done: strobe, the last value is on its way: it is written before any read that begins later.
    """

    def __init__(self, config: EngineConfig, *, latency: int):
        self._config = config
        self._latency = latency
        super().__init__(
            {
                "start": In(1),
                "pass_": In(map_pass_layout(config)),
                "done": Out(1),
                "address": Out(range(config.maps)),
                "values": In(data.ArrayLayout(signed(16), config.neighbours)),
                "write": Out(MapWriteBus(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        # Channels of a read, 1 or all: no plan with another number is taken.
        self._channels = self.pass_.group_channels[: self._config.neighbours.bit_length()]
        place = self._walk(m)
        self._add_up(m, place)
        return m

    def _walk(self, m: Module) -> dict[str, Signal]:
        """A place of a window a cycle: its address, and what it is to its window."""
        config, pass_ = self._config, self.pass_
        channels = self._channels
        wide = len(pass_.x_first) + 1
        tall = max(len(pass_.y_first), len(pass_.map_rows)) + 2
        # Of the present place, and where the window begins, or the row of windows does; `line` is
        # the address of its row of places, x = 0.
        x, x_window = (Signal(signed(wide), name=name) for name in ("x", "x_window"))
        y, y_window = (Signal(signed(tall), name=name) for name in ("y", "y_window"))
        line, line_window, line_row = (
            Signal(range(config.maps), name=name) for name in ("line", "line_window", "line_row")
        )
        active, first = Signal(), Signal()
        waits = Signal()  # the window's places were all read, its values are still leaving
        behind = Signal(range(config.neighbours + 1))  # cycles that the window still has to take
        soon = Signal()  # … one at most

        # The loops, the innermost first; each ends with the last round of the one inside of it.
        start, reads = self.start, active & ~waits
        goes, line_ends, pixel_ends, row_ends = Signal(), Signal(), Signal(), Signal()
        last_across = _last(m, pass_.kernel_row, pass_.pixel_x, start | goes | line_ends, reads)
        last_down = _last(m, pass_.kernel_rows, 1, start | goes, line_ends)
        last_channel = _last(m, pass_.pixel, channels, start | pixel_ends, goes)
        last_x = _last(m, pass_.units_x, 1, start | row_ends, pixel_ends)
        last_y = _last(m, pass_.units_y, 1, start, row_ends)
        m.d.comb += [
            line_ends.eq(reads & last_across),
            goes.eq(active & soon & (waits | (last_across & last_down))),
            pixel_ends.eq(goes & last_channel),
            row_ends.eq(pixel_ends & last_x),
        ]
        with m.If(start | goes):
            m.d.sync += [waits.eq(0), first.eq(1), behind.eq(channels), soon.eq(channels == 1)]
        with m.Else():
            m.d.sync += [
                waits.eq(waits | (line_ends & last_down)),
                first.eq(first & ~reads),
                behind.eq(behind - (behind != 0)),
                soon.eq(behind <= 2),
            ]
        with m.If(start):
            m.d.sync += active.eq(1)
        with m.Elif(row_ends & last_y):
            m.d.sync += active.eq(0)

        # Whatever may come next is added up beside what says which it is: that comes late.
        next_x, next_y, next_line = Signal.like(x), Signal.like(y), Signal.like(line)
        with m.If(start | row_ends):
            m.d.comb += next_x.eq(pass_.x_first)
        with m.Elif(pixel_ends):
            m.d.comb += next_x.eq(x_window + pass_.x_step)
        with m.Elif(goes | line_ends):
            m.d.comb += next_x.eq(x_window)
        with m.Else():
            m.d.comb += next_x.eq(x + pass_.pixel_x)
        with m.If(start):
            m.d.comb += [next_y.eq(pass_.y_first), next_line.eq(pass_.source + pass_.row_first)]
        with m.Elif(row_ends):
            m.d.comb += [
                next_y.eq(y_window + pass_.y_step),
                next_line.eq(line_row + pass_.row_step),
            ]
        with m.Elif(goes):
            m.d.comb += [
                next_y.eq(y_window),
                next_line.eq(Mux(pixel_ends, line_row, line_window + channels)),
            ]
        with m.Else():
            m.d.comb += [next_y.eq(y + 1), next_line.eq(line + pass_.map_row)]
        m.d.sync += x.eq(next_x)
        with m.If(start | pixel_ends):
            m.d.sync += x_window.eq(next_x)
        with m.If(start | goes | line_ends):
            m.d.sync += [y.eq(next_y), line.eq(next_line)]
        with m.If(start | goes):
            m.d.sync += line_window.eq(next_line)
        with m.If(start | row_ends):
            m.d.sync += [y_window.eq(next_y), line_row.eq(next_line)]

        # The address, two additions behind; 0 where nothing is read. What is left of the map or
        # above it is a large number.
        inside = (x.as_unsigned() < pass_.map_row) & (y.as_unsigned() < pass_.map_rows)
        at, read = Signal.like(line, reset_less=True), Signal()
        m.d.sync += [
            at.eq(line + x),
            read.eq(reads & inside),
            self.address.eq(Mux(read, at, 0)),
        ]
        late = 2 + self._latency
        flags = {
            "some": reads,
            "inside": inside,
            "first": first,
            "last": last_across & last_down,
            "end": last_channel & last_x & last_y,
        }
        return {
            name: delay(m, flag, late, name=name, reset_less=name != "some")
            for name, flag in flags.items()
        } | {
            "start_of": delay(
                m, self.address[: (config.neighbours - 1).bit_length()], self._latency, name="at"
            )
        }

    def _add_up(self, m: Module, place: dict[str, Signal]) -> None:
        """Values as they come, up to pixels written."""
        config, pass_ = self._config, self.pass_
        lanes, channels = config.neighbours, self._channels
        # What is outside of the map is what changes neither a largest value nor a sum.
        none = Mux(pass_.pooled, INT16_MIN, 0)
        values = [Signal(signed(16), name=f"value_{n}", reset_less=True) for n in range(lanes)]
        read = [*self.values]
        read[0] = Mux(channels == 1, one_of(read, place["start_of"]), read[0])
        m.d.sync += [
            value.eq(Mux(place["inside"], of, none)) for value, of in zip(values, read, strict=True)
        ]
        some, first, last, end = (
            delay(m, place[name], 1, name=f"{name}_here", reset_less=name != "some")
            for name in ("some", "first", "last", "end")
        )
        # A window's values are all of the map, which bounds their sum.
        bits = min(32, 16 + (config.maps - 1).bit_length())
        sums = [Signal(signed(bits), name=f"sum_{n}", reset_less=True) for n in range(lanes)]
        leaving = [Signal(signed(bits), name=f"leaves_{n}", reset_less=True) for n in range(lanes)]
        whole = Signal()
        m.d.sync += whole.eq(some & last)
        for total, value in zip(sums, values, strict=True):
            larger = value > total[:16].as_signed()
            with m.If(some & (first | ~pass_.pooled | larger)):
                m.d.sync += total.eq(Mux(first | pass_.pooled, value, total + value))

        # Values leave one after the other.
        left = Signal(range(lanes + 1))
        leaves = left != 0
        lane = Signal(range(lanes))
        with m.If(leaves):
            m.d.sync += [left.eq(left - 1), lane.eq(lane + 1)]
        with m.If(whole):
            m.d.sync += [a.eq(b) for a, b in zip(leaving, sums, strict=True)]
            m.d.sync += [left.eq(channels), lane.eq(0)]
        m.submodules.requantize = unit = RequantizeUnit(accumulator_bits=bits)
        m.d.comb += [unit.acc.eq(one_of(leaving, lane)), unit.shift.eq(pass_.shift)]
        written = delay(m, leaves, unit.latency, name="leaves", reset_less=False)
        ended = Signal()  # the last window's values are leaving
        end_whole = delay(m, end, 1, name="end_whole")
        with m.If(whole):
            m.d.sync += ended.eq(end_whole)
        final = delays(m, ended & leaves & (left == 1), unit.latency + 1, name="final")[-1]

        # Pixels lie one behind the other, as their channels do.
        place_bits = (lanes - 1).bit_length()
        sink = Signal(range(config.maps))
        m.d.sync += [self.write.enables.eq(0), self.write.row.eq(0), self.done.eq(final)]
        m.d.sync += [self.write.values[n].eq(0) for n in range(lanes)]
        with m.If(written):
            m.d.sync += [
                sink.eq(sink + 1),
                self.write.row.eq(sink >> place_bits),
                self.write.enables.eq(1 << sink[:place_bits]),
                *(self.write.values[n].eq(unit.result) for n in range(lanes)),
            ]
        with m.If(self.start):
            m.d.sync += sink.eq(pass_.sink)

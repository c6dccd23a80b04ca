"""Pooling from map to map, past the array."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.numbers import INT16_MIN
from pleach_hw.buses import MapWriteBus
from pleach_hw.compute.requantize import RequantizeUnit
from pleach_hw.layouts import map_pass_layout
from pleach_hw.primitives.delay import delay, delays


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
        place = self._walk(m)
        self._add_up(m, place)
        return m

    def _walk(self, m: Module) -> dict[str, Signal]:
        """A place of a window a cycle: its address, and what it is to its window."""
        config, pass_ = self._config, self.pass_
        lanes, wide = config.neighbours, len(pass_.x_first) + 1
        active = Signal()
        x, x_window, row, row_window = (
            Signal(signed(wide), name=name) for name in ("x", "x_window", "row", "row_window")
        )
        y, y_window = (Signal(signed(18), name=name) for name in ("y", "y_window"))
        down = Signal(8)  # of the window's places
        across = Signal.like(pass_.kernel_row)  # from the window's first place
        channel, unit_x, unit_y = (Signal(16, name=n) for n in ("channel", "unit_x", "unit_y"))
        behind = Signal(range(lanes + 1))  # cycles that the window still has to take
        reads = Signal()
        tap_last = Signal()

        # Whatever the plan says, each of these comes.
        right, next_across = x + pass_.pixel_x, across + pass_.pixel_x
        last_across = next_across >= pass_.kernel_row
        last_down = down + 1 >= pass_.kernel_rows
        last_channel = channel + pass_.group_channels >= pass_.pixel
        last_x, last_y = unit_x + 1 == pass_.units_x, unit_y + 1 == pass_.units_y
        m.d.comb += [reads.eq(active), tap_last.eq(last_across & last_down)]

        waits = Signal()  # the window's places were all read, its values are still leaving
        next_window = (reads & ~waits & tap_last & (behind <= 1)) | (waits & (behind <= 1))
        with m.If(active):
            with m.If(behind != 0):
                m.d.sync += behind.eq(behind - 1)
            with m.If(~waits):
                m.d.sync += [x.eq(right), across.eq(next_across)]
                with m.If(last_across):
                    m.d.sync += [
                        x.eq(x_window), across.eq(0), down.eq(down + 1), y.eq(y + 1),
                        row.eq(row + pass_.map_row),
                    ]  # fmt: skip
                with m.If(tap_last):
                    m.d.sync += waits.eq(1)
            with m.If(next_window):
                m.d.sync += [
                    waits.eq(0), down.eq(0), behind.eq(pass_.group_channels),
                    x.eq(x_window), y.eq(y_window), row.eq(row_window),
                    channel.eq(channel + pass_.group_channels),
                ]  # fmt: skip
                with m.If(last_channel):
                    after = x_window + pass_.x_step
                    m.d.sync += [
                        channel.eq(0), unit_x.eq(unit_x + 1), x_window.eq(after), x.eq(after),
                    ]  # fmt: skip
                    with m.If(last_x):
                        row_after, y_after = row_window + pass_.row_step, y_window + pass_.y_step
                        m.d.sync += [
                            unit_x.eq(0), unit_y.eq(unit_y + 1), x_window.eq(pass_.x_first),
                            x.eq(pass_.x_first), row_window.eq(row_after), row.eq(row_after),
                            y_window.eq(y_after), y.eq(y_after),
                        ]  # fmt: skip
                        with m.If(last_y):
                            m.d.sync += active.eq(0)
        with m.If(self.start):
            m.d.sync += [
                active.eq(1), waits.eq(0), across.eq(0), down.eq(0), channel.eq(0), unit_x.eq(0),
                unit_y.eq(0), behind.eq(pass_.group_channels), x.eq(pass_.x_first),
                x_window.eq(pass_.x_first), y.eq(pass_.y_first), y_window.eq(pass_.y_first),
                row.eq(pass_.row_first), row_window.eq(pass_.row_first),
            ]  # fmt: skip

        # The address, two additions behind; 0 where nothing is read.
        some = active & ~waits
        inside = (y >= 0) & (y < pass_.map_rows) & (x >= 0) & (x < pass_.map_row)
        in_map, at_channel = Signal(signed(wide)), Signal(range(config.maps))
        read = Signal()
        m.d.sync += [
            in_map.eq(row + x),
            at_channel.eq(pass_.source + channel),
            read.eq(some & inside),
            self.address.eq(Mux(read, in_map + at_channel, 0)),
        ]
        late = 2 + self._latency
        first = (down == 0) & (across == 0)
        flags = {
            "some": some,
            "inside": inside,
            "first": first,
            "last": tap_last,
            "end": last_channel & last_x & last_y,
        }
        return {
            name: delay(m, flag, late, name=name, reset_less=name != "some")
            for name, flag in flags.items()
        } | {
            "start_of": delay(m, self.address[: (lanes - 1).bit_length()], self._latency, name="at")
        }

    def _add_up(self, m: Module, place: dict[str, Signal]) -> None:
        """Values as they come, up to pixels written."""
        config, pass_ = self._config, self.pass_
        lanes = config.neighbours
        single = pass_.group_channels == 1
        values = [Signal(signed(16), name=f"value_{n}", reset_less=True) for n in range(lanes)]
        m.d.sync += [value.eq(self.values[n]) for n, value in enumerate(values)]
        with m.If(single):
            m.d.sync += values[0].eq(self.values[place["start_of"]])
        some, inside, first, last, end = (
            delay(m, place[name], 1, name=f"{name}_here", reset_less=name != "some")
            for name in ("some", "inside", "first", "last", "end")
        )
        sums = [Signal(signed(32), name=f"sum_{n}", reset_less=True) for n in range(lanes)]
        none = Mux(pass_.pooled, INT16_MIN, 0)
        leaving = [Signal(signed(32), name=f"leaves_{n}", reset_less=True) for n in range(lanes)]
        whole = Signal()
        m.d.sync += whole.eq(some & last)
        with m.If(some):
            for total, value in zip(sums, values, strict=True):
                before = Mux(first, none, total)
                larger = Mux(value > before, value, before)
                after = Mux(pass_.pooled, larger, before + value)
                m.d.sync += total.eq(Mux(inside, after, before))

        # Values leave one after the other.
        left = Signal(range(lanes + 1))
        leaves = left != 0
        m.d.sync += [a.eq(b) for a, b in pairwise(leaving)]
        with m.If(leaves):
            m.d.sync += left.eq(left - 1)
        with m.If(whole):
            m.d.sync += [a.eq(b) for a, b in zip(leaving, sums, strict=True)]
            m.d.sync += left.eq(pass_.group_channels)
        m.submodules.requantize = unit = RequantizeUnit(accumulator_bits=32)
        m.d.comb += [unit.acc.eq(leaving[0]), unit.shift.eq(pass_.shift)]
        written = delay(m, leaves, unit.latency, name="leaves", reset_less=False)
        ended = Signal()  # the last window's values are leaving
        end_whole = delay(m, end, 1, name="end_whole")
        with m.If(whole):
            m.d.sync += ended.eq(end_whole)
        final = delays(m, ended & leaves & (left == 1), unit.latency + 1, name="final")[-1]

        # Pixels lie one behind the other, as their channels do.
        bits = (lanes - 1).bit_length()
        sink = Signal(range(config.maps))
        m.d.sync += [self.write.enables.eq(0), self.write.row.eq(0), self.done.eq(final)]
        m.d.sync += [self.write.values[n].eq(0) for n in range(lanes)]
        with m.If(written):
            m.d.sync += [
                sink.eq(sink + 1),
                self.write.row.eq(sink >> bits),
                self.write.enables.eq(1 << sink[:bits]),
                *(self.write.values[n].eq(unit.result) for n in range(lanes)),
            ]
        with m.If(self.start):
            m.d.sync += sink.eq(pass_.sink)

"""The way back of an engine with a map memory: from a group's accumulators to values of a map."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.maps import MOST_SLOTS
from pleach.engine.pipeline import PLACES, WINDOW_TAKEN, map_drain_ages
from pleach.numbers import ACCUMULATOR_BITS_MAX
from pleach_hw.buses import DrainBus, OutUnitBus, ScaleBus, WindowsBus, hopped
from pleach_hw.compute.requantize import RequantizeUnit
from pleach_hw.compute.scale import ScaleUnit
from pleach_hw.layouts import map_pass_layout, out_unit_layout, place_layout
from pleach_hw.primitives import BlockRam
from pleach_hw.primitives.delay import delay, delays
from pleach_hw.queue import Queue


class GroupDrain(wiring.Component):
    """Drains the windows of output pixels that a group's PEs have accumulated, `drained` rows a
    cycle, requantises, pools and clips them, and says where in the map memory they go.

    A window starts when it was given (`units`) and all PEs are `waiting`. Where the pass is pooled
    its pixels follow each other innermost, and their maximum is given; else they do outermost.
    Pixels outside of the map are passed over, a cycle each. A group that holds no row of the layer
    gives an empty place for a window.

    Back-pressure: a step is made only when its values are sure of one of the packer's `PLACES`.
    Places are given early, in the order in which their values follow; `back` says that the packer
    took one. A clear takes `accumulators` cycles, while `clear_busy`: after a reset, which leaves
    the accumulators. Reset drops all else.

    Ports:
        start: a pass starts; `pass_` stands from now on.
        units: windows given; no more than `MOST_SLOTS` wait.
        windows, pes: to and from the PEs.
        place_valid, place, values_valid, values, back: to and from the packer.
        freed: a window's words of the ring are drained.
        scales: those of a layer, while it is loaded and `pass_` is its; where the engine has some.

    Args:
        number: of the group.
    """

    def __init__(self, config: EngineConfig, *, number: int = 0):
        self._config = config
        self._number = number
        self._ages = map_drain_ages(config)
        scales = {"scales": In(ScaleBus(config))} if config.scales else {}
        self._step = data.StructLayout(
            {
                "takes": 1,  # no step, but the window is taken
                "go": 1,  # a step is made
                "drains": 1,  # … of a pixel inside of the map
                "gives": 1,  # … and its values go to the packer
                "last": 1,  # … the window's last ones
                "first": 1,  # … no maximum with what came before
                "mask": config.drained,  # the lanes that are rows of the layer
                "part": range(max(2, config.row_pes // config.drained)),
                "next_part": 1,  # the step after it is of another part, …
                "next_local": 1,  # … local row, …
                "next_pixel": 1,  # … pixel in the outermost loop, …
                "next_line": 1,  # … and line of them
            }
        )
        super().__init__(
            {
                "start": In(1),
                "pass_": In(map_pass_layout(config)),
                "units": In(OutUnitBus(config)),
                "windows": Out(WindowsBus()),
                "pes": Out(DrainBus(config, pes=config.row_pes)),
                "place_valid": Out(1),
                "place": Out(place_layout(config)),
                "values_valid": Out(1),
                "values": Out(data.ArrayLayout(signed(16), config.drained)),
                "back": In(1),
                "freed": Out(1),
                "clear": In(1),
                "clear_busy": Out(1),
                **scales,
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, pass_ = self._config, self.pass_
        parts = config.row_pes // config.drained
        m.submodules.units = units = Queue(
            shape=out_unit_layout(config), depth=1 << MOST_SLOTS.bit_length()
        )
        # Its steps wait for no memory: the window is out of it from when it is taken.
        unit = Signal(out_unit_layout(config), reset_less=True)
        rows = self._rows(m)

        # A window is taken, and its steps are made: over the pixels (x, y), the local rows, and the
        # parts of the PEs. A loop's next round is that of the one inside of it that ends.
        active, takes = Signal(), Signal()
        taken = Cat(delays(m, takes, WINDOW_TAKEN - 1, name="taken", reset_less=False)[1:])
        places = Signal(range(PLACES + 1))
        go = active & ~places[-1]  # the number of places is a power of two
        x, y = Signal(2), Signal(2)
        part, local = Signal(range(max(2, parts))), Signal(range(config.accumulators))
        outside = x > unit.edge_x
        pixels_end = (x == unit.edge_x) & (y == unit.edge_y)
        x_end = x == pass_.side
        local_end = local == rows.last_local
        part_end = part == Mux(local_end, rows.last_part, parts - 1)
        next_part = pixels_end | ~pass_.pooled
        next_local = next_part & (part_end | outside)
        ends = next_local & (local_end | outside)
        done = ends & pixels_end
        m.d.comb += [
            units.i.valid.eq(self.units.valid),
            units.i.payload.eq(self.units.unit),
            takes.eq(units.o.valid & self.windows.waiting & ~active & ~taken.any()),
            units.o.ready.eq(takes),
        ]
        with m.If(takes):
            m.d.sync += unit.eq(units.o.payload)
        m.d.sync += [
            self.windows.take.eq(takes),
            self.freed.eq(go & done),
            active.eq(Mux(active, ~(go & done), takes)),
        ]
        with m.If(go & (pass_.pooled | ends)):
            m.d.sync += x.eq(Mux(x_end | done, 0, x + 1))
            with m.If(x_end | done):
                m.d.sync += y.eq(Mux(pixels_end, 0, y + 1))
        with m.If(go & next_part):
            m.d.sync += part.eq(Mux(next_local, 0, part + 1))
        with m.If(go & next_local):
            m.d.sync += local.eq(Mux(ends, 0, local + 1))

        # Each step as it is a cycle later, when its words and addresses are worked out.
        step = Signal(self._step)
        gives = go & next_part & ~outside
        with m.If(gives ^ self.back):
            m.d.sync += places.eq(places + Mux(self.back, -1, 1))
        m.d.sync += [
            step.takes.eq(takes),
            step.go.eq(go),
            step.drains.eq(go & ~outside),
            step.gives.eq(gives),
            step.last.eq(done),
            step.first.eq(~pass_.pooled | ((x == 0) & (y == 0))),
            step.mask.eq(Mux(local_end & (part == rows.last_part), rows.last_mask, -1)),
            step.part.eq(part),
            step.next_part.eq(next_part),
            step.next_local.eq(next_local),
            step.next_pixel.eq(ends & ~pass_.pooled),
            step.next_line.eq(x_end),
        ]
        self._words(m, step)
        self._places(m, step, unit.address, rows.first)
        scales = None
        if config.scales:
            at = Signal(range(config.scales * parts))
            m.d.sync += at.eq(Cat(part[: (parts - 1).bit_length()], pass_.scale_base + local))
            scales = self._scales(m, at)
        self._values(m, step, scales)
        return m

    def _rows(self, m):
        """What the group has of the layer's rows; it stands as the pass does."""
        config, pass_ = self._config, self.pass_
        width, lanes = config.row_pes, config.drained
        rows = Signal(
            data.StructLayout(
                {
                    "last_local": range(config.accumulators),
                    "last_part": range(max(2, width // lanes)),
                    "last_mask": lanes,
                    "first": range(config.pes),
                }
            )
        )
        last = Signal(range(config.pes))  # the layer's last row, among those of a local row
        members = Const(config.groups - 1, range(config.groups)) >> pass_.teams
        member = members & self._number
        dealt = Cat(Const(width - 1, width.bit_length() - 1), members)
        m.d.comb += last.eq((pass_.rows - 1) & dealt)
        last_group, within = last // width, last % width
        none = Signal()  # of the last local row
        m.d.comb += none.eq(member > last_group)
        m.d.sync += [
            rows.first.eq(member * width),
            rows.last_local.eq(pass_.local_rows - 1 - (none & (pass_.local_rows != 1))),
            rows.last_part.eq(width // lanes - 1),
            rows.last_mask.eq(-1),
        ]
        with m.If(member == last_group):
            m.d.sync += rows.last_part.eq(within // lanes)
            for lane in range(lanes):
                m.d.sync += rows.last_mask[lane].eq(within % lanes >= lane)
        with m.Elif(none & (pass_.local_rows == 1)):
            m.d.sync += [rows.last_part.eq(0), rows.last_mask.eq(0)]
        return rows

    def _words(self, m, step):
        """The ring's word of each step, to the PEs; and the clear of all of them."""
        config, pass_ = self._config, self.pass_
        ring = range(config.accumulators)
        base, word, mark = Signal(ring), Signal(ring), Signal(ring)
        slot = Signal(range(MOST_SLOTS + 1))
        back = Mux(pass_.pooled, step.next_part, step.next_pixel)
        further = Mux(
            self.clear_busy, 1,
            Mux(step.next_pixel | ~step.next_part, pass_.local_rows, step.next_local),
        )  # fmt: skip
        following = (Mux(back & ~self.clear_busy, mark, word) + further)[: len(word)]
        with m.If(self.start):
            m.d.sync += [base.eq(0), slot.eq(0)]
        with m.Elif(step.takes):
            wraps = slot == pass_.slots - 1
            m.d.sync += [
                base.eq(Mux(wraps, 0, base + pass_.slot)),
                slot.eq(Mux(wraps, 0, slot + 1)),
            ]
        with m.If(self.clear):
            m.d.sync += [self.clear_busy.eq(1), word.eq(0)]
        with m.Elif(step.takes):
            m.d.sync += [word.eq(base), mark.eq(base)]
        with m.Elif(step.go | self.clear_busy):
            m.d.sync += word.eq(following)
            with m.If(back & step.next_local):
                m.d.sync += mark.eq(following)
            with m.If(word == config.accumulators - 1):
                m.d.sync += self.clear_busy.eq(0)
        m.d.sync += self.pes.row.eq(word)
        for pe in range(config.row_pes):
            chosen = step.drains & (step.part == pe // config.drained)
            m.d.sync += self.pes.valid[pe].eq(chosen | self.clear_busy)

    def _places(self, m, step, address_of_unit, first_row):
        """Where the values of each step go. Of pixels and lines of them it is known where they
        began, and the next one is a stride further; a local row ends with the group's last PE, but
        for the last one, behind which there is none."""
        config, pass_ = self._config, self.pass_
        address, pixel, line = (
            Signal(range(config.maps), name=name, reset_less=True)
            for name in ("address", "pixel_address", "line_address")
        )
        # From a group's last rows to its first ones of the next local row.
        over = config.drained - config.row_pes
        begin, stride = Signal.like(address), Signal.like(address)
        following = begin + stride
        with m.If(step.takes):
            m.d.comb += [begin.eq(address_of_unit), stride.eq(first_row)]
        with m.Elif(step.next_pixel & step.next_line):
            m.d.comb += [begin.eq(line), stride.eq(pass_.line)]
        with m.Elif(step.next_pixel):
            m.d.comb += [begin.eq(pixel), stride.eq(pass_.pixel)]
        with m.Elif(step.next_local):
            m.d.comb += [
                begin.eq(address),
                stride.eq((Const(config.pes) >> pass_.teams) + over),
            ]
        with m.Else():
            m.d.comb += [begin.eq(address), stride.eq(config.drained)]
        with m.If(step.takes | (step.go & step.next_part)):
            m.d.sync += address.eq(following)
            with m.If(step.takes | step.next_pixel):
                m.d.sync += pixel.eq(following)
            with m.If(step.takes | (step.next_pixel & step.next_line)):
                m.d.sync += line.eq(following)
        m.d.sync += [
            self.place_valid.eq(step.gives),
            self.place.address.eq(address),
            self.place.mask.eq(step.mask),
            self.place.last.eq(step.last),
        ]

    def _scales(self, m, at):
        """The scale of each lane for the accumulators of a step, as they are at the inputs of the
        multipliers.

        Args:
            at: of the step, its scales' place in the memory.
        """
        config, pass_ = self._config, self.pass_
        lane_bits, pe_bits = ((n - 1).bit_length() for n in (config.drained, config.row_pes))
        write = hopped(m, self.scales, name="scales")
        members = Const(config.groups - 1, range(config.groups)) >> pass_.teams
        ours = (write.pe >> pe_bits) == (members & self._number)
        read_addr = delay(m, at, self._ages.drained - 1 - config.ram_latency, name="scales_at")
        found = []
        for lane in range(config.drained):
            m.submodules[f"scales_{lane}"] = ram = BlockRam(
                shape=signed(16), depth=max(2, 1 << len(at)), latency=config.ram_latency
            )
            m.d.comb += [
                ram.write_en.eq(write.write & ours & (write.pe[:lane_bits] == lane)),
                ram.write_addr.eq(Cat(write.pe[lane_bits:pe_bits], write.row)),
                ram.write_data.eq(write.value),
                ram.read_addr.eq(read_addr),
            ]
            found.append(Mux(pass_.scaled, ram.read_data, 1))
        return found

    def _values(self, m, step, scales):
        """The drained accumulators: scaled, requantised, the largest of a window, clipped."""
        config, pass_, ages = self._config, self.pass_, self._ages
        bits = config.accumulator_bits if scales is None else ACCUMULATOR_BITS_MAX
        first = delay(m, step.first, ages.requantized - 1, name="first")
        gives = delay(m, step.gives, ages.given - 1, name="gives", reset_less=False)
        m.d.comb += self.values_valid.eq(gives)
        for lane in range(config.drained):
            m.submodules[f"requantize_{lane}"] = unit = RequantizeUnit(accumulator_bits=bits)
            # Of its PEs one gives a sum, the others zeros.
            acc = Signal(signed(config.accumulator_bits), name=f"acc_{lane}")
            best = Signal(signed(16), name=f"best_{lane}", reset_less=True)
            before = Mux(first, pass_.low, best)
            m.d.comb += [
                acc.eq(reduce(or_, self.pes.drained[lane :: config.drained])),
                unit.shift.eq(pass_.shift),
                unit.sign.eq(pass_.sign),
            ]
            if scales is None:
                m.d.comb += unit.acc.eq(acc)
            else:
                m.submodules[f"scale_{lane}"] = scale = ScaleUnit(
                    accumulator_bits=config.accumulator_bits
                )
                m.d.comb += [
                    scale.acc.eq(acc),
                    scale.scale.eq(scales[lane]),
                    unit.acc.eq(scale.product),
                ]
            m.d.sync += [
                best.eq(Mux(unit.result > before, unit.result, before)),
                self.values[lane].eq(Mux(best > pass_.high, pass_.high, best)),
            ]

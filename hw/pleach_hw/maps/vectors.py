"""From reads of the map memory to vectors of windows."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach_hw.buses import OutUnitBus, PixelsBus, WindowVectorBus
from pleach_hw.layouts import map_pass_layout
from pleach_hw.maps.dispatch import AddressGenerator, read_layout
from pleach_hw.maps.front import SIDE, up_to
from pleach_hw.primitives import delay


def beyond(bound: Value, lanes: int) -> Value:
    """A bit for each lane, whether its number is below `bound`, which is signed."""
    bits = (lanes - 1).bit_length()
    low, high, negative = bound[:bits], bound[bits:-1], bound[-1]
    return Cat(~negative & (high.any() | (low > lane)) for lane in range(lanes))


def turned(bits: Value, start: Value) -> Value:
    """`bits` of lanes as bits of banks, lane 0's bank being `start`."""
    for number, choice in enumerate(start):
        bits = Mux(choice, bits.rotate_left(1 << number), bits)
    return bits


def times(value: Value, number: int) -> Value:
    """`value` a small `number` of times, by additions."""
    ones = [value << bit for bit in range(number.bit_length()) if number >> bit & 1]
    return sum(ones[1:], ones[0]) if ones else Const(0)


class VectorFormer(wiring.Component):
    """Tells of neighbours that were read, five cycles later, which output pixels of the window they
    are for: those whose kernel has the neighbour's row and place. Passes on what has a value other
    than zero for any pixel, and the last vector of each window. Reset drops what is on its way.

    Ports:
        pass_: the record of the pass.
        valid, read: what is read.
        values: of the read, three cycles after it.
        vectors: to the fronts.
        dropped: groups for which a vector was read that they do not get.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "pass_": In(map_pass_layout(config)),
                "valid": In(1),
                "read": In(read_layout(config)),
                "values": In(data.ArrayLayout(signed(16), config.neighbours)),
                "vectors": Out(WindowVectorBus(config, fronts=config.groups)),
                "dropped": Out(config.groups),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, pass_ = self._config, self.pass_
        lanes = config.neighbours
        valid = delay(m, self.valid, 4, name="valid", reset_less=False)
        before = delay(m, self.read, 1, name="read")

        # Lanes for each pixel of a row, first as distances from the vector's first place.
        places, rows = len(pass_.patch_row) + 2, len(pass_.patch_rows) + 1
        ranges = []
        for number in range(SIDE):
            begin, end = (
                Signal(places, name=f"{name}_{number}", reset_less=True)
                for name in ("begin", "end")
            )
            m.d.sync += begin.eq(times(pass_.pixel_x, number))
            m.d.sync += end.eq(begin + pass_.kernel_row)
            bounds = []
            for name, bound in (("from", begin), ("to", end)):
                distance = Signal(signed(places + 1), name=f"{name}_{number}", reset_less=True)
                m.d.sync += distance.eq(bound - before.place)
                bounds.append(beyond(distance, lanes))
            ranges.append(~bounds[0] & bounds[1])
        inside = Signal(SIDE, reset_less=True)
        for number in range(SIDE):
            begin, end = (
                Signal(rows, name=f"row_{name}_{number}", reset_less=True)
                for name in ("begin", "end")
            )
            m.d.sync += begin.eq(times(pass_.pixel_y, number))
            m.d.sync += end.eq(begin + pass_.kernel_rows)
            m.d.sync += inside[number].eq((before.row >= begin) & (before.row < end))

        # The lanes that the read has, for the pixels that the window has.
        read = delay(m, before, 1, name="about")
        counted = Cat(read.count > lane for lane in range(lanes))
        row_mask, masks = Signal(SIDE, reset_less=True), []
        a, b = (
            Mux(read.skip, Cat(pixel == number for number in range(SIDE)), every & up_to(edge))
            for pixel, every, edge in (
                (read.a, inside, read.edge_y),
                (read.b, Const(2**SIDE - 1, SIDE), read.edge_x),
            )
        )
        m.d.sync += row_mask.eq(a)
        for number in range(SIDE):
            mask = Signal(lanes, name=f"lanes_{number}", reset_less=True)
            own = counted & (ranges[number] | read.skip.replicate(lanes))
            m.d.sync += mask.eq(own & b[number].replicate(lanes))
            masks.append(mask)

        # By bank, when the values are there; of those, which are not zero.
        values = Signal.like(self.values, reset_less=True)
        found = Signal(lanes, reset_less=True)
        m.d.sync += [
            values.eq(self.values),
            found.eq(Cat(value.any() for value in map(Value.cast, self.values))),
        ]
        read = delay(m, read, 1, name="turned")
        for_banks = [
            delay(m, turned(mask, read.start), 1, name=f"banks_{number}")
            for number, mask in enumerate(masks)
        ]
        reach = Signal(lanes, reset_less=True)  # lanes whose value is for any pixel at all
        pixels = [turned(mask, read.start) & row_mask.any().replicate(lanes) for mask in masks]
        m.d.sync += reach.eq(reduce(or_, pixels))
        rows = delay(m, row_mask, 1, name="rows")
        read = delay(m, read, 1, name="last")
        return self._join(m, valid, read, values, found, rows, for_banks, reach)

    def _join(self, m, valid, read, values, found, rows, masks, reach):
        """The vector, and which groups take it."""
        for_pixels = [found & mask for mask in masks]
        some = Cat(mask.any() for mask in for_pixels)
        vector = self.vectors.vector
        m.d.sync += [
            vector.values.eq(values),
            vector.start.eq(read.start),
            vector.some.eq(some),
            vector.rows.eq(rows),
            vector.column.eq(read.column),
            vector.skip.eq(read.skip),
            vector.edge_x.eq(read.edge_x),
            vector.edge_y.eq(read.edge_y),
            vector.last.eq(read.last),
        ]
        m.d.sync += [vector.masks[n].eq(mask) for n, mask in enumerate(for_pixels)]
        keeps = Signal()
        m.d.comb += keeps.eq((found & reach).any() | read.last)
        for group in range(self._config.groups):
            takes = valid & read.groups[group]
            m.d.sync += [
                self.vectors.valid[group].eq(takes & keeps),
                self.dropped[group].eq(takes & ~keeps),
            ]
        return m


class Feeder(wiring.Component):
    """All that stands between the map memory and the fronts: `AddressGenerator`, with its
    `Dispatcher`, and `VectorFormer`. Reset ends the pass.

    Ports:
        start: a pass begins, for which nothing is under way.
        pass_: its record, which stands from then on.
        done: all windows were given and written, the cycle before.
        address, values: the read port of the map memory.
        units: to the drain of each group, its next window.
        pixels: to the fronts.
        vectors: to the fronts.
        back: groups whose fronts give a vector's place back.
        freed, written: groups whose oldest window has left its ring, or is in the map memory.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "pass_": In(map_pass_layout(config)),
                "done": Out(1),
                "address": Out(range(config.maps)),
                "values": In(data.ArrayLayout(signed(16), config.neighbours)),
                "units": Out(OutUnitBus(config)).array(config.groups),
                "pixels": Out(PixelsBus(config)),
                "vectors": Out(WindowVectorBus(config, fronts=config.groups)),
                "back": In(config.groups),
                "freed": In(config.groups),
                "written": In(config.groups),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.generator = generator = AddressGenerator(self._config)
        m.submodules.former = former = VectorFormer(self._config)
        for name in ("start", "pass_", "freed", "written"):
            m.d.comb += getattr(generator, name).eq(getattr(self, name))
        wiring.connect(m, wiring.flipped(self.pixels), generator.pixels)
        wiring.connect(m, wiring.flipped(self.vectors), former.vectors)
        for out, unit in zip(self.units, generator.units, strict=True):
            wiring.connect(m, wiring.flipped(out), unit)
        m.d.comb += [
            self.done.eq(generator.done),
            self.address.eq(generator.address),
            former.pass_.eq(self.pass_),
            former.valid.eq(generator.valid),
            former.read.eq(generator.read),
            former.values.eq(self.values),
        ]
        for group in range(self._config.groups):
            m.d.sync += generator.back[group].eq(self.back[group] + former.dropped[group])
        return m

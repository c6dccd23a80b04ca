"""The memory of the maps."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.pipeline import MAP_READ
from pleach_hw.buses import MapWriteBus
from pleach_hw.primitives import BlockRam


class MapMemory(wiring.Component):
    """Values of 16 bits in `config.neighbours` banks, neighbours in neighbouring banks: value `a`
    is in row ``a // neighbours`` of bank ``a % neighbours``. Takes a read of neighbours and a
    write of a row in every cycle.

    Neighbours may begin anywhere: banks before the first one's give their next row. A read shows
    what was written when its address shows a cycle after the write, or later; of what is written
    in the same cycle it shows nothing certain. Reset leaves the contents.

    Args:
        readers: of which one at most reads in a cycle.
        writers: of which one at most writes in a cycle.

    Ports:
        reads: the address of a first neighbour; 0 where its reader does not read.
        values: the neighbours, each in the place of its bank, `MAP_READ` cycles after the address.
        writes: a row's values.
    """

    def __init__(self, config: EngineConfig, *, readers: int, writers: int):
        self._config = config
        super().__init__(
            {
                "reads": In(range(config.maps)).array(readers),
                "values": Out(data.ArrayLayout(signed(16), config.neighbours)),
                "writes": In(MapWriteBus(config)).array(writers),
            }
        )

    def elaborate(self, platform):
        m = Module()
        banks = self._config.neighbours
        place_bits = (banks - 1).bit_length()
        address = Signal(range(self._config.maps))
        m.d.comb += address.eq(reduce(or_, self.reads))
        place, row = address[:place_bits], address[place_bits:]
        after = Signal(len(row))
        m.d.comb += after.eq(row + 1)

        written = MapWriteBus(self._config).flip().create()
        for field in ("row", "enables", "values"):
            every = [Value.cast(getattr(writer, field)) for writer in self.writes]
            held = Value.cast(getattr(written, field))
            m.d.sync += held.eq(reduce(or_, every))

        read = []
        for bank in range(banks):
            m.submodules[f"bank_{bank}"] = ram = BlockRam(
                shape=signed(16), depth=self._config.maps // banks, latency=MAP_READ - 1
            )
            own = Signal(len(row), name=f"row_{bank}", reset_less=True)
            m.d.sync += own.eq(Mux(place > bank, after, row))
            m.d.comb += [
                ram.read_addr.eq(own),
                ram.write_en.eq(written.enables[bank]),
                ram.write_addr.eq(written.row),
                ram.write_data.eq(written.values[bank]),
            ]
            read.append(ram.read_data)
        m.d.comb += Value.cast(self.values).eq(Cat(read))
        return m

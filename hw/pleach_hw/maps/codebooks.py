"""The codebooks of all layers, of which PEs hold that of one."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.pipeline import LUT_CODEBOOK, held_codes
from pleach_hw.buses import CodebookBus
from pleach_hw.primitives import BlockRam, LutRam, delay


class Codebooks(wiring.Component):
    """Copies a layer's codebook to the PEs before its first MAC, a value a cycle: in LUT RAM those
    of all layers would be as much of a PE as its queue. What is behind the layer's own values is
    copied, too, and never looked up. Reset ends a copy.

    Ports:
        load: write port of all codebooks.
        start: a copy begins, of the values from `base` on, which stands.
        pes: to the PEs.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "load": In(CodebookBus(config, size=config.codebook)),
                "start": In(1),
                "base": In(range(config.codebook)),
                "pes": Out(CodebookBus(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        small = config.codebook <= LUT_CODEBOOK
        m.submodules.ram = ram = (
            LutRam(shape=signed(16), depth=config.codebook)
            if small
            else BlockRam(shape=signed(16), depth=config.codebook, latency=config.ram_latency)
        )
        copies = Signal()
        number = Signal.like(self.pes.address)
        latency = 0 if small else config.ram_latency
        m.d.comb += [
            ram.write_en.eq(self.load.write),
            ram.write_addr.eq(self.load.address),
            ram.write_data.eq(self.load.value),
            ram.read_addr.eq(self.base + number),
        ]
        m.d.sync += [
            self.pes.write.eq(delay(m, copies, latency, name="copies", reset_less=False)),
            self.pes.address.eq(delay(m, number, latency, name="number")),
            self.pes.value.eq(ram.read_data),
        ]
        with m.If(copies):
            m.d.sync += [number.eq(number + 1), copies.eq(number != held_codes(config) - 1)]
        with m.If(self.start):
            m.d.sync += [number.eq(0), copies.eq(1)]
        return m

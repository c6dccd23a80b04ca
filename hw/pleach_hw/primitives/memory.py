"""Memories: one write port and one read port each."""

from __future__ import annotations

import operator

from amaranth.hdl import ClockDomain, ClockSignal, Module, ShapeLike, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from pleach_hw.primitives import ecp5, ice40
from pleach_hw.primitives.family import family_of


class _Ram(wiring.Component):
    def __init__(self, *, shape: ShapeLike, depth: int):
        self._shape = shape
        self._depth = operator.index(depth)
        if self._depth < 2:
            raise ValueError(f"memory depth must be at least 2, not {self._depth}")
        super().__init__(
            {
                "write_en": In(1),
                "write_addr": In(range(self._depth)),
                "write_data": In(shape),
                "read_addr": In(range(self._depth)),
                "read_data": Out(shape),
            }
        )

    @property
    def shape(self) -> ShapeLike:
        return self._shape

    @property
    def depth(self) -> int:
        return self._depth

    def _memory(self, m: Module, domain: str = "comb", **attrs: int | str) -> memory.ReadPort:
        """Add the memory with its write port; returns its read port, by default asynchronous."""
        m.submodules.memory = ram = memory.Memory(
            shape=self._shape, depth=self._depth, init=[], attrs=attrs
        )
        write = ram.write_port()
        read = ram.read_port(domain=domain)
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.addr.eq(self.read_addr),
        ]
        return read


class BlockRam(_Ram):
    """Block RAM: `read_data` shows the word at `read_addr` after `latency` cycles; one write and
    one read a cycle.

    The read port runs freely: there is no enable and no valid, the user carries a valid bit along.
    What is read from an address that is written in the same cycle is undefined, so users show that
    they have no use for it. Neither contents nor output are reset; contents start as zeros.

    On ECP5 it is DP16KD cells with their output registers, and a multiplexer where it is deeper
    than one of them. On iCE40 UltraPlus one with `apart` that is deeper than a block RAM is
    SB_SPRAM256KA cells, whose contents are undefined at the start. Elsewhere it is inferred, with a
    flip-flop a bit behind it.

    Args:
        shape: of a word.
        depth: words, at least 2.
        latency: 2 with the RAM's output register, 1 without. From the RAM alone data come
            late after the clock.
        apart: nothing is read in a cycle of a write, so that one port serves both. What such a
            cycle reads is undefined at every address then.

    Raises:
        ValueError: depth below 2, or another latency.
    """

    def __init__(self, *, shape: ShapeLike, depth: int, latency: int = 2, apart: bool = False):
        super().__init__(shape=shape, depth=depth)
        self._latency = operator.index(latency)
        if self._latency not in (1, 2):
            raise ValueError(f"latency must be 1 or 2, not {self._latency}")
        self._apart = apart

    @property
    def latency(self) -> int:
        return self._latency

    def elaborate(self, platform):
        if family_of(platform) == "ecp5":
            return ecp5.block_ram(self)
        if self._apart and ice40.single_port_fits(platform, self.depth):
            return ice40.single_port_ram(self)
        m = Module()
        # An asynchronous read port and a register behind it: given a synchronous port, or without
        # no_rw_check, Yosys adds logic that defines reads during writes.
        read = self._memory(m, no_rw_check=1)
        stage = read.data
        for number in range(self.latency):
            register = Signal(self._shape, name=f"read_{number}", reset_less=True)
            m.d.sync += register.eq(stage)
            stage = register
        m.d.comb += self.read_data.eq(stage)
        return m


class LutRam(_Ram):
    """Distributed RAM: `read_data` shows the word at `read_addr` in the same cycle; one write and
    one read a cycle.

    A write shows from the next cycle on. Contents are not reset; they start as zeros.

    On ECP5 it maps to TRELLIS_DPR16X4, 16 words of four bits each, and multiplexers above that.
    iCE40 has no such memory. From 8 words on it is block RAM there, read in the middle of the
    cycle: let the address come from registers. Below that it is flip-flops.

    Args:
        shape: of a word.
        depth: words, at least 2.

    Raises:
        ValueError: depth below 2.
    """

    def elaborate(self, platform):
        m = Module()
        domain, attrs = "comb", {}
        if family_of(platform) == "iCE40" and self.depth >= 8:
            domain = "falling"
            m.domains.falling = ClockDomain(clk_edge="neg", reset_less=True, local=True)
            m.d.comb += ClockSignal("falling").eq(ClockSignal())
        if family_of(platform) == "ecp5":  # with a register behind it, too
            attrs["ram_style"] = "distributed"
        m.d.comb += self.read_data.eq(self._memory(m, domain, **attrs).data)
        return m

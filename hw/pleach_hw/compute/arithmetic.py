"""Codebook lookup, multiplication, accumulation."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.pipeline import LUT_CODEBOOK, accumulator_latency, held_codes
from pleach_hw.buses import CodebookBus
from pleach_hw.layouts import codebook_base_shape, entry_layout
from pleach_hw.primitives import BlockRam, LutRam, Multiplier, delay
from pleach_hw.primitives.delay import delays

# Largest ring of accumulators in LUT RAM: forwarding to a larger one in block RAM takes less.
LUT_RING = 64


class ArithmeticUnit(wiring.Component):
    """Multiplies and accumulates an entry, or drains a row, every cycle; nothing ever waits.

    An operation begins with `mac` or `drain`, never both; `activation`, `parity` and
    `codebook_base`, or `drain_row` and `drain_parity`, belong to that cycle, `entry` follows
    `ram_latency` cycles later. With a map memory there is `base` in place of the parities: the
    accumulators are a ring, `drain_row` is a word of it, and the entry's row counts from `base`.
    Operations take effect in the order in which they begin. A
    drain shows its row's accumulator as `drained`, with `drained_valid`, `accumulator_latency`
    cycles later and leaves 0 in it. Sums wrap; the compiler proves that none does
    (docs/numerics.md).

    Reset drops the operations begun; accumulators and codebook stay. The codebook is written
    through `codebook`, only while no MAC is on its way.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        row = range(config.accumulators)
        where = {"base": In(row)} if config.maps else {"parity": In(1), "drain_parity": In(1)}
        super().__init__(
            {
                "mac": In(1),
                "activation": In(signed(16)),
                "codebook_base": In(codebook_base_shape(config)),
                "entry": In(entry_layout(config)),
                "drain": In(1),
                "drain_row": In(row),
                **where,
                "drained": Out(signed(config.accumulator_bits)),
                "drained_valid": Out(1),
                "codebook": In(CodebookBus(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        latency = config.ram_latency
        end = accumulator_latency(config)

        # Ages count cycles since the operation began: the entry is there at `latency`, its address
        # in the codebook one later, its value at `looked_up`, product and accumulator at `end`.
        looked_up = 2 * latency + 1
        macs = delays(m, self.mac, end, name="mac", reset_less=False)
        drains = delays(m, self.drain, end, name="drain", reset_less=False)
        activation = delay(m, self.activation, looked_up, name="activation")
        base = delay(m, self.codebook_base, latency, name="base")

        # Codebook
        shape, depth = signed(16), held_codes(config)
        small = depth <= LUT_CODEBOOK
        m.submodules.codebook = codebook = (
            LutRam(shape=shape, depth=depth)
            if small
            else BlockRam(shape=shape, depth=depth, latency=latency)
        )
        code_address = Signal(range(depth), reset_less=True)
        m.d.sync += code_address.eq(base + self.entry.code)
        value = delay(m, codebook.read_data, latency, name="value") if small else codebook.read_data
        # The codebook's one write and one read never meet: it is written before any MAC begins.
        m.d.comb += [
            codebook.read_addr.eq(code_address),
            codebook.write_en.eq(self.codebook.write),
            codebook.write_addr.eq(self.codebook.address),
            codebook.write_data.eq(self.codebook.value),
        ]

        # Product
        m.submodules.multiplier = multiplier = Multiplier(width_a=16, width_b=16)
        m.d.comb += [multiplier.a.eq(value), multiplier.b.eq(activation)]
        # A register beside the adder: the multipliers have columns of their own on the chip.
        product = delay(m, multiplier.product, latency - 1, name="product")

        # Row: `address` when it is read, `write_address` when it is written, one cycle later.
        row = self._row(m, drains[latency])
        addresses = delays(m, row, end - latency, name="address")

        # Accumulators: read into `sum_before`, add, write back. An operation on the row of the one
        # before it reads while that one writes, and gets the new sum directly.
        writes = Signal()
        forward, forward_zero = Signal(), Signal()
        before = Signal(signed(config.accumulator_bits), reset_less=True)
        total = (before + product)[: config.accumulator_bits]
        begun = macs[end - 1] | drains[end - 1]
        after = Mux(drains[end], 0, total)
        again = begun & (addresses[-3] == addresses[-2])
        if config.maps and config.accumulators > LUT_RING:
            read = self._ring(m, addresses, begun, drains[end - 1], writes, total, after)
        else:
            m.submodules.accumulators = accumulators = LutRam(
                shape=signed(config.accumulator_bits), depth=config.accumulators
            )
            read = _rewrite(m, accumulators, addresses[-2], addresses[-1], writes, after)
        m.d.sync += [
            writes.eq(begun),
            forward.eq(again),
            forward_zero.eq(again & drains[end - 1]),
            before.eq(Mux(forward, total if latency > 1 else after, read)),
        ]
        # Where a cycle is short, the adder is one table away from `before`, and it is known by then
        # that the zero of a drain goes there.
        if latency > 1:
            with m.If(forward_zero):
                m.d.sync += before.eq(0)
        m.d.comb += [self.drained.eq(before), self.drained_valid.eq(drains[end])]
        return m

    def _row(self, m, drains):
        """The accumulator of the operation that began `ram_latency` cycles ago; `drains`, if it is
        a drain."""
        latency = self._config.ram_latency
        if self._config.maps:
            base = delay(m, Mux(self.drain, self.drain_row, self.base), latency, name="row_base")
            return (base + Mux(drains, 0, self.entry.row))[: len(base)]
        # The layer that uses the memory from the top has its address inverted.
        parity = delay(m, Mux(self.drain, self.drain_parity, self.parity), latency, name="parity")
        drain_row = delay(m, self.drain_row, latency, name="drain_row")
        return Mux(drains, drain_row, self.entry.row) ^ parity.replicate(len(drain_row))

    def _ring(self, m, addresses, begun, drains, writes, total, after):
        """The accumulators in block RAM: what is read into `sum_before`.

        It is read two cycles ahead, so that what the operations two and three before wrote comes
        from registers: `recent`, chosen of both a cycle early.
        """
        shape = signed(self._config.accumulator_bits)
        m.submodules.accumulators = ring = BlockRam(
            shape=shape, depth=self._config.accumulators, latency=2
        )
        second, second_zero, third, is_recent = (
            Signal(name=name) for name in ("second", "second_zero", "third", "is_recent")
        )
        written = Signal(shape, reset_less=True)
        recent = Signal(shape, reset_less=True)
        same = begun & (addresses[-4] == addresses[-2])
        m.d.sync += [
            second.eq(same),
            second_zero.eq(same & drains),
            third.eq(writes & (addresses[-4] == addresses[-1])),
            is_recent.eq(second | third),
            written.eq(after),
            recent.eq(Mux(second, total, written)),
        ]
        with m.If(second_zero):
            m.d.sync += recent.eq(0)
        read = _rewrite(m, ring, addresses[-4], addresses[-1], writes, after)
        return Mux(is_recent, recent, read)


def _rewrite(m, ram, read_address, write_address, writes, value):
    """Connect a memory of accumulators; what it reads."""
    m.d.comb += [
        ram.read_addr.eq(read_address),
        ram.write_en.eq(writes),
        ram.write_addr.eq(write_address),
        ram.write_data.eq(value),
    ]
    return ram.read_data

"""A dense matrix-vector engine, the baseline of `bench/timing.py`.

It has what a dense engine cannot do without and no more, which flatters it: no loader, no
requantisation, weights of 8 bits as they are, and a host that asks for each layer by itself.
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pleach_hw.primitives import BlockRam, Multiplier
from pleach_hw.primitives.delay import delays

RAM_LATENCY = 2
#: Cycles from an activation's address to its product in the accumulator.
LATENCY = RAM_LATENCY + 1 + Multiplier.latency + 1


def dense_cycles(shapes, pes: int) -> int:
    """Cycles of the layers ``(inputs, outputs)``: a MAC a PE and cycle, zeros and all."""
    return sum(inputs * -(-outputs // pes) + LATENCY for inputs, outputs in shapes)


class DenseEngine(wiring.Component):
    """Every PE has a row at a time and multiplies one activation a cycle with its weight.

    Args:
        pes: processing elements.
        weights: places for weights in each.
        inputs: places for activations.

    Ports:
        weight_*: write port of the weights of the PE whose bit is set; a PE has its rows one after
            the other.
        activation_*: write port of the activations.
        start: compute `columns` products a row, from the weight at `base` on.
        done: strobe, `sums` has a row of each PE; it takes no more than the next start.
    """

    def __init__(self, *, pes: int, weights: int, inputs: int):
        self._pes, self._weights, self._inputs = pes, weights, inputs
        super().__init__(
            {
                "weight_write": In(pes),
                "weight_addr": In(range(weights)),
                "weight_data": In(signed(8)),
                "activation_write": In(1),
                "activation_addr": In(range(inputs)),
                "activation_data": In(signed(16)),
                "start": In(1),
                "base": In(range(weights)),
                "columns": In(range(inputs + 1)),
                "done": Out(1),
                "sums": Out(data.ArrayLayout(signed(32), pes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        column = Signal(range(self._inputs))
        address = Signal(range(self._weights))
        last_column = Signal(range(self._inputs))
        active = Signal()
        ends = active & (column == last_column)
        with m.If(self.start):
            m.d.sync += [
                active.eq(1),
                column.eq(0),
                address.eq(self.base),
                last_column.eq(self.columns - 1),
            ]
        with m.Elif(active):
            m.d.sync += [column.eq(column + 1), address.eq(address + 1), active.eq(~ends)]
        valid = delays(m, active, LATENCY - 1, name="valid", reset_less=False)
        first = delays(m, active & (column == 0), LATENCY - 1, name="first")
        done = delays(m, ends, LATENCY, name="done", reset_less=False)
        m.d.comb += self.done.eq(done[-1])

        m.submodules.activations = activations = BlockRam(
            shape=signed(16), depth=self._inputs, latency=RAM_LATENCY
        )
        activation = Signal(signed(16), reset_less=True)
        m.d.sync += activation.eq(activations.read_data)
        m.d.comb += [
            activations.write_en.eq(self.activation_write),
            activations.write_addr.eq(self.activation_addr),
            activations.write_data.eq(self.activation_data),
            activations.read_addr.eq(column),
        ]
        for pe in range(self._pes):
            m.submodules[f"weights_{pe}"] = weights = BlockRam(
                shape=signed(8), depth=self._weights, latency=RAM_LATENCY
            )
            m.submodules[f"multiplier_{pe}"] = multiplier = Multiplier(width_a=16, width_b=8)
            weight = Signal(signed(8), name=f"weight_{pe}", reset_less=True)
            m.d.sync += weight.eq(weights.read_data)
            m.d.comb += [
                weights.write_en.eq(self.weight_write[pe]),
                weights.write_addr.eq(self.weight_addr),
                weights.write_data.eq(self.weight_data),
                weights.read_addr.eq(address),
                multiplier.a.eq(activation),
                multiplier.b.eq(weight),
            ]
            with m.If(valid[-1]):
                before = Mux(first[-1], 0, self.sums[pe])
                m.d.sync += self.sums[pe].eq(before + multiplier.product)
        return m

"""The central control unit: runs the layers of a network one after the other."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach_hw.compute.lnzd import column_width, token_layout
from pleach_hw.load.loader import layer_layout
from pleach_hw.primitives.delay import delays
from pleach_hw.primitives.memory import LutRam


class ControlUnit(wiring.Component):
    """Broadcasts columns to the PEs and starts the drain of each layer (docs/engine.md).

    A layer begins with its bias column, so the PEs have work while its first activations are on
    their way. A group's next column is taken in every cycle in which all its PEs are known to have
    been ready, and broadcast in the one after. When the last one was and no PE has a MAC left to
    issue, the layer is drained; the next one begins at once.

    Ports:
        start: run the `layers` layers of the layer table; tokens may come from now on.
        busy: from start until the last layer was drained, and after reset until the accumulators
            were cleared.
        layer_*: write port of the layer table, while not busy.
        inputs: of the first layer, while not busy.
        i: tokens of every layer in turn, a stream for each group, with the group's column numbers.
        column_valid, column, activation: to the PEs of each group.
        parity, codebook_base: to all PEs.
        ready: all PEs of each group are.
        issued: all PEs are.
        drain_*, clear, clear_busy: to and from the drain unit; `drain_final` says that what is
            drained are the network's outputs.
        cycles_index, cycles: read port of the cycles that each layer took in the last run, from its
            first broadcast to its last row requantised, both included.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        index = range(config.layers)
        token = token_layout(column_width=column_width(config))
        super().__init__(
            {
                "start": In(1),
                "layers": In(range(config.layers + 1)),
                "busy": Out(1, init=1),
                "layer_write": In(1),
                "layer_index": In(index),
                "layer": In(layer_layout(config)),
                "inputs": Out(range(config.most_columns + 1)),
                "i": In(stream.Signature(token)).array(config.groups),
                "column_valid": Out(config.groups),
                "column": Out(data.ArrayLayout(range(config.columns), config.groups)),
                "activation": Out(data.ArrayLayout(signed(16), config.groups)),
                "parity": Out(1),
                "codebook_base": Out(range(config.codebook)),
                "ready": In(config.groups),
                "issued": In(1),
                "drain_start": Out(1),
                "drain_last_row": Out(range(config.most_rows)),
                "drain_shift": Out(6),
                "drain_relu": Out(1),
                "drain_parity": Out(1),
                "drain_final": Out(1),
                "drain_done": In(1),
                "clear": Out(1),
                "clear_busy": In(1),
                "cycles_index": In(index),
                "cycles": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = LutRam(
            shape=layer_layout(self._config), depth=max(2, self._config.layers)
        )
        index = Signal(range(max(2, self._config.layers)))  # its lowest bit is the parity
        layer = table.read_data
        m.d.comb += [
            table.write_en.eq(self.layer_write),
            table.write_addr.eq(self.layer_index),
            table.write_data.eq(self.layer),
            table.read_addr.eq(index),
            self.parity.eq(index[0]),
            self.codebook_base.eq(layer.codebook_base),
            self.inputs.eq(layer.inputs),
        ]

        # The columns broadcast, from registers. The PEs allow for those that are on their way when
        # they have no more room: `ready` comes from afar. A layer's bias needs no asking.
        groups = self._config.groups
        group_bits = (groups - 1).bit_length()
        ready = Signal(groups)
        m.d.sync += ready.eq(self.ready)
        ended = Signal(groups)  # the group's last token of this layer was taken
        m.d.sync += self.column_valid.eq(0)

        # What the PEs say of the MACs left is older than the columns of the last three cycles.
        broadcast = self.column_valid.any()
        recent = delays(m, broadcast, 2, name="broadcast", reset_less=False)
        all_issued = Signal()
        m.d.sync += all_issued.eq(self.issued & ~Cat(recent).any())

        # Cycles since a layer's first broadcast, this one included; and those of the layer that is
        # drained, which overlaps with the next one's broadcasts.
        cycles = Signal(32)
        counting = Signal()
        drains = Signal()  # the drain starts in the next cycle
        drain_cycles = Signal(32)
        drain_index = Signal.like(index)
        m.submodules.layer_cycles = layer_cycles = LutRam(
            shape=32, depth=max(8, self._config.layers)
        )
        m.d.comb += [
            layer_cycles.read_addr.eq(self.cycles_index),
            self.cycles.eq(layer_cycles.read_data),
            layer_cycles.write_addr.eq(drain_index),
            layer_cycles.write_data.eq(drain_cycles),
            layer_cycles.write_en.eq(self.drain_done),
        ]
        counted = counting | broadcast
        m.d.sync += [
            self.drain_start.eq(drains),
            counting.eq(counted),
            cycles.eq(cycles + 1),
            # A cycle late: when the drain starts, `counting` tells of the layer that it is for.
            drain_cycles.eq(Mux(self.drain_start, Mux(counting, cycles, 2), drain_cycles) + 1),
        ]
        with m.If(~counted):
            m.d.sync += cycles.eq(1)

        with m.FSM(init="clear"):
            with m.State("clear"):
                m.d.comb += self.clear.eq(1)
                m.next = "clearing"
            with m.State("clearing"):
                with m.If(~self.clear_busy):
                    m.d.sync += self.busy.eq(0)
                    m.next = "idle"
            with m.State("idle"):
                m.d.sync += index.eq(0)
                with m.If(self.start):
                    m.d.sync += self.busy.eq(1)
                    m.next = "bias"
            with m.State("bias"):
                m.d.sync += [ended.eq(0), counting.eq(0), cycles.eq(1)]
                for group in range(groups):
                    mine = layer.inputs[:group_bits] == group
                    m.d.sync += [
                        self.column_valid[group].eq(layer.bias & mine),
                        self.column[group].eq(layer.column_base + (layer.inputs >> group_bits)),
                        self.activation[group].eq(1 << layer.bias_exponent),
                    ]
                m.next = "activations"
            with m.State("activations"):
                for group, tokens in enumerate(self.i):
                    m.d.comb += tokens.ready.eq(ready[group] & ~ended[group])
                    with m.If(tokens.valid & tokens.ready):
                        m.d.sync += [
                            self.column_valid[group].eq(tokens.p.present),
                            self.column[group].eq(layer.column_base + tokens.p.column),
                            self.activation[group].eq(tokens.p.value),
                            ended[group].eq(tokens.p.last),
                        ]
                with m.If(ended.all()):
                    # The layer before was drained: its last activation has come.
                    m.d.sync += [
                        self.drain_last_row.eq(layer.outputs - 1),
                        self.drain_shift.eq(layer.shift),
                        self.drain_relu.eq(layer.relu),
                        self.drain_parity.eq(self.parity),
                        self.drain_final.eq(index + 1 == self.layers),
                        drain_index.eq(index),
                    ]
                    m.next = "wait"
            with m.State("wait"):
                with m.If(all_issued):
                    m.d.comb += drains.eq(1)
                    with m.If(self.drain_final):
                        m.next = "last drain"
                    with m.Else():
                        m.d.sync += index.eq(index + 1)
                        m.next = "bias"
            with m.State("last drain"):
                with m.If(self.drain_done):
                    m.d.sync += self.busy.eq(0)
                    m.next = "idle"
        return m

"""The engine: all blocks joined, with AXI4-Stream at the edge."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from pleach.engine import EngineConfig
from pleach_hw.compute.control import ControlUnit
from pleach_hw.compute.drain import DrainUnit
from pleach_hw.compute.lnzd import NonZeroDetector, column_width, vector_layout, widened
from pleach_hw.compute.pe import STROBES, ProcessingElement
from pleach_hw.io.host_link import HostLink
from pleach_hw.io.packing import InputUnpack, OutputPack
from pleach_hw.load.loader import Loader
from pleach_hw.primitives import hop


class Engine(wiring.Component):
    """Loads a `.pleach` file and runs its network; docs/engine.md says how to talk to it.

    Ports are AXI4-Stream, 32 bits wide: `s_axis` takes packets, `m_axis` gives one answer to each.
    After reset the accumulators are cleared, `accumulators` cycles, before a packet is taken.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "s_axis_tdata": In(32),
                "s_axis_tvalid": In(1),
                "s_axis_tready": Out(1),
                "s_axis_tlast": In(1),
                "m_axis_tdata": Out(32),
                "m_axis_tvalid": Out(1),
                "m_axis_tready": In(1),
                "m_axis_tlast": Out(1),
            }
        )

    @property
    def config(self) -> EngineConfig:
        return self._config

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.host = host = HostLink(config)
        m.submodules.loader = loader = Loader(config)
        columns = column_width(config)
        m.submodules.unpack = unpack = InputUnpack(lanes=config.vector, column_width=columns)
        lnzd = [
            NonZeroDetector(
                lanes=config.vector // config.groups, column_width=columns, depth=config.vectors
            )
            for _ in range(config.groups)
        ]
        for group, detector in enumerate(lnzd):
            m.submodules[f"lnzd_{group}"] = detector
        m.submodules.control = control = ControlUnit(config)
        m.submodules.drain = drain = DrainUnit(config)
        m.submodules.pack = pack = OutputPack(lanes=config.drained, column_width=columns)
        pes = [ProcessingElement(config) for _ in range(config.pes)]
        for number, pe in enumerate(pes):
            m.submodules[f"pe_{number}"] = pe
        in_groups = [pes[n : n + config.row_pes] for n in range(0, config.pes, config.row_pes)]

        m.d.comb += [
            host.i.p.data.eq(self.s_axis_tdata),
            host.i.p.last.eq(self.s_axis_tlast),
            host.i.valid.eq(self.s_axis_tvalid),
            self.s_axis_tready.eq(host.i.ready),
            self.m_axis_tdata.eq(host.o.p.data),
            self.m_axis_tlast.eq(host.o.p.last),
            self.m_axis_tvalid.eq(host.o.valid),
            host.o.ready.eq(self.m_axis_tready),
        ]

        # What the PEs say comes in two steps, a register in each group first.
        issued, overflow = Signal(config.groups), Signal(config.groups)
        for group, group_pes in enumerate(in_groups):
            m.d.sync += [
                issued[group].eq(Cat(pe.issued for pe in group_pes).all()),
                overflow[group].eq(Cat(pe.overflow for pe in group_pes).any()),
            ]

        # LOAD: the loader fills the PEs and the layer table.
        connect(m, host.load, loader.i)
        m.d.sync += [
            loader.start.eq(host.load_start),
            host.load_done.eq(loader.done),
            loader.overflow.eq(overflow.any()),
        ]
        m.d.comb += [
            host.load_error.eq(loader.error),
            host.load_detail.eq(loader.detail),
            host.convolutional.eq(loader.convolutional),
            control.layer_write.eq(loader.layer_write),
            control.layer_index.eq(loader.layer_index),
            control.layer.eq(loader.layer),
        ]

        def in_each(group, values):
            """What goes to a group's PEs; if there are several, a register in each on the way."""
            if config.groups == 1:
                return values
            return {
                name: hop(m, value, name=f"{name}_{group}", reset_less=name not in STROBES)
                for name, value in values.items()
            }

        for group, group_pes in enumerate(in_groups):
            first = group * config.row_pes
            loaded = {
                "load_clear": loader.load_clear,
                "entry_valid": loader.entry_valid[first : first + config.row_pes],
                "entry": loader.entry,
                "column_end": loader.column_end[group],
                "column_end_column": loader.column,
                "codebook_write": loader.codebook_write,
                "codebook_addr": loader.codebook_addr,
                "codebook_data": loader.codebook_data,
            }
            loaded = in_each(group, loaded)
            entry_valid = loaded.pop("entry_valid")
            for number, pe in enumerate(group_pes):
                m.d.comb += pe.entry_valid.eq(entry_valid[number])
                m.d.comb += [getattr(pe, name).eq(value) for name, value in loaded.items()]

        # RUN: inputs to LNZD, its tokens to the control unit, broadcasts to the PEs.
        connect(m, host.inputs, unpack.i)
        for detector, tokens in zip(lnzd, control.i, strict=True):
            connect(m, detector.o, tokens)
        connect(m, pack.o, host.outputs)
        m.d.comb += [
            unpack.start.eq(host.run_start),
            unpack.inputs.eq(control.inputs),
            unpack.wide.eq(loader.input_type),
            host.inputs_done.eq(unpack.done),
            host.wrong_length.eq(unpack.wrong_length),
            host.busy.eq(control.busy),
            control.start.eq(host.run_start),
            control.layers.eq(loader.layers),
            control.cycles_index.eq(host.cycles_index),
            host.cycles.eq(control.cycles),
            control.ready.eq(Cat(Cat(pe.ready for pe in group).all() for group in in_groups)),
            control.issued.eq(issued.all()),
        ]
        for group, group_pes in enumerate(in_groups):
            standing = {"parity": control.parity, "codebook_base": control.codebook_base}
            standing = in_each(group, standing)
            for pe in group_pes:
                m.d.comb += [
                    pe.column_valid.eq(control.column_valid[group]),
                    pe.column.eq(control.column[group]),
                    pe.activation.eq(control.activation[group]),
                    pe.drain_row.eq(drain.drain_row[group]),
                    pe.drain_parity.eq(drain.drain_parity[group]),
                ]
                m.d.comb += [getattr(pe, name).eq(value) for name, value in standing.items()]
        for number, pe in enumerate(pes):
            m.d.comb += [
                pe.drain_valid.eq(drain.drain_valid[number]),
                drain.drained[number].eq(pe.drained),
            ]

        # The rows drained: outputs of the network, or activations of the next layer.
        m.d.comb += [
            drain.start.eq(control.drain_start),
            drain.last_row.eq(control.drain_last_row),
            drain.shift.eq(control.drain_shift),
            drain.relu.eq(control.drain_relu),
            drain.parity.eq(control.drain_parity),
            drain.clear.eq(control.clear),
            control.drain_done.eq(drain.done),
            control.clear_busy.eq(drain.clear_busy),
            pack.i.payload.eq(drain.o.payload),
        ]
        with m.If(control.drain_final):
            m.d.comb += [
                pack.i.valid.eq(drain.o.valid),
                drain.o.ready.eq(pack.i.ready),
            ]
        vector = Signal(vector_layout(lanes=config.vector, column_width=columns))
        valid, taken = Signal(), Signal()
        drained = drain.o.p
        values, mask, column = widened(
            list(drained.values), drained.mask, drained.column, lanes=config.vector
        )
        with m.If(unpack.o.valid):  # only the first layer has inputs, before anything is drained
            m.d.comb += [vector.eq(unpack.o.payload), valid.eq(1), unpack.o.ready.eq(taken)]
        with m.Elif(~control.drain_final):
            m.d.comb += [
                vector.column.eq(column),
                vector.last.eq(drained.last),
                vector.mask.eq(mask),
                valid.eq(drain.o.valid),
                drain.o.ready.eq(taken),
            ]
            m.d.comb += [vector.values[lane].eq(value) for lane, value in enumerate(values)]

        # Each group gets its columns of a vector, all of them at once.
        m.d.comb += taken.eq(Cat(detector.i.ready for detector in lnzd).all())
        for group, detector in enumerate(lnzd):
            own = range(group, config.vector, config.groups)
            m.d.comb += [
                detector.i.valid.eq(valid & taken),
                detector.i.p.column.eq(vector.column >> (config.groups - 1).bit_length()),
                detector.i.p.last.eq(vector.last),
                detector.i.p.mask.eq(Cat(vector.mask[lane] for lane in own)),
            ]
            m.d.comb += [
                detector.i.p.values[n].eq(vector.values[lane]) for n, lane in enumerate(own)
            ]
        return m

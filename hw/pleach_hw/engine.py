"""The engine: all blocks joined, with AXI4-Stream at the edge."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from pleach.engine import EngineConfig
from pleach.engine.pipeline import MAP_READ, held_codes
from pleach.engine.protocol import Boot
from pleach_hw.buses import StatusBus, deal, share
from pleach_hw.compute.control import ControlUnit
from pleach_hw.compute.drain import DrainUnit
from pleach_hw.compute.group import PeGroup
from pleach_hw.compute.lnzd import NonZeroDetector
from pleach_hw.compute.router import VectorRouter
from pleach_hw.io.host_link import HostLink
from pleach_hw.io.packing import InputUnpack, OutputPack
from pleach_hw.io.status import StatusBank
from pleach_hw.layouts import Sink, column_width
from pleach_hw.load.loader import Loader
from pleach_hw.maps.codebooks import Codebooks
from pleach_hw.maps.control import MapControl, MapInput, MapOutput
from pleach_hw.maps.drain import GroupDrain
from pleach_hw.maps.front import Front
from pleach_hw.maps.memory import MapMemory
from pleach_hw.maps.packer import Packer
from pleach_hw.maps.pool import PoolUnit
from pleach_hw.maps.records import Records
from pleach_hw.maps.vectors import Feeder
from pleach_hw.primitives import hop


class Engine(wiring.Component):
    """Loads a `.pleach` file and runs its network; docs/engine.md says how to talk to it.

    Ports are AXI4-Stream, 32 bits wide: `s_axis` takes packets, `m_axis` gives one answer to each.
    After reset the accumulators are cleared, `accumulators` cycles, before a packet is taken.

    Args:
        config: what it is made of.
        inside: `True` adds ports for what stands around it in a larger system.

    Ports, of one that is inside:
        boot: what became of a network in flash.
        status: the status words; `status.word` is that of `status.index` while `status_ready`,
            which comes some cycles later at most.
    """

    def __init__(self, config: EngineConfig, *, inside: bool = False):
        self._config, self._inside = config, inside
        around = {"boot": In(Boot), "status": In(StatusBus(config)), "status_ready": Out(1)}
        super().__init__(
            (around if inside else {})
            | {
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
        m.submodules.status = status = StatusBank(config)
        m.submodules.loader = loader = Loader(config)
        groups = [PeGroup(config, number=number) for number in range(config.groups)]
        for number, group in enumerate(groups):
            m.submodules[f"group_{number}"] = group

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

        connect(m, host.state, status.state)
        if self._inside:
            m.d.comb += [
                status.boot.eq(self.boot),
                status.read.index.eq(Mux(host.status.take, host.status.index, self.status.index)),
                self.status_ready.eq(~host.status.take),
                self.status.word.eq(status.read.word),
                host.status.word.eq(status.read.word),
            ]
        else:
            connect(m, host.status, status.read)

        # LOAD: the loader fills the PEs and the program.
        connect(m, host.load, loader.i)
        deal(m, loader.pes, [group.load for group in groups])
        m.d.sync += [
            loader.start.eq(host.load_start),
            host.load_done.eq(loader.done),
            host.load_error.eq(loader.error),
            host.load_detail.eq(loader.detail),
            loader.pes.overflow.eq(Cat(group.load.overflow for group in groups).any()),
        ]

        run = self._maps if config.maps else self._vectors
        run(m, host, status, loader, groups)
        return m

    def _codebooks(self, m: Module, loader: Loader, groups: list[PeGroup]) -> Codebooks | None:
        """Codebooks to the PEs: as they are loaded, or as passes begin."""
        books = [group.codebook for group in groups]
        if held_codes(self._config) == self._config.codebook:
            connect(m, loader.codebook, *books)
            return None
        m.submodules.codebooks = codebooks = Codebooks(self._config)
        connect(m, loader.codebook, codebooks.load)
        connect(m, codebooks.pes, *books)
        return codebooks

    def _vectors(
        self, m: Module, host: HostLink, status: StatusBank, loader: Loader, groups: list[PeGroup]
    ) -> None:
        """RUN: inputs, or the rows of the pass before, to non-zero detection; its tokens to the
        control unit; broadcasts to the PEs; their rows to the drain unit."""
        config = self._config
        columns = column_width(config)
        connect(m, loader.codebook, *(group.codebook for group in groups))
        m.submodules.unpack = unpack = InputUnpack(lanes=config.vector, column_width=columns)
        m.submodules.router = router = VectorRouter(config)
        m.submodules.control = control = ControlUnit(config)
        m.submodules.drain = drain = DrainUnit(config)
        m.submodules.pack = pack = OutputPack(lanes=config.drained, column_width=columns)
        connect(m, loader.program, control.program)
        connect(m, status.cycles, control.cycles)
        connect(m, host.inputs, unpack.i)
        connect(m, unpack.o, router.inputs)
        for number, group in enumerate(groups):
            m.submodules[f"lnzd_{number}"] = lnzd = NonZeroDetector(
                lanes=config.vector // config.groups, column_width=columns, depth=config.vectors
            )
            connect(m, router.o[number], lnzd.i)
            connect(m, lnzd.o, control.i[number])
            connect(m, control.broadcast[number], group.broadcast)
            connect(m, drain.groups[number], group.drain)
        connect(m, control.standing, *(group.standing for group in groups))
        connect(m, control.drain, drain.command)
        connect(m, drain.o, router.drained)
        connect(m, router.outputs, pack.i)
        connect(m, pack.o, host.outputs)
        m.d.comb += [
            unpack.start.eq(host.run_start),
            unpack.inputs.eq(control.inputs),
            unpack.wide.eq(loader.input_type),
            router.source.eq(control.source),
            router.sink.eq(control.sink),
            # Outputs keep their place until their words have left the engine.
            drain.back.eq(
                Mux(control.sink == Sink.OUTPUTS, pack.back, drain.o.valid & drain.o.ready)
            ),
            control.start.eq(host.run_start),
            host.inputs_done.eq(unpack.done),
            host.wrong_length.eq(unpack.wrong_length),
            host.busy.eq(control.busy),
        ]

    def _maps(
        self, m: Module, host: HostLink, status: StatusBank, loader: Loader, groups: list[PeGroup]
    ) -> None:
        """RUN: inputs to the map memory; of each pass windows to the fronts, their tokens to the
        PEs, drained and packed back into the memory; at the end the outputs from there."""
        config = self._config
        width = config.maps.bit_length()
        m.submodules.records = records = Records(config)
        m.submodules.control = control = MapControl(config)
        m.submodules.unpack = unpack = InputUnpack(lanes=config.neighbours, column_width=width)
        m.submodules.input = inputs = MapInput(config)
        m.submodules.memory = memory = MapMemory(config, readers=3, writers=2 + config.groups)
        m.submodules.feeder = feeder = Feeder(config)
        m.submodules.pool = pool = PoolUnit(config, latency=MAP_READ)
        m.submodules.output = output = MapOutput(config, latency=MAP_READ)
        m.submodules.pack = pack = OutputPack(lanes=config.neighbours, column_width=width)

        # PLAN, and LOAD by it: one of loader and control has a record shown.
        connect(m, host.plan, records.i)
        connect(m, loader.record, records.record)
        pass_ = records.pass_

        def here(name: str) -> Signal:
            """The record in registers near a block: it stands a cycle before its pass starts."""
            return hop(m, pass_, name=f"pass_{name}")

        m.d.comb += [
            records.start.eq(host.plan_start),
            host.plan_done.eq(records.done),
            host.plan_error.eq(records.error),
            host.plan_detail.eq(records.detail),
            records.fetch.eq(loader.fetch | control.fetch),
            records.hold.eq(control.hold),
            records.index.eq(Mux(control.fetch, control.index, loader.index)),
            loader.pass_.eq(pass_),
            loader.fetched.eq(records.fetched),
            loader.planned.eq(records.planned),
            loader.passes.eq(records.passes),
        ]

        connect(m, host.inputs, unpack.i)
        connect(m, unpack.o, inputs.i)
        connect(m, output.o, pack.i)
        connect(m, pack.o, host.outputs)
        connect(m, status.cycles, control.cycles)
        connect(m, inputs.write, memory.writes[0])
        connect(m, pool.write, memory.writes[1])
        m.d.comb += [
            unpack.start.eq(host.run_start),
            unpack.inputs.eq(records.inputs),
            unpack.wide.eq(loader.input_type),
            host.inputs_done.eq(unpack.done),
            host.wrong_length.eq(unpack.wrong_length),
            host.busy.eq(control.busy),
            inputs.at.eq(records.input_at),
            output.at.eq(records.output_at),
            output.number.eq(records.outputs),
            output.start.eq(control.output_start),
            control.output_done.eq(output.done),
            control.start.eq(host.run_start),
            control.passes.eq(records.passes),
            control.inputs_done.eq(inputs.done),
            control.fetched.eq(records.fetched),
            control.kind.eq(pass_.kind),
            control.array_done.eq(feeder.done),
            feeder.start.eq(control.array_start),
            feeder.pass_.eq(here("feeder")),
            memory.reads[0].eq(feeder.address),
            memory.reads[1].eq(output.address),
            memory.reads[2].eq(pool.address),
            pool.start.eq(control.pool_start),
            pool.pass_.eq(here("pool")),
            pool.values.eq(memory.values),
            control.pool_done.eq(pool.done),
            feeder.values.eq(memory.values),
            output.values.eq(memory.values),
        ]
        codebooks = self._codebooks(m, loader, groups)
        if codebooks is not None:
            m.d.comb += [
                codebooks.start.eq(control.copy),
                codebooks.base.eq(pass_.codebook_base),
            ]
        clearing = []
        for number, group in enumerate(groups):
            m.submodules[f"front_{number}"] = front = Front(config)
            m.submodules[f"drain_{number}"] = drain = GroupDrain(config, number=number)
            m.submodules[f"packer_{number}"] = packer = Packer(config, number=number)
            share(m, feeder.pixels, front.pixels)
            share(m, feeder.vectors, front.vectors, but={"valid"})
            connect(m, front.broadcast, group.broadcast)
            connect(m, feeder.units[number], drain.units)
            connect(m, drain.windows, group.windows)
            connect(m, drain.pes, group.drain)
            connect(m, packer.write, memory.writes[2 + number])
            if config.scales:
                share(m, loader.scales, drain.scales)
            clearing.append(drain.clear_busy)
            m.d.comb += [
                front.start.eq(control.array_start),
                front.pass_.eq(here(f"front_{number}")),
                front.vectors.valid.eq(feeder.vectors.valid[number]),
                feeder.back[number].eq(front.back),
                feeder.freed[number].eq(drain.freed),
                feeder.written[number].eq(packer.written),
                drain.start.eq(control.array_start),
                drain.pass_.eq(here(f"drain_{number}")),
                drain.back.eq(packer.back),
                drain.clear.eq(control.clear),
                packer.start.eq(control.array_start),
                packer.place_valid.eq(drain.place_valid),
                packer.place.eq(drain.place),
                packer.values_valid.eq(drain.values_valid),
                packer.values.eq(drain.values),
            ]
            if codebooks is None:
                m.d.comb += group.standing.codebook_base.eq(pass_.codebook_base)
        m.d.comb += control.clear_busy.eq(Cat(clearing).any())

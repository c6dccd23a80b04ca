"""The central control unit: runs the passes of a program one after the other."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach_hw.buses import BroadcastBus, CyclesBus, DrainCommandBus, ProgramBus, StandingBus
from pleach_hw.layouts import Sink, Source, column_width, pass_layout, token_layout
from pleach_hw.primitives.delay import delays
from pleach_hw.primitives.memory import LutRam


class PassClock(wiring.Component):
    """Counts the cycles of each pass, from its first broadcast, or where it has none from the cycle
    before its drain starts, to its last row requantised, both included. The drain of a pass
    overlaps with the broadcasts of the next one. Reset leaves what was counted.

    Ports:
        begin: the columns broadcast from the next cycle on are another pass's.
        broadcast: a column is.
        drain: the drain of the pass before starts; in the cycle of `begin`, or without one.
        done: the drain's last cycle.
        index: the number of the pass that is drained, at `done`.
        read: what was counted.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "begin": In(1),
                "broadcast": In(1),
                "drain": In(1),
                "done": In(1),
                "index": In(range(max(2, config.layers))),
                "read": In(CyclesBus(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = LutRam(shape=32, depth=max(8, self._config.layers))
        cycles, drain_cycles = Signal(32), Signal(32)
        counting = Signal()
        m.d.comb += [
            ram.read_addr.eq(self.read.index),
            self.read.cycles.eq(ram.read_data),
            ram.write_addr.eq(self.index),
            ram.write_data.eq(drain_cycles),
            ram.write_en.eq(self.done),
        ]
        counted = counting | self.broadcast
        m.d.sync += [
            counting.eq(counted),
            cycles.eq(cycles + 1),
            # A cycle late: when the drain starts, `counting` tells of the pass that it is for.
            drain_cycles.eq(Mux(self.drain, Mux(counting, cycles, 2), drain_cycles) + 1),
        ]
        with m.If(~counted):
            m.d.sync += cycles.eq(1)
        with m.If(self.begin):
            m.d.sync += [counting.eq(0), cycles.eq(1)]
        return m


class ControlUnit(wiring.Component):
    """Broadcasts columns to the PEs and starts the drain of each pass (docs/engine.md).

    A pass begins with its bias column, so the PEs have work while its first activations are on
    their way. A group's next column is taken in every cycle in which all its PEs are known to have
    been ready, and broadcast in the one after. When the last one was and no PE has a MAC left to
    issue, the pass is drained; the next one begins at once. What a pass does is in its record
    alone (`pass_layout`).

    Ports:
        program: write port of the program, while not busy.
        start: run the program; tokens may come from now on.
        busy: from start until the last pass was drained, and after reset until the accumulators
            were cleared.
        inputs: of the first pass, while not busy.
        source: of the activations of the pass that runs.
        sink: of the rows that are drained.
        i: tokens of every pass in turn, a stream for each group, with the group's column numbers.
        broadcast: to the PEs of each group.
        standing: to all PEs.
        drain: to the drain unit.
        cycles: read port of what each pass of the last run took.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        token = token_layout(column_width=column_width(config))
        super().__init__(
            {
                "program": In(ProgramBus(config)),
                "start": In(1),
                "busy": Out(1, init=1),
                "inputs": Out(range(config.most_columns + 1)),
                "source": Out(Source),
                "sink": Out(Sink),
                "i": In(stream.Signature(token)).array(config.groups),
                "broadcast": Out(BroadcastBus(config)).array(config.groups),
                "standing": Out(StandingBus(config)),
                "drain": Out(DrainCommandBus(config)),
                "cycles": In(CyclesBus(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.program = program = LutRam(
            shape=pass_layout(config), depth=max(2, config.layers)
        )
        index = Signal(range(max(2, config.layers)))
        current = program.read_data
        m.d.comb += [
            program.write_en.eq(self.program.write),
            program.write_addr.eq(self.program.index),
            program.write_data.eq(self.program.pass_),
            program.read_addr.eq(index),
            self.standing.parity.eq(current.parity),
            self.standing.codebook_base.eq(current.codebook_base),
            self.inputs.eq(current.inputs),
            self.source.eq(current.source),
        ]

        # The columns broadcast, from registers. The PEs allow for those that are on their way when
        # they have no more room: `ready` comes from afar. A bias needs no asking.
        group_bits = (config.groups - 1).bit_length()
        ready = Signal(config.groups)
        m.d.sync += ready.eq(Cat(group.ready for group in self.broadcast))
        ended = Signal(config.groups)  # the group's last token of this pass was taken
        m.d.sync += [group.valid.eq(0) for group in self.broadcast]

        # What the PEs say of the MACs left is older than the columns of the last three cycles.
        broadcast = Cat(group.valid for group in self.broadcast).any()
        recent = delays(m, broadcast, 2, name="broadcast", reset_less=False)
        issued = Cat(group.issued for group in self.broadcast).all()
        all_issued = Signal()
        m.d.sync += all_issued.eq(issued & ~Cat(recent).any())

        drains = Signal()  # the drain starts in the next cycle
        drain_index = Signal.like(index)
        m.submodules.clock = clock = PassClock(config)
        wiring.connect(m, wiring.flipped(self.cycles), clock.read)
        m.d.comb += [
            clock.broadcast.eq(broadcast),
            clock.drain.eq(self.drain.start),
            clock.done.eq(self.drain.done),
            clock.index.eq(drain_index),
        ]
        m.d.sync += self.drain.start.eq(drains)

        with m.FSM(init="clear"):
            with m.State("clear"):
                m.d.comb += self.drain.clear.eq(1)
                m.next = "clearing"
            with m.State("clearing"):
                with m.If(~self.drain.clear_busy):
                    m.d.sync += self.busy.eq(0)
                    m.next = "idle"
            with m.State("idle"):
                m.d.sync += index.eq(0)
                with m.If(self.start):
                    m.d.sync += self.busy.eq(1)
                    m.next = "bias"
            with m.State("bias"):
                m.d.comb += clock.begin.eq(1)
                m.d.sync += ended.eq(0)
                for number, group in enumerate(self.broadcast):
                    mine = current.inputs[:group_bits] == number
                    m.d.sync += [
                        group.valid.eq(current.bias & mine),
                        group.column.eq(current.column_base + (current.inputs >> group_bits)),
                        group.activation.eq(1 << current.bias_exponent),
                    ]
                m.next = "activations"
            with m.State("activations"):
                for number, (tokens, group) in enumerate(zip(self.i, self.broadcast, strict=True)):
                    m.d.comb += tokens.ready.eq(ready[number] & ~ended[number])
                    with m.If(tokens.valid & tokens.ready):
                        m.d.sync += [
                            group.valid.eq(tokens.p.present),
                            group.column.eq(current.column_base + tokens.p.column),
                            group.activation.eq(tokens.p.value),
                            ended[number].eq(tokens.p.last),
                        ]
                with m.If(ended.all()):
                    # The pass before was drained: its last activation has come.
                    m.d.sync += [
                        self.drain.last_row.eq(current.rows - 1),
                        self.drain.shift.eq(current.shift),
                        self.drain.relu.eq(current.relu),
                        self.drain.parity.eq(current.parity),
                        self.sink.eq(current.sink),
                        drain_index.eq(index),
                    ]
                    m.next = "wait"
            with m.State("wait"):
                with m.If(all_issued):
                    m.d.comb += drains.eq(1)
                    with m.If(current.last):
                        m.next = "last drain"
                    with m.Else():
                        m.d.sync += index.eq(index + 1)
                        m.next = "bias"
            with m.State("last drain"):
                with m.If(self.drain.done):
                    m.d.sync += self.busy.eq(0)
                    m.next = "idle"
        return m

"""The run of a program over maps: inputs in, passes one after the other, outputs out."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.maps import PassKind
from pleach.engine.pipeline import copy_wait
from pleach_hw.buses import CyclesBus, MapWriteBus
from pleach_hw.layouts import vector_layout
from pleach_hw.primitives.memory import LutRam


class MapControl(wiring.Component):
    """Runs the passes of the plan one after the other. While one runs, or the inputs come, the
    record of the next one is fetched.

    Ports:
        start: run; inputs may come from now on.
        busy: from start until the outputs were read, and after reset until the rings were cleared.
        passes: of the plan.
        inputs_done: strobe, the last input is written.
        fetch, index, fetched: record number `index` is asked for, and stands.
        hold: the record of the pass that runs goes on to stand.
        kind: of the pass that stands.
        copy: strobe, its codebook is copied to the PEs.
        array_start, array_done, pool_start, pool_done: strobes, of the pass.
        output_start, output_done: strobes, of the reading of the outputs.
        clear, clear_busy: of the rings.
        cycles: read port of what each pass of the last run took, from its start to its last value
            written.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        strobes = {
            f"{who}_{what}": direction(1)
            for who in ("array", "pool", "output")
            for what, direction in (("start", Out), ("done", In))
        }
        super().__init__(
            {
                "start": In(1),
                "busy": Out(1, init=1),
                "passes": In(8),
                "inputs_done": In(1),
                "fetch": Out(1),
                "index": Out(range(config.layers + 1)),
                "fetched": In(1),
                "hold": Out(1),
                "kind": In(PassKind),
                "copy": Out(1),
                **strobes,
                "clear": Out(1),
                "clear_busy": In(1),
                "cycles": In(CyclesBus(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.ram = ram = LutRam(shape=32, depth=max(8, self._config.layers))
        cycles = Signal(32)
        running = Signal.like(self.index)
        last = Signal()  # no other pass follows
        done = self.array_done | self.pool_done
        wait = copy_wait(self._config)
        waited = Signal(range(wait + 2))
        m.d.comb += [
            ram.read_addr.eq(self.cycles.index),
            self.cycles.cycles.eq(ram.read_data),
            ram.write_addr.eq(running),
            ram.write_data.eq(cycles),
        ]
        # What goes all over the chip comes out of registers: a pass starts in state "start".
        starts = Signal()
        m.d.sync += [
            cycles.eq(cycles + 1),
            self.fetch.eq(0),
            self.pool_start.eq(starts & (self.kind == PassKind.POOL)),
            self.array_start.eq(starts & (self.kind != PassKind.POOL)),
        ]
        with m.FSM(init="clear"):
            with m.State("clear"):
                m.d.comb += self.clear.eq(1)
                m.next = "clearing"
            with m.State("clearing"):
                with m.If(~self.clear_busy):
                    m.d.sync += self.busy.eq(0)
                    m.next = "idle"
            with m.State("idle"):
                m.d.sync += self.index.eq(0)
                with m.If(self.start):
                    m.d.sync += [self.busy.eq(1), self.fetch.eq(1)]
                    m.next = "inputs"
            with m.State("inputs"):
                with m.If(self.inputs_done):
                    m.next = "fetching"
            with m.State("fetching"):
                m.d.sync += waited.eq(1)
                with m.If(self.fetched):
                    m.next = "wait" if wait else "start"
                    m.d.comb += self.copy.eq(1)
                    if not wait:
                        m.d.comb += starts.eq(1)
            if wait:
                with m.State("wait"):
                    m.d.sync += waited.eq(waited + 1)
                    with m.If(waited == wait):
                        m.d.comb += starts.eq(1)
                        m.next = "start"
            with m.State("start"):
                m.d.sync += [
                    cycles.eq(1),
                    running.eq(self.index),
                    self.index.eq(self.index + 1),
                    last.eq(self.index + 1 == self.passes),
                    self.fetch.eq(self.index + 1 != self.passes),
                ]
                m.d.sync += self.hold.eq(1)
                m.next = "run"
            with m.State("run"):
                with m.If(done):
                    m.d.sync += self.hold.eq(0)
                    m.d.comb += ram.write_en.eq(1)
                    m.next = "fetching"
                    with m.If(last):
                        m.next = "outputs"
            with m.State("outputs"):
                m.d.comb += self.output_start.eq(1)
                m.next = "answer"
            with m.State("answer"):
                with m.If(self.output_done):
                    m.d.sync += self.busy.eq(0)
                    m.next = "idle"
        return m


class MapInput(wiring.Component):
    """Writes a network's inputs into the map memory, a vector a cycle.

    Ports:
        at: where they begin, a multiple of `neighbours`.
        i: vectors of `neighbours` lanes, which begin at multiples of as many; always taken.
        write: to the map memory.
        done: strobe, the last one is on its way: it is written before any read that begins later.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        lanes = config.neighbours
        vector = vector_layout(lanes=lanes, column_width=config.maps.bit_length())
        super().__init__(
            {
                "at": In(range(config.maps)),
                "i": In(stream.Signature(vector)),
                "write": Out(MapWriteBus(config)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lanes = self._config.neighbours
        bits = (lanes - 1).bit_length()
        m.d.comb += self.i.ready.eq(1)
        m.d.sync += [
            self.done.eq(self.i.valid & self.i.p.last),
            self.write.enables.eq(Mux(self.i.valid, self.i.p.mask, 0)),
            self.write.row.eq(Mux(self.i.valid, (self.i.p.column + self.at) >> bits, 0)),
        ]
        for number in range(lanes):
            value = Mux(self.i.valid, self.i.p.values[number], 0)
            m.d.sync += self.write.values[number].eq(value)
        return m


class MapOutput(wiring.Component):
    """Reads a network's outputs out of the map memory.

    Args:
        latency: cycles from an address to its values.

    Ports:
        start: strobe; `at`, where they begin, a multiple of `neighbours`, and their `number` stand.
        address, values: read port of the map memory; the address is 0 while nothing is read.
        o: vectors of `neighbours` lanes.
        done: strobe, the last one was taken.
    """

    def __init__(self, config: EngineConfig, *, latency: int):
        self._config = config
        self._latency = latency
        lanes = config.neighbours
        vector = vector_layout(lanes=lanes, column_width=config.maps.bit_length())
        super().__init__(
            {
                "start": In(1),
                "at": In(range(config.maps)),
                "number": In(range(config.maps + 1)),
                "address": Out(range(config.maps)),
                "values": In(data.ArrayLayout(signed(16), lanes)),
                "o": Out(stream.Signature(vector)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lanes = self._config.neighbours
        left = Signal.like(self.number)
        vector = self.o.p
        last = left <= lanes
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += [self.address.eq(self.at), left.eq(self.number)]
                m.next = "wait 0"
            for cycle in range(self._latency):
                with m.State(f"wait {cycle}"):
                    m.next = f"wait {cycle + 1}" if cycle + 1 < self._latency else "read"
            with m.State("read"):
                # All that depends on `ready`, which comes late, is the state.
                m.d.sync += [
                    vector.values.eq(self.values),
                    vector.mask.eq(Cat(left > lane for lane in range(lanes))),
                    vector.last.eq(last),
                    left.eq(left - lanes),
                    self.address.eq(Mux(last, 0, self.address + lanes)),
                ]
                m.next = "offer"
            with m.State("offer"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "wait 0"
                    with m.If(vector.last):
                        m.d.comb += self.done.eq(1)
                        m.next = "idle"
        return m

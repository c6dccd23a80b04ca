"""The host link: command packets in, one answer packet for each."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.protocol import (
    COMMAND_WORD,
    MAGIC,
    RESPONSE_WORD,
    Command,
    EngineError,
)
from pleach_hw.buses import HostStateBus, StatusBus, status_words
from pleach_hw.io.status import Stopwatch
from pleach_hw.layouts import PACKET_WORD, layout


class HostLink(wiring.Component):
    """Takes LOAD, RUN and STATUS packets one after the other and answers each (docs/engine.md).

    Words pass through it combinationally. After a reset, or what is no command, it discards up to
    the end of the packet.

    Ports:
        i, o: packets in and answers out.
        load, load_start, load_done, load_error, load_detail, convolutional: the loader.
        inputs, run_start, inputs_done, wrong_length: the words of a RUN and their unpacker.
        outputs: the words of a run's outputs, `last` on the last.
        busy: the engine cannot start a run yet.
        state: what the status words say of packets.
        status: read port of the status words.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        packet = stream.Signature(PACKET_WORD)
        super().__init__(
            {
                "i": In(packet),
                "o": Out(packet),
                "load": Out(packet),
                "load_start": Out(1),
                "load_done": In(1),
                "load_error": In(EngineError),
                "load_detail": In(16),
                "convolutional": In(1),
                "inputs": Out(packet),
                "run_start": Out(1),
                "inputs_done": In(1),
                "wrong_length": In(1),
                "outputs": In(packet),
                "busy": In(1),
                "state": Out(HostStateBus()),
                "status": Out(StatusBus(config)),
            }
        )

    def _watches(self, m: Module) -> tuple[Stopwatch, Stopwatch]:
        """The clocks of LOAD and of RUN, which stop at the end of what they time."""
        m.submodules.load_watch = load_watch = Stopwatch()
        m.submodules.run_watch = run_watch = Stopwatch()
        m.d.comb += [
            load_watch.start.eq(self.load.valid & self.load.ready),
            run_watch.start.eq(self.inputs.valid & self.inputs.ready),
            run_watch.clear.eq(self.run_start),
            self.state.load_cycles.eq(load_watch.cycles),
            self.state.latency_cycles.eq(run_watch.cycles),
        ]
        return load_watch, run_watch

    def _refusal(self, m: Module, word: data.View) -> Signal:
        """Why the packet that begins with `word` is refused: `OK` where it is not."""
        refusal = Signal(EngineError)
        last = self.i.p.last
        with m.If(word.magic != MAGIC):
            m.d.comb += refusal.eq(EngineError.BAD_COMMAND)
        with m.Else(), m.Switch(word.command):
            with m.Case(Command.LOAD), m.If(last):
                m.d.comb += refusal.eq(EngineError.LENGTH)
            with m.Case(Command.RUN):
                with m.If(~self.state.model_held):
                    m.d.comb += refusal.eq(EngineError.NO_MODEL)
                with m.Elif(self.convolutional):
                    m.d.comb += refusal.eq(EngineError.UNSUPPORTED)
                with m.Elif(last):
                    m.d.comb += refusal.eq(EngineError.INPUT_LENGTH)
            with m.Case(Command.STATUS), m.If(~last):
                m.d.comb += refusal.eq(EngineError.LENGTH)
            with m.Default():
                m.d.comb += refusal.eq(EngineError.BAD_COMMAND)
        return refusal

    def elaborate(self, platform):
        m = Module()
        word = layout(COMMAND_WORD)(self.i.p.data)
        refusal = self._refusal(m, word)
        command = Signal(8)
        error = Signal(EngineError)
        detail = Signal(16)
        state = self.state
        load_watch, run_watch = self._watches(m)
        for port in (self.load, self.inputs):
            m.d.comb += port.payload.eq(self.i.payload)
        answer = Signal(layout(RESPONSE_WORD))
        m.d.comb += [answer.command.eq(command), answer.error.eq(error), answer.detail.eq(detail)]
        no_data = (error != EngineError.OK) | (command == Command.LOAD)

        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.i.ready.eq(~self.busy)
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += [
                        command.eq(word.command),
                        error.eq(refusal),
                        detail.eq(0),
                        self.status.index.eq(0),
                    ]
                    with m.If(refusal == EngineError.BAD_COMMAND):
                        m.d.sync += command.eq(0)
                    with m.Elif(word.command == Command.LOAD):
                        m.d.comb += load_watch.clear.eq(1)
                        m.d.sync += [state.model_held.eq(0), state.load_error.eq(refusal)]
                    with m.If(refusal != EngineError.OK):
                        m.next = "discard"
                        with m.If(self.i.p.last):
                            m.next = "answer"
                    with m.Else(), m.Switch(word.command):
                        with m.Case(Command.LOAD):
                            m.next = "start load"
                        with m.Case(Command.RUN):
                            m.next = "start run"
                        with m.Default():
                            m.next = "answer"

            with m.State("discard"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid & self.i.p.last):
                    m.next = "answer"

            with m.State("start load"):
                m.d.comb += self.load_start.eq(1)
                m.next = "load"
            with m.State("load"):
                m.d.comb += [
                    self.load.valid.eq(self.i.valid),
                    self.i.ready.eq(self.load.ready),
                ]
                with m.If(self.load_done):
                    m.d.comb += load_watch.stop.eq(1)
                    m.d.sync += [
                        error.eq(self.load_error),
                        detail.eq(self.load_detail),
                        state.load_error.eq(self.load_error),
                        state.model_held.eq(self.load_error == EngineError.OK),
                    ]
                    m.next = "answer"

            with m.State("start run"):
                m.d.comb += self.run_start.eq(1)
                m.next = "run"
            with m.State("run"):
                m.d.comb += [
                    self.inputs.valid.eq(self.i.valid),
                    self.i.ready.eq(self.inputs.ready),
                ]
                with m.If(self.inputs_done):
                    m.next = "computing"
            with m.State("computing"):
                with m.If(self.outputs.valid):
                    m.next = "answer"
                    with m.If(self.wrong_length):
                        m.d.sync += error.eq(EngineError.INPUT_LENGTH)
                        m.next = "drop outputs"
            with m.State("drop outputs"):
                m.d.comb += self.outputs.ready.eq(1)
                with m.If(self.outputs.valid & self.outputs.p.last):
                    m.d.comb += run_watch.stop.eq(1)
                    m.next = "answer"

            with m.State("answer"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.p.data.eq(answer),
                    self.o.p.last.eq(no_data),
                ]
                with m.If(self.o.ready):
                    m.next = "idle"
                    with m.If(~no_data):
                        m.next = "outputs"
                        with m.If(command == Command.STATUS):
                            m.next = "status"
            with m.State("outputs"):
                m.d.comb += [
                    self.o.valid.eq(self.outputs.valid),
                    self.o.payload.eq(self.outputs.payload),
                    self.outputs.ready.eq(self.o.ready),
                ]
                with m.If(self.o.valid & self.o.ready & self.o.p.last):
                    m.d.comb += run_watch.stop.eq(1)
                    m.next = "idle"
            with m.State("status"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.p.data.eq(self.status.word),
                    self.o.p.last.eq(self.status.index == status_words(self._config) - 1),
                ]
                with m.If(self.o.ready):
                    m.d.sync += self.status.index.eq(self.status.index + 1)
                    with m.If(self.o.p.last):
                        m.next = "idle"
        return m

"""The host link: command packets in, one answer packet for each."""

from amaranth.hdl import Module, Signal, Value
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
        load, load_start, load_done, load_error, load_detail: the loader.
        plan, plan_start, plan_done, plan_error, plan_detail: with a map memory, whoever takes the
            plan; as the loader.
        inputs, run_start, inputs_done, wrong_length: the words of a RUN and their unpacker.
        outputs: the words of a run's outputs, `last` on the last.
        busy: the engine cannot start a run yet.
        state: what the status words say of packets.
        status: read port of the status words.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        packet = stream.Signature(PACKET_WORD)
        self._takers = ["load", *(["plan"] if config.maps else [])]
        taken = {
            key: member
            for name in self._takers
            for key, member in {
                name: Out(packet),
                f"{name}_start": Out(1),
                f"{name}_done": In(1),
                f"{name}_error": In(EngineError),
                f"{name}_detail": In(16),
            }.items()
        }
        super().__init__(
            {
                "i": In(packet),
                "o": Out(packet),
                **taken,
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
                with m.Elif(last):
                    m.d.comb += refusal.eq(EngineError.INPUT_LENGTH)
            with m.Case(Command.STATUS), m.If(~last):
                m.d.comb += refusal.eq(EngineError.LENGTH)
            if self._config.maps:
                with m.Case(Command.PLAN), m.If(last):
                    m.d.comb += refusal.eq(EngineError.LENGTH)
            with m.Default():
                m.d.comb += refusal.eq(EngineError.BAD_COMMAND)
        return refusal

    def _taken(
        self, m: Module, taker: str, error: Signal, detail: Signal, watch: Stopwatch
    ) -> None:
        """The states in which a packet goes to the one who takes it, and until it is judged."""
        words, state = getattr(self, taker), self.state
        judged = getattr(self, f"{taker}_error")
        with m.State(f"start {taker}"):
            m.d.comb += getattr(self, f"{taker}_start").eq(1)
            m.next = taker
        with m.State(taker):
            m.d.comb += [words.valid.eq(self.i.valid), self.i.ready.eq(words.ready)]
            with m.If(getattr(self, f"{taker}_done")):
                m.d.sync += [error.eq(judged), detail.eq(getattr(self, f"{taker}_detail"))]
                if taker == "load":
                    m.d.comb += watch.stop.eq(1)
                    m.d.sync += [
                        state.load_error.eq(judged),
                        state.model_held.eq(judged == EngineError.OK),
                    ]
                m.next = "answer"

    def _give(self, m: Module, answer: data.View, no_data: Value) -> None:
        """In a state: offer the first word of an answer."""
        m.d.comb += [self.o.valid.eq(1), self.o.p.data.eq(answer), self.o.p.last.eq(no_data)]
        with m.If(self.o.ready):
            m.next = "idle"
            with m.If(~no_data):
                m.next = "outputs"
                with m.If(answer.command == Command.STATUS):
                    m.d.comb += self.status.take.eq(1)
                    m.next = "status"

    def elaborate(self, platform):
        m = Module()
        word = layout(COMMAND_WORD)(self.i.p.data)
        refusal = self._refusal(m, word)
        command = Signal(8)
        error = Signal(EngineError)
        detail = Signal(16)
        state = self.state
        load_watch, run_watch = self._watches(m)
        for port in (self.inputs, *(getattr(self, taker) for taker in self._takers)):
            m.d.comb += port.payload.eq(self.i.payload)
        answer = Signal(layout(RESPONSE_WORD))
        m.d.comb += [answer.command.eq(command), answer.error.eq(error), answer.detail.eq(detail)]
        # Held, so that a reader of the status words beside this one waits for no host.
        word_held, last_held = Signal(32, reset_less=True), Signal(reset_less=True)
        final = self.status.index == status_words(self._config) - 1
        no_data = (error != EngineError.OK) | (command == Command.LOAD) | (command == Command.PLAN)

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
                    if self._config.maps:  # a model is held with the plan that it was loaded by
                        with m.If(word.command == Command.PLAN):
                            m.d.sync += state.model_held.eq(0)
                    with m.If(refusal != EngineError.OK):
                        m.next = "discard"
                        with m.If(self.i.p.last):
                            m.next = "answer"
                    with m.Else(), m.Switch(word.command):
                        with m.Case(Command.LOAD):
                            m.next = "start load"
                        with m.Case(Command.RUN):
                            m.next = "start run"
                        if self._config.maps:
                            with m.Case(Command.PLAN):
                                m.next = "start plan"
                        with m.Default():
                            m.next = "answer"

            with m.State("discard"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid & self.i.p.last):
                    m.next = "answer"

            for taker in self._takers:
                self._taken(m, taker, error, detail, load_watch)

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
                with m.If(self.wrong_length):  # the outputs are dropped
                    m.d.comb += self.outputs.ready.eq(1)
                    m.d.sync += error.eq(EngineError.INPUT_LENGTH)
                    with m.If(self.outputs.valid & self.outputs.p.last):
                        m.d.comb += run_watch.stop.eq(1)
                        m.next = "answer"
                with m.Elif(self.outputs.valid):
                    m.next = "answer"
                    self._give(m, answer, no_data)

            with m.State("answer"):
                self._give(m, answer, no_data)
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
                    self.o.p.data.eq(word_held),
                    self.o.p.last.eq(last_held),
                ]
                with m.If(self.o.ready):
                    m.d.comb += self.status.take.eq(~last_held)
                    with m.If(last_held):
                        m.next = "idle"
        with m.If(self.status.take):
            m.d.sync += [
                word_held.eq(self.status.word),
                last_held.eq(final),
                self.status.index.eq(self.status.index + 1),
            ]
        return m

"""The host link: command packets in, one answer packet for each."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.protocol import (
    COMMAND_WORD,
    GATEWARE_VERSION,
    MAGIC,
    RESPONSE_WORD,
    STATUS_WORDS,
    Command,
    EngineError,
)
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
        cycles_index, cycles: the cycles of each layer.
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
                "cycles_index": Out(range(config.layers)),
                "cycles": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        command_word = layout(COMMAND_WORD)(self.i.p.data)
        command = Signal(8)
        error = Signal(EngineError)
        detail = Signal(16)
        model_held = Signal()
        loaded_error = Signal(EngineError)

        # --- cycles ------------------------------------------------------------------------------
        load_cycles = Signal(32)
        loading = Signal()
        latency_cycles = Signal(32)
        running = Signal()
        accepted = self.load.valid & self.load.ready
        with m.If(accepted):
            m.d.sync += loading.eq(1)
        with m.If(accepted | loading):
            m.d.sync += load_cycles.eq(load_cycles + 1)
        with m.If(self.inputs.valid & self.inputs.ready):
            m.d.sync += [running.eq(1), latency_cycles.eq(1)]
        with m.If(running):
            m.d.sync += latency_cycles.eq(latency_cycles + 1)

        # --- the status words --------------------------------------------------------------------
        values = {
            "version": GATEWARE_VERSION,
            "model_held": model_held,
            "load_error": loaded_error,
            "lanes": config.drained,
            "load_cycles": load_cycles,
            "latency_cycles": latency_cycles,
        }
        status = []
        for word in STATUS_WORDS:
            value = Signal(layout(word))
            for name in word.fields:
                if not name.startswith("_"):
                    m.d.comb += value[name].eq(values.get(name, getattr(config, name, 0)))
            status.append(Value.cast(value))
        count = len(status) + config.layers
        index = Signal(range(count))
        status_word = Signal(32)
        m.d.comb += self.cycles_index.eq(index - len(status))
        with m.Switch(index):
            for number, value in enumerate(status):
                with m.Case(number):
                    m.d.comb += status_word.eq(value)
            with m.Default():
                m.d.comb += status_word.eq(self.cycles)

        # --- packets -----------------------------------------------------------------------------
        for port in (self.load, self.inputs):
            m.d.comb += port.payload.eq(self.i.payload)
        answer = Signal(layout(RESPONSE_WORD))
        m.d.comb += [answer.command.eq(command), answer.error.eq(error), answer.detail.eq(detail)]
        no_data = (error != EngineError.OK) | (command == Command.LOAD)

        def refuse(why, *, ended):
            """Answer with an error once the packet's last word was taken."""
            m.d.sync += [error.eq(why), detail.eq(0)]
            m.next = "discard"
            with m.If(ended):
                m.next = "answer"

        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.i.ready.eq(~self.busy)
                with m.If(self.i.valid & self.i.ready):
                    last = self.i.p.last
                    m.d.sync += [
                        command.eq(command_word.command),
                        error.eq(EngineError.OK),
                        detail.eq(0),
                        index.eq(0),
                    ]
                    with m.If(command_word.magic != MAGIC):
                        m.d.sync += command.eq(0)
                        refuse(EngineError.BAD_COMMAND, ended=last)
                    with m.Elif(command_word.command == Command.LOAD):
                        m.d.sync += [model_held.eq(0), load_cycles.eq(0)]
                        with m.If(last):
                            m.d.sync += loaded_error.eq(EngineError.LENGTH)
                            refuse(EngineError.LENGTH, ended=last)
                        with m.Else():
                            m.next = "start load"
                    with m.Elif(command_word.command == Command.RUN):
                        with m.If(~model_held):
                            refuse(EngineError.NO_MODEL, ended=last)
                        with m.Elif(self.convolutional):
                            refuse(EngineError.UNSUPPORTED, ended=last)
                        with m.Elif(last):
                            refuse(EngineError.INPUT_LENGTH, ended=last)
                        with m.Else():
                            m.next = "start run"
                    with m.Elif(command_word.command == Command.STATUS):
                        m.next = "answer"
                        with m.If(~last):
                            refuse(EngineError.LENGTH, ended=last)
                    with m.Else():
                        m.d.sync += command.eq(0)
                        refuse(EngineError.BAD_COMMAND, ended=last)

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
                    m.d.sync += [
                        loading.eq(0),
                        error.eq(self.load_error),
                        detail.eq(self.load_detail),
                        loaded_error.eq(self.load_error),
                        model_held.eq(self.load_error == EngineError.OK),
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
                    m.d.sync += running.eq(0)
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
                    m.d.sync += running.eq(0)
                    m.next = "idle"
            with m.State("status"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.p.data.eq(status_word),
                    self.o.p.last.eq(index == count - 1),
                ]
                with m.If(self.o.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(self.o.p.last):
                        m.next = "idle"
        return m

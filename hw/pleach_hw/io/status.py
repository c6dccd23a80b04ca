"""What the engine says of itself: named values, as words."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.protocol import GATEWARE_VERSION, STATUS_WORDS, Boot
from pleach_hw.buses import CyclesBus, HostStateBus, StatusBus, status_words
from pleach_hw.layouts import layout


class StatusBank(wiring.Component):
    """The status words (`pleach.engine.protocol.STATUS_WORDS`), and the cycles of each pass behind
    them; combinational, and nothing is held. Whatever reads words can stand in front of it.

    Ports:
        state: what the host link knows.
        boot: what became of a network in flash, `Boot`.
        cycles: what the control unit counted.
        read: the words.

    Raises:
        ValueError: when it is elaborated: a field of the status words that nothing here gives, or
            the other way round.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "state": In(HostStateBus()),
                "boot": In(Boot),
                "cycles": Out(CyclesBus(config)),
                "read": In(StatusBus(config)),
            }
        )

    def _values(self) -> dict[str, Value | int]:
        config, state = self._config, self.state
        return {
            "version": GATEWARE_VERSION,
            "model_held": state.model_held,
            "boot": self.boot,
            "load_error": state.load_error,
            "pes": config.pes,
            "lanes": config.drained,
            "layers": config.layers,
            "accumulator_bits": config.accumulator_bits,
            "columns": config.columns,
            "entries": config.entries,
            "codebook": config.codebook,
            "accumulators": config.accumulators,
            "queue_depth": config.queue_depth,
            "groups": config.groups,
            "block": config.block,
            "maps": config.maps,
            "neighbours": config.neighbours,
            "entry_rows": config.entry_rows,
            "codes": config.codes,
            "scales": config.scales,
            "load_cycles": state.load_cycles,
            "latency_cycles": state.latency_cycles,
        }

    def elaborate(self, platform):
        m = Module()
        values = self._values()
        fields = {name for word in STATUS_WORDS for name in word.fields if name[0] != "_"}
        if wrong := sorted(fields ^ set(values)):
            raise ValueError(
                f"{', '.join(wrong)}: each field of the status words needs a value in "
                f"StatusBank, and each value a field"
            )
        first = status_words(self._config) - self._config.layers
        m.d.comb += self.cycles.index.eq(self.read.index - first)
        with m.Switch(self.read.index):
            for number, word in enumerate(STATUS_WORDS):
                value = Signal(layout(word), name=f"word_{number}")
                m.d.comb += [value[name].eq(values[name]) for name in word.fields if name in fields]
                with m.Case(number):
                    m.d.comb += self.read.word.eq(value)
            with m.Default():
                m.d.comb += self.read.word.eq(self.cycles.cycles)
        return m


class Stopwatch(wiring.Component):
    """Counts the cycles from a start to a stop, both included. A start while it runs says nothing;
    a reset, and `clear`, which comes while it does not run, set it to 0.
    """

    def __init__(self):
        super().__init__({"clear": In(1), "start": In(1), "stop": In(1), "cycles": Out(32)})

    def elaborate(self, platform):
        m = Module()
        running = Signal()
        with m.If(self.start | running):
            m.d.sync += [self.cycles.eq(self.cycles + 1), running.eq(~self.stop)]
        with m.If(self.clear):
            m.d.sync += self.cycles.eq(0)
        return m

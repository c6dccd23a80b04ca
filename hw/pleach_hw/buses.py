"""Signatures of the bundles that join the engine's blocks, as whoever drives them has them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

from amaranth.hdl import Module, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.maps import RECORD_WORDS
from pleach.engine.pipeline import held_codes
from pleach.engine.protocol import STATUS_WORDS, EngineError
from pleach_hw.layouts import (
    codebook_base_shape,
    entry_layout,
    out_unit_layout,
    pass_layout,
    window_vector_layout,
)
from pleach_hw.primitives import hop


class Bus(wiring.Signature):
    """A bundle. `strobes` are those of its fields that must be none after a reset.

    The loader's need not be: what is on its way then goes to PEs that hold no model any more.
    """

    strobes: ClassVar[frozenset[str]] = frozenset()


class LoadBus(Bus):
    """Weights on their way to `pes` processing elements: all of the engine, a group's, or one.

    Members:
        clear: Out, what was loaded is void.
        entry_valid: Out, a bit for each PE, `entry` is its next one.
        entry: Out, a weight.
        column_end: Out, a bit for each group of PEs, `column` has all its entries there.
        column: Out, the number of the column that ended.
        overflow: In, a PE had no room for an entry since `clear`.
    """

    def __init__(self, config: EngineConfig, *, pes: int):
        super().__init__(
            {
                "clear": Out(1),
                "entry_valid": Out(pes),
                "entry": Out(entry_layout(config)),
                "column_end": Out(max(1, pes // config.row_pes)),
                "column": Out(range(config.columns)),
                "overflow": In(1),
            }
        )


class CodebookBus(Bus):
    """The write port of every PE's codebook; `size` values, by default as many as a PE holds.

    Members:
        write: Out, `value` goes to `address`.
        address, value: Out.
    """

    def __init__(self, config: EngineConfig, *, size: int | None = None):
        super().__init__(
            {
                "write": Out(1),
                "address": Out(range(size or held_codes(config))),
                "value": Out(signed(16)),
            }
        )


class ScaleBus(Bus):
    """The write port of the scales of a layer's rows.

    Members:
        write: Out, `value` is that of local row `row`, where the layer's base is added, of PE `pe`
            of every team.
        pe, row, value: Out.
    """

    def __init__(self, config: EngineConfig):
        super().__init__(
            {
                "write": Out(1),
                "pe": Out(range(config.pes)),
                "row": Out(range(config.scales)),
                "value": Out(signed(16)),
            }
        )


class ProgramBus(Bus):
    """The write port of the program that the control unit runs.

    Members:
        write: Out, `pass_` becomes pass number `index`.
        index, pass_: Out.
    """

    strobes = frozenset({"write"})

    def __init__(self, config: EngineConfig):
        super().__init__(
            {
                "write": Out(1),
                "index": Out(range(config.layers)),
                "pass_": Out(pass_layout(config)),
            }
        )


class RecordBus(Bus):
    """The write port of the records of passes over maps (`pleach.engine.maps`).

    Members:
        write: Out, `data` becomes a word of a record.
        pass_, word: Out, the number of the pass, and of the word in its record.
        data: Out.
    """

    strobes = frozenset({"write"})

    def __init__(self, config: EngineConfig):
        super().__init__(
            {
                "write": Out(1),
                "pass_": Out(range(config.layers)),
                "word": Out(range(RECORD_WORDS)),
                "data": Out(32),
            }
        )


class BroadcastBus(Bus):
    """Columns that go to all PEs of a group.

    Members:
        valid: Out, a column comes; only while `ready`, or so soon after that the PE allows for it.
        column: Out, its number in the group, the base of the pass added.
        activation: Out, what its weights are multiplied by.
        ready: In, further columns are welcome.
        issued: In, no MAC is left to be issued of what was broadcast. Without a map memory.

    With a map memory:
        base: Out, where in the ring the first row of the column's output pixel is.
        last: Out, the column is the last one of a window.
        present: Out, there is a column; without one there is the mark alone.
    """

    strobes = frozenset({"valid"})

    def __init__(self, config: EngineConfig):
        if config.maps:
            more = {"base": Out(range(config.accumulators)), "last": Out(1), "present": Out(1)}
        else:
            more = {"issued": In(1, init=1)}
        super().__init__(
            {
                "valid": Out(1),
                "column": Out(range(config.columns)),
                "activation": Out(signed(16)),
                "ready": In(1, init=1),
                **more,
            }
        )


class StandingBus(Bus):
    """What PEs know of a pass; it stands still until all of its MACs are issued.

    Members:
        parity: Out, which end of the accumulators the rows begin at. Without a map memory.
        codebook_base: Out, the first value in the codebook; no bits where PEs hold that of one
            layer.
    """

    def __init__(self, config: EngineConfig):
        parity = {} if config.maps else {"parity": Out(1)}
        super().__init__({**parity, "codebook_base": Out(codebook_base_shape(config))})


class DrainBus(Bus):
    """Drains of `pes` processing elements: a group's, or one.

    Members:
        valid: Out, a bit for each PE, its `row` is drained.
        row: Out, a local row; with a map memory, its word in the ring.
        parity: Out, which end of the accumulators the rows begin at. Without a map memory.
        drained: In, the sum of each PE, some cycles later; with a map memory 0 in all other cycles,
            so that an OR takes the sums of many.
    """

    strobes = frozenset({"valid"})

    def __init__(self, config: EngineConfig, *, pes: int):
        parity = {} if config.maps else {"parity": Out(1)}
        super().__init__(
            {
                "valid": Out(pes),
                "row": Out(range(config.accumulators)),
                **parity,
                "drained": In(data.ArrayLayout(signed(config.accumulator_bits), pes)),
            }
        )


class WindowsBus(Bus):
    """Windows of output pixels that processing elements have accumulated, a group's or one.

    Members:
        take: Out, the drain of a window starts.
        waiting: In, of a window that was not taken the last MAC is issued, some cycles before.
    """

    strobes = frozenset({"take"})

    def __init__(self):
        super().__init__({"take": Out(1), "waiting": In(1)})


class MapWriteBus(Bus):
    """A row of the map memory that is written, from one of many: all members are 0 in every cycle
    but those of a write, so that the memory takes them all by an OR.

    Members:
        row: Out, the row's number.
        enables: Out, a bit for each value of the row that is written; none, nothing is.
        values: Out.
    """

    strobes = frozenset({"enables"})

    def __init__(self, config: EngineConfig):
        super().__init__(
            {
                "row": Out(range(config.maps // config.neighbours)),
                "enables": Out(config.neighbours),
                "values": Out(data.ArrayLayout(signed(16), config.neighbours)),
            }
        )


class PixelsBus(Bus):
    """The write port of what a column and a place in the ring differ by between the pixels of a
    window.

    Members:
        write: Out, what follows is of pixel `index`.
        index: Out, of pixel (a, b): 4·a + b.
        column: Out, what the pixel's columns are less than those of pixel (0, 0).
        base: Out, what its place in the ring is more.
        bias_column, bias: Out, the column of biases and its activation, which stand.
    """

    strobes = frozenset({"write"})

    def __init__(self, config: EngineConfig):
        super().__init__(
            {
                "write": Out(1),
                "index": Out(4),
                "column": Out(range(config.columns)),
                "base": Out(range(config.accumulators)),
                "bias_column": Out(range(config.columns)),
                "bias": Out(16),
            }
        )


class WindowVectorBus(Bus):
    """Vectors of windows on their way to `fronts` fronts, all of the engine's or one.

    Members:
        valid: Out, a bit for each front that takes `vector`; it has room.
        vector: Out.
    """

    strobes = frozenset({"valid"})

    def __init__(self, config: EngineConfig, *, fronts: int):
        super().__init__({"valid": Out(fronts), "vector": Out(window_vector_layout(config))})


class OutUnitBus(Bus):
    """Windows given to a group, in the order in which its drain finds them accumulated.

    Members:
        valid: Out, a window is given.
        unit: Out, where it goes.
    """

    strobes = frozenset({"valid"})

    def __init__(self, config: EngineConfig):
        super().__init__({"valid": Out(1), "unit": Out(out_unit_layout(config))})


class DrainCommandBus(Bus):
    """What the control unit asks of the drain unit.

    Members:
        start: Out, drain the rows of a pass; what follows stands still until `done`.
        last_row: Out, the number of its last row.
        shift, relu: Out, its requantisation.
        parity: Out, which end of the accumulators its rows begin at.
        done: In, its last vector enters the queue at the output.
        clear: Out, drain every row of every PE and give nothing.
        clear_busy: In, that goes on.
    """

    strobes = frozenset({"start", "clear"})

    def __init__(self, config: EngineConfig):
        super().__init__(
            {
                "start": Out(1),
                "last_row": Out(range(config.most_rows)),
                "shift": Out(6),
                "relu": Out(1),
                "parity": Out(1),
                "done": In(1),
                "clear": Out(1),
                "clear_busy": In(1),
            }
        )


class CyclesBus(Bus):
    """The read port of what the passes of the last run took; combinational.

    Members:
        index: Out, the number of a pass.
        cycles: In, from its first broadcast to its last row requantised, both included.
    """

    def __init__(self, config: EngineConfig):
        super().__init__({"index": Out(range(config.layers)), "cycles": In(32)})


class HostStateBus(Bus):
    """What the host link knows and the status words say.

    Members:
        model_held: Out, there is a model to run.
        load_error: Out, what became of the last LOAD.
        load_cycles: Out, what it took, from the first word of the file on.
        latency_cycles: Out, what the last RUN took, from the first word of inputs to the last one
            of outputs.
    """

    def __init__(self):
        super().__init__(
            {
                "model_held": Out(1),
                "load_error": Out(EngineError),
                "load_cycles": Out(32),
                "latency_cycles": Out(32),
            }
        )


class StatusBus(Bus):
    """The read port of the status words; combinational.

    Members:
        index: Out, the number of a word.
        take: Out, the word is made use of in this cycle.
        word: In, the word.
    """

    def __init__(self, config: EngineConfig):
        super().__init__(
            {"index": Out(range(status_words(config))), "take": Out(1), "word": In(32)}
        )


def status_words(config: EngineConfig) -> int:
    """How many words an engine says of itself: one for each pass comes last."""
    return len(STATUS_WORDS) + config.layers


def hopped(m: Module, bus: wiring.PureInterface, *, name: str) -> wiring.PureInterface:
    """A component's port `bus` a cycle later, as whoever drives it has it: what comes in has a
    register here (`hop`), so that it may come from far away; what goes out has none."""
    signature = bus.signature.flip()
    here = signature.create(path=(name,))
    for field, member in signature.members.items():
        outside = getattr(bus, field)
        if member.flow is Out:
            held = field in signature.strobes
            setattr(here, field, hop(m, outside, name=f"{name}_{field}", reset_less=not held))
        else:
            m.d.comb += outside.eq(getattr(here, field))
    return here


def deal(m: Module, bus: wiring.PureInterface, parts: Sequence[wiring.PureInterface]) -> None:
    """Drive the `LoadBus` of each of `parts`, groups or PEs in their order, from one for all."""
    for number, part in enumerate(parts):
        m.d.comb += [
            part.clear.eq(bus.clear),
            part.entry_valid.eq(bus.entry_valid.word_select(number, len(part.entry_valid))),
            part.entry.eq(bus.entry),
            part.column_end.eq(bus.column_end[number % len(bus.column_end)]),
            part.column.eq(bus.column),
        ]


def share(
    m: Module,
    bus: wiring.PureInterface,
    part: wiring.PureInterface,
    *,
    but: Collection[str] = (),
) -> None:
    """Drive a part's bus from a component's port for all parts, but for those fields."""
    for name, member in part.signature.members.items():
        if member.flow is In and name not in but:
            m.d.comb += getattr(part, name).eq(getattr(bus, name))

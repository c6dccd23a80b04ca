"""The way of the vectors: to non-zero detection, or out of the engine."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach_hw.layouts import Sink, Source, column_width, vector_layout


def widened(
    values: Sequence[Value], mask: Value, column: Value, *, lanes: int
) -> tuple[list[Value], Value, Value]:
    """Neighbouring activations in their places of a vector of `lanes` lanes.

    `column` is a multiple of the number of `values`, of the vector one of `lanes`. Values stand in
    every place and only the mask tells which it is, so this costs a decoder and no multiplexer.

    Returns the vector's values, its mask and its column.
    """
    width = len(values)
    place = column[(width - 1).bit_length() : (lanes - 1).bit_length()]
    placed = Cat(mask[lane % width] & (place == lane // width) for lane in range(lanes))
    aligned = Cat(Const(0, (lanes - 1).bit_length()), column[(lanes - 1).bit_length() :])
    return [values[lane % width] for lane in range(lanes)], placed, aligned


class VectorRouter(wiring.Component):
    """Takes a vector a cycle from `source` to the non-zero detectors, and drained vectors to
    `sink`; all in the same cycle, and nothing is held, so there is nothing to reset.

    Column `c` of a vector goes to group ``c % groups``. A vector goes to all groups at once: `o` is
    valid in no group before all of them are ready.

    Ports:
        source: the vectors that go to `o`.
        sink: what drained vectors are: outputs, or activations of the next pass. Those for the next
            pass wait until that one's `source` says that it takes them.
        inputs, drained: vectors of `config.vector` and of `config.drained` lanes.
        outputs: drained vectors, while they are outputs.
        o: vectors of each group's columns, with their numbers in the group.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        columns = column_width(config)
        wide = vector_layout(lanes=config.vector, column_width=columns)
        drained = vector_layout(lanes=config.drained, column_width=columns)
        own = vector_layout(lanes=config.vector // config.groups, column_width=columns)
        super().__init__(
            {
                "source": In(Source),
                "sink": In(Sink),
                "inputs": In(stream.Signature(wide)),
                "drained": In(stream.Signature(drained)),
                "outputs": Out(stream.Signature(drained)),
                "o": Out(stream.Signature(own)).array(config.groups),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        vector = Signal.like(self.inputs.payload)
        valid, taken = Signal(), Signal()
        m.d.comb += self.outputs.payload.eq(self.drained.payload)
        with m.If(self.sink == Sink.OUTPUTS):
            m.d.comb += [
                self.outputs.valid.eq(self.drained.valid),
                self.drained.ready.eq(self.outputs.ready),
            ]
        drained = self.drained.p
        values, mask, column = widened(
            list(drained.values), drained.mask, drained.column, lanes=config.vector
        )
        with m.If(self.source == Source.INPUTS):
            m.d.comb += [
                vector.eq(self.inputs.payload),
                valid.eq(self.inputs.valid),
                self.inputs.ready.eq(taken),
            ]
        with m.Else():
            m.d.comb += [vector.values[lane].eq(value) for lane, value in enumerate(values)]
            m.d.comb += [
                vector.mask.eq(mask),
                vector.column.eq(column),
                vector.last.eq(drained.last),
            ]
            with m.If(self.sink == Sink.NEXT):
                m.d.comb += [valid.eq(self.drained.valid), self.drained.ready.eq(taken)]

        m.d.comb += taken.eq(Cat(group.ready for group in self.o).all())
        for number, group in enumerate(self.o):
            own = range(number, config.vector, config.groups)
            m.d.comb += [
                group.valid.eq(valid & taken),
                group.p.column.eq(vector.column >> (config.groups - 1).bit_length()),
                group.p.last.eq(vector.last),
                group.p.mask.eq(Cat(vector.mask[lane] for lane in own)),
            ]
            m.d.comb += [group.p.values[n].eq(vector.values[lane]) for n, lane in enumerate(own)]
        return m

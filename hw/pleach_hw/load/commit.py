"""What layers take of the engine: whether there is room for one, and where it goes."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.protocol import EngineError, Resource
from pleach_hw.buses import ProgramBus
from pleach_hw.layouts import Sink, Source
from pleach_hw.load.fields import LAYER_FIELDS
from pleach_hw.load.framing import REFUSAL


class Commit(wiring.Component):
    """Counts what the layers take so far, and writes each that stands into the program, as a pass.

    Ports:
        clear: strobe, nothing is taken.
        layers: layers that stand.
        last: the next one is the last.
        fields: of the next one.
        refused, refusal: this engine cannot take it, and why; known four cycles after the first
            three words of its fields, two after the last.
        column_base, codebook_base: where its columns and its codebook begin.
        commit: strobe, it stands.
        convolutional: one of them is a convolution.
        program: to the control unit, a pass for each layer.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "layers": In(range(config.layers + 1)),
                "last": In(1),
                "fields": In(LAYER_FIELDS),
                "refused": Out(1),
                "refusal": Out(REFUSAL),
                "column_base": Out(range(config.columns + 1)),
                "codebook_base": Out(range(config.codebook + 1)),
                "commit": In(1),
                "convolutional": Out(1),
                "program": Out(ProgramBus(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        size, count, scale, tables = (
            self.fields[name] for name in ("size", "count", "scale", "tables")
        )
        # Carry chains a cycle apart: nothing here is in a hurry.
        local_columns = Signal(17)  # of a group, in whole blocks
        local = Signal(17)
        local_before = Signal(range(config.accumulators + 1))
        outputs_before = Signal(range(config.most_rows + 1))
        convolution_before = Signal()
        in_block = config.groups * config.block
        m.d.sync += [
            local_columns.eq(
                (self.fields.columns + (in_block - 1))
                >> (in_block - 1).bit_length()
                << (config.block - 1).bit_length()
            ),
            local.eq((size.outputs + (config.row_pes - 1)) >> (config.row_pes - 1).bit_length()),
        ]
        fits = {
            Resource.COLUMNS: self.column_base + local_columns <= config.columns,
            Resource.ROWS: local + local_before <= config.accumulators,
            Resource.CODEBOOK: self.codebook_base + tables.codebook_size <= config.codebook,
            Resource.ACCUMULATOR_BITS: scale.accumulator_bits <= config.accumulator_bits,
        }
        bad_shape = Signal()
        short_of = Signal(len(fits))
        too_many = Signal()  # entries, for any layer of this engine
        most_entries = config.most_columns * config.most_rows
        m.d.sync += [
            bad_shape.eq(
                (self.layers != 0)
                & ~(self.fields.convolution | convolution_before)
                & (size.inputs != outputs_before)
            ),
            short_of.eq(Cat(~fit for fit in fits.values())),
            too_many.eq(count.entries[most_entries.bit_length() :].any()),
        ]
        m.d.comb += [
            self.refused.eq(bad_shape | short_of.any() | too_many),
            self.refusal.error.eq(EngineError.BAD_FIELD),
        ]
        with m.If(bad_shape):
            m.d.comb += self.refusal.error.eq(EngineError.SHAPE)
        for index, resource in enumerate(fits):
            with m.Elif(short_of[index]):
                m.d.comb += [
                    self.refusal.error.eq(EngineError.CAPACITY),
                    self.refusal.resource.eq(resource),
                ]

        one_pass = self.program.pass_
        m.d.sync += [
            self.program.write.eq(self.commit),
            self.program.index.eq(self.layers),
            # A layer is a pass. Neighbours begin at different ends of the accumulators.
            one_pass.source.eq(Mux(self.layers == 0, Source.INPUTS, Source.DRAINED)),
            one_pass.inputs.eq(size.inputs),
            one_pass.bias.eq(scale.bias),
            one_pass.bias_exponent.eq(scale.bias_exponent),
            one_pass.column_base.eq(self.column_base),
            one_pass.codebook_base.eq(self.codebook_base),
            one_pass.parity.eq(self.layers[0]),
            one_pass.rows.eq(size.outputs),
            one_pass.shift.eq(scale.shift),
            one_pass.relu.eq(scale.activation),
            one_pass.sink.eq(Mux(self.last, Sink.OUTPUTS, Sink.NEXT)),
            one_pass.last.eq(self.last),
        ]
        with m.If(self.commit):
            m.d.sync += [
                self.column_base.eq(self.column_base + local_columns),
                self.codebook_base.eq(self.codebook_base + tables.codebook_size),
                local_before.eq(local),
                outputs_before.eq(size.outputs),
                convolution_before.eq(self.fields.convolution),
                self.convolutional.eq(self.convolutional | self.fields.convolution),
            ]
        with m.If(self.clear):
            m.d.sync += [
                self.column_base.eq(0),
                self.codebook_base.eq(0),
                local_before.eq(0),
                self.convolutional.eq(0),
            ]
        return m

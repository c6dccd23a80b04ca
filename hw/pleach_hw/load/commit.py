"""What layers take of the engine: whether there is room for one, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out

from pleach.engine import EngineConfig, words
from pleach.engine.maps import FILE_WORDS, PLAN_WORDS, PassKind
from pleach.engine.protocol import EngineError, Resource
from pleach_hw.buses import ProgramBus, RecordBus
from pleach_hw.layouts import Sink, Source, layout, map_pass_layout
from pleach_hw.load.fields import LAYER_FIELDS
from pleach_hw.load.framing import REFUSAL


class _Commit(wiring.Component):
    """Counts what the layers take so far.

    Ports:
        clear: strobe, nothing is taken.
        layers: layers that stand.
        last: the next one is the last.
        fields: of the next one.
        refused, refusal: this engine cannot take it, and why; known four cycles after the first
            three words of its fields, two after the last.
        rows, columns: of the next one; a pool has none.
        column_base, codebook_base: where its columns and its codebook begin.
        commit: strobe, it stands.
    """

    def __init__(self, config: EngineConfig, more: Mapping[str, Member]):
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "layers": In(range(config.layers + 1)),
                "last": In(1),
                "fields": In(LAYER_FIELDS),
                "refused": Out(1),
                "refusal": Out(REFUSAL),
                "rows": Out(16),
                "columns": Out(17),
                "column_base": Out(range(config.columns + 1)),
                "codebook_base": Out(range(config.codebook + 1)),
                "commit": In(1),
                **more,
            }
        )

    def _count(
        self, m: Module, *, groups: int, fits: Mapping[Resource, Value], bad: Value, error: Value
    ) -> None:
        """Judge the layer, and count it once it stands. Carry chains a cycle apart: nothing here is
        in a hurry.

        Args:
            groups: that columns are dealt to.
            fits: of resources besides columns and codebook, in the order of the errors.
            bad, error: it is refused for something else, and that.
        """
        config, fields = self._config, self.fields
        local_columns = Signal(17)  # of a group, in whole blocks
        in_block = groups * config.block
        m.d.sync += local_columns.eq(
            (self.columns + (in_block - 1))
            >> (in_block - 1).bit_length()
            << (config.block - 1).bit_length()
        )
        codebook = self.codebook_base + fields.tables.codebook_size
        fits = {
            Resource.COLUMNS: self.column_base + local_columns <= config.columns,
            **fits,
            Resource.CODEBOOK: codebook <= config.codebook,
            Resource.ACCUMULATOR_BITS: fields.scale.accumulator_bits <= config.accumulator_bits,
        }
        short_of = Signal(len(fits))
        too_many = Signal()  # entries, for any layer of this engine
        too_wide = Signal()
        most_entries = config.most_columns * config.most_rows
        m.d.sync += [
            short_of.eq(Cat(~fit for fit in fits.values())),
            too_many.eq(fields.entries[most_entries.bit_length() :].any()),
            too_wide.eq(self.columns[16]),
        ]
        m.d.comb += [
            self.refused.eq(bad | short_of.any() | too_many | too_wide),
            self.refusal.error.eq(EngineError.BAD_FIELD),
        ]
        with m.If(bad & ~too_wide):
            m.d.comb += self.refusal.error.eq(error)
        for index, resource in enumerate(fits):
            with m.Elif(short_of[index] & ~too_wide):
                m.d.comb += [
                    self.refusal.error.eq(EngineError.CAPACITY),
                    self.refusal.resource.eq(resource),
                ]
        with m.If(self.commit):
            m.d.sync += [
                self.column_base.eq(self.column_base + local_columns),
                self.codebook_base.eq(codebook),
            ]
        with m.If(self.clear):
            m.d.sync += [self.column_base.eq(0), self.codebook_base.eq(0)]


class Commit(_Commit):
    """For an engine without a map memory: writes each layer that stands into the program, as a
    pass.

    Ports besides:
        program: to the control unit, a pass for each layer.
    """

    def __init__(self, config: EngineConfig):
        super().__init__(config, {"program": Out(ProgramBus(config))})

    def elaborate(self, platform) -> Module:
        m = Module()
        config, fields, scale = self._config, self.fields, self.fields.scale
        outputs_before = Signal(range(config.most_rows + 1))
        local_before = Signal(range(config.accumulators + 1))
        local = Signal(17)
        inputs = Signal(16)
        wrong_shape, no_inputs = Signal(), Signal()
        row_bits = (config.row_pes - 1).bit_length()
        m.d.comb += [
            inputs.eq(Mux(fields.short, outputs_before, fields.inputs)),
            self.rows.eq(fields.outputs),
        ]
        m.d.sync += [
            self.columns.eq(inputs + scale.bias),
            local.eq((fields.outputs + (config.row_pes - 1)) >> row_bits),
            wrong_shape.eq((self.layers != 0) & (inputs != outputs_before)),
            no_inputs.eq((self.layers == 0) & fields.short),
        ]
        self._count(
            m,
            groups=config.groups,
            fits={Resource.ROWS: local + local_before <= config.accumulators},
            bad=wrong_shape | no_inputs,
            error=Mux(no_inputs, EngineError.BAD_FIELD, EngineError.SHAPE),
        )
        one_pass = self.program.pass_
        m.d.sync += [
            self.program.write.eq(self.commit),
            self.program.index.eq(self.layers),
            # A layer is a pass. Neighbours begin at different ends of the accumulators.
            one_pass.source.eq(Mux(self.layers == 0, Source.INPUTS, Source.DRAINED)),
            one_pass.inputs.eq(inputs),
            one_pass.bias.eq(scale.bias),
            one_pass.bias_exponent.eq(scale.bias_exponent),
            one_pass.column_base.eq(self.column_base),
            one_pass.codebook_base.eq(self.codebook_base),
            one_pass.parity.eq(self.layers[0]),
            one_pass.rows.eq(fields.outputs),
            one_pass.shift.eq(scale.shift),
            one_pass.relu.eq(scale.function[0]),
            one_pass.sink.eq(Mux(self.last, Sink.OUTPUTS, Sink.NEXT)),
            one_pass.last.eq(self.last),
        ]
        with m.If(self.commit):
            m.d.sync += [local_before.eq(local), outputs_before.eq(fields.outputs)]
        with m.If(self.clear):
            m.d.sync += local_before.eq(0)
        return m


class MapCommit(_Commit):
    """For an engine with a map memory: holds each layer to its pass of the plan, and writes what
    the file says of it into the record of that pass.

    Ports besides:
        planned, passes: there is a plan, and of so many passes.
        pass_: of the next layer; stands from two cycles before it is judged.
        scale_base: where its scales begin.
        begin: strobe, the layer is not refused; its fields stand for some cycles more.
        record: write port of the records.
    """

    def __init__(self, config: EngineConfig):
        super().__init__(
            config,
            {
                "planned": In(1),
                "passes": In(8),
                "pass_": In(map_pass_layout(config)),
                "scale_base": Out(range(config.scales + 1)),
                "begin": In(1),
                "record": Out(RecordBus(config)),
            },
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config, fields, pass_ = self._config, self.fields, self.pass_
        scale, pool = fields.scale, fields.pool
        other = Signal()
        m.d.comb += [
            self.rows.eq(pass_.rows),
            self.columns.eq(Mux(pool, 0, pass_.columns)),
        ]
        m.d.sync += other.eq(
            ~self.planned
            | (self.layers >= self.passes)
            | (self.last & (self.layers + 1 != self.passes))
            | (pool != (pass_.kind == PassKind.POOL))
            | (
                ~pool
                & (
                    (fields.outputs != pass_.rows)
                    | (pass_.bias_column + scale.bias != pass_.columns)
                )
            )
        )
        scales = self.scale_base + Mux(scale.scaled, pass_.local_rows, 0)
        self._count(
            m,
            groups=1,
            fits={
                Resource.CODES: fields.tables.codebook_size <= config.named_codes,
                Resource.SCALES: scales <= config.scales,
            },
            bad=other,
            error=EngineError.PLAN,
        )
        with m.If(self.commit):
            m.d.sync += self.scale_base.eq(scales)
        with m.If(self.clear):
            m.d.sync += self.scale_base.eq(0)
        values = {
            "shift": scale.shift, "bias": scale.bias, "bias_exponent": scale.bias_exponent,
            "low": fields.low, "high": fields.high, "sign": scale.function == words.SIGN,
            "scaled": scale.scaled, "scale_base": self.scale_base,
            "column_base": self.column_base, "codebook_base": self.codebook_base,
        }  # fmt: skip
        number = Signal(range(len(FILE_WORDS) + 1), init=len(FILE_WORDS))
        m.d.comb += [
            self.record.write.eq(number != len(FILE_WORDS)),
            self.record.pass_.eq(self.layers),
            self.record.word.eq(number + len(PLAN_WORDS)),
        ]
        with m.If(self.begin):
            m.d.sync += number.eq(0)
        with m.Elif(self.record.write):
            m.d.sync += number.eq(number + 1)
        with m.Switch(number):
            for index, word in enumerate(FILE_WORDS):
                said = Signal(layout(word), name=f"said_{index}")
                m.d.comb += [said[name].eq(values[name]) for name in word.fields]
                with m.Case(index):
                    m.d.comb += self.record.data.eq(said)
        return m

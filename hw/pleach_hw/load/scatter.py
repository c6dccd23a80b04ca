"""Scatter: from gaps to rows and columns, and each entry to the PE that owns its row."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Member, Out

from pleach.engine import EngineConfig
from pleach_hw.layouts import entry_layout, map_pass_layout
from pleach_hw.load.buses import ENTRY


class Scatter(wiring.Component):
    """Places the entries of a layer and marks the end of each of its columns.

    A cycle places an entry or steps over the end of a column, so a layer takes entries + columns
    cycles. Column `c` is column ``c // groups`` of group ``c % groups``, and row `r` is local row
    ``r // row_pes`` of the group's PE ``r % row_pes``.

    Ports:
        start: begin a layer of `rows` by `columns`; a group's first column is `column_base`.
        i: its gap symbols; not ready while a gap is worked off.
        finish: no more symbols come; held until `done`: the columns left are ended.
        entry_valid, entry: an entry for the PE whose bit is set.
        column_end, column: for the PEs of the group whose bit is set, the column is complete.
        outside: strobe, an entry lies past the last row of the last column; nothing was written.
    """

    def __init__(self, config: EngineConfig, more: Mapping[str, Member] | None = None):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "rows": In(range(config.most_rows + 1)),
                "columns": In(range(config.most_columns + 1)),
                "column_base": In(range(config.columns)),
                "i": In(stream.Signature(ENTRY)),
                "finish": In(1),
                "done": Out(1),
                "entry_valid": Out(config.pes),
                "entry": Out(entry_layout(config)),
                "column_end": Out(config.groups),
                "column": Out(range(config.columns)),
                "outside": Out(1),
                **(more or {}),
            }
        )

    def elaborate(self, platform):
        m = Module()
        columns_left = Signal.like(self.columns)
        complete = Signal()  # no column is left
        held = Signal()  # a symbol
        skip = Signal()
        code = Signal(8)
        # How far the position that comes next, or that of the symbol held, lies past its column:
        # negative within it. That and the column's rows make its row.
        reach = Signal(18)

        within = reach[-1]
        place, step, finish = Signal(), Signal(), Signal()
        m.d.sync += [finish.eq(self.finish), self.outside.eq(held & complete)]
        m.d.comb += [
            place.eq(held & within & ~complete),
            step.eq(Mux(held, ~within, finish) & ~complete),
            self.i.ready.eq(~held | within | complete),
            self.done.eq(finish & ~self.i.valid & ~held & complete),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                held.eq(self.i.valid),
                skip.eq(self.i.p.skip),
                code.eq(self.i.p.code),
            ]
        first_rows, present_rows, next_rows = self._rows(m, step)
        # The next column's rows are taken off, or a gap is added: an entry takes a position of its
        # own, a skip none. Either is an adder's carry. Once no symbol comes it says nothing more.
        over = held & ~within
        term = Mux(over, Cat(~next_rows, Const(-1, 18))[:18], Mux(self.i.valid, self.i.p.gap, 0))
        more = held & ~(within & skip)
        m.d.sync += reach.eq((Cat(more, reach) + Cat(more, term)) >> 1)
        with m.If(step):
            m.d.sync += [
                columns_left.eq(columns_left - 1),
                complete.eq(columns_left == 1),
            ]
        with m.If(self.start):
            m.d.sync += [
                held.eq(0),
                complete.eq(0),
                reach.eq(-first_rows),
                columns_left.eq(self.columns),
            ]

        # To the PEs, a cycle later and another one. These need no reset: what of a layer that is
        # abandoned is still on its way may go there, too.
        placed, stepped = Signal(), Signal()
        placed_row = Signal.like(self.rows, reset_less=True)
        placed_code = Signal(8, reset_less=True)
        m.d.sync += [
            placed.eq(place & ~skip),
            stepped.eq(step),
            placed_row.eq(reach + present_rows),
            placed_code.eq(code),
        ]
        self._deliver(m, step, placed, stepped, placed_row, placed_code)
        return m

    def _rows(self, m: Module, step: Signal) -> tuple[Value, Value, Value]:
        """Rows that have a place in the layer's first column, in the present one, and in the one
        after the next `step`."""
        return self.rows, self.rows, self.rows

    def _deliver(
        self, m: Module, step: Signal, placed: Signal, stepped: Signal, row: Signal, code: Signal
    ) -> None:
        """Send what is placed to its PE.

        Args:
            step: a column ends.
            placed, stepped: an entry was placed or a column ended, in the cycle before.
            row, code: of the entry.
        """
        config = self._config
        bits = (config.row_pes - 1).bit_length()
        group = Signal(range(max(2, config.groups)))  # never of no width: exporters differ there
        last_group = group == config.groups - 1
        column = Signal(range(config.columns))
        with m.If(step):
            m.d.sync += [
                column.eq(column + last_group),
                group.eq(Mux(last_group, 0, group + 1)),
            ]
        with m.If(self.start):
            m.d.sync += [column.eq(self.column_base), group.eq(0)]
        entry_valid = Signal(config.pes, reset_less=True)
        column_end = Signal(config.groups, reset_less=True)
        in_group = Signal.like(group)
        in_column = Signal.like(column)
        m.d.comb += [self.entry_valid.eq(entry_valid), self.column_end.eq(column_end)]
        m.d.sync += [
            in_group.eq(group),
            in_column.eq(column),
            entry_valid.eq(placed << Cat(row[:bits], in_group)),
            self.entry.row.eq(row >> bits),
            self.entry.code.eq(code),
            column_end.eq(stepped << in_group),
            self.column.eq(in_column),
        ]


class MapScatter(Scatter):
    """Places the entries of a layer in every team, as `Scatter` otherwise.

    Row `r` is local row ``r // (pes / teams)`` of PE ``r % (pes / teams)`` of each team, and every
    group has every column. A column of the kernel has the rows of its group of channels alone.

    Ports besides:
        pass_: of the layer; stands while it is placed.
    """

    def __init__(self, config: EngineConfig):
        super().__init__(config, {"pass_": In(map_pass_layout(config))})

    def _rows(self, m: Module, step: Signal) -> tuple[Value, Value, Value]:
        pass_ = self.pass_
        kernel_left = Signal.like(pass_.skip_column)  # columns of the kernel, with the present one
        last = Signal()  # it is the last one of the kernel
        behind = Signal()  # it is behind the kernel
        in_group = Signal.like(pass_.group_channels)
        last_in_group = Signal()
        present = Signal.like(pass_.rows)
        following = Mux(behind | last, pass_.rows, pass_.group_rows)
        # What is added to the rows of the present column, and of those of the next group.
        base, base_after = (Signal(16, name=name) for name in ("base", "base_after"))
        wraps = base_after == pass_.rows
        with m.If(step):
            m.d.sync += [
                present.eq(following),
                kernel_left.eq(kernel_left - 1),
                last.eq(kernel_left == 2),
                behind.eq(behind | last),
                in_group.eq(Mux(last_in_group, 0, in_group + 1)),
                last_in_group.eq(
                    Mux(
                        last_in_group,
                        pass_.group_channels == 1,
                        in_group + 2 == pass_.group_channels,
                    )
                ),
            ]
            with m.If(behind | last):
                m.d.sync += base.eq(0)
            with m.Elif(last_in_group):
                m.d.sync += [
                    base.eq(Mux(wraps, 0, base_after)),
                    base_after.eq(Mux(wraps, 0, base_after) + pass_.group_rows),
                ]
        with m.If(self.start):
            m.d.sync += [
                present.eq(pass_.group_rows),
                kernel_left.eq(pass_.skip_column),
                last.eq(pass_.skip_column == 1),
                behind.eq(0),
                in_group.eq(0),
                last_in_group.eq(pass_.group_channels == 1),
                base.eq(0),
                base_after.eq(pass_.group_rows),
            ]
        self._base = base
        return pass_.group_rows, present, following

    def _deliver(
        self, m: Module, step: Signal, placed: Signal, stepped: Signal, row: Signal, code: Signal
    ) -> None:
        config = self._config
        bits = (config.pes - 1).bit_length()
        column = Signal(range(config.columns))
        with m.If(step):
            m.d.sync += column.eq(column + 1)
        with m.If(self.start):
            m.d.sync += column.eq(self.column_base)
        base, in_column, based_column = (
            Signal.like(each, name=name, reset_less=True)
            for each, name in (
                (self._base, "in_base"), (column, "in_column"), (column, "based_column"),
            )
        )  # fmt: skip
        based, ended = Signal(), Signal()
        based_row = Signal.like(row, reset_less=True)
        based_code = Signal.like(code, reset_less=True)
        m.d.sync += [
            base.eq(self._base),
            in_column.eq(column),
            based.eq(placed),
            ended.eq(stepped),
            based_row.eq(row + base),
            based_code.eq(code),
            based_column.eq(in_column),
        ]
        # Of a PE's number the upper bits say which team it is in: those no row asks for.
        heeded = ((1 << bits) - 1) >> self.pass_.teams
        entry_valid = Signal(config.pes, reset_less=True)
        column_end = Signal(config.groups, reset_less=True)
        m.d.comb += [self.entry_valid.eq(entry_valid), self.column_end.eq(column_end)]
        m.d.sync += [
            entry_valid.eq(
                Cat(
                    based & (((based_row[:bits] ^ number) & heeded) == 0)
                    for number in range(config.pes)
                )
            ),
            self.entry.code.eq(based_code),
            column_end.eq(ended.replicate(config.groups)),
            self.column.eq(based_column),
        ]
        with m.Switch(self.pass_.teams):
            for teams in range((config.groups - 1).bit_length() + 1):
                with m.Case(teams):
                    m.d.sync += self.entry.row.eq(based_row >> (bits - teams))

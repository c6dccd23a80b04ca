"""Scatter: from gaps to rows and columns, and each entry to the PE that owns its row."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach_hw.layouts import entry_layout
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

    def __init__(self, config: EngineConfig):
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
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        bits = (config.row_pes - 1).bit_length()
        group = Signal(range(max(2, config.groups)))  # never of no width: exporters differ there
        last_group = group == config.groups - 1
        row = Signal.like(self.rows)
        below = Signal.like(self.rows)  # rows - row: positions left in the column
        columns_left = Signal.like(self.columns)
        complete = Signal()  # no column is left
        column = Signal(range(config.columns))
        held = Signal()  # a symbol, of whose gap `gap` is left
        gap = Signal(17)
        skip = Signal()
        code = Signal(8)

        past_end = Signal(18)  # how far the gap reaches past its column; negative within it
        m.d.comb += past_end.eq(gap - below)
        within = past_end[-1]
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
                gap.eq(self.i.p.gap),
                skip.eq(self.i.p.skip),
                code.eq(self.i.p.code),
            ]
        with m.Else():
            m.d.sync += gap.eq(past_end)
        with m.If(place):
            # An entry takes its own position, a skip none; either is an adder's carry.
            m.d.sync += [
                row.eq((Cat(~skip, row) + Cat(~skip, gap)) >> 1),
                below.eq((Cat(skip, below) + Cat(skip, ~gap)) >> 1),
            ]
        with m.If(step):
            m.d.sync += [
                row.eq(0),
                below.eq(self.rows),
                column.eq(column + last_group),
                group.eq(Mux(last_group, 0, group + 1)),
                columns_left.eq(columns_left - 1),
                complete.eq(columns_left == 1),
            ]
        with m.If(self.start):
            m.d.sync += [
                held.eq(0),
                complete.eq(0),
                row.eq(0),
                below.eq(self.rows),
                column.eq(self.column_base),
                group.eq(0),
                columns_left.eq(self.columns),
            ]

        # To the PEs, a cycle later and another one. These need no reset: what of a layer that is
        # abandoned is still on its way may go there, too.
        entry_valid = Signal(config.pes, reset_less=True)
        column_end = Signal(config.groups, reset_less=True)
        m.d.comb += [self.entry_valid.eq(entry_valid), self.column_end.eq(column_end)]
        placed, stepped = Signal(), Signal()
        placed_row = Signal(len(row), reset_less=True)
        placed_code = Signal(8, reset_less=True)
        in_group = Signal.like(group)
        in_column = Signal.like(column)
        m.d.sync += [
            placed.eq(place & ~skip),
            stepped.eq(step),
            placed_row.eq(row + gap),
            placed_code.eq(code),
            in_group.eq(group),
            in_column.eq(column),
            entry_valid.eq(placed << Cat(placed_row[:bits], in_group)),
            self.entry.row.eq(placed_row >> bits),
            self.entry.code.eq(placed_code),
            column_end.eq(stepped << in_group),
            self.column.eq(in_column),
        ]
        return m

"""Scatter: from gaps to rows and columns, and each entry to the PE that owns its row."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.reference import EngineConfig
from pleach_hw.entry_decoder import ENTRY
from pleach_hw.weight_read import entry_layout


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
                "rows": In(16),
                "columns": In(16),
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
        row = Signal(16)
        below = Signal(16)  # rows - row: positions left in the column
        columns_left = Signal(16)
        column = Signal(range(config.columns))
        stepping = Signal()  # `gap` is what is left of a gap that reaches past its column
        gap = Signal(17)

        ahead = Signal(17)
        m.d.comb += ahead.eq(Mux(stepping, gap, self.i.p.gap))
        within = Signal()
        m.d.comb += within.eq(ahead < below)
        place = Signal()
        step = Signal()
        with m.If(self.i.valid & (columns_left != 0)):
            m.d.comb += [place.eq(within), step.eq(~within), self.i.ready.eq(within)]
        with m.Elif(self.i.valid):
            m.d.comb += [self.outside.eq(1), self.i.ready.eq(1)]
        with m.Elif(self.finish):
            m.d.comb += step.eq(columns_left != 0)
        m.d.comb += self.done.eq(self.finish & ~self.i.valid & (columns_left == 0))

        here = Signal(16)
        m.d.comb += here.eq(row + ahead)
        m.d.sync += [self.entry_valid.eq(0), self.column_end.eq(0)]
        with m.If(place):
            past = ~self.i.p.skip  # an entry takes its own position, a skip none
            m.d.sync += [
                stepping.eq(0),
                row.eq(here + past),
                below.eq(below - ahead - past),
                self.entry.row.eq(here >> bits),
                self.entry.code.eq(self.i.p.code),
                self.entry_valid.eq(past << Cat(here[:bits], group)),
            ]
        with m.If(step):
            m.d.sync += [
                stepping.eq(self.i.valid),
                gap.eq(ahead - below),
                row.eq(0),
                below.eq(self.rows),
                column.eq(column + last_group),
                group.eq(Mux(last_group, 0, group + 1)),
                columns_left.eq(columns_left - 1),
                self.column_end.eq(1 << group),
                self.column.eq(column),
            ]
        with m.If(self.start):
            m.d.sync += [
                stepping.eq(0),
                row.eq(0),
                below.eq(self.rows),
                column.eq(self.column_base),
                group.eq(0),
                columns_left.eq(self.columns),
            ]
        return m

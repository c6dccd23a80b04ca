"""Windows in their order, and the reads of each team's windows."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.maps import widths
from pleach_hw.buses import OutUnitBus, PixelsBus
from pleach_hw.layouts import map_pass_layout, out_unit_layout
from pleach_hw.primitives import LutRam, hop
from pleach_hw.primitives.delay import KEPT


def reading_layout(config: EngineConfig) -> data.StructLayout:
    """How far a team is with the reads of its window: what is left of a run of values, and of runs.

    Places are those behind the run, so that `left` alone says where in it the next read is.

    Fields:
        end, place_end, column_end: behind the run: in the map memory, in the row of the patch, and
            the column there of pixel (0, 0).
        left: values of the run.
        run: values of a run of the patch.
        rows_left, rows_end: runs of the patch left, the one that is read included; the row of the
            patch behind its last run.
        skipping: the run is of the skip source, ...
        a, b: ... for this pixel of the window.
        skip_end: behind the skip source's run for pixel (a, 0).
        edge_x, edge_y: the last pixels of the window that are inside.
    """
    bits = widths(config)
    address, values, rows = bits["source"].bits, bits["patch_row"].bits, bits["patch_rows"].bits
    return data.StructLayout(
        {
            "end": address,
            "place_end": values,
            "column_end": range(config.columns),
            "left": values,
            "run": values,
            "rows_left": rows,
            "rows_end": rows,
            "skip_end": address,
            "edge_x": 2,
            "edge_y": 2,
            "skipping": 1,
            "a": 2,
            "b": 2,
        }
    )


def read_layout(config: EngineConfig) -> data.StructLayout:
    """A read of neighbours, and what of a window they are.

    Fields:
        groups: of the team that reads.
        start: bank of the first value.
        count: how many values.
        place, row: the first value's place in its row of the patch, and which that is.
        column: the first value's, for pixel (0, 0).
        skip, a, b: the values are of the skip source, for this pixel of the window.
        edge_x, edge_y: the last pixels of the window that are inside.
        last: the window's last read.
    """
    reading = reading_layout(config).members
    return data.StructLayout(
        {
            "groups": config.groups,
            "start": range(config.neighbours),
            "count": range(config.neighbours + 1),
            "place": reading["place_end"],
            "row": reading["rows_end"],
            "column": range(config.columns),
            "skip": 1,
            "a": 2,
            "b": 2,
            "edge_x": 2,
            "edge_y": 2,
            "last": 1,
        }
    )


#: registers that a window passes in the dispatcher
STAGES = 3


class Dispatcher(wiring.Component):
    """Walks the windows of a pass, row by row, and clips each one's patch to the map: a window a
    cycle, the first one three cycles after `start`. Everything in it is a sum or the less of two.
    Reset ends the walk.

    Ports:
        start: a pass begins.
        pass_: its record, which stands from then on.
        valid: there is a window.
        reading: its reads, none done.
        unit: where its outputs go.
        take: on to the next one; a bit for each of the stages, which all move at once.
        more: there is a window, or one will come.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "pass_": In(map_pass_layout(config)),
                "valid": Out(1),
                "reading": Out(reading_layout(config)),
                "unit": Out(out_unit_layout(config)),
                "take": In(STAGES),
                "more": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bits = widths(self._config)
        address, columns = bits["source"].bits, range(self._config.columns)
        # Sums of a place left of the map and a patch, and of a row above it and its rows.
        x_shape, y_shape = signed(address + 3), signed(max(bits["map_rows"].bits, 9) + 2)
        unit = out_unit_layout(self._config)
        # Each stage has registers of its own from which it knows that it moves: there are many
        # others in it.
        follows = Signal()  # there is a window in the next cycle
        moves = [Signal(name=f"moves_{stage}") for stage in range(STAGES)]
        for stage, go in enumerate(moves):
            valid = hop(m, follows, name=f"valid_{stage}", reset_less=False)
            m.d.comb += go.eq(self.take[stage] | ~valid)
        m.d.comb += self.valid.eq(hop(m, follows, name="valid_here", reset_less=False))
        place = data.StructLayout(
            {
                "x": x_shape,
                "y": y_shape,
                "row": address,  # where it begins in the memory, were it inside of the map
                "above": columns,  # column of the map's first row
                "unit": unit,
                "skip": address,
            }
        )
        clip = data.StructLayout(
            {
                "x": x_shape,
                "place_end": x_shape,
                "column": columns,  # of the patch's first place
                "begin": address,  # of the patch's first place
                "above": bits["patch_rows"].bits + 1,  # rows of the patch above the map, negative
                "rows_end": y_shape,
                "unit": unit,
                "skip": address,
            }
        )
        placed, there = Signal(place, reset_less=True), Signal()
        clipped, clipped_valid = Signal(clip, reset_less=True), Signal()
        self._walk(m, placed, there, moves[0])
        m.d.comb += follows.eq(Mux(moves[2], clipped_valid, self.valid) & ~self.start)
        with m.If(self.start):  # what is left of nothing
            m.d.sync += clipped_valid.eq(0)
        with m.Elif(moves[1]):
            m.d.sync += clipped_valid.eq(there)
        m.d.comb += self.more.eq(there | clipped_valid | self.valid)
        self._clip(m, placed, clipped, moves[1])
        self._runs(m, clipped, moves[2])
        return m

    def _walk(self, m, placed, there, go):
        """Where the window is, and its outputs and skips. Whether it is the last one of its row, or
        of the rows, is known as it comes, so that nothing waits for a comparison."""
        pass_ = self.pass_
        across, down = (
            Signal.like(count, reset_less=True, name=name)  # windows left, this one included
            for count, name in ((pass_.units_x, "across"), (pass_.units_y, "down"))
        )
        last_across, last_down = Signal(), Signal()
        output, skip = Signal.like(placed.skip, reset_less=True), placed.skip
        m.d.comb += [
            placed.unit.address.eq(output),
            placed.unit.edge_x.eq(Mux(last_across, pass_.edge_x, pass_.side)),
            placed.unit.edge_y.eq(Mux(last_down, pass_.edge_y, pass_.side)),
        ]
        with m.If(self.start | go):
            m.d.sync += [
                output.eq(output + Mux(last_across, pass_.unit_y, pass_.unit_x)),
                skip.eq(skip + Mux(last_across, pass_.skip_unit_y, pass_.skip_unit_x)),
            ]
            with m.If(self.start | last_across):
                m.d.sync += [
                    placed.x.eq(pass_.x_first),
                    across.eq(pass_.units_x),
                    last_across.eq(pass_.units_x == 1),
                ]
            with m.Else():
                m.d.sync += [
                    placed.x.eq(placed.x + pass_.x_step),
                    across.eq(across - 1),
                    last_across.eq(across == 2),
                ]
        with m.If(self.start):
            m.d.sync += [
                there.eq(1),
                placed.y.eq(pass_.y_first),
                placed.row.eq(pass_.source + pass_.row_first),
                placed.above.eq(pass_.column_base + pass_.column_first),
                down.eq(pass_.units_y),
                last_down.eq(pass_.units_y == 1),
                output.eq(pass_.sink),
                skip.eq(pass_.skip_source + pass_.skip),
            ]
        with m.Elif(go & last_across):
            m.d.sync += [
                there.eq(there & ~last_down),
                placed.y.eq(placed.y + pass_.y_step),
                placed.row.eq(placed.row + pass_.row_step),
                placed.above.eq(placed.above - pass_.column_step),
                down.eq(down - 1),
                last_down.eq(down == 2),
            ]

    def _clip(self, m, placed, clipped, go):
        """Where its patch begins and ends, clipped to the map: in places of a row of the patch, and
        in its rows."""
        pass_ = self.pass_
        x, y = placed.x, placed.y
        right, bottom = Signal.like(x), Signal.like(y)
        # Behind these a patch reaches beyond the map: known beside the differences, not by them.
        last_x, last_y = (Signal.like(of, reset_less=True) for of in (x, y))
        m.d.sync += [
            last_x.eq(pass_.map_row - pass_.patch_row),
            last_y.eq(pass_.map_rows - pass_.patch_rows),
        ]
        m.d.comb += [right.eq(pass_.map_row - x), bottom.eq(pass_.map_rows - y)]
        over = y < 0
        with m.If(go):
            m.d.sync += [
                clipped.x.eq(x),
                clipped.place_end.eq(Mux(x > last_x, right, pass_.patch_row)),
                clipped.column.eq(Mux(over, placed.above, pass_.column_base)),
                clipped.begin.eq(Mux(over, pass_.source, placed.row) + x),
                clipped.above.eq(Mux(over, y, 0)),
                clipped.rows_end.eq(Mux(y > last_y, bottom, pass_.patch_rows)),
                clipped.unit.eq(placed.unit),
                clipped.skip.eq(placed.skip),
            ]

    def _runs(self, m, clipped, go):
        """Its runs; a window outside of the map has one of no values."""
        run, rows = Signal.like(clipped.place_end), Signal.like(clipped.rows_end)
        some = Signal()
        m.d.comb += [
            run.eq(clipped.place_end + Mux(clipped.x < 0, clipped.x, 0)),
            rows.eq(clipped.rows_end + clipped.above.as_signed()),
            some.eq((run > 0) & (rows > 0)),
        ]
        reading = self.reading
        with m.If(go):
            m.d.sync += [
                self.unit.eq(clipped.unit),
                reading.end.eq(clipped.begin + clipped.place_end),
                reading.place_end.eq(clipped.place_end),
                reading.column_end.eq(clipped.column + clipped.place_end),
                reading.left.eq(Mux(some, run, 0)),
                reading.run.eq(run),
                reading.rows_left.eq(Mux(some, rows, 1)),
                reading.rows_end.eq(clipped.rows_end),
                reading.skip_end.eq(clipped.skip),
                reading.edge_x.eq(clipped.unit.edge_x),
                reading.edge_y.eq(clipped.unit.edge_y),
            ]


class AddressGenerator(wiring.Component):
    """Gives windows to teams, and reads for them: in each cycle it serves one team, one after the
    other (two where there is one). A team without a window takes the next one, if all of its groups
    have a slot of their rings free; one with a window, that it has just taken, too, reads the next
    neighbours of its patch, if all of its groups have room for a vector. A run of `n` values is
    read in ``⌈n / neighbours⌉`` reads; after the patch's rows come those of the skip source, pixel
    by pixel. Reset ends the pass.

    Ports:
        start: a pass begins, for which nothing is under way.
        pass_: its record, which stands from then on.
        done: all windows were given and written, the cycle before.
        address: of a read, three cycles after its team was served; 0 where there is none.
        read: what the read is of, with `valid`.
        units: to the drain of each group, its next window; two cycles after its team was served.
        pixels: to the fronts.
        back: groups that give back a vector's place.
        freed, written: groups whose oldest window has left its ring, or is in the map memory.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        groups = config.groups
        super().__init__(
            {
                "start": In(1),
                "pass_": In(map_pass_layout(config)),
                "done": Out(1),
                "address": Out(range(config.maps)),
                "valid": Out(1),
                "read": Out(read_layout(config)),
                "units": Out(OutUnitBus(config)).array(groups),
                "pixels": Out(PixelsBus(config)),
                "back": In(data.ArrayLayout(2, groups)),
                "freed": In(groups),
                "written": In(groups),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.dispatcher = dispatcher = Dispatcher(self._config)
        m.d.comb += [dispatcher.start.eq(self.start), dispatcher.pass_.eq(self.pass_)]
        fills = self._pixels(m)
        members, following, team = self._turns(m)
        # Whether the team whose turn it is has a window, for each who has to know.
        has = [Signal(name=f"has_{who}", attrs=KEPT) for who in range(STAGES + 1)]
        serves, takes = self._counts(m, dispatcher, members, following, has, fills)
        self._reads(m, dispatcher, team, members, following, has, serves, takes)
        self._done(m, dispatcher, takes)
        return m

    def _of_levels(self, values: list[Value]) -> Value:
        """One of `values`, which are for one team, two, four, ..., by the pass."""
        return Array(values)[self.pass_.teams] if len(values) > 1 else values[0]

    def _turns(self, m):
        """The groups of the team whose turn it is, of the one that follows, and its number."""
        groups = self._config.groups
        levels = (groups - 1).bit_length() + 1
        members, following = Signal(groups), Signal(groups)
        team = Signal(range(max(2, groups)))
        gangs = [(1 << (groups >> level)) - 1 for level in range(levels)]  # of the first team
        # One team has every other turn.
        turned = [following.rotate_left(groups >> level) for level in range(1, levels)]
        seconds = [gang << (groups >> level) for level, gang in enumerate(gangs)]
        with m.If(self.start):
            m.d.sync += [
                team.eq(0),
                members.eq(self._of_levels([Const(gang, groups) for gang in gangs])),
                following.eq(self._of_levels([Const(gang, groups) for gang in seconds])),
            ]
        with m.Else():
            most = Cat(Const(1), *(self.pass_.teams > bit for bit in range(1, len(team))))
            m.d.sync += [
                team.eq((team + 1) & most),
                members.eq(following),
                following.eq(self._of_levels([~following, *turned])),
            ]
        return members, following, team

    def _counts(self, m, dispatcher, members, following, has, fills):
        """Whether the team whose turn it is reads, and whether it takes a window for that: by what
        stood in the counters of its groups the cycle before."""
        room, free = [], []  # where it is the group's turn next
        serves, takes = Signal(), Signal()
        for group in range(self._config.groups):
            taken = Signal(range(self._config.vectors + 1), name=f"taken_{group}")
            slots = Signal.like(self.pass_.slots, name=f"slots_{group}")
            reads, gives = serves & members[group], takes & members[group]
            back, freed = self.back[group], self.freed[group]
            less = back[1] | (back[0] & ~reads)
            m.d.sync += [
                taken.eq(taken + Cat(reads ^ back[0], less.replicate(len(taken) - 1))),
                slots.eq(slots + Cat(gives ^ freed, (gives & ~freed).replicate(len(slots) - 1))),
            ]
            with m.If(self.start):
                m.d.sync += slots.eq(self.pass_.slots)
            room.append(~taken[-1] | ~following[group])
            free.append(slots.any() | ~following[group])
        may_read, may_take = Signal(), Signal()
        m.d.comb += [
            may_read.eq(Cat(room).all() & following.any()),
            may_take.eq(Cat(free).all() & ~fills),
        ]
        can_read, can_take = (
            [hop(m, may, name=f"{name}_{n}", reset_less=False) for n in range(STAGES + 1)]
            for name, may in (("can_read", may_read), ("can_take", may_take))
        )
        wanted = [~h & r & t for h, r, t in zip(has, can_read, can_take, strict=True)]
        m.d.comb += [
            takes.eq(wanted[STAGES] & dispatcher.valid),
            serves.eq(can_read[STAGES] & (has[STAGES] | (can_take[STAGES] & dispatcher.valid))),
            dispatcher.take.eq(Cat(wanted[:STAGES])),
        ]
        m.d.sync += self.units[0].unit.eq(dispatcher.unit)
        for group, unit in enumerate(self.units):
            m.d.sync += unit.valid.eq(takes & members[group])
            if group:
                m.d.comb += unit.unit.eq(self.units[0].unit)
        return serves, takes

    def _reads(self, m, dispatcher, team, members, following, has, serves, takes):
        """The read of the team whose turn it is, what it leaves, and so whether the team that
        follows `has` a window."""
        config, pass_ = self._config, self.pass_
        layout = reading_layout(config)
        m.submodules.state = state = LutRam(shape=layout, depth=max(2, config.groups))
        reading, valid = Signal(layout, reset_less=True), Signal()
        turn, own = Signal.like(team), Signal.like(members)
        # What comes after the read is known when the read is: that sets the clock.
        after_read = data.StructLayout(
            {
                "ends": 1,  # the run does
                "row": 1,  # … and the patch's next one follows
                "first": 1,  # … or the skip source's for the first pixel, ...
                "right": 1,  # … for the pixel to the right, …
                "below": 1,  # … or for the first one of the row below
            }
        )
        begun, held = (self._after(of) for of in (dispatcher.reading, state.read_data))
        then = Signal(after_read, reset_less=True)
        m.d.comb += state.read_addr.eq(team)
        m.d.sync += [
            reading.eq(Mux(takes, dispatcher.reading, state.read_data)),
            Value.cast(then).eq(Mux(takes, begun, held)),
            valid.eq(serves),
            turn.eq(team),
            own.eq(members),
        ]

        neighbours = config.neighbours
        over = Signal()  # the window is
        after = state.write_data
        step = Signal.like(reading.end)
        m.d.comb += [
            after.eq(reading),
            state.write_addr.eq(turn),
            state.write_en.eq(valid),
            step.eq(
                Mux(then.row, pass_.map_row, 0)
                | Mux(then.right, pass_.skip_x, 0)
                | Mux(then.below, pass_.skip_y, 0)
            ),
            after.end.eq(Mux(then.first | then.below, reading.skip_end, reading.end) + step),
            over.eq(
                (then.first & (pass_.skip == 0)) | (then.below & (reading.a == reading.edge_y))
            ),
            after.a.eq(reading.a + then.below),
        ]
        with m.If(~then.ends):
            m.d.comb += after.left.eq(reading.left - neighbours)
        with m.Elif(then.row):
            m.d.comb += [
                after.left.eq(reading.run),
                after.column_end.eq(reading.column_end + pass_.kernel_row),
                after.rows_left.eq(reading.rows_left - 1),
            ]
        with m.Else():
            m.d.comb += [
                after.left.eq(pass_.skip),
                after.column_end.eq(self.pixels.bias_column),
                after.skipping.eq(1),
            ]
        with m.If(then.right):
            m.d.comb += after.b.eq(reading.b + 1)
        with m.If(then.below):
            m.d.comb += [after.b.eq(0), after.skip_end.eq(after.end)]
        # A team of two or fewer is next again two cycles after it was served.
        busy = Signal.like(members)
        for number in range(config.groups):
            with m.If(valid & own[number]):
                m.d.sync += busy[number].eq(~over)
        again = valid & (pass_.teams <= 1)
        has_window = Mux(again, ~over, (busy & following).any())
        m.d.sync += [each.eq(has_window) for each in has]

        read = self.read
        address = Signal.like(self.address)
        m.d.comb += address.eq(reading.end - reading.left)
        m.d.sync += [
            self.valid.eq(valid),
            self.address.eq(Mux(valid, address, 0)),
            read.groups.eq(own),
            read.start.eq(address),
            read.count.eq(Mux(then.ends, reading.left, neighbours)),
            read.place.eq(reading.place_end - reading.left),
            read.column.eq(reading.column_end - reading.left),
            read.row.eq(reading.rows_end - reading.rows_left),
            read.skip.eq(reading.skipping),
            read.a.eq(reading.a),
            read.b.eq(reading.b),
            read.edge_x.eq(reading.edge_x),
            read.edge_y.eq(reading.edge_y),
            read.last.eq(over),
        ]

    def _after(self, reading):
        """What comes after a read; of a window that begins, nothing of the skip source."""
        # No more than `neighbours`, a power of two, are left: tables are faster than a subtraction.
        size = (self._config.neighbours - 1).bit_length()
        left = reading.left
        ends = ~left[size + 1 :].any() & ~(left[size] & left[:size].any())
        row = ~reading.skipping & (reading.rows_left != 1)
        edge = reading.b == reading.edge_x
        return Cat(
            ends,
            ends & row,
            ends & ~reading.skipping & ~row,
            ends & reading.skipping & ~edge,
            ends & reading.skipping & edge,
        )

    def _pixels(self, m):
        """What the pixels of a window differ by, a pixel a cycle; returns whether the first window
        has to wait for it, in the next cycle."""
        pass_, out = self.pass_, self.pixels
        filling = Signal()
        a, b = Signal(2), Signal(2)
        column, below, base = (
            Signal.like(out.column),
            Signal.like(out.column),
            Signal.like(out.base),
        )
        with m.If(self.start):
            m.d.sync += [filling.eq(1), a.eq(0), b.eq(0), column.eq(0), below.eq(0), base.eq(0)]
        with m.Elif(filling):
            m.d.sync += [b.eq(b + 1), column.eq(column + pass_.pixel_x)]
            m.d.sync += base.eq(base + pass_.local_rows)
            with m.If(b == pass_.side):
                next_below = below + pass_.pixel_y_columns
                m.d.sync += [
                    a.eq(a + 1),
                    b.eq(0),
                    column.eq(next_below),
                    below.eq(next_below),
                    filling.eq(a != pass_.side),
                ]
        m.d.sync += [
            out.write.eq(filling),
            out.index.eq(Cat(b, a)),
            out.column.eq(column),
            out.base.eq(base),
            out.bias_column.eq(pass_.column_base + pass_.bias_column),
            out.bias.eq(1 << pass_.bias_exponent),
        ]
        # A window's first vector needs its first pixel twelve cycles after its team is served; the
        # sixteenth is in the table that long after the eighth.
        return filling & (pass_.side == 3) & ~a[1] & ~(a[0] & (b == 3))

    def _done(self, m, dispatcher, takes):
        """All windows are given, and of each group written."""
        groups = self._config.groups
        levels = (groups - 1).bit_length() + 1
        gang = self._of_levels([Const(groups >> level, levels) for level in range(levels)])
        # A group has its ring's windows, and those that its drain has on their way: a few more.
        under_way = Signal(range(32 * groups))
        written = Signal(range(groups + 1))
        running = Signal()
        m.d.sync += [
            written.eq(sum(self.written)),
            under_way.eq(under_way + Mux(takes, gang, 0) - written),
            self.done.eq(running & ~self.done & ~dispatcher.more & (under_way == 0)),
        ]
        with m.If(self.start):
            m.d.sync += running.eq(1)
        with m.Elif(self.done):
            m.d.sync += running.eq(0)

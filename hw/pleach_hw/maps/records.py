"""The plan: records of passes, taken from a PLAN packet and shown one at a time."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig
from pleach.engine.maps import FILE_WORDS, PLAN_HEAD, PLAN_WORDS, RECORD_WORDS, PassKind
from pleach.engine.pipeline import MULTIPLIER
from pleach.engine.protocol import EngineError
from pleach_hw.buses import RecordBus
from pleach_hw.layouts import PACKET_WORD, layout, map_pass_layout
from pleach_hw.primitives import BlockRam, LutRam, Multiplier, delay

#: words of a whole record
_WORDS = PLAN_WORDS + FILE_WORDS
#: most words of records in LUT RAM, so that a small engine has a block RAM less
LUT_RECORDS = 128
#: cycles until a pass is judged, whose last word was written: a register for what was written, one
#: for each of its fields, two products, and the judgement
_JUDGED = MULTIPLIER + 2


def in_lut_ram(config: EngineConfig) -> bool:
    """Whether an engine's records are in LUT RAM."""
    return record_words(config) <= LUT_RECORDS


def record_words(config: EngineConfig) -> int:
    """Words of all records."""
    return max(2, config.layers) * RECORD_WORDS


class Records(wiring.Component):
    """Holds a record for each pass, and shows one of them.

    A plan is refused when it is for an engine of another shape, when it has too few words or too
    many, or when a pass asks for more teams, rows or ring words than there are, or for none; or for
    something that never ends: edges beyond a window, more windows than values of the map memory, or
    a pooling that does not step. The rest of a plan can be wrong, too; then results are, but every
    pass still comes to an end.

    Ports:
        start: a PLAN packet begins; there is no plan until it was taken.
        i: its words after the command word, one a cycle.
        done: strobe, it was taken; `error` and `detail`, the number of the pass, stand.
        planned, passes, inputs, outputs, input_at, output_at: what its head says.
        record: writes a word of a record; not while a packet is taken.
        fetch: strobe, show record number `index`; not while a packet is taken.
        hold: what is fetched waits, and `pass_` stands.
        fetched: `pass_` is what was fetched last; it stands until the next fetch, and on with
            `hold`.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        size, address = range(config.maps + 1), range(config.maps)
        super().__init__(
            {
                "start": In(1),
                "i": In(stream.Signature(PACKET_WORD)),
                "done": Out(1),
                "error": Out(EngineError),
                "detail": Out(16),
                "planned": Out(1),
                "passes": Out(8),
                "inputs": Out(size),
                "outputs": Out(size),
                "input_at": Out(address),
                "output_at": Out(address),
                "record": In(RecordBus(config)),
                "fetch": In(1),
                "index": In(range(config.layers + 1)),
                "hold": In(1),
                "fetched": Out(1),
                "pass_": Out(map_pass_layout(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.ram = ram = (
            LutRam(shape=32, depth=record_words(config))
            if in_lut_ram(config)
            else BlockRam(shape=32, depth=record_words(config), latency=config.ram_latency)
        )
        number = Signal(8)  # of the pass whose words come
        word = Signal(range(RECORD_WORDS))
        write = Signal()
        # A cycle later: the memory is spread wide.
        m.d.sync += [
            ram.write_en.eq(self.record.write | write),
            ram.write_addr.eq(Cat(word, number)),
            ram.write_data.eq(self.i.p.data),
        ]
        with m.If(self.record.write):
            m.d.sync += [
                ram.write_addr.eq(Cat(self.record.word, self.record.pass_)),
                ram.write_data.eq(self.record.data),
            ]
        self._take(m, number, word, write)
        self._show(m, ram)
        return m

    def _take(self, m: Module, number: Signal, word: Signal, write: Signal) -> None:
        """The states of a packet."""
        config, data = self._config, self.i.p.data
        bad_head, bad_pass = Signal(), self._bad_pass(m, word, write)
        taken = self.i.valid & self.i.ready
        head = [layout(each)(data) for each in PLAN_HEAD]
        ended = Signal()  # the packet's last word was taken

        def fail(where) -> None:
            m.d.sync += [self.error.eq(EngineError.PLAN), self.detail.eq(where)]
            m.next = "discard"

        with m.If(taken):
            m.d.sync += ended.eq(self.i.p.last)
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += [
                    self.planned.eq(0),
                    self.error.eq(EngineError.OK),
                    self.detail.eq(0),
                    ended.eq(0),
                    number.eq(0),
                    word.eq(0),
                ]
                m.next = "head 0"
            for index, fields in enumerate(head):
                with m.State(f"head {index}"):
                    m.d.comb += self.i.ready.eq(~ended)
                    with m.If(taken):
                        m.next = f"head {index + 1}" if index + 1 < len(head) else "judge head"
                        for name in PLAN_HEAD[index].fields:
                            if name in ("pes", "groups", "neighbours"):
                                continue
                            place = getattr(self, name)
                            m.d.sync += place.eq(fields[name])
                        if index == 0:
                            m.d.sync += bad_head.eq(
                                (fields.pes != config.pes)
                                | (fields.groups != config.groups)
                                | (fields.neighbours != config.neighbours)
                                | (fields.passes == 0)
                                | (fields.passes > config.layers)
                            )
                        elif PLAN_HEAD[index].fields.keys() <= {"inputs", "outputs"}:
                            wrong = (data == 0) | (data > config.maps)
                            m.d.sync += bad_head.eq(bad_head | wrong)
                    with m.If(ended):
                        fail(0)
            with m.State("judge head"):
                m.next = "words"
                with m.If(bad_head | ended):
                    fail(0)
            with m.State("words"):
                m.d.comb += [self.i.ready.eq(~ended), write.eq(taken)]
                with m.If(taken):
                    m.d.sync += word.eq(word + 1)
                    with m.If(word == len(PLAN_WORDS) - 1):
                        m.d.sync += word.eq(0)
                        m.next = "judge 0"
                with m.If(ended):
                    fail(number)
            for cycle in range(_JUDGED):
                with m.State(f"judge {cycle}"):
                    m.next = f"judge {cycle + 1}"
            with m.State(f"judge {_JUDGED}"):
                last = number + 1 == self.passes
                m.d.sync += number.eq(number + 1)
                m.next = "words"
                with m.If(bad_pass | (last != ended)):
                    fail(number)
                with m.Elif(last):
                    m.d.sync += self.planned.eq(1)
                    m.next = "discard"
            with m.State("discard"):
                m.d.comb += self.i.ready.eq(~ended)
                with m.If(ended):
                    m.d.comb += self.done.eq(1)
                    m.next = "idle"

    def _bad_pass(self, m: Module, word: Signal, write: Signal) -> Signal:
        """Whether the pass whose words were written asks for what there is not; known `_JUDGED`
        cycles after the last of them."""
        config = self._config
        names = (
            "kind", "side", "teams", "edge_x", "edge_y", "slots", "local_rows", "units_x",
            "units_y", "slot", "pixel_x", "rows", "group_channels",
        )  # fmt: skip
        kept = {}
        here = delay(m, self.i.p.data, 1, name="data")
        for index, fields in enumerate(PLAN_WORDS):
            seen = layout(fields)(here)
            comes = delay(m, write & (word == index), 1, name=f"word_{index}", reset_less=False)
            for name in names:
                if name in fields.fields:
                    kept[name] = Signal(fields.fields[name], name=name)
                    with m.If(comes):
                        m.d.sync += kept[name].eq(seen[name])
        bits = (config.pes - 1).bit_length()
        products = []
        for a, b in (("slot", "slots"), ("units_x", "units_y")):
            # Unsigned, of a multiplier that takes signed numbers.
            size = 1 + max(len(kept[a]), len(kept[b]))
            unit = Multiplier(width_a=size, width_b=size)
            m.submodules[f"{a}_product"] = unit
            m.d.comb += [unit.a.eq(kept[a]), unit.b.eq(kept[b])]
            products.append(unit.product.as_unsigned())
        ring, windows = products
        held = Signal(32)
        m.d.sync += held.eq((kept["local_rows"] << bits) >> kept["teams"])

        def taken(name: str) -> Value:
            """As much of a field as the engine takes."""
            return kept[name][: len(getattr(self.pass_, name))]

        bad, bad_pool, none, many = Signal(), Signal(), Signal(), Signal()
        array = kept["kind"] == PassKind.CONVOLUTION
        m.d.sync += [
            none.eq(Cat(taken(name) == 0 for name in ("units_x", "units_y", "rows")).any()),
            many.eq(windows > config.maps),
            bad_pool.eq(
                (taken("pixel_x") == 0)
                | ((kept["group_channels"] != 1) & (kept["group_channels"] != config.neighbours))
            ),
            bad.eq(
                (kept["teams"] > (config.groups - 1).bit_length())
                | (kept["local_rows"] == 0)
                | (kept["local_rows"] > config.named_rows)
                | (kept["slot"] == 0)
                | (kept["slots"] == 0)
                | (ring > config.accumulators)
                | (held < kept["rows"])
                | (kept["edge_x"] > kept["side"])
                | (kept["edge_y"] > kept["side"])
            ),
        ]
        return none | many | Mux(array, bad, bad_pool)

    def _show(self, m: Module, ram: BlockRam | LutRam) -> None:
        """Fetch a record, a word a cycle, beside the one that is shown."""
        fetched, complete = Signal.like(self.pass_, reset_less=True), Signal()
        index = Signal.like(self.index)
        asked = Signal(range(RECORD_WORDS))
        asking = Signal()
        m.d.comb += ram.read_addr.eq(Cat(asked, index))
        latency = self._config.ram_latency
        read = ram.read_data
        if isinstance(ram, LutRam):
            read = delay(m, read, latency, name="read")
        ages = [asking]
        numbers = [asked]
        for age in range(latency):
            ages.append(Signal(name=f"asking_{age}"))
            numbers.append(Signal.like(asked, name=f"asked_{age}", reset_less=True))
            m.d.sync += [ages[-1].eq(ages[-2]), numbers[-1].eq(numbers[-2])]
        with m.If(asking):
            m.d.sync += [asked.eq(asked + 1), asking.eq(asked != len(_WORDS) - 1)]
        for number, word in enumerate(_WORDS):
            fields = layout(word)(read)
            with m.If(ages[-1] & (numbers[-1] == number)):
                m.d.sync += [
                    fetched[name].eq(fields[name])
                    for name in word.fields
                    if not name.startswith("_")
                ]
        with m.If(ages[-1] & (numbers[-1] == len(_WORDS) - 1)):
            m.d.sync += complete.eq(1)
        with m.If(complete & ~self.hold):
            m.d.sync += [self.pass_.eq(fetched), self.fetched.eq(1), complete.eq(0)]
        with m.If(self.fetch):
            m.d.sync += [
                complete.eq(0),
                index.eq(self.index),
                asked.eq(0),
                asking.eq(1),
                self.fetched.eq(0),
                *(each.eq(0) for each in ages[1:]),
            ]

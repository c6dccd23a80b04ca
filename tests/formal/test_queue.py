"""The queue, the buffer and the crossing between clocks: first in, first out, for ever."""

from __future__ import annotations

from amaranth.hdl import ClockDomain, ClockSignal, EnableInserter, ResetSignal, Signal
from amaranth.lib import stream

from tests.formal.harness import Bench, proof


def first_in_first_out(bench: Bench, i, o, *, depth: int) -> None:
    """One payload, any, is marked as it enters: it comes out behind those ahead of it, unchanged.
    As many payloads as entered leave, and one that is there is taken while there is a place."""
    m = bench.m
    mark = bench.any()
    put, get = i.valid & i.ready, o.valid & o.ready
    level = bench.count(put, get, depth)
    held, value = Signal(), Signal.like(i.payload)
    ahead = Signal.like(level)
    with m.If(put & mark & ~held):
        m.d.sync += [held.eq(1), value.eq(i.payload), ahead.eq(level - get)]
    with m.If(held & get):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += held.eq(0)
    bench.show(ahead < level, when=held)
    bench.show(o.payload == value, when=held & o.valid & (ahead == 0))
    bench.reached(held & get & (ahead == 0))
    bench.reached(level == depth)


@proof(
    "queue.Queue", "what enters leaves once, in order and unchanged; all places are used; it "
    "offers what it holds at once",
    broken=("(tail ^ head) != self._depth", "tail != head + self._depth - 1"),
    resets=True,
    quick=True,
)  # fmt: skip
def test_queue(bench, blocks):
    bench.m.submodules.dut = dut = blocks["queue"].Queue(shape=2, depth=4)
    bench.m.d.comb += [
        dut.i.valid.eq(bench.any()), dut.i.payload.eq(bench.any(2)), dut.o.ready.eq(bench.any())
    ]  # fmt: skip
    first_in_first_out(bench, dut.i, dut.o, depth=4)


@proof(
    "queue.Buffer", "what enters leaves once, in order and unchanged; both places are used",
    broken=("stuck & (behind_valid | self.i.valid)", "stuck & self.i.valid"),
    resets=True,
)  # fmt: skip
def test_buffer(bench, blocks):
    bench.m.submodules.dut = dut = blocks["queue"].Buffer(shape=2)
    bench.m.d.comb += [
        dut.i.valid.eq(bench.any()), dut.i.payload.eq(bench.any(2)), dut.o.ready.eq(bench.any())
    ]  # fmt: skip
    first_in_first_out(bench, dut.i, dut.o, depth=2)


@proof(
    "crossing.Crossing", "whatever the two clocks are, what enters leaves once, in order and "
    "unchanged, and within four edges of both the next one may enter",
    broken=("taken.eq(sent_seen)", "taken.eq(taken ^ self.o.payload[0])"),
)  # fmt: skip
def test_crossing(bench, blocks):
    """Any two clocks: of a faster one's edges each lets any of the two count."""
    m = bench.m
    edges = {name: Signal(name=f"edge_{name}") for name in ("source", "target")}
    for name, edge in edges.items():
        m.domains += ClockDomain(name)
        m.d.comb += [ClockSignal(name).eq(bench.clock.clk), ResetSignal(name).eq(0)]
        m.d.comb += edge.eq(bench.any())
    dut = blocks["crossing"].Crossing(2, source="source", target="target")
    m.submodules.dut = EnableInserter(edges)(dut)
    i, o = stream.Signature(2).create(), stream.Signature(2).create()  # as they are at an edge
    m.d.comb += [
        dut.i.valid.eq(i.valid),
        dut.i.payload.eq(i.payload),
        i.valid.eq(bench.any()),
        i.payload.eq(bench.any(2)),
        i.ready.eq(dut.i.ready & edges["source"]),
        dut.o.ready.eq(o.ready),
        o.ready.eq(bench.any()),
        o.valid.eq(dut.o.valid & edges["target"]),
        o.payload.eq(dut.o.payload),
    ]
    first_in_first_out(bench, i, o, depth=1)
    # The bit's way there and back: two registers and one for the bit itself, each.
    both = Signal(range(8))
    with m.If(dut.i.ready | (dut.o.valid & ~o.ready)):
        m.d.sync += both.eq(0)
    with m.Elif(edges["source"] & edges["target"]):
        m.d.sync += both.eq(both + 1)
    bench.show(both <= 6)

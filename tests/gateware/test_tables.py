"""The readers of a layer's tables against `HuffmanTable` and the format's writer."""

import numpy as np

from pleach.errors import FormatError
from pleach.format import HuffmanTable
from pleach_hw.load.tables import TableBuilder
from tests.gateware.streams import simulate


def test_table_builder():
    """Counts of code lengths, right ones and wrong ones by the way, against `HuffmanTable`."""
    dut = TableBuilder()
    rng = np.random.default_rng(6)
    cases = []  # (size, counts of the lengths below the longest)
    for _ in range(40):
        table, _ = HuffmanTable.build(rng.integers(1, 100, rng.integers(2, 257)), limit=12)
        counts = np.array(table.counts[1:-1])
        cases.append((table.size, counts.tolist()))
        if len(counts):
            counts[rng.integers(len(counts))] += rng.integers(-1, 3)
            cases.append((table.size, np.maximum(counts, 0).tolist()))
    # Full too soon, with nothing and with something left; a longest length without a code.
    cases += [(2, [2]), (3, [2]), (4, [1, 2]), (5, [1, 2]), (2, [0, 2, 0]), (256, [0] * 7)]
    broken = []

    async def bench(ctx):
        for size, counts in cases:
            ctx.set(dut.size, size)
            ctx.set(dut.longest, len(counts) + 1)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            await ctx.tick().repeat(2)
            written, wrong = [], False
            while not wrong and len(written) <= len(counts):
                assert ctx.get(dut.at_longest) == (len(written) == len(counts))
                ctx.set(dut.count, 255 if ctx.get(dut.at_longest) else counts[len(written)])
                ctx.set(dut.step, 1)
                await ctx.tick()
                ctx.set(dut.step, 0)
                while not ctx.get(dut.done):
                    if ctx.get(dut.o.write):
                        assert ctx.get(dut.o.length) == len(written) + 1
                        written.append((ctx.get(dut.o.upper), ctx.get(dut.o.offset)))
                    await ctx.tick()
                wrong = bool(ctx.get(dut.broken))
                await ctx.tick()
            broken.append(wrong)
            try:
                table = HuffmanTable.from_counts(size, len(counts) + 1, bytes(counts))
            except FormatError:
                assert wrong, (size, counts)
                continue
            assert not wrong, (size, counts)
            offsets = [offset & 0xFF for offset in table.offset]
            assert written == list(zip(table.upper[1:], offsets[1:], strict=True))

    simulate(dut, bench, limit=60_000)
    assert 20 < sum(broken) < len(cases) - 20

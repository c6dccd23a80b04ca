"""The pool unit over a model of the map memory, against numpy."""

import numpy as np
import pytest

from pleach.cycles import pool
from pleach.engine import EngineConfig
from pleach.engine.maps import MapPass, PassKind
from pleach.engine.pipeline import MAP_READ
from pleach_hw.maps.pool import PoolUnit
from tests.gateware.streams import simulate


def pooled(x, kernel, stride, padding, shift):
    """What a POOL gives of a map ``[height, width, channels]``, docs/numerics.md."""
    top, left, bottom, right = padding
    fill = 0 if shift is not None else -32768
    x = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=fill).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(0, 1))
    windows = windows[:: stride[0], :: stride[1]]
    if shift is None:
        return windows.max((-2, -1))
    half = (1 << shift) >> 1
    return np.clip((windows.sum((-2, -1)) + half) >> shift, -32768, 32767)


def pool_pass(shape, kernel, stride, padding, shift, source, sink, lanes):
    height, width, channels = shape
    top, left, bottom, right = padding
    rows = (height + top + bottom - kernel[0]) // stride[0] + 1
    across = (width + left + right - kernel[1]) // stride[1] + 1
    return MapPass(
        kind=PassKind.POOL, pooled=shift is None, shift=shift or 0,
        units_x=across, units_y=rows, source=source, sink=sink,
        x_first=-left * channels, x_step=stride[1] * channels,
        y_first=-top, y_step=stride[0],
        row_first=-top * width * channels, row_step=stride[0] * width * channels,
        map_row=width * channels, map_rows=height,
        kernel_row=kernel[1] * channels, kernel_rows=kernel[0],
        pixel_x=channels, pixel=channels, rows=channels,
        group_channels=lanes if channels % lanes == 0 else 1,
    )  # fmt: skip


def run(config, passes, memory):
    """What passes write into a memory, and the cycles of each from its start to its end."""
    dut = PoolUnit(config, latency=MAP_READ)
    lanes, took, state = config.neighbours, [], {"on": True}
    rows = memory.reshape(-1, lanes)

    async def bench(ctx):
        for each in passes:
            fields = {name: int(getattr(each, name)) for name, _ in dut.pass_.shape()}
            ctx.set(dut.pass_, fields)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            cycles = 1
            while not ctx.get(dut.done):
                await ctx.tick()
                cycles += 1
            took.append(cycles)
            await ctx.tick().repeat(2)
        state["on"] = False

    async def model(ctx):
        on_way = [0] * MAP_READ
        while state["on"]:
            address = ctx.get(dut.address)
            enables, row = ctx.get(dut.write.enables), ctx.get(dut.write.row)
            values = [ctx.get(dut.write.values[n]) for n in range(lanes)]
            if not enables:
                assert not row and not any(values)
            await ctx.tick()
            for n in range(lanes):
                if enables >> n & 1:
                    rows[row, n] = values[n]
            on_way = [address, *on_way[:-1]]
            at = on_way[-1]
            for n in range(lanes):
                ctx.set(dut.values[n], int(rows[(at + lanes - 1 - n) // lanes % len(rows), n]))

    simulate(dut, bench, model)
    return took


@pytest.mark.parametrize("lanes", [4, 8])
def test_windows_of_every_kind(lanes):
    """Padded, overlapping, apart, a whole map, a pixel; channels that fill the lanes, others."""
    rng = np.random.default_rng(lanes)
    config = EngineConfig(maps=4096, neighbours=lanes, pes=4)
    cases = [
        ((4, 5, 8), (2, 2), (2, 2), (0, 0, 0, 0), None),
        ((4, 4, 16), (4, 4), (4, 4), (0, 0, 0, 0), 4),
        ((5, 4, 3), (3, 2), (1, 2), (1, 1, 1, 0), None),
        ((5, 3, 8), (3, 3), (2, 1), (2, 1, 0, 2), 3),
        ((2, 3, 5), (1, 1), (1, 1), (0, 0, 0, 0), 0),
        ((2, 3, 8), (1, 1), (1, 1), (0, 0, 0, 0), 1),
        ((3, 3, 1), (3, 3), (3, 3), (0, 0, 0, 0), 16),
    ]
    memory = rng.integers(-32768, 32768, 4096).astype(np.int64)
    before, passes, expected = memory.copy(), [], []
    source, sink = 0, 2048
    for shape, kernel, stride, padding, shift in cases:
        passes.append(pool_pass(shape, kernel, stride, padding, shift, source, sink, lanes))
        x = before[source : source + np.prod(shape)].reshape(shape)
        expected.append((sink, pooled(x, kernel, stride, padding, shift)))
        source += -(-int(np.prod(shape)) // 16) * 16
        sink += -(-expected[-1][1].size // 16) * 16
    took = run(config, passes, memory)
    for each, took_cycles, (sink, values) in zip(passes, took, expected, strict=True):
        got = memory[sink : sink + values.size].reshape(values.shape)
        assert np.array_equal(got, values), each
        memory[sink : sink + values.size] = before[sink : sink + values.size]
        assert took_cycles == pool.cycles(each)
    assert np.array_equal(memory, before)

"""Non-zero detection against a list comprehension."""

import pytest
from amaranth.hdl import ResetInserter, Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach_hw.compute.lnzd import NonZeroDetector
from tests.gateware.streams import receive, send, simulate, transact

RATES = st.sampled_from([0.0, 0.3, 0.9])
SPARSE = st.one_of(st.just(0), st.just(0), st.integers(-32768, 32767))


def vectors_of(layer, lanes):
    """A layer's activations as the vectors of the input; lanes past the end hold rubbish."""
    vectors = []
    for column in range(0, len(layer), lanes):
        values = layer[column : column + lanes]
        vectors.append(
            {
                "values": [*values, *[-1] * (lanes - len(values))],
                "mask": (1 << len(values)) - 1,
                "column": column,
                "last": column + lanes >= len(layer),
            }
        )
    return vectors


def tokens_of(layer):
    """Columns and values of what is not zero."""
    return [(column, value) for column, value in enumerate(layer) if value]


def detect(layers, lanes, *, depth=4, **rates):
    """Run `layers` through the hardware; returns each layer's (column, value) pairs."""
    vectors = [vector for layer in layers for vector in vectors_of(layer, lanes)]
    # A token for each non-zero, and one more where a layer's last vector holds none.
    count = sum(len(tokens_of(layer)) for layer in layers) + sum(
        not any(layer[(len(layer) - 1) // lanes * lanes :]) for layer in layers
    )
    dut = NonZeroDetector(lanes=lanes, column_width=8, depth=depth)
    found = [[]]
    for token in transact(dut, vectors, count, **rates):
        if token["present"]:
            found[-1].append((token["column"], token["value"]))
        else:
            assert token["last"]
        if token["last"]:
            found.append([])
    assert found.pop() == []
    return found


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    layers=st.lists(st.lists(SPARSE, min_size=1, max_size=30), min_size=2, max_size=4),
    lanes=st.sampled_from([1, 2, 4]),
    depth=st.sampled_from([1, 2, 16]),
    idle=RATES,
    stall=RATES,
    seed=st.integers(0, 1000),
)
def test_finds_what_is_not_zero(layers, lanes, depth, idle, stall, seed):
    found = detect(layers, lanes, depth=depth, idle=idle, stall=stall, seed=seed)
    assert found == [tokens_of(layer) for layer in layers]


@pytest.mark.parametrize(
    "layer",
    [
        [0] * 40,
        [0],
        [5],
        [0] * 39 + [1],
        [1] + [0] * 39,
        [0, 0, 0, 1, 1],
        [-32768, 32767, 256, 1, -1],
    ],
)
def test_zeros_at_the_ends(layer):
    assert detect([layer, layer, [7]], 4) == [tokens_of(layer), tokens_of(layer), [(0, 7)]]


def test_a_masked_lane_is_not_an_activation():
    vector = {"values": [3, 4, 5, 6], "mask": 0b0101, "column": 8, "last": 1}
    tokens = transact(NonZeroDetector(lanes=4, column_width=8), [vector], 2)
    assert tokens == [
        {"value": 3, "column": 8, "present": 1, "last": 0},
        {"value": 5, "column": 10, "present": 1, "last": 1},
    ]


@pytest.mark.parametrize("seed", range(4))
def test_one_token_a_cycle_without_a_gap(seed):
    # Every pattern of zeros in a vector but all zeros, in an order that the seed moves.
    masks = [(seed + 7 * n) % 15 + 1 for n in range(30)]
    layer = [(mask >> lane) & 1 for mask in masks for lane in range(4)]
    vectors, stamps = vectors_of(layer, 4), []
    dut = NonZeroDetector(lanes=4, column_width=8)
    transact(dut, vectors, sum(layer), stamps=stamps)
    assert stamps == list(range(3, 3 + sum(layer)))


def test_zeros_are_dropped_a_vector_a_cycle():
    # The last vector enters in cycle 26 if each of the 20 vectors of zeros took one cycle.
    layer = [1] * 24 + [0] * 80 + [1]
    stamps = []
    transact(NonZeroDetector(lanes=4, column_width=8), vectors_of(layer, 4), 25, stamps=stamps)
    assert stamps == [*range(3, 27), 3 + 26]


def test_waiting_vectors_fill_the_queue():
    dut = NonZeroDetector(lanes=4, column_width=8, depth=4)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.i.payload, {"values": [1, 0, 0, 2], "mask": 15, "column": 0, "last": 0})
        taken = 0
        for _ in range(20):
            taken += ctx.get(dut.i.ready)
            await ctx.tick()
        assert taken == 4 + 1  # one more is at the output

    simulate(dut, bench)


def test_reset_drops_what_waits():
    dut = NonZeroDetector(lanes=4, column_width=8)
    reset = Signal()

    async def bench(ctx):
        await send(ctx, dut.i, vectors_of([1] * 20, 4))
        await receive(ctx, dut.o, 2)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert not ctx.get(dut.o.valid)
        await send(ctx, dut.i, vectors_of([0, 9], 4))
        tokens = await receive(ctx, dut.o, 1)
        assert tokens == [{"value": 9, "column": 1, "present": 1, "last": 1}]

    simulate(ResetInserter(reset)(dut), bench)

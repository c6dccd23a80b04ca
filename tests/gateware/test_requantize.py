"""The requantisation unit against `pleach.reference.Requantizer`, and both against exact sums."""

from fractions import Fraction
from itertools import product
from math import floor

import numpy as np
import pytest

from pleach.model import Activation
from pleach.reference import Requantizer
from pleach_hw.compute.requantize import RequantizeUnit
from pleach_hw.compute.scale import ScaleUnit
from tests.gateware.streams import simulate

#: those that the unit has
FUNCTIONS = (Activation.NONE, Activation.RELU, Activation(-32768, 32767, sign=True))


def assert_requantized(cases, bits):
    """Each case's accumulators through the hardware, one a cycle, are the reference's outputs.

    Args:
        cases: of ``(accumulators, shift, activation)``.
    """
    dut = RequantizeUnit(accumulator_bits=bits)

    async def bench(ctx):
        for accumulators, shift, activation in cases:
            expected = Requantizer(shift=shift, activation=activation)(np.array(accumulators))
            ctx.set(dut.shift, shift)
            ctx.set(dut.relu, activation == Activation.RELU)
            ctx.set(dut.sign, activation.sign)
            results = []
            for cycle in range(len(accumulators) + dut.latency):
                if cycle < len(accumulators):
                    ctx.set(dut.acc, int(accumulators[cycle]))
                if cycle >= dut.latency:
                    results.append(ctx.get(dut.result))
                await ctx.tick()
            assert results == expected.tolist(), (shift, activation)

    simulate(dut, bench)


def near(bits, shift):
    """Accumulators at and next to every edge: ties, saturation, the ends of the range."""
    step = 1 << shift
    centres = [0, 1, -1, step, -step, step // 2, -step // 2, 3 * step // 2, -3 * step // 2]
    centres += [32767 * step, -32768 * step, 32767 * step + step // 2, -32768 * step - step // 2]
    centres += [1 << (bits - 1), -(1 << (bits - 1)), 1 << (bits - 2), -3 << (bits - 3)]
    centres += [12345 * step, -23456 * step]
    values = {centre + delta for centre in centres for delta in (-2, -1, 0, 1, 2)}
    return sorted(v for v in values if -(1 << (bits - 1)) <= v < 1 << (bits - 1))


@pytest.mark.parametrize("bits", [24, 32, 48])
def test_every_shift_at_every_edge(bits):
    assert_requantized(
        [(near(bits, shift), shift, a) for shift in range(48) for a in FUNCTIONS], bits
    )


def test_random_accumulators():
    rng = np.random.default_rng(1)
    cases = [
        (rng.integers(-(1 << 31), 1 << 31, 20) >> int(rng.integers(32)), shift, activation)
        for shift, activation in product(range(0, 32, 3), FUNCTIONS)
    ]
    assert_requantized(cases, 32)


@pytest.mark.parametrize("shift", [0, 1, 2, 15, 47])
def test_the_reference_rounds_ties_up_and_saturates_before_relu(shift):
    accumulators = near(48, shift)
    rounded = [floor(Fraction(acc, 1 << shift) + Fraction(1, 2)) for acc in accumulators]
    plain = [min(max(value, -32768), 32767) for value in rounded]
    requantizer = Requantizer(shift=shift, activation=Activation.NONE)
    assert requantizer(np.array(accumulators)).tolist() == plain
    requantizer = Requantizer(shift=shift, activation=Activation.RELU)
    assert requantizer(np.array(accumulators)).tolist() == [max(value, 0) for value in plain]
    assert shift == 47 or {-32768, 32767} <= set(plain)


@pytest.mark.parametrize("bits", [17, 32, 40, 48])
def test_products_of_scales(bits):
    """Exact in 48 bits where they fit these; of more bits the lowest 48."""
    rng = np.random.default_rng(bits)
    ends = [(1 << bits - 1) - 1, -(1 << bits - 1), 0, -1]
    sums = ends + rng.integers(-(1 << bits - 1), 1 << bits - 1, 60).tolist()
    cases = [(acc, scale) for acc in sums for scale in (1, -32768, 32767, int(rng.integers(9999)))]
    dut = ScaleUnit(accumulator_bits=bits)

    async def bench(ctx):
        products = []
        for acc, scale in cases + cases[: dut.latency]:
            ctx.set(dut.acc, acc)
            ctx.set(dut.scale, scale)
            products.append(ctx.get(dut.product))
            await ctx.tick()
        wanted = [(acc * scale + (1 << 47)) % (1 << 48) - (1 << 47) for acc, scale in cases]
        assert products[dut.latency :] == wanted

    simulate(dut, bench)


def test_width_is_checked():
    for bits in (16, 49):
        with pytest.raises(ValueError, match=f"17 to 48 bits, not {bits}"):
            RequantizeUnit(accumulator_bits=bits)

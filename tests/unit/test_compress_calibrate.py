"""Fixed point: the rules of docs/numerics.md, and that the result computes what it should."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from pleach.compile import calibrate
from pleach.compile.calibrate import RealLayer, fraction_for
from pleach.errors import DataError, ModelError
from pleach.model import Activation, Convolution, InputType, accumulator_bits
from pleach.models import real_graph
from pleach.reference import Reference


def layer(rng, inputs, outputs, activation=Activation.RELU, values=9, density=0.5, name="fc"):
    """A random shared layer with a bias."""
    codebook = rng.normal(size=values).astype(np.float32)
    full = codebook[rng.integers(0, values, (outputs, inputs + 1))]
    full *= rng.random(full.shape) < density
    return RealLayer(name, full[:, :-1], full[:, -1], activation)


def network(rng, widths, **options):
    shapes = list(pairwise(widths))
    return [
        layer(
            rng, a, b, Activation.RELU if i < len(shapes) - 1 else Activation.NONE,
            name=f"fc{i}", **options,
        )
        for i, (a, b) in enumerate(shapes)
    ]  # fmt: skip


def forward(layers, inputs):
    for each in layers:
        inputs = each.activation(inputs @ each.weight.T + each.bias)
    return inputs


@given(st.floats(1e-30, 1e30))
def test_fraction_is_the_largest_that_fits(largest):
    fraction = fraction_for(largest)
    assert fraction == 14 or 1.5 * largest * 2.0 ** (fraction + 1) > 32767
    assert fraction == -128 or 1.5 * largest * 2.0**fraction <= 32767
    assert -128 <= fraction <= 14


@settings(max_examples=25, deadline=None)
@example(seed=8190653, bits=28, pixels=True)  # 28.0002 bits at one bit more
@given(st.integers(0, 2**32 - 1), st.sampled_from([28, 30, 32, 40]), st.booleans())
def test_outputs_are_close_and_fractions_maximal(seed, bits, pixels):
    rng = np.random.default_rng(seed)
    layers = network(rng, [20, 12, 6])
    inputs = rng.integers(0, 256, (40, 20)).astype(np.uint8)
    real = inputs / np.float32(256)
    if not pixels:
        inputs = real = rng.normal(size=(40, 20)).astype(np.float32) * 5
    model = calibrate(layers, inputs, accumulator_bits=bits)

    assert model.input_type == (InputType.UINT8 if pixels else InputType.INT16)
    assert model.input_fraction == (8 if pixels else fraction_for(float(np.abs(real).max())))
    activations = real
    for fixed, each, before, magnitude in zip(
        model.layers, layers, model.input_fractions(), model.magnitudes(), strict=True
    ):
        activations = forward([each], activations)
        assert accumulator_bits(fixed, magnitude) <= bits
        assert fixed.bias_exponent == before
        weight_fraction = fixed.shift + fixed.output_fraction - before
        assert fixed.output_fraction == min(
            fraction_for(float(np.abs(activations).max())), weight_fraction + before
        )
        # One bit more would fit neither int16 nor the accumulator.
        doubled = np.abs(fixed.codebook.astype(int)).max() * 2 >= 32766
        whole = np.column_stack([each.weight, each.bias])
        finer = np.abs(np.rint(whole * 2.0 ** (weight_fraction + 1)))
        sums = finer[:, :-1].sum(axis=1) * magnitude + finer[:, -1] * 2.0**fixed.bias_exponent
        assert doubled or sums.max() > 2 ** (bits - 1) - 1
        step = 2.0**-weight_fraction
        assert np.abs(fixed.dense() * step - whole).max() <= step / 2 + 1e-12

    run = Reference(model).run(model.quantise(inputs))
    found = run * 2.0 ** -model.layers[-1].output_fraction
    expected = forward(layers, real)
    assert np.abs(found - expected).max() < 0.03 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_compute_what_torch_does(groups):
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1, groups=groups),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(6, 4, (2, 1), groups=groups),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    generator = torch.Generator().manual_seed(groups)
    with torch.no_grad():
        for parameter in model.parameters():
            # Quarters, so that a codebook holds them all.
            parameter.copy_(torch.randint(-8, 9, parameter.shape, generator=generator) / 4)
    inputs = torch.rand(50, 2, 16, 13, generator=generator)
    fixed = calibrate(real_graph(model, inputs.shape[1:]), inputs.numpy(), accumulator_bits=40)

    traces = Reference(fixed).trace(fixed.quantise(inputs.numpy()))
    with torch.no_grad():
        for stop, trace, done in zip((2, 4, 7), traces, fixed.layers, strict=True):
            expected = model[:stop](inputs)
            if expected.ndim == 4:
                expected = expected.movedim(1, 3)  # pixel by pixel
            expected = expected.flatten(1).numpy()
            assert done.output_fraction == fraction_for(float(np.abs(expected).max()))
            found = trace.outputs * 2.0**-done.output_fraction
            assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()
    assert np.abs(expected).max() > 1


def test_batches_bound_the_memory_of_convolutions(monkeypatch):
    conv = Convolution(1, 6, 6, 3, 3)
    rng = np.random.default_rng(0)
    weight = rng.choice([-0.5, 0.25, 1.0], (5, 9))
    layers = [RealLayer("conv", weight, None, Activation.NONE, conv)]
    inputs = rng.integers(0, 256, (30, 6, 6)).astype(np.uint8)
    whole = calibrate(layers, inputs)
    for values in (9 * 16 * 4, 1):  # one input at least, however large
        monkeypatch.setattr("pleach.reference.maps.VALUES", values)
        assert calibrate(layers, inputs) == whole
    with pytest.raises(DataError, match="calibration inputs of shape .30, 35. do not fit"):
        calibrate(layers, inputs.reshape(30, 36)[:, 1:])


def test_narrow_codebooks():
    layers = network(np.random.default_rng(1), [20, 12, 6])
    inputs = np.random.default_rng(2).integers(0, 256, (40, 20)).astype(np.uint8)
    model = calibrate(layers, inputs, codebook_bits=8)
    for fixed, each in zip(model.layers, layers, strict=True):
        assert 64 <= np.abs(fixed.codebook.astype(int)).max() <= 127
        step = np.abs(each.weight).max() / 127
        unit = 2.0 ** -(fixed.shift + fixed.output_fraction - model.input_fraction)
        if each is layers[0]:
            assert np.abs(fixed.dense()[:, :-1] * unit - each.weight).max() <= step
    with pytest.raises(ModelError, match="64 is the least"):
        calibrate(layers, inputs, codebook_bits=8, accumulator_bits=16)


def test_nearby_values_merge_and_small_ones_are_dropped():
    weight = np.array([[1.0, 1.0 + 1e-6], [0.25, 1e-7]])
    model = calibrate([RealLayer("a", weight, None, Activation.NONE)], np.full((1, 2), 9, np.uint8))
    (fixed,) = model.layers
    assert len(fixed.codebook) == 2  # four values: two merged, one rounded to zero
    assert fixed.kept == 3 and fixed.positions.tolist() == [0, 1, 2]
    assert fixed.values.tolist() == [2**14, 2**12, 2**14]
    assert not fixed.bias


def test_a_bias_alone_where_one_cannot_be_written():
    # Inputs beyond int16: the fraction is negative, the bias column is 2^5 and not 1.
    layers = [RealLayer("a", np.eye(2), np.array([64.0, -2.0]), Activation.NONE)]
    inputs = np.array([[600_000.0, 1.0]])
    model = calibrate(layers, inputs)
    (fixed,) = model.layers
    assert model.input_fraction == -5 and fixed.bias_exponent == 0
    unit = fixed.shift + fixed.output_fraction - model.input_fraction
    in_real_numbers = fixed.dense()[:, -1] * 2.0 ** (0 - model.input_fraction - unit)
    assert in_real_numbers.tolist() == [64.0, -2.0]


def test_an_empty_layer():
    empty = RealLayer("a", np.zeros((3, 2)), np.zeros(3), Activation.NONE)
    model = calibrate([empty, empty_after(3)], np.zeros((1, 2), np.uint8))
    assert [x.kept for x in model.layers] == [0, 0]
    assert Reference(model).run(np.full((1, 2), 255, np.uint8)).tolist() == [[0, 0]]


def empty_after(inputs):
    return RealLayer("b", np.zeros((2, inputs)), None, Activation.NONE)


def test_tiny_weights_stop_at_the_largest_shift():
    def tiny(weight):
        layers = [RealLayer("a", np.full((1, 2), weight), None, Activation.NONE)]
        return calibrate(layers, np.ones((1, 2), np.uint8)).layers[0]

    # Weight fraction 47 + 14 − 8 = 53 at most.
    assert (tiny(2.0**-40).shift, tiny(2.0**-40).codebook.tolist()) == (47, [2**13])
    assert tiny(2.0**-46).codebook.tolist() == [2**7]
    with pytest.raises(ModelError, match=r"'a'.*the integer 64 .*least"):
        tiny(2.0**-47)


def test_unshared_layer_is_refused():
    weight = np.random.default_rng(1).normal(size=(20, 20))
    layers = [RealLayer("body.fc", weight, None, Activation.NONE)]
    with pytest.raises(ModelError, match=r"'body.fc' has 400 distinct weights.*share its weights"):
        calibrate(layers, np.zeros((1, 20), np.uint8))
    just = RealLayer("a", np.resize(np.arange(1, 257), (1, 300)) / 9, None, Activation.NONE)
    (fixed,) = calibrate([just], np.zeros((1, 300), np.uint8), accumulator_bits=40).layers
    assert len(fixed.codebook) == 256


def test_narrow_accumulators_are_refused_with_the_numbers():
    layers = [RealLayer("a", np.ones((1, 1000)), None, Activation.NONE)]
    inputs = np.ones((1, 1000), np.uint8)
    # 1000 weights of 2^7 times 255 is 32,640,000: 26 bits with the sign, and not 25.
    assert calibrate(layers, inputs, accumulator_bits=26).layers[0].codebook.tolist() == [128]
    with pytest.raises(ModelError, match=r"'a': 25-bit accumulators .* 64 .*128 is the least"):
        calibrate(layers, inputs, accumulator_bits=25)


def test_inputs_of_the_wrong_kind():
    layers = [RealLayer("a", np.ones((1, 2)), None, Activation.NONE)]
    for inputs in (np.ones((1, 3), np.uint8), np.ones((0, 2)), np.ones((1, 2), np.int16)):
        with pytest.raises(DataError, match="calibration inputs"):
            calibrate(layers, inputs)
    with pytest.raises(DataError, match="not finite"):
        calibrate(layers, np.array([[0, np.inf]]))
    with pytest.raises(ModelError, match="inputs are float64, the network takes uint8"):
        calibrate(layers, np.ones((1, 2), np.uint8)).quantise(np.ones((1, 2)))
    model = calibrate(layers, np.ones((1, 2)))
    assert model.quantise(np.array([[9.0, -9.0]])).tolist() == [[32767, -32768]]
    with pytest.raises(ModelError, match="inputs are uint8, the network takes float"):
        model.quantise(np.ones((1, 2), np.uint8))

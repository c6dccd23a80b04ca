"""The compressed model: what its fields may hold, and its numbers as real ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pleach.compile.explore import engines
from pleach.engine import EngineConfig
from pleach.errors import CapacityError, ConfigError, DataError, ModelError
from pleach.format import dumps, loads
from pleach.model import (
    Activation,
    CompressedLayer,
    CompressedModel,
    Convolution,
    InputType,
    Skip,
    accumulator_bits,
)
from pleach.reference import Reference
from tests.strategies import random_inputs, random_layer, random_model, random_part


def layer(**changes) -> CompressedLayer:
    values = {
        "name": "fc7", "inputs": 4, "outputs": 3, "bias": True, "positions": [0, 1],
        "codes": [0, 1], "codebook": [5, 6], "shift": 1, "activation": Activation.RELU,
        "bias_exponent": 0, "output_fraction": 0,
    }  # fmt: skip
    return CompressedLayer(**(values | changes))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"codebook": np.array([1, 40000])}, r"codebook\[1\] is 40000, must be -32768 to 32767"),
        ({"codebook": np.array([0.5, 1])}, "codebook is float64"),
        ({"codebook": np.array([np.nan, 1])}, "codebook is float64"),
        ({"codebook": [[5, 6]]}, r"codebook is int64 of shape \(1, 2\)"),
        ({"codes": np.array([256, 1])}, r"codes\[0\] is 256"),
        ({"codes": np.array([0, -1])}, r"codes\[1\] is -1"),
        ({"codes": np.array([True, False])}, "codes is bool"),
        ({"positions": np.array([0.0, 1.5])}, "positions is float64"),
        ({"positions": [-1, 1]}, r"positions\[0\] is -1"),
        ({"positions": [0, 2**63]}, r"positions\[1\] is 9223372036854775808|positions is"),
        ({"positions": [0, 10**30]}, "positions is object"),
        ({"positions": "ab"}, "positions is <U2"),
        ({"inputs": 4.0}, "inputs is 4.0, must be a whole number"),
        ({"outputs": float("nan")}, "outputs is nan"),
        ({"shift": None}, "shift is None"),
        ({"bias": 2}, "bias is 2"),
        ({"activation": 2}, "2 is no Activation"),
        ({"activation": Activation(0, 1.5)}, r"a bound of 1\.5 must be an integer"),
        ({"activation": Activation(0, 1 << 15)}, "a bound of 32768 must"),
        ({"skip": (2,)}, r"\(2,\) is no Skip"),
        ({"skip": Skip(2, (1, 2))}, "the skip of a fully connected layer has no strides"),
        ({"scales": [1]}, "1 scales for 3 rows"),
        ({"scales": [1, 2, 40000]}, r"scales\[2\] is 40000"),
        ({"output_fraction": 128}, "output_fraction is 128"),
        ({"claimed_bits": 64}, "claimed_bits is 64"),
        ({"inputs": 65535}, "columns is 65536"),
        ({"convolution": (1, 2, 2)}, "is no Convolution"),
    ],
)
def test_fields_of_a_layer_are_refused_with_their_place(change, says):
    with pytest.raises(ModelError, match=f"layer 'fc7'.*{says}"):
        layer(**change)


@pytest.mark.parametrize("name", ["\ud800", b"fc1", None])
def test_a_name_is_text(name):
    with pytest.raises(ModelError, match="a name is text that UTF-8 can write"):
        layer(name=name)


def test_fields_take_any_whole_numbers():
    same = layer(
        inputs=np.int32(4),
        positions=torch.tensor([0, 1]),
        codes=np.array([0, 1], np.uint64),
        codebook=np.array([5, 6], np.int8),
        bias=np.bool_(True),
    )
    assert same == layer() and type(same.inputs) is int
    assert layer(positions=[], codes=[], codebook=[]).kept == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": ["fc1"]}, r"layers\[0\] is a str"),
        ({"layers": []}, "1 to 255 layers"),
        ({"input_type": 3}, "3 is no InputType"),
        ({"input_fraction": 8.5}, "input_fraction is 8.5"),
        ({"original": 2**32}, "original is 4294967296"),
        ({"output_exponents": [1]}, "1 output_exponents for the 3 rows"),
        ({"output_exponents": [0.5] * 3}, "output_exponents is float64"),
        ({"output_exponents": [0, 0, 128]}, r"output_exponents\[2\] is 128"),
    ],
)
def test_fields_of_a_model_are_refused(change, says):
    with pytest.raises(ModelError, match=says):
        CompressedModel(**({"layers": (layer(),)} | change))


@pytest.mark.parametrize("value", [1.5, 0, 256, "3"])
def test_fields_of_a_convolution_are_refused(value):
    with pytest.raises(ModelError, match="convolution: kernel_width is"):
        Convolution(1, 300, 300, 1, value)


def test_the_bias_counts_with_its_own_magnitude():
    # 7 on an input, 30 on the bias: each width differs from that of 37 on inputs alone.
    both = layer(outputs=1, positions=[0, 4], codebook=[7, 30], bias_exponent=14)
    assert accumulator_bits(both, 32768) == (7 * 32768 + 30 * 2**14).bit_length() + 1 == 21
    assert (37 * 32768).bit_length() + 1 == 22
    small = replace(both, bias_exponent=0)
    assert accumulator_bits(small, 255) == (7 * 255 + 30).bit_length() + 1 == 12
    assert (37 * 255).bit_length() + 1 == 15
    # A bias larger than what the inputs add up to, on a row of its own.
    alone = layer(positions=[0, 13], codebook=[1, 30], bias_exponent=14)
    assert accumulator_bits(alone, 255) == (30 * 2**14).bit_length() + 1 == 20


def test_magnitudes_are_those_that_the_formats_hold():
    """-32768 is one, unless a ReLU is before it."""
    kinds = (Activation.NONE, Activation.RELU)
    layers = [
        replace(layer(), inputs=4 if n else 3, outputs=4, activation=kinds[n % 2]) for n in range(4)
    ]
    model = CompressedModel((layer(inputs=3, outputs=4), *layers[2:]))
    assert model.magnitudes() == [255, 32767, 32768]
    assert replace(model, input_type=InputType.INT16).magnitudes()[0] == 32768


def test_widths_of_some_entries_at_a_time(monkeypatch):
    rows = random_layer(np.random.default_rng(4), 30, 20, density=0.8)
    needed = accumulator_bits(rows, 255)
    products = abs(rows.dense().astype(int)) * [*[255] * 30, 2**rows.bias_exponent]
    assert needed == int(products.sum(axis=1).max()).bit_length() + 1
    monkeypatch.setattr("pleach.model.weights._AT_ONCE", 7)
    assert accumulator_bits(rows, 255) == needed


def test_floats_that_are_not_finite_are_no_inputs():
    model = CompressedModel((layer(inputs=2),), InputType.INT16, 8)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(DataError, match=f"value 1 of row 2 is {bad}, not finite"):
            model.quantise(np.array([[0, 0], [1, 1], [0, bad]]))
    assert model.quantise(np.array([[1e308, -1e308]])).tolist() == [[32767, -32768]]
    assert model.quantise(torch.ones(3, 2, requires_grad=True)).tolist() == [[256, 256]] * 3
    assert model.quantise(torch.ones(1, 2, dtype=torch.bfloat16)).tolist() == [[256, 256]]
    assert model.quantise(np.zeros((0, 2))).shape == (0, 2)
    for shape in ((1, 3), (), (2,)):
        with pytest.raises(ModelError, match=r"takes \(n, 2\)"):
            model.quantise(np.zeros(shape))


def test_integers_as_the_real_numbers_they_stand_for():
    rng = np.random.default_rng(2)
    conv = Convolution(2, 5, 5, 3, 3, groups=2)
    first = random_part(rng, conv, 4, density=0.6, shift=3, name="a")
    last = random_layer(rng, 36, 3, shift=18, activation=Activation.NONE, name="b")
    model = CompressedModel((first, last), output_exponents=(0, 2, -1))
    assert [w.shape for w, _ in model.weights()] == [(4, 1, 3, 3), (3, 36)]
    (weight, bias) = model.weights()[1]
    own = np.ldexp(last.dense()[:, :36], -np.array([[0], [2], [-1]]) - model.weight_fractions()[1])
    trace = Reference(model).trace(random_inputs(rng, model, 5))[1]
    inputs = np.ldexp(trace.inputs.astype(float), -model.input_fractions()[1])
    assert np.array_equal(weight.reshape(3, 4, 9).swapaxes(1, 2).reshape(3, 36), own)
    sums = inputs @ own.T + bias
    fraction = last.shift + last.output_fraction
    exact = np.ldexp(trace.accumulators.astype(float), -(fraction + np.array([0, 2, -1])))
    assert np.array_equal(sums, exact)
    # A bit of the output is all that rounding takes away.
    step = np.ldexp(1.0, -np.array(model.output_fractions))
    inside = abs(trace.outputs.astype(int)) < 32767
    assert (abs(model.dequantise(trace.outputs) - sums) <= step / 2)[inside].all()
    assert inside.any()
    assert model.weight_fractions()[1] == fraction - first.output_fraction
    for outputs in (trace.outputs[:, :2], trace.outputs[0], trace.outputs * 1.0):
        with pytest.raises(ModelError, match=r"gives int16 of shape \(n, 3\)"):
            model.dequantise(outputs)


def test_fractions_of_a_map_are_those_of_its_channels():
    conv = Convolution(1, 2, 2, 1, 1)
    first = layer(inputs=1, outputs=2, convolution=conv, output_fraction=1)
    model = CompressedModel((first,), output_exponents=(0, 1))
    assert model.output_fractions == [1, 2]
    outputs = np.array([[1, 4, 2, 4, 3, 4, 4, 4]], np.int16)  # pixel by pixel
    assert model.dequantise(outputs).tolist() == [[0.5, 1.0, 1.5, 2.0] + [1.0] * 4]


def test_inputs_of_maps_come_channel_by_channel():
    conv = Convolution(2, 1, 3, 1, 1)
    model = CompressedModel((layer(inputs=2, convolution=conv),), InputType.INT16, 0)
    images = np.arange(6.0).reshape(1, 2, 1, 3)
    for given in (images, images.reshape(1, 6)):
        assert model.quantise(given).tolist() == [[0, 3, 1, 4, 2, 5]]


def test_exponents_travel_in_meta():
    model = random_model(np.random.default_rng(5), [6, 4, 2])
    own = replace(model, output_exponents=(3, -2))
    assert loads(dumps(own)).output_exponents == (3, -2)
    assert dumps(loads(dumps(own))) == dumps(own)
    assert loads(dumps(own)).output_fractions[1] == model.layers[-1].output_fraction - 2
    assert len(dumps(model)) < len(dumps(own))


def test_the_line_says_what_network_it_is():
    model = random_model(np.random.default_rng(5), [6, 4, 2])
    assert model.line == "6 → fc1 4 ReLU → fc2 2"
    conv = Convolution(2, 9, 9, 3, 2, stride=2, padding=(1, 1, 0, 1), groups=2, pool=2)
    first = layer(name="a\x1b", inputs=conv.columns, outputs=4, convolution=conv)
    plain = layer(
        name="b", inputs=4, outputs=2, activation=Activation.NONE,
        convolution=Convolution(4, *conv.pooled, 1, 1, pool=2),
    )  # fmt: skip
    assert CompressedModel((first, plain)).line == (
        "2×9×9 → a\\x1b 4×3×2 stride 2 padding 1×1×0×1 groups 2 ReLU, pool 2 → b 2×1×1, pool 2"
    )


# --- what an engine holds --------------------------------------------------------------------


def test_lanes_are_kept_as_asked():
    small = EngineConfig(pes=1, lanes=16)
    assert (small.lanes, small.drained) == (16, 1)
    assert replace(small, pes=16).drained == 16
    assert replace(small, pes=16, groups=2).drained == 8


def test_growing_names_what_to_give():
    model = random_model(np.random.default_rng(5), [6, 600, 2])
    config = EngineConfig(pes=16, accumulator_bits=48)
    with pytest.raises(
        CapacityError, match=r"accumulators 39 of 32: give accumulators=64; more PEs"
    ):
        config.check(model)
    with pytest.raises(CapacityError, match="give accumulators=64"):
        config.grown(model, fixed=("accumulators",))
    grown = config.grown(model, fixed=("columns",))
    assert grown == replace(config, accumulators=64)
    grown.check(model)


def test_what_no_engine_holds_is_still_counted():
    model = random_model(np.random.default_rng(5), [20, 5000, 10], density=0.01)
    assert EngineConfig(pes=1).needs(model)["accumulators"] == 5010
    with pytest.raises(CapacityError, match="no engine has more than 4096 accumulators; more PEs"):
        EngineConfig(pes=1).grown(model)
    EngineConfig(pes=2).grown(model).check(model)
    deep = CompressedModel((random_layer(np.random.default_rng(1), 3, 3),) * 129)
    with pytest.raises(CapacityError, match="no engine has more than 128 layers"):
        EngineConfig().grown(deep)
    assert [config.pes for config in engines(model, pes=[1, 2])] == [2]
    with pytest.raises(CapacityError, match="no engine has more than 4096 accumulators"):
        engines(model, pes=[1])


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"pes": 16.0}, "pes must be a whole number, not 16.0"),
        ({"lanes": "4"}, "lanes must be a whole number, not '4'"),
        ({"layers": True}, "layers must be a whole number, not True"),
        ({"queue_depth": float("nan")}, "queue_depth must be a whole number, not nan"),
        ({"serial_loader": 1}, "serial_loader must be true or false, not 1"),
        ({"lanes": 128}, "lanes must be 1 to 64, not 128"),
    ],
)
def test_parameters_of_an_engine_are_whole_numbers(setting, says):
    with pytest.raises(ConfigError, match=says):
        EngineConfig(**setting)

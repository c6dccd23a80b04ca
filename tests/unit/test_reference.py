"""The reference against loops that follow docs/numerics.md word by word."""

import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pleach.cycles import CycleModel
from pleach.engine import EngineConfig
from pleach.errors import CapacityError, ModelError
from pleach.format import dumps, loads, parse, published_layers
from pleach.model import (
    Activation,
    CompressedLayer,
    CompressedModel,
    Convolution,
    Graph,
    InputType,
    Node,
    Skip,
)
from pleach.reference import Reference
from pleach.report import layer_reports
from tests.strategies import models, random_inputs, random_layer, random_part


def convolved(
    layer: CompressedLayer, image: np.ndarray, skip: np.ndarray
) -> tuple[list, list, int]:
    """Accumulators, pooled outputs and MACs of one image, element by element."""
    conv, weights = layer.convolution, layer.dense().astype(int)
    kept = np.zeros(weights.shape, bool)
    kept[layer.row_of, layer.column_of] = True
    image = image.astype(int).reshape(conv.height, conv.width, conv.channels)
    skip = skip.astype(int).reshape(SKIPPED, SKIPPED, -1) if skip.size else None
    (height, width), (top, left, _, _) = conv.map, conv.padding
    macs = 0
    sums = np.zeros((height, width, layer.outputs), int)
    for i, j, row in np.ndindex(sums.shape):
        met = []  # columns and values
        for y, x, c in np.ndindex(conv.kernel_height, conv.kernel_width, conv.channels):
            column = (y * conv.kernel_width + x) * conv.channels + c
            at = i * conv.stride[0] + y - top, j * conv.stride[1] + x - left
            same = c * conv.groups // conv.channels == row * conv.groups // layer.outputs
            assert same or not kept[row, column]
            if 0 <= at[0] < conv.height and 0 <= at[1] < conv.width:
                met.append((column, image[at[0], at[1], c]))
        if layer.skip is not None:
            pixel = skip[i * layer.skip.stride[0], j * layer.skip.stride[1]]
            met += [(layer.inputs + c, pixel[c]) for c in range(layer.skip.channels)]
        if layer.bias:
            met.append((layer.columns - 1, 1 << layer.bias_exponent))
        for column, value in met:
            sums[i, j, row] += weights[row, column] * value
            macs += bool(kept[row, column] and value)
    scaled = sums if layer.scales is None else sums * layer.scales.astype(int)
    half = (1 << layer.shift) // 2
    values = np.clip((scaled + half) // (1 << layer.shift), -32768, 32767)
    low, high = layer.activation.bounds
    if layer.activation.sign:
        values = np.where(values >= 0, high, low)
    values = np.minimum(np.maximum(values, low), high)
    pooled = np.zeros((*conv.pooled, layer.outputs), int)
    for i, j, row in np.ndindex(pooled.shape):
        top, left = i * conv.pool, j * conv.pool
        pooled[i, j, row] = values[top : top + conv.pool, left : left + conv.pool, row].max()
    return sums.ravel().tolist(), pooled.ravel().tolist(), int(macs)


#: side of the map that is skipped to
SKIPPED = 22


@st.composite
def geometries(draw) -> Convolution:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    sizes = st.integers(1, 7)
    conv = {
        "channels": groups * draw(st.integers(1, 3)),
        "height": draw(sizes),
        "width": draw(sizes),
        "kernel_height": draw(st.integers(1, 4)),
        "kernel_width": draw(st.integers(1, 4)),
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "padding": draw(st.tuples(*[st.integers(0, 2)] * 4)),
        "groups": groups,
        "pool": draw(st.integers(1, 3)),
    }
    try:
        return Convolution(**conv)
    except ModelError:
        assume(False)
        raise


FUNCTIONS = (
    Activation.NONE, Activation.RELU, Activation(-7, 900), Activation(None, 50),
    Activation(-256, 256, sign=True),
)  # fmt: skip


@st.composite
def convolutional_models(draw) -> CompressedModel:
    """A convolution with all that it may have, and a fully connected layer."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    conv = draw(geometries())
    outputs = conv.groups * draw(st.integers(1, 3))
    skip = draw(st.sampled_from([None, None, Skip(2, (1, 2)), Skip(3)]))
    first = random_part(
        rng,
        conv,
        outputs,
        skip,
        density=draw(st.sampled_from([0.0, 0.3, 1.0])),
        codebook=draw(st.sampled_from([1, 5, 256])),
        bias=draw(st.booleans()),
        activation=draw(st.sampled_from(FUNCTIONS)),
        scales=rng.integers(-32768, 32768, outputs) if draw(st.booleans()) else None,
    )
    last = random_layer(rng, first.values_out, 3, density=0.5, activation=Activation.NONE)
    nodes = [Node("", None, (0,)), Node("", None, (1,))]
    layers = [first, last]
    if skip is not None:
        # What is skipped to is made of the input by a layer of its own.
        big = random_layer(rng, conv.inputs, skip.channels * SKIPPED**2, density=0.01)
        shape = Convolution(skip.channels, SKIPPED, SKIPPED, 1, 1)
        same = random_part(rng, shape, skip.channels, None, density=0.7)
        layers = [big, same, *layers]
        sources = [(0,), (1,), (0, 2), (3,)]
        nodes = [Node("", None, each) for each in sources]
    input_type = draw(st.sampled_from(InputType))
    graph = Graph(tuple(nodes), (conv.inputs,))
    return CompressedModel(tuple(layers), input_type, 8, joints=graph)


@settings(max_examples=100, deadline=None)
@given(convolutional_models(), st.integers(0, 2**32 - 1))
def test_a_convolution_is_the_loop_over_its_pixels(model, seed):
    inputs = random_inputs(np.random.default_rng(seed), model, 3)
    *_, first, last = Reference(model).trace(inputs)
    for index, image in enumerate(inputs):
        sums, outputs, macs = convolved(model.layers[-2], image, first.skips[index])
        assert first.accumulators[index].tolist() == sums
        assert first.outputs[index].tolist() == outputs
        assert first.macs[index] == macs
    assert np.array_equal(last.inputs, first.outputs)
    assert np.array_equal(Reference(model).run(inputs), last.outputs)


@settings(max_examples=50, deadline=None)
@given(models(), st.integers(0, 2**32 - 1))
def test_a_fully_connected_layer_is_a_convolution_of_one_pixel(model, seed):
    """Sparse and dense products, and both kinds of layer, give the same."""
    inputs = random_inputs(np.random.default_rng(seed), model, 4)
    as_maps = [
        replace(layer, convolution=Convolution(layer.inputs, 1, 1, 1, 1)) for layer in model.layers
    ]
    expected = Reference(replace(model, layers=tuple(as_maps))).trace(inputs)
    for found, wanted in zip(Reference(model).trace(inputs), expected, strict=True):
        for part in ("inputs", "accumulators", "outputs", "macs"):
            assert np.array_equal(getattr(found, part), getattr(wanted, part))


def layer(**changes) -> CompressedLayer:
    values = {
        "name": "a", "inputs": 1, "outputs": 1, "bias": False, "positions": [0], "codes": [0],
        "codebook": [-32768], "shift": 0, "activation": Activation.NONE, "bias_exponent": 0,
        "output_fraction": 0,
    }  # fmt: skip
    return CompressedLayer(**(values | changes))


@pytest.mark.parametrize("kept", [65535, 9001])  # a dense product, and a sparse one
def test_the_largest_sums_are_exact(kept):
    # Odd numbers near 2^46: float32 would lose them, and saturation hides nothing here.
    column = np.r_[np.zeros(kept - 1, np.uint8), 1]
    wide = layer(
        inputs=65535, positions=np.arange(kept), codes=column, codebook=[-32768, -32767], shift=47
    )
    inputs = np.full((1, 65535), -32768, np.int16)
    inputs[0, kept - 1] = -32767
    trace = Reference(CompressedModel((wide,), InputType.INT16)).trace(inputs)[0]
    assert trace.accumulators.tolist() == [[(kept - 1) * 2**30 + 32767**2]]
    assert trace.macs.tolist() == [kept]


def test_pooling_drops_what_no_window_covers():
    conv = Convolution(1, 5, 5, 1, 1, pool=2)
    model = CompressedModel((layer(codebook=[1], convolution=conv),))
    image = np.arange(25, dtype=np.uint8)[None]
    assert Reference(model).run(image).tolist() == [[6, 8, 16, 18]]


def test_batches_make_no_difference(monkeypatch):
    rng = np.random.default_rng(5)
    conv = Convolution(2, 9, 9, 3, 3, pool=2)
    first = replace(random_layer(rng, 18, 4, density=0.6), convolution=conv)
    model = CompressedModel((first, random_layer(rng, 36, 3, activation=Activation.NONE)))
    inputs = random_inputs(rng, model, 20)
    whole = Reference(model)
    monkeypatch.setattr("pleach.reference.maps.VALUES", 18 * 49 * 3)
    parts = Reference(model)
    assert (whole._batch, parts._batch) == (1000, 3)
    monkeypatch.setattr("pleach.reference.maps.VALUES", 1)
    assert Reference(model)._batch == 1  # one input at least, however large
    assert np.array_equal(whole.run(inputs), parts.run(inputs))
    for one, other in zip(whole.trace(inputs), parts.trace(inputs), strict=True):
        assert np.array_equal(one.accumulators, other.accumulators)
        assert np.array_equal(one.macs, other.macs)
    assert parts.run(inputs[:0]).shape == (0, 3)
    assert [x.accumulators.shape for x in parts.trace(inputs[:0])] == [(0, 49 * 4), (0, 3)]


def test_inputs_of_the_wrong_kind():
    reference = Reference(CompressedModel((layer(),)))
    for inputs in (np.zeros((1, 2), np.uint8), np.zeros((1, 1), np.int16), np.zeros(1, np.uint8)):
        with pytest.raises(ModelError, match=r"the model takes uint8 of shape \(n, 1\)"):
            reference.run(inputs)


def test_inputs_may_be_tensors():
    reference = Reference(CompressedModel((layer(),)))
    assert reference.run(torch.ones(1, 1, dtype=torch.uint8)).tolist() == [[-32768]]


@settings(max_examples=60, deadline=None)
@given(convolutional_models(), st.integers(0, 2**32 - 1))
def test_activations_are_what_a_trace_has(model, seed):
    inputs = random_inputs(np.random.default_rng(seed), model, 3)
    traces = Reference(model).trace(inputs)
    for (source, skip), trace in zip(Reference(model).taken(inputs), traces, strict=True):
        assert np.array_equal(source, trace.inputs) and np.array_equal(skip, trace.skips)


# --- time and memory by the weights kept -----------------------------------------------------

HUGE = 65535
CONVOLVED = Convolution(HUGE, 1, 1, 1, 1)


def claims(layers: int, **changes) -> CompressedModel:
    """A file of a few bytes: the largest layers that there are, of a weight each."""
    changes = {"inputs": HUGE, "outputs": HUGE, "positions": [HUGE * 3]} | changes
    return loads(dumps(CompressedModel((layer(codebook=[1], **changes),) * layers)))


@contextmanager
def little(seconds: float, megabytes: float):
    tracemalloc.start()
    begun = time.process_time()
    yield
    took, (_, peak) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < seconds and peak < 1e6 * megabytes, (took, peak)


@pytest.mark.parametrize("convolution", [None, CONVOLVED])
def test_what_a_file_claims_costs_nothing(convolution):
    inputs = np.zeros((2, HUGE), np.uint8)
    inputs[:, 3] = 1, 7
    claims(2)  # compiled now, not within the time
    with little(1, 60):
        model = claims(20, convolution=convolution)
        data = dumps(model)
        assert len(data) < 1500 and dumps(loads(data)) == data
        rows = layer_reports(model, parse(data)[1])
        assert [row.kept for row in rows] == [1] * 20
        reference = Reference(model)
        outputs = reference.run(inputs)
    assert (outputs.shape, outputs.any()) == ((2, HUGE), False)  # of row 0 only, which is column 3
    trace = Reference(claims(1, convolution=convolution)).trace(inputs)[0]
    assert trace.accumulators[:, 0].tolist() == [1, 7] and trace.macs.tolist() == [1, 1]
    assert trace.accumulators.shape == (2, HUGE) and trace.outputs[:, 0].tolist() == [1, 7]


def test_engines_of_what_a_file_claims():
    size = 30_000  # a PE holds no more rows of two layers
    model = claims(4, inputs=size, outputs=size, positions=[size * 3])
    config = EngineConfig(pes=64, groups=4).grown(model)
    inputs = np.zeros((1, size), np.uint8)
    CycleModel(CompressedModel((layer(),)), EngineConfig()).run(np.ones((1, 1), np.uint8))
    with little(1, 60):
        assert config.needs(model)["entries"] == 4
        assert CycleModel(model, config).run(inputs).latency[0] > size // 4
    with pytest.raises(CapacityError, match="layers 4 of 2"):
        CycleModel(model, replace(config, layers=2))


def test_matrices_are_written_out_where_enough_is_kept():
    for write in (
        lambda: claims(1).layers[0].dense(),
        lambda: claims(20).weights(),
        lambda: published_layers(claims(1)),
    ):
        with pytest.raises(ModelError, match="layer .* is a matrix of 65535 × 65535: .* 1|20 "):
            write()
    # None is kept of a layer of ordinary size.
    assert not claims(1, inputs=784, outputs=300, positions=[], codes=[]).layers[0].dense().any()


def test_maps_beyond_all_bounds_are_refused_by_name():
    wide = layer(name="wide", outputs=HUGE, convolution=Convolution(1, HUGE, HUGE, 1, 1))
    with little(1, 10), pytest.raises(ModelError, match="layer 'wide' has 281,462,092,005,375 out"):
        Reference(CompressedModel((wide,)))

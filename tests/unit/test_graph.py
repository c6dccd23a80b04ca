"""Networks that are no chain: skips and poolings, in files, in integers, and from real numbers."""

import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pleach.compile import calibrate
from pleach.errors import FormatError, ModelError, PleachError
from pleach.format import dumps, interface, load, loads
from pleach.model import (
    Activation,
    CompressedLayer,
    CompressedModel,
    Convolution,
    Graph,
    InputType,
    Node,
    Pool,
    Skip,
    Window,
)
from pleach.models import empty_model, network_of, real_graph
from pleach.reference import Reference
from tests.strategies import random_inputs, random_part
from tests.unit.test_format import patched

ROOT = Path(__file__).parents[2]


def small() -> CompressedModel:
    """All that a section can say: skips of the input and of a layer, strides, groups, functions,
    scales, both poolings, and short forms among them."""
    rng = np.random.default_rng(3)
    first = Convolution(2, 6, 5, 3, 3, stride=(1, 2), padding=(1, 0, 1, 1), groups=2)  # 6 x 2
    second = Convolution(4, 6, 2, 1, 1)
    third = Convolution(6, 3, 2, 1, 2, stride=(2, 1), padding=(0, 0, 0, 1))  # 2 x 2
    clip, sign = Activation(-9, 900), Activation(-64, 64, sign=True)
    graph = Graph(
        (
            Node("a", random_part(rng, first, 4, Skip(2, (1, 3)), density=0.6), (0, 0)),
            Node("b", random_part(rng, second, 6, activation=clip, density=0.6), (1,)),
            Node("mean", Pool(Window(6, 6, 2, 2, 1), shift=1), (2,)),
            Node("c", random_part(rng, third, 3, Skip(4, (3, 1)), density=0.6), (3, 1)),
            Node("largest", Pool(Window(3, 2, 2, 2, 2, (1, 1), (0, 0, 1, 0))), (4,)),
            Node(
                "d",
                random_part(rng, None, 5, Skip(60), inputs=6, activation=sign, density=0.6),
                (5, 0),
            ),
            Node("e", random_part(rng, None, 3, inputs=5, scales=[9, -9, 16384], density=1), (6,)),
        ),
        (60,),
    )
    return CompressedModel.of(graph, input_type=InputType.UINT8, input_fraction=8)


@st.composite
def windows(draw) -> Window:
    try:
        return Window(
            channels=draw(st.integers(1, 3)),
            height=draw(st.integers(1, 6)),
            width=draw(st.integers(1, 6)),
            kernel_height=draw(st.integers(1, 3)),
            kernel_width=draw(st.integers(1, 3)),
            stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
            padding=draw(st.tuples(*[st.integers(0, 2)] * 4)),
        )
    except ModelError:
        assume(False)
        raise


@settings(max_examples=60, deadline=None)
@given(windows(), st.none() | st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_pooling_is_the_loop_over_its_windows(window, shift, seed):
    rng = np.random.default_rng(seed)
    model = CompressedModel.of(
        Graph((Node("pool", Pool(window, shift), (0,)), Node("fc", *identity(window))), (1,)),
        input_type=InputType.INT16,
    )
    image = rng.integers(-32768, 32768, window.shape).astype(np.int16)
    found = Reference(model).run(model.quantise(image[None] / 256.0))[0].reshape(*window.map, -1)
    (top, left, _, _), (down, right) = window.padding, window.stride
    for y, x, c in np.ndindex(found.shape):
        places = [
            (y * down + i - top, x * right + j - left)
            for i, j in np.ndindex(window.kernel_height, window.kernel_width)
        ]
        met = [
            int(image[c, i, j])
            for i, j in places
            if 0 <= i < window.height and 0 <= j < window.width
        ]
        wanted = max(met) if shift is None else sum(met) + (1 << shift >> 1) >> shift
        assert found[y, x, c] == min(max(wanted, -32768), 32767)


def identity(window: Window) -> tuple[CompressedLayer, tuple[int]]:
    """A layer that gives what the windows give."""
    conv = Convolution(window.channels, *window.map, 1, 1)
    ones = np.arange(window.channels) * (window.channels + 1)
    made = CompressedLayer(
        "fc", window.channels, window.channels, False, ones, ones * 0, [1], 0,
        Activation.NONE, 0, 8, conv,
    )  # fmt: skip
    return made, (1,)


# --- files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> bytes:
    return dumps(small())


def test_files_hold_all_of_a_network(data):
    model = loads(data)
    assert dumps(model) == data and model.line == small().line
    assert model.joints == small().joints
    assert [layer.skip for layer in model.layers] == [layer.skip for layer in small().layers]
    assert model.layers[-1].scales.tolist() == [9, -9, 16384]
    inputs = random_inputs(np.random.default_rng(1), model, 4)
    assert np.array_equal(Reference(model).run(inputs), Reference(small()).run(inputs))
    found = interface(data)
    assert (found.inputs, found.outputs) == (60, 3)
    kinds = [word & 0xFF for word in heads(data)]
    assert kinds == [2, 18, 19, 2, 19, 1, 17, 128]


def heads(data: bytes) -> list[int]:
    """The first word of each section."""
    words, at, found = np.frombuffer(data, "<u4").tolist(), 5, []
    while at < len(words):
        found.append(words[at])
        at += (words[at] >> 8) + 2
    return found


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(0, 2**32 - 1) | st.integers(0, 300))
def test_lies_with_right_checksums(data, draw, value):
    word = draw.draw(st.integers(5, len(data) // 4 - 1))
    lie = patched(data, word, value)
    tracemalloc.start()
    try:
        model = loads(lie)
        assert isinstance(model, CompressedModel) and model.line and dumps(model)
    except PleachError as error:
        assert str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_every_damaged_bit_is_found(data):
    for bit in range(0, 8 * len(data), 13):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            loads(bytes(damaged))


# The first section: head, size, entries, scale, tables, joined, skip, map, kernel, sides, padding.
@pytest.mark.parametrize(
    ("word", "value", "says"),
    [
        (5, 0x04 | 60 << 8, "a section of 60 words|is a CELL, a recurrent layer"),
        (8, 1 << 21, "reserved bits"),
        (9, 1 << 23, "in streams or slices"),
        (9, 1 << 25, "in streams or slices"),
        (10, 0x20001, "layer 1: takes layer 1, which does not come before it"),
        (10, 0x20100, "layer 1: takes layer 1, which does not come before it"),
        (10, 0x00000, "payload|reserved|sides|kernel|stride|words|map|convolution"),
        (11, 0x0300, "a skip: stride is"),
        (11, 0x0403, r"its skip takes every 3 × 4 of 2 channels"),
        (13, 0x11010303, "stride and padding are said twice"),
        (14, 0x00030201, "2 channels in 3 groups"),
        (14, 0x00020200, "convolution: stride is"),
    ],
)
def test_what_is_refused_of_a_section(data, word, value, says):
    with pytest.raises(FormatError, match=says) as refused:
        loads(patched(data, word, value))
    assert refused.value.offset is not None


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (4, "layer 1: is a CELL"),
        (20, "unknown section type 20"),
        (17, "layer 1: has the short form"),
        (18, "layer 1: has the short form"),
        (19, "layer 1: has the short form"),
    ],
)
def test_types_that_the_first_layer_cannot_have(data, kind, says):
    (head,) = np.frombuffer(data, "<u4", 1, 20).tolist()
    with pytest.raises(FormatError, match=says):
        loads(patched(data, 5, head & ~0xFF | kind))


def test_a_short_form_stands_behind_its_own_kind(data):
    """A LAYER behind a POOL has the long form, a POOL behind a LAYER, too."""
    words, at = np.frombuffer(data, "<u4"), 5
    places = []
    while at < len(words):
        places.append(at)
        at += (int(words[at]) >> 8) + 2
    layer = places[5]
    assert words[layer] & 0xFF == 1 and words[places[4]] & 0xFF == 19
    with pytest.raises(FormatError, match="layer 6: has the short form and does not follow"):
        loads(patched(data, layer, int(words[layer]) | 16))


@pytest.mark.parametrize("scale", ["clip", "scales", "skip", "convolution", "pool"])
def test_what_the_engine_lacks_is_named(scale):
    rng = np.random.default_rng(0)
    window = Window(1, 2, 2, 2, 2)
    layers = {
        "clip": random_part(rng, None, 2, inputs=4, activation=Activation(0, 6)),
        "scales": random_part(rng, None, 2, inputs=4, scales=[1, 2], density=1),
        "skip": random_part(rng, None, 2, Skip(4), inputs=4),
        "convolution": random_part(rng, Convolution(1, 2, 2, 1, 1), 2),
        "pool": Pool(window),
    }
    nodes = [Node("fc1", layers[scale], (0, 0) if scale == "skip" else (0,))]
    if scale == "pool":
        nodes.append(Node("fc2", random_part(rng, None, 2, inputs=1), (1,)))
    model = CompressedModel.of(Graph(tuple(nodes), (4,)))
    with pytest.raises(
        ModelError, match="^(layer|node) 'fc1' .*: an engine without a map memory runs"
    ):
        model.check_runs()


def test_a_clip_is_of_its_outputs_fraction():
    with pytest.raises(ModelError, match="lets nothing pass"):
        Activation(3, 2)
    with pytest.raises(ModelError, match="a sign function has two values"):
        Activation(3, sign=True)


# --- version 2 -------------------------------------------------------------------------------


def test_files_of_version_2_compute_what_they_did():
    old = load(ROOT / "tests/version_2/maps.pleach")
    inputs, wanted = (
        np.loadtxt(ROOT / f"tests/version_2/maps_{part}.txt", np.int16)
        for part in ("inputs", "outputs")
    )
    assert old.line.startswith("2×8×7 → a 4×3×2 padding 1 groups 2 ReLU → pool1 max 3×3 stride 2")
    real = np.ldexp(inputs.astype(float), -old.input_fraction)
    assert np.array_equal(Reference(old).run(old.quantise(real)), wanted)
    new = loads(dumps(old))
    assert np.array_equal(Reference(new).run(new.quantise(real)), wanted)
    chain = load(ROOT / "tests/version_2/chain.pleach")
    assert dumps(chain) == (ROOT / "tests/golden/model.pleach").read_bytes()


def test_a_file_of_version_2_has_nothing_of_version_3():
    data = (ROOT / "tests/version_2/chain.pleach").read_bytes()
    (head,) = np.frombuffer(data, "<u4", 1, 20).tolist()
    for word, value, says in (
        (5, head | 16, "unknown section type 17"),
        (5, head & ~0xFF | 3, "unknown section type 3"),
        (8, 1 << 19, "reserved"),
        (8, 2 << 6, "activation"),
        (9, 1 << 23, "reserved"),
    ):
        with pytest.raises(FormatError, match=says):
            loads(patched(data, word, value))


# --- the worked example ----------------------------------------------------------------------


def example() -> CompressedModel:
    """A convolution to whose sums its input is added."""
    conv = Convolution(2, 2, 2, 1, 2, padding=(0, 0, 0, 1))
    layer = CompressedLayer(
        "conv1", 4, 2, False, [0, 7, 8, 11], [0, 1, 2, 2], [3, -2, 4], 2, Activation.RELU, 0, 8,
        conv, Skip(2),
    )  # fmt: skip
    return CompressedModel.of(Graph((Node("conv1", layer, (0, 0)),), (8,)))


def test_worked_example():
    text = (ROOT / "docs/bitstream.md").read_text("utf-8")
    (dump,) = re.findall(r"```hex\n([^`]*version 3, 1 layer, uint8[^`]*CONV[^`]*)```", text)
    hexes = [line.split("|")[0] for line in dump.splitlines()]
    data = bytes.fromhex("".join(hexes))
    assert dumps(example()) == data
    image = np.array([[[8, 16], [24, 32]], [[40, 48], [56, 64]]], np.uint8)  # by channels
    model = loads(data)
    outputs = Reference(model).run(model.quantise(image[None]))
    assert outputs.reshape(2, 2, 2).tolist() == [[[14, 16], [28, 48]], [[42, 24], [56, 64]]]


# --- from real numbers -----------------------------------------------------------------------


class Joined(nn.Module):
    """What a network can be joined by, with weights that a codebook holds."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding="same")
        self.a, self.b = nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.c, self.d = nn.Conv2d(4, 6, 3, (2, 1), 1), nn.Conv2d(4, 6, 1, (2, 1))
        self.depth, self.point = nn.Conv2d(6, 6, 3, 1, 1, groups=6), nn.Conv2d(6, 5, 1)
        self.fc, self.last = nn.Linear(10, 7), nn.Linear(7, 7)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randint(-9, 10, parameter.shape, generator=generator) / 16)

    def forward(self, x):
        x = functional.relu6(self.first(x))
        x = functional.relu(self.b(functional.relu(self.a(x))) + x)
        x = functional.relu(self.c(x) + self.d(x))
        y = functional.relu(self.point(self.depth(x)))
        y = torch.cat([y, y.clamp(0, 0.5)], 1)
        z = self.fc(functional.max_pool2d(y, 3, 2, 1).mean((2, 3)))
        return self.last(functional.relu(z)) + z


def test_a_network_of_joined_branches_becomes_layers_and_poolings():
    net, shape = Joined().eval(), (3, 9, 10)
    inputs = np.random.default_rng(0).random((12, *shape)).astype(np.float32)
    network = network_of(net, shape)
    model = calibrate(real_graph(network, shape), inputs)
    assert [layer.name for layer in model.layers] == [
        "first", "a", "b", "c", "depth", "point", "clamp", "cat", "fc", "relu_5", "last",
    ]  # fmt: skip
    skips = [layer.name for layer in model.layers if layer.skip]
    assert skips == ["b", "c", "cat", "last"]  # sums, the shortcut and all, and the concatenation
    assert model.original == sum(p.numel() for p in net.parameters())
    assert model.layers[6].activation.low == 0 and model.layers[6].activation.high is not None
    with torch.no_grad():
        wanted = net(torch.from_numpy(inputs)).numpy()
    found = model.dequantise(Reference(model).run(model.quantise(inputs)))
    assert np.abs(found - wanted).max() < 1e-3 * np.abs(wanted).max()
    again = loads(dumps(model))
    assert np.array_equal(Reference(again).run(model.quantise(inputs)), Reference(model).run(
        model.quantise(inputs)
    ))  # fmt: skip
    assert dumps(empty_model(network, shape))


class Small(nn.Module):
    """A sum whose one side is far finer than the sums of the layer that the other comes from."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        with torch.no_grad():
            for layer, scale in ((self.a, 2.0**-9), (self.b, 4.0)):
                layer.weight.copy_(torch.eye(4) * scale)
                layer.bias.zero_()

    def forward(self, x):
        return self.b(x) + self.a(x).relu()


def test_a_sum_finer_than_its_layer_is_a_layer_of_its_own():
    inputs = np.random.default_rng(0).random((20, 4)).astype(np.float32) * 900
    model = calibrate(real_graph(network_of(Small().eval(), (4,)), (4,)), inputs, codebook_bits=8)
    assert [layer.name for layer in model.layers][-1] == "add"
    with torch.no_grad():
        wanted = Small()(torch.from_numpy(inputs)).numpy()
    found = model.dequantise(Reference(model).run(model.quantise(inputs)))
    assert np.abs(found - wanted).max() < 1e-3 * np.abs(wanted).max()


def test_a_mean_that_no_layer_takes_has_one_of_its_own():
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1, bias=False)

        def forward(self, x):
            return functional.avg_pool2d(self.conv(x), (1, 3))

    net = Mean().requires_grad_(False)
    inputs = np.random.default_rng(0).random((20, 2, 2, 7)).astype(np.float32)
    model = calibrate(real_graph(network_of(net, (2, 2, 7)), (2, 2, 7)), inputs)
    wanted = net(torch.from_numpy(inputs)).flatten(1).numpy()
    found = model.dequantise(Reference(model).run(model.quantise(inputs)))
    assert np.abs(found - wanted).max() < 2.0**-12
    assert model.original == 4 < sum(layer.size for layer in model.layers)


def test_rows_between_maps_of_other_shapes():
    """A row is seen as a map where one layer gives it; a map is seen as no other."""

    class Seen(nn.Module):
        def __init__(self, first):
            super().__init__()
            self.first, self.conv = first, nn.Conv2d(2, 3, 2)

        def forward(self, x):
            return self.conv(self.first(x).reshape(-1, 2, 3, 4))

    torch.manual_seed(1)
    net = Seen(nn.Linear(5, 24)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.round(parameter * 32) / 32)
    inputs = np.random.default_rng(0).random((9, 5)).astype(np.float32)
    model = calibrate(real_graph(network_of(net, (5,)), (5,)), inputs)
    with torch.no_grad():
        wanted = net(torch.from_numpy(inputs)).flatten(1).numpy()
    found = model.dequantise(Reference(model).run(model.quantise(inputs)))
    assert np.abs(found - wanted).max() < 1e-3
    bad = network_of(Seen(nn.Conv2d(1, 4, 1)), (1, 2, 3))
    with pytest.raises(
        ModelError, match="node 'conv': sees 4 × 2 × 3 values as a map of 2 × 3 × 4"
    ):
        calibrate(real_graph(bad, (1, 2, 3)), np.ones((1, 6), np.float32))


def test_a_convolution_has_the_padding_before_it_for_its_own():
    """As TensorFlow's "same" pads a stride of 2: at the end alone."""
    net = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(2, 3, 3, stride=2)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.round(parameter * 32) / 32)
    inputs = np.random.default_rng(0).random((9, 2, 8, 6)).astype(np.float32)
    network = network_of(net, (2, 8, 6))
    model = calibrate(real_graph(network, (2, 8, 6)), inputs)
    (layer,) = model.layers
    assert layer.convolution.padding == (0, 0, 1, 1) and layer.convolution.pooled == (4, 3)
    with torch.no_grad():
        wanted = net(torch.from_numpy(inputs)).flatten(1).numpy()
    found = model.dequantise(Reference(model).run(model.quantise(inputs)))
    assert np.abs(found - wanted).max() < 1e-3
    with pytest.raises(ModelError, match="takes a padded map, which only a convolution does"):
        network_of(nn.Sequential(nn.ZeroPad2d(1), nn.ReLU(), nn.Conv2d(2, 3, 3)), (2, 8, 6))


def test_exponents_are_of_a_last_layers_rows():
    model = CompressedModel.of(
        Graph(
            (
                Node("fc", random_part(np.random.default_rng(0), None, 4, inputs=2), (0,)),
                Node("same", random_part(np.random.default_rng(0), Convolution(4, 1, 1, 1, 1), 4),
                     (1,)),
                Node("pool", Pool(Window(4, 1, 1, 1, 1)), (2,)),
            ),
            (2,),
        )
    )  # fmt: skip
    assert model.output_fractions == [model.layers[-1].output_fraction]
    with pytest.raises(ModelError, match="the last node is no layer"):
        replace(model, output_exponents=(0, 1, 0, 0))

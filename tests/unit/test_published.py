"""The published layout: against an independent reading of it, and against damage."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.errors import ConfigError, FormatError, ModelError, PleachError
from pleach.format import (
    ALEXNET,
    LayerShape,
    PublishedLayer,
    dumps,
    loads,
    published_layers,
    read_published,
    write_published,
)
from pleach.model import Activation, CompressedLayer, CompressedModel, Convolution
from tests.strategies import models


def pruned(rng, shape, kept, values):
    """Weights with so many survivors, of so many values, every value used if there are enough."""
    weights = np.zeros(int(np.prod(shape)), np.float32)
    places = rng.permutation(weights.size)[:kept]
    weights[places] = (1 + np.arange(kept) % max(values, 1)) * rng.choice([-1, 1])
    return weights.reshape(shape)


def independent(data, shapes):
    """What the layout says, read position by position."""
    counts = [int.from_bytes(data[4 * i : 4 * i + 4], "little") for i in range(len(shapes))]
    at, found = 4 * len(shapes), []

    def floats(number):
        nonlocal at
        at += 4 * number
        return np.frombuffer(data[at - 4 * number : at], "<f4")

    def small(number, bits):
        nonlocal at
        per_byte = 8 // bits
        length = -(-number // per_byte)
        part, at = data[at : at + length], at + length
        return [
            part[i // per_byte] >> bits * (i % per_byte) & (1 << bits) - 1 for i in range(number)
        ]

    for shape, count in zip(shapes, counts, strict=True):
        codebook, bias = floats(1 << shape.bits), floats(shape.shape[0])
        codes, gaps = small(count, shape.bits), small(count, 4)
        weights, place = np.zeros(shape.size, np.float32), -1
        for code, gap in zip(codes, gaps, strict=True):
            place += gap + 1
            weights[place] = codebook[code]
        found.append((weights.reshape(shape.shape), bias, count))
    assert at == len(data)
    return found


EDGES = {
    "empty": ((3, 7), 0, 0),
    "one kept weight": ((30, 7), 1, 1),
    "one symbol": ((30, 7), 50, 1),
    "255 values": ((40, 40), 700, 255),
    "a convolution": ((6, 2, 3, 5), 60, 20),
    "an odd count": ((5, 5), 7, 3),
    "full and odd": ((5, 5), 25, 3),
    "one weight": ((1, 1), 1, 1),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(name):
    shape, kept, values = EDGES[name]
    rng = np.random.default_rng(0)
    weights = pruned(rng, shape, kept, values)
    layer = PublishedLayer.of("x", weights, rng.normal(size=shape[0]).astype(np.float32))
    data = write_published([layer, layer])
    for again, (found, bias, count) in zip(
        read_published(data, [layer.shape] * 2), independent(data, [layer.shape] * 2), strict=True
    ):
        assert np.array_equal(again.weights, weights) and np.array_equal(found, weights)
        assert np.array_equal(again.bias, layer.bias) and np.array_equal(bias, layer.bias)
        # The decoder that came with the layout reads even counts only.
        assert count % 2 == 0 or kept == weights.size


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_round_trip(choice):
    rng = np.random.default_rng(choice.draw(st.integers(0, 2**32 - 1)))
    layers = []
    for number in range(choice.draw(st.integers(1, 3))):
        shape = tuple(choice.draw(st.lists(st.integers(1, 6), min_size=4, max_size=4)))
        if choice.draw(st.booleans()):
            shape = (shape[0], 9 * shape[1] * shape[2] * shape[3])
        size = int(np.prod(shape))
        kept = round(size * choice.draw(st.sampled_from([0, 0.01, 0.1, 0.5, 1])))
        weights = pruned(rng, shape, kept, choice.draw(st.integers(1, 255)))
        layers.append(PublishedLayer.of(f"l{number}", weights, rng.normal(size=shape[0])))
    shapes = [layer.shape for layer in layers]
    data = write_published(layers)
    for layer, again, (weights, bias, _) in zip(
        layers, read_published(data, shapes), independent(data, shapes), strict=True
    ):
        assert np.array_equal(again.weights, layer.weights)
        assert np.array_equal(weights, layer.weights) and np.array_equal(bias, layer.bias)
    assert write_published(read_published(data, shapes)) == data


def test_shapes():
    assert sum(shape.size for shape in ALEXNET) == 60_954_656
    assert all(LayerShape.parse(str(shape)) == shape for shape in ALEXNET)
    for text in ("fc6", "fc6:4096", "fc6:0x3", "fc6:3x4:5", "fc6:3xx4", ":3x4", "a:1x2:4:4"):
        with pytest.raises(ConfigError, match="fc6|a layer is given as|weights have"):
            LayerShape.parse(text)


def test_what_the_layout_cannot_hold():
    weights = np.arange(256 * 2, dtype=np.float32).reshape(2, 256)
    with pytest.raises(ModelError, match="'fc1' has 511 distinct weights.*share_"):
        PublishedLayer.of("fc1", weights, None)
    assert PublishedLayer.of("fc1", weights[:1, :16], None, bits=4).shape.bits == 4  # 15 and zero
    with pytest.raises(ModelError, match="codes of 4 bits hold 15"):
        PublishedLayer.of("fc1", weights[:1, 1:17], None, bits=4)
    with pytest.raises(ModelError, match="codes of 4 bits hold 15"):
        PublishedLayer.of("fc1", weights[:, :9], None, bits=4)
    with pytest.raises(ModelError, match="3,.* biases for 2 outputs"):
        PublishedLayer.of("fc1", weights[:, :9], np.zeros(3))
    with pytest.raises(ModelError, match="not finite"):
        PublishedLayer.of("fc1", np.full((2, 2), np.inf), None)


@settings(deadline=None, max_examples=60)
@given(models())
def test_a_bitstream_means_the_same_in_real_numbers(model):
    """Fixed-point sums are the real ones, scaled."""
    rng = np.random.default_rng(0)
    try:
        layers = published_layers(model)
    except ModelError as error:
        assert "distinct weights" in str(error)  # 256 of them, and zero
        return
    for layer, real, fraction in zip(model.layers, layers, model.input_fractions(), strict=True):
        values = rng.integers(0, 100, layer.inputs)
        full = np.append(values, [2**layer.bias_exponent] * layer.bias)
        exact = layer.dense().astype(float) @ full * 2.0 ** -(layer.shift + layer.output_fraction)
        got = real.weights.astype(float) @ (values * 2.0**-fraction) + real.bias
        assert np.allclose(got, exact, rtol=1e-6, atol=0)


@pytest.fixture(scope="module")
def published():
    rng = np.random.default_rng(1)
    return [
        PublishedLayer.of("conv", pruned(rng, (4, 2, 3, 3), 31, 20), rng.normal(size=4)),
        PublishedLayer.of("fc", pruned(rng, (6, 40), 21, 7), rng.normal(size=6)),
    ]


def test_damage_is_said_with_its_place(published):
    data, shapes = write_published(published), [layer.shape for layer in published]
    for length in range(len(data)):
        with pytest.raises(FormatError, match="byte [0-9]+: .*(counts of|reaches past the end)"):
            read_published(data[:length], shapes)
    with pytest.raises(FormatError, match=f"byte {len(data)}: 1 bytes after the last layer"):
        read_published(data + b"\0", shapes)
    with pytest.raises(FormatError, match=r"byte 4: layer 'fc' has 4294967295 entries"):
        read_published(data[:4] + b"\xff" * 4 + data[8:], shapes)
    with pytest.raises(FormatError, match="byte 8: layer 'conv': a codebook begins with 0"):
        read_published(data[:10] + b"\x80\x3f" + data[12:], shapes)
    with pytest.raises(FormatError, match="layer 'conv': an entry past its 72 weights"):
        end = 8 + 4 * 256 + 16 + 32 + 16
        assert data[8 + 4 * 256 + 16 + 32 : end] != b"\xff" * 16
        read_published(data[: end - 16] + b"\xff" * 16 + data[end:], shapes)
    odd = PublishedLayer.of("odd", np.ones((1, 1), np.float32), None)
    bad = bytearray(write_published([odd]))
    bad[-1] |= 0x10
    with pytest.raises(FormatError, match=f"byte {len(bad) - 1}: layer 'odd': the half byte"):
        read_published(bytes(bad), [odd.shape])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damage_takes_no_memory(published, choice):
    data = bytearray(write_published(published))
    shapes = [layer.shape for layer in published]
    for _ in range(choice.draw(st.integers(1, 4))):
        data[choice.draw(st.integers(0, len(data) - 1))] = choice.draw(st.integers(0, 255))
    tracemalloc.start()
    try:
        layers = read_published(bytes(data), shapes)
        assert [layer.weights.shape for layer in layers] == [shape.shape for shape in shapes]
    except PleachError as error:
        assert str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


@pytest.mark.parametrize("kind", ["empty", "one weight", "one symbol", "256", "conv", "odd"])
def test_the_same_edges_in_the_bitstream(kind):
    rng = np.random.default_rng(2)
    convolution = None
    inputs, outputs = 41, 23
    if kind == "conv":
        inputs, outputs = 18, 4
        convolution = Convolution(channels=2, height=5, width=6, kernel_height=3, kernel_width=3)
    size = inputs * outputs
    kept = {"empty": 0, "one weight": 1, "odd": 77}.get(kind, size // 2 if kind != "256" else size)
    codebook = np.arange(1, {"256": 257, "one symbol": 2}.get(kind, 6))
    codes = np.arange(kept) % len(codebook)
    layer = CompressedLayer(
        "x", inputs, outputs, False, np.sort(rng.permutation(size)[:kept]), codes, codebook, 0,
        Activation.NONE, 0, 0, convolution,
    )  # fmt: skip
    again = loads(dumps(CompressedModel((layer,)))).layers[0]
    assert np.array_equal(again.dense(), layer.dense())
    assert again.convolution == convolution and again.kept == kept
    assert len(np.unique(again.values)) == min(kept, len(codebook))


def test_convert(tmp_path, in_process):
    """A checkpoint, the layout, a bitstream and back; each holds the same weights."""
    import torch

    from pleach.models import load_checkpoint, mlp, save_checkpoint

    rng = np.random.default_rng(3)
    model = mlp([64, 12, 10])
    with torch.no_grad():
        for layer in (model.fc1, model.fc2):
            weights = pruned(rng, tuple(layer.weight.shape), 100, 9) / 8
            layer.weight.copy_(torch.from_numpy(weights))
            layer.bias.copy_(torch.from_numpy(np.round(rng.normal(size=len(weights)) * 8) / 8))
    checkpoint = save_checkpoint(model, tmp_path / "a.safetensors")
    net, file = tmp_path / "b.net", tmp_path / "c.pleach"
    code, out, _ = in_process("convert", checkpoint, "-o", net)
    assert code == 0
    given = out[out.index("--layers") :].split()[1]
    assert given == "fc1:12x64:4,fc2:10x12:4"
    back = tmp_path / "d.safetensors"
    assert in_process("convert", net, "--layers", given, "-o", back)[0] == 0
    before, after = load_checkpoint(checkpoint), load_checkpoint(back)
    assert list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)
    code, out, _ = in_process("convert", net, "--layers", given, "--dataset", "digits", "-o", file,
                              "--activation", "relu",
                              "--json")  # fmt: skip
    assert code == 0 and json.loads(out)["file_bytes"] == file.stat().st_size
    again = tmp_path / "e.safetensors"
    assert in_process("convert", file, "-o", again)[0] == 0
    assert all(torch.equal(t, before[k]) for k, t in load_checkpoint(again).items())

    code, _, error = in_process("convert", net, "-o", back)
    assert code == 2 and "needs --layers" in error
    code, _, error = in_process("convert", net, "--layers", "alexnet", "-o", back)
    assert code == 1 and "'conv1'" in error
    code, _, error = in_process("convert", checkpoint, "-o", file)
    assert code == 2 and "write a .net or .safetensors file" in error


def test_convert_asks_for_an_order_that_is_not_told(tmp_path, in_process):
    import torch
    from safetensors.torch import save_file

    path, net = tmp_path / "a.safetensors", tmp_path / "b.net"
    save_file({f"{name}.weight": torch.eye(4) for name in ("out", "in")}, path)
    code, _, error = in_process("convert", path, "-o", net)
    assert code == 1 and "give --order" in error and not net.exists()
    code, out, _ = in_process("convert", path, "--order", "in,out", "-o", net)
    assert code == 0 and "--layers in:4x4:4,out:4x4:4" in out
    code, _, error = in_process(
        "convert", net, "--layers", "a:4x4:4,a:4x4:4", "-o", tmp_path / "c.safetensors"
    )
    assert code == 1 and "two layers are called 'a'" in error

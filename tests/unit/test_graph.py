"""Networks that are no chain: their operators, what a file says of them, and what runs of them."""

import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.errors import FormatError, ModelError, PleachError
from pleach.format import dumps, interface, loads
from pleach.model import (
    Activation,
    Add,
    AveragePool,
    Clip,
    CompressedLayer,
    CompressedModel,
    Concat,
    Graph,
    InputType,
    MaxPool,
    Node,
    Rescale,
    Window,
)
from pleach.reference import Reference
from tests.strategies import random_layer
from tests.unit.test_format import patched

DOCS = Path(__file__).parents[2] / "docs"


def layer(name: str, inputs: int, outputs: int, fraction: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    made = random_layer(rng, inputs, outputs, density=0.5, name=name, shift=6)
    return replace(made, output_fraction=fraction)


def small() -> CompressedModel:
    """Each operator once, after and before layers, and a sum that takes the input."""
    window = Window(channels=2, height=3, width=2, kernel_height=2, kernel_width=2, stride_height=1)
    graph = Graph(
        (
            Node("a", layer("a", 12, 12), (0,)),
            Node("sum", Add(Rescale((5, 0), 4, 4)), (1, 0)),
            Node("six", Clip(0, 96), (2,)),
            Node("mean", AveragePool(window, Rescale((0,), 15, 5)), (3,)),
            Node("largest", MaxPool(window), (3,)),
            Node("all", Concat(Rescale((0, 1), 2, 3)), (4, 5)),
            Node("b", layer("b", 8, 3, seed=1), (6,)),
        ),
        (12,),
    )
    return CompressedModel.of(graph, input_type=InputType.UINT8, input_fraction=8)


# --- operators -------------------------------------------------------------------------------


def rounded(value: int, shift: int) -> int:
    return min(max((value + (1 << shift >> 1)) // (1 << shift), -32768), 32767)


INT16 = st.integers(-32768, 32767)


@given(st.lists(INT16, min_size=2, max_size=2), st.integers(0, 12), st.integers(0, 20))
def test_a_sum_is_that_of_whole_numbers(values, lift, shift):
    op = Add(Rescale((lift, 0), shift, 0))
    found = op.run(*(np.array([[value]], np.int16) for value in values))
    assert found.dtype == np.int16
    assert found.item() == rounded((values[0] << lift) + values[1], shift)


@given(st.lists(INT16, min_size=2, max_size=2), st.integers(0, 12), st.integers(0, 20))
def test_a_concatenation_brings_all_to_one_fraction(values, lift, shift):
    op = Concat(Rescale((lift, 0), shift, 0))
    found = op.run(*(np.array([[value]], np.int16) for value in values))
    assert found.ravel().tolist() == [rounded(values[0] << lift, shift), rounded(values[1], shift)]


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_pooling_is_the_loop_over_its_windows(data):
    sizes = {name: data.draw(st.integers(1, 5), name) for name in ("height", "width")}
    kernels = {f"kernel_{name}": data.draw(st.integers(1, size)) for name, size in sizes.items()}
    strides = {f"stride_{name}": data.draw(st.integers(1, 3)) for name in sizes}
    padding = data.draw(st.integers(0, min(kernels.values()) // 2))
    window = Window(channels=2, **sizes, **kernels, **strides, padding=padding)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    maps = rng.integers(-32768, 32768, (2, *sizes.values(), 3)).astype(np.int16)
    mean, largest = AveragePool(window, Rescale((0,), 14, 0)), MaxPool(window)
    found = [op.run(maps.reshape(-1, 3)).reshape(2, *window.map, 3) for op in (mean, largest)]
    for place in np.ndindex(2, *window.map, 3):
        channel, y, x, n = place
        inside = [
            int(maps[channel, row, column, n])
            for row in range(y * window.stride_height - padding, 99)[: window.kernel_height]
            for column in range(x * window.stride_width - padding, 99)[: window.kernel_width]
            if 0 <= row < window.height and 0 <= column < window.width
        ]
        assert found[0][place] == rounded(sum(inside) * mean.factor, 14)
        assert found[1][place] == max(inside)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9, 49, 255 * 255])
def test_the_factor_of_a_mean_uses_its_16_bits(size):
    pool = AveragePool(Window(1, 255, 255, size if size < 99 else 255, 1 if size < 99 else 255))
    assert 2**14 <= pool.factor < 2**15
    assert pool.factor == round(2**pool.gain / size)


def test_clamps():
    values = np.array([[-9, 3, 200]], np.int16)
    assert Clip(0, 100).run(values).tolist() == [[0, 3, 100]]
    assert Clip(0, 100).out_magnitude(32768) == 100
    with pytest.raises(ModelError, match="lets nothing pass"):
        Clip(1, 0)


# --- graphs ----------------------------------------------------------------------------------


def test_a_graph_runs_as_its_nodes_by_hand():
    model = small()
    inputs = np.random.default_rng(0).integers(0, 256, (5, 12)).astype(np.uint8)
    a, b = (
        Reference(CompressedModel((each,), kind)).run
        for each, kind in zip(model.layers, (InputType.UINT8, InputType.INT16), strict=True)
    )
    ops = [node.op for node in model.graph.nodes]
    first = a(inputs).T
    clipped = ops[2].run(ops[1].run(first, inputs.T))
    taken = ops[5].run(ops[3].run(clipped), ops[4].run(clipped))
    assert np.array_equal(Reference(model).run(inputs), b(taken.T))
    trace = Reference(model).trace(inputs)
    assert np.array_equal(trace[1].inputs, taken.T)
    activations = Reference(model).activations(inputs)
    assert [np.array_equal(t.inputs, x) for t, x in zip(trace, activations, strict=True)] == [1, 1]
    assert model.magnitudes() == [255, 32768]
    assert model.input_fractions() == [8, 3] and model.neighbours() == []


def test_an_order_of_layers_alone_is_a_chain():
    layers = (layer("a", 4, 5), layer("b", 5, 2))
    chain = CompressedModel(layers)
    assert chain.is_chain and chain.graph.chain() == chain.graph.nodes
    assert CompressedModel.of(chain.graph) == chain
    assert chain.unsupported is None and chain.neighbours() == [(0, 1)]
    with pytest.raises(ModelError, match="node 'sum' takes the input and 'a', .* no chain"):
        small().graph.chain()


def test_what_the_engine_lacks_is_named():
    with pytest.raises(ModelError, match=r"node 'sum' is an operator Add: .*pleach evaluate"):
        small().check_runs()


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([(Add(), (0, 2))], "takes .*only the input, 0, and nodes before it"),
        ([(None, (0,)), (Clip(0, 1), (0,))], "nothing takes what node '1' gives"),
        ([(Clip(0, 1), (0, 0)), (None, (1,))], r"'1' \(Clip\): takes one input"),
        ([(Clip(0, 0.5), (0,)), (None, (1,))], r"'1' \(Clip\): a bound of 0.5"),
        ([(Add(), (0, 0)), (None, (1,))], r"'1' \(Add\): is of real numbers"),
        ([(Add(Rescale((0, 1), 0, 8)), (0, 0)), (None, (1,))], r"'1' \(Add\): inputs of the frac"),
        ([(Add(Rescale((31,) * 3, 31, 8)), (0, 0, 0)), (None, (1,))], "do not fit 48 bits"),
        ([(Concat(Rescale((0, 0), 0, 8)), (0, 0)), (None, (1,))], "takes 4 inputs, .* gives 8"),
        ([(None, (0, 0))], "takes 4 inputs, the input before it gives 4 and 4"),
        ([(None, (0,)), (Add(Rescale((5, 0), 0, 8)), (1, 0))], r"'2' \(Add\): adds 2 and 4 values"),
        ([(MaxPool(Window(1, 3, 3, 2, 2)), (0,)), (None, (1,))], r"takes 1 × 3 × 3 .* gives 4"),
    ],
)
def test_what_no_graph_can_be(nodes, words):
    with pytest.raises(ModelError, match=words):
        made = [Node(str(n), op, sources) for n, (op, sources) in enumerate(nodes, start=1)]
        CompressedModel((layer("x", 4, 2),), joints=Graph(tuple(made), (4,)))


def test_operators_out_of_range():
    for make, words in (
        (lambda: Rescale((32,), 0, 0), "lifts"),
        (lambda: Rescale((0,), 48, 0), "shift is 48"),
        (lambda: Window(1, 2, 2, 3, 3), "smaller than its window"),
        (lambda: Window(1, 4, 4, 2, 2, padding=2), "more than half"),
        (lambda: Graph((), (4,)), "1 to 1024 nodes"),
    ):
        with pytest.raises(ModelError, match=words):
            make()


# --- files -----------------------------------------------------------------------------------


def test_files_hold_all_of_a_graph():
    data = dumps(small())
    again = loads(data)
    assert again.joints == small().joints and dumps(again) == data
    assert [node.name for node in again.graph.nodes] == [
        "a", "sum", "six", "mean", "largest", "all", "b",
    ]  # fmt: skip
    found = interface(data)
    assert (found.inputs, found.outputs) == (again.inputs, again.outputs) == (12, 3)


def make_worked_example() -> CompressedModel:
    """What docs/bitstream.md shows."""
    fc1 = CompressedLayer("fc1", 2, 2, False, [0, 3], [0, 1], [16, 32], 6, Activation.NONE, 0, 6)
    nodes = (
        Node("", None, (0,)),
        Node("add1", Add(Rescale((0, 2), 2, 4)), (1, 0)),
        Node("clip1", Clip(0, 32767), (2,)),
    )
    return CompressedModel((fc1,), InputType.INT16, 4, joints=Graph(nodes, (2,)))


def worked_example() -> bytes:
    text = (DOCS / "bitstream.md").read_text().partition("## GRAPH")[2]
    block = re.search(r"```hex\n(.*?)```", text, re.S).group(1)
    return bytes.fromhex("".join(line.split("|")[0] for line in block.splitlines()))


def test_worked_example():
    """The page's residual network: a layer, and the sum of what it gives and takes, at least 0."""
    data = worked_example()
    model = loads(data)
    assert dumps(model) == data == dumps(make_worked_example())
    assert model.line == "2 → fc1 2 → add1 Add (fc1, input) → clip1 ReLU"
    outputs = Reference(model).run(np.array([[100, 40]], np.int16))
    assert outputs.tolist() == [[106, 45]]


@pytest.fixture(scope="module")
def data():
    return dumps(small())


WORDS = 2 + 2 + 3 + 3 + 5 + 5 + 3 + 2  # of its GRAPH: head of all, then each node


@settings(deadline=None, max_examples=200)
@given(st.integers(5, 5 + WORDS), st.integers(0, 2**32 - 1) | st.integers(0, 300))
def test_lies_with_right_checksums(data, word, value):
    lie = patched(data, word, value)
    tracemalloc.start()
    try:
        model = loads(lie)
        assert isinstance(model, CompressedModel) and model.line and dumps(model)
    except PleachError as error:
        assert str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_every_damaged_bit_of_a_graph_is_found(data):
    for bit in range(8 * 20, 8 * (20 + 4 * WORDS)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            loads(bytes(damaged))


@pytest.mark.parametrize(
    ("word", "value", "says"),
    [
        (6, 0, "0 nodes and 12 inputs"),
        (6, 6, "words after its last node|0 of the|1 of the"),
        (6, 8, "ends before its last node"),
        (6, 0x10007, "reserved"),
        (7, 13, "takes 12 inputs, the input before it gives 13"),
        (8, 0x16, "node 1: no operator has the code 6"),
        (8, 0x20, "node 1: takes one source, not 2"),
        (8, 0x1010, "node 1: shift, output_fraction and lifts must be 0"),
        (9, 1, "takes .1,.: only the input"),
    ],
)
def test_what_is_refused_of_a_graph(data, word, value, says):
    with pytest.raises(FormatError, match=says) as refused:
        loads(patched(data, word, value))
    assert refused.value.offset is not None


def test_a_graph_stands_first_and_once(data):
    words = np.frombuffer(data, "<u4")
    end = 5 + 2 + int(words[5] >> 8)
    graph, rest = words[5:end], words[end:]
    layer = rest[: 2 + int(rest[0] >> 8)]
    for body in ((graph, graph, rest), (layer, graph, rest)):
        words = np.concatenate([words[:5], *body])
        words[2] = len(words)
        with pytest.raises(FormatError, match="GRAPH that is not the first section"):
            loads(patched(words.tobytes(), 0, int(words[0])))


def test_a_file_that_claims_much_costs_nothing():
    """A network that doubles its values a thousand times is read, and refused before it runs."""
    double = Concat(Rescale((0, 0), 0, 3))
    nodes = [Node("first", None, (0,)), Node("0", double, (1, 1))]
    nodes += [Node(str(n), double, (n + 1, n + 1)) for n in range(1, 1000)]
    model = CompressedModel((layer("first", 4, 2),), joints=Graph(tuple(nodes), (4,)))
    again = loads(dumps(model))
    with pytest.raises(ModelError, match=r"node '25' has 134,217,728 outputs"):
        Reference(again)


def test_names_are_text():
    joints = replace(small().joints, nodes=(*small().joints.nodes[:-1], Node("b", None, (6,))))
    bad = replace(joints.nodes[1], name="\ud800")
    with pytest.raises(ModelError, match="UTF-8"):
        replace(small(), joints=replace(joints, nodes=(joints.nodes[0], bad, *joints.nodes[2:])))


def test_outputs_of_a_last_node_that_is_no_layer():
    model = loads(worked_example())
    assert model.output_fractions == [4]
    assert model.dequantise(np.array([[32, 16]], np.int16)).tolist() == [[2.0, 1.0]]
    with pytest.raises(ModelError, match="the last node is no layer"):
        replace(model, output_exponents=(0, 1))

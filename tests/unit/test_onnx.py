"""Networks out of ONNX files: what they compute, what is refused, and what a damaged file does."""

import random

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

from pleach.errors import DataError, ModelError, PleachError
from pleach.model import network_line
from pleach.models import graph_of
from pleach.models.check import check_onnx
from pleach.models.onnx_file import OPSET, read_onnx
from pleach_cli.app import app

RNG = np.random.default_rng(5)


def values(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def file_of(folder, nodes, tensors, shape, opset=17, outputs=("y",), domains=()):
    """An ONNX file of nodes ``(kind, inputs, output, attributes)``."""
    made = [
        helper.make_node(kind, inputs, [output], name=f"n{number}", **given)
        for number, (kind, inputs, output, given) in enumerate(nodes)
    ]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    imports = [helper.make_opsetid(domain, 1) for domain in domains]
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), *imports], ir_version=8
    )
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def line(network):
    return network_line(graph_of(network))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        one = functional.relu(self.norm(self.one(x)))
        both = functional.max_pool2d(functional.relu6(self.two(one) + one), 2)
        return torch.softmax(self.last(both.mean((2, 3))), 1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [13, 18])
def test_what_torch_exports_is_what_it_computes(tmp_path, opset):
    model = Residual().eval()
    path = tmp_path / "net.onnx"
    torch.onnx.export(
        model, (torch.zeros(1, 2, 6, 6),), path, dynamo=False, opset_version=opset,
        do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE,
    )  # fmt: skip
    network = read_onnx(path)
    inputs = torch.randn(4, 2, 6, 6)
    with torch.no_grad():
        wanted, found = model(inputs), torch.softmax(network(inputs), 1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert [name for name, module in network.named_modules() if hasattr(module, "weight")] == [
        "one", "two", "last",
    ]  # fmt: skip
    assert network.notes[0].startswith("onnxruntime 1.")
    assert "the softmax at the end is left out" in network.notes[1]


def test_shape_arithmetic_and_constants(tmp_path):
    """A Flatten as exporters write it, a bias as an Add, a scaling of the input."""
    nodes = [
        ("Sub", ["x", "mean"], "a", {}),
        ("Div", ["a", "std"], "b", {}),
        ("Conv", ["b", "w"], "c", {"strides": [2, 1]}),
        ("Add", ["c", "cb"], "d", {}),
        ("Relu", ["d"], "e", {}),
        ("Shape", ["e"], "s", {}),
        ("Gather", ["s", "zero"], "n", {"axis": 0}),
        ("Unsqueeze", ["n", "axes"], "u", {}),
        ("Concat", ["u", "rest"], "t", {"axis": 0}),
        ("Reshape", ["e", "t"], "f", {}),
        ("MatMul", ["f", "fc.weight"], "g", {}),
        ("Add", ["fb", "g"], "y", {}),
    ]
    tensors = {
        "mean": values(1, 2, 1, 1), "std": np.float32(0.5), "w": values(3, 2, 2, 2),
        "cb": values(1, 3, 1, 1), "zero": np.int64(0), "axes": np.array([0]),
        "rest": np.array([-1]), "fc.weight": values(3 * 2 * 3, 5), "fb": values(5),
    }  # fmt: skip
    network = read_onnx(file_of(tmp_path, nodes, tensors, ["n", 2, 4, 4]))
    assert line(network) == "2×4×4 → n2 3×2×2 stride 2×1 ReLU → fc 5"


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_padding_of_each_side(tmp_path, auto):
    nodes = [("Conv", ["x", "w"], "y", {"auto_pad": auto, "strides": [2, 2]})]
    network = read_onnx(file_of(tmp_path, nodes, {"w": values(3, 1, 3, 3)}, ["n", 1, 6, 6]))
    padding = graph_of(network).nodes[0].op.convolution.padding
    wanted = {"SAME_UPPER": (0, 0, 1, 1), "SAME_LOWER": (1, 1, 0, 0), "VALID": (0, 0, 0, 0)}
    assert padding == wanted[auto]


def test_slopes_and_bounds(tmp_path):
    """What onnxruntime computes of them, too, which `read_onnx` compares."""
    nodes = [
        ("Conv", ["x", "w"], "a", {}),
        ("LeakyRelu", ["a"], "b", {"alpha": 0.2}),
        ("Max", ["b", "low"], "c", {}),
        ("PRelu", ["c", "slopes"], "d", {}),
        ("Min", ["high", "d"], "y", {}),
    ]
    tensors = {
        "w": values(3, 2, 2, 2), "low": np.float32(-0.4), "high": np.float32(1.5),
        "slopes": values(3, 1, 1) / 4,
    }  # fmt: skip
    said = line(read_onnx(file_of(tmp_path, nodes, tensors, ["n", 2, 4, 4])))
    assert "Clip -0.4…inf" in said and "Clip -inf…1.5" in said


def test_a_batch_that_the_file_fixes_is_open(tmp_path):
    nodes = [
        ("Conv", ["x", "w"], "a", {}),
        ("Reshape", ["a", "shape"], "b", {}),
        ("Gemm", ["b", "v", "c"], "y", {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ]
    tensors = {
        "w": values(2, 1, 3, 3), "shape": np.array([1, 8]), "v": values(3, 8), "c": values(3),
    }  # fmt: skip
    network = read_onnx(file_of(tmp_path, nodes, tensors, [1, 1, 4, 4]))
    assert line(network) == "1×4×4 → n0 2×3×3 → n2 3"


def test_quantised_weights_keep_their_values(tmp_path):
    """Of DequantizeLinear and of QONNX's Quant; each worked out by hand."""
    nodes = [
        ("DequantizeLinear", ["w8", "scale", "zero"], "w", {"axis": 0}),
        ("Gemm", ["x", "w"], "a", {"transB": 1}),
        ("Quant", ["a", "s", "z", "bits"], "b", {"domain": "qonnx.custom_op.general", "signed": 0}),
        ("Quant", ["v", "s", "z", "bits"], "q", {"domain": "qonnx.custom_op.general", "narrow": 1}),
        ("MatMul", ["b", "q"], "y", {}),
    ]
    tensors = {
        "w8": np.array([[4, -2], [6, 2]], np.int8), "scale": np.array([0.5, 0.25], np.float32),
        "zero": np.array([0, 2], np.int8), "s": np.float32(0.5), "z": np.float32(0),
        "bits": np.float32(2), "v": np.array([[0.24, 7.0], [-7.0, 0.26]], np.float32),
    }  # fmt: skip
    path = file_of(tmp_path, nodes, tensors, ["n", 2], domains=("qonnx.custom_op.general",))
    network = read_onnx(path)
    weights = [
        node.op.module.weight for node in graph_of(network).nodes if hasattr(node.op, "module")
    ]
    assert weights[0].tolist() == [[2.0, -1.0], [1.0, 0.0]]
    assert weights[1].T.tolist() == [[0.0, 0.5], [-0.5, 0.5]]
    assert "Clip 0…1.5" in line(network)
    assert (
        "not compared" in network.notes[0] and "bounds activations at 0 and 1.5" in network.notes[1]
    )


REFUSED = {
    "an operator": ([("Tanh", ["x"], "y", {})], {}, "'n0' computes Tanh: supported are Add,"),
    "two of the network's own": (
        [("Mul", ["x", "x"], "y", {})], {}, "'n0' .Mul.: a product of two things",
    ),
    "a weight that is computed": (
        [("MatMul", ["x", "x"], "y", {})], {}, "weight is computed of the network's input",
    ),
    "a constant too large": (
        [("ConstantOfShape", ["big"], "a", {}), ("Add", ["x", "a"], "y", {})],
        {"big": np.array([1 << 40])}, "makes a constant of the shape",
    ),
    "channels last": (
        [("Transpose", ["x"], "y", {"perm": [1, 0]})], {}, "moves axes of .4. to the order",
    ),
    "a name that nothing gives": ([("Relu", ["gone"], "y", {})], {}, "takes 'gone', which nothing"),
    "no weights": ([("Relu", ["x"], "y", {})], {}, "has no layer with weights"),
    "sizes": ([("MatMul", ["x", "w"], "y", {})], {"w": values(5, 2)}, "'n0' .MatMul.: mat1 and"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(tmp_path, case):
    nodes, tensors, why = REFUSED[case]
    with pytest.raises(ModelError, match=why):
        read_onnx(file_of(tmp_path, nodes, tensors, ["n", 4]))


GEMM = [("Gemm", ["x", "w"], "y", {})]


def test_what_is_refused_of_a_file(tmp_path):
    tensors = {"w": values(4, 2)}
    with pytest.raises(ModelError, match=f"opset 11, must have {OPSET} or newer"):
        read_onnx(file_of(tmp_path, GEMM, tensors, ["n", 4], opset=11))
    with pytest.raises(ModelError, match="has 2 outputs"):
        read_onnx(file_of(tmp_path, GEMM, tensors, ["n", 4], outputs=("y", "w")))
    with pytest.raises(ModelError, match=r"has the shape \(\?\), which is open: give"):
        read_onnx(file_of(tmp_path, GEMM, tensors, ["n", "m"]))
    with pytest.raises(ModelError, match="which is open: give"):  # it is no node's fault
        check_onnx(file_of(tmp_path, GEMM, tensors, ["n", "m"]))
    assert line(read_onnx(file_of(tmp_path, GEMM, tensors, ["n", "m"]), (4,))) == "4 → n0 2"
    with pytest.raises(ModelError, match=r"an input has the shape \(4\), not \(5,\)"):
        read_onnx(file_of(tmp_path, GEMM, tensors, ["n", 4]), (5,))
    with pytest.raises(DataError, match="cannot read"):
        read_onnx(tmp_path / "none.onnx")
    maps = file_of(tmp_path, [("Flatten", ["x"], "f", {}), ("Gemm", ["f", "w"], "y", {})],
                   {"w": values(12, 2)}, ["n", 3, 2, 2])  # fmt: skip
    for shape in ((2, 2), (2, 2, 3)):
        with pytest.raises(ModelError, match=r"has the shape \(3, 2, 2\), not \(2, 2") as found:
            read_onnx(maps, shape)
        assert (".transpose(0, 3, 1, 2)" in str(found.value)) == (shape == (2, 2, 3))


def test_layers_are_called_after_their_modules(tmp_path):
    """Exporters that fold a normalisation lose a weight's name, and keep its module's."""
    path = file_of(tmp_path, GEMM, {"w": values(4, 2)}, ["n", 4])
    model = onnx.load_model(path)
    for name, wanted in (("/body/fc/Gemm", "body.fc"), ("/Gemm_1", "Gemm_1"), ("fc", "fc")):
        model.graph.node[0].name = name
        path.write_bytes(model.SerializeToString())
        assert line(read_onnx(path)) == f"4 → {wanted} 2"


def test_parts_of_a_map_and_what_ends_it(tmp_path):
    """ShuffleNet's halves, as a Split and as a Slice, and the function at the end."""
    nodes = [
        ("Conv", ["x", "w"], "a", {}),
        ("Split", ["a", "sizes"], "b", {"axis": 1}),
        ("Slice", ["a", "start", "end", "one"], "c", {}),
        ("Add", ["b", "c"], "d", {}),
        ("GlobalAveragePool", ["d"], "e", {}),
        ("Flatten", ["e"], "f", {}),
        ("Sigmoid", ["f"], "y", {}),
    ]
    tensors = {
        "w": values(4, 1, 2, 2), "sizes": np.array([2, 2]), "start": np.array([2]),
        "end": np.array([4]), "one": np.array([1]),
    }  # fmt: skip
    path = file_of(tmp_path, nodes, tensors, ["n", 1, 4, 4])
    model = onnx.load_model(path)
    model.graph.node[1].output.append("unused")
    path.write_bytes(model.SerializeToString())
    network = read_onnx(path)
    assert "sigmoid at the end is left out: an output above 0" in network.notes[1]
    assert graph_of(network).outputs == 2


def test_weights_beside_the_file(tmp_path):
    """Inside its folder and whole, or not at all."""
    folder = tmp_path / "inner"
    folder.mkdir()
    path = file_of(folder, GEMM, {"w": values(4, 2)}, ["n", 4])
    model = onnx.load_model(path)
    raw = model.graph.initializer[0].raw_data

    def said(location):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": "0", "length": str(len(raw))}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        path.write_bytes(model.SerializeToString())

    (folder / "w.data").write_bytes(raw)
    (tmp_path / "outside.data").write_bytes(raw)
    said("w.data")
    assert line(read_onnx(path)) == "4 → n0 2"
    (folder / "link.data").symlink_to(tmp_path / "outside.data")
    for location in ("../outside.data", str(tmp_path / "outside.data"), "link.data"):
        said(location)
        with pytest.raises(DataError, match="outside of the file's folder"):
            read_onnx(path)
    (folder / "w.data").write_bytes(raw[:-1])
    said("w.data")
    with pytest.raises(DataError, match="is not whole"):
        read_onnx(path)
    said("none.data")
    with pytest.raises(DataError, match="cannot read none.data beside it"):
        read_onnx(path)


def test_damaged_files_are_errors_of_ours(tmp_path):
    whole = file_of(tmp_path, GEMM, {"w": values(4, 2)}, ["n", 4]).read_bytes()
    chance = random.Random(3)
    path = tmp_path / "bad.onnx"
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.randint(1, len(data))] if chance.random() < 0.3 else data)
        try:
            read_onnx(path)
        except PleachError as error:
            assert str(error)


def test_from_a_file_to_the_engine(tmp_path, monkeypatch):
    """compress takes the file, says how far it is from what the runtime computes, and the
    result's errors are those of the file's network."""
    monkeypatch.chdir(tmp_path)
    nodes = [
        ("Gemm", ["x", "w", "b"], "a", {}),
        ("Relu", ["a"], "c", {}),
        ("MatMul", ["c", "v"], "y", {}),
    ]
    first, second = values(4, 6), values(6, 3)
    file_of(tmp_path, nodes, {"w": first, "b": values(6), "v": second}, ["n", 4])
    inputs = values(90, 4)
    labels = (np.maximum(inputs @ first, 0) @ second).argmax(1)
    np.savez(
        "mine.npz",
        train_images=inputs[:60], train_labels=labels[:60],
        test_images=inputs[60:], test_labels=labels[60:],
    )  # fmt: skip
    given = ["compress", "net.onnx", "--dataset", "mine.npz", "--as-is", "--clusters", "200"]
    found = CliRunner().invoke(app, [*given, "--anyway", "-o", "net.pleach"])
    assert found.exit_code == 0, found.output
    assert "net.onnx: onnxruntime" in " ".join(found.output.split())
    wrong = CliRunner().invoke(app, [*given, "--order", "a"], catch_exceptions=True)
    assert "says itself how it runs" in str(wrong.exception)

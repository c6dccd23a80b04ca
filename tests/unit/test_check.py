"""`pleach check`: every node of a network with where it runs, or why it does not."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from torch import nn
from typer.testing import CliRunner

from pleach.errors import ModelError
from pleach.models.check import ENGINE, LEFT_OUT, MAPS, REFUSED, SUPPORTED, check
from pleach_cli.app import app


def runs(rows):
    return [(row.name, row.runs) for row in rows]


def test_where_each_node_runs():
    chain = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert runs(check(chain, (4,))) == [("0", ENGINE), ("2", ENGINE)]
    maps = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU6(), nn.Flatten(), nn.Linear(8, 2)
    )
    found = check(maps, (1, 4, 4))
    assert runs(found) == [("0", MAPS), ("2", MAPS), ("4", MAPS)]
    assert [row.computes for row in found] == ["2×3×3", "Clip 0…6", "2"]
    ended = check(nn.Sequential(*chain, nn.Softmax(1)), (4,))
    assert runs(ended) == [("0", ENGINE), ("2", ENGINE), ("the end", LEFT_OUT)]


def test_all_that_is_refused_is_listed():
    """Not only the first: reading goes on behind it, in its shape."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.GELU(), nn.LayerNorm([2, 2, 2]), nn.Flatten(), nn.Linear(8, 2)
    )
    found = check(net, (1, 4, 4))
    assert runs(found) == [
        ("0", SUPPORTED), ("1", REFUSED), ("2", REFUSED), ("3", SUPPORTED), ("4", SUPPORTED),
    ]  # fmt: skip
    stretched = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, ceil_mode=True))
    (why,) = [row.why for row in check(stretched, (1, 5, 5)) if row.runs == REFUSED]
    assert why == "with ceil_mode windows reach over the edge of maps of (3, 3)"
    assert all(row.runs != REFUSED for row in check(stretched, (1, 6, 6)))  # it changes nothing


def test_what_only_the_whole_shows():
    """Every node is fine, and the batch normalisation has no layer to go into."""
    net = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    found = check(net, (4,))
    assert found[-1].name == "the network" and "cannot be folded" in found[-1].why
    assert {row.runs for row in found[:-1]} == {SUPPORTED}
    with pytest.raises(ModelError, match="does not run on inputs of shape"):
        check(nn.Linear(4, 2), (5,))


MINE = """
from torch import nn
def good():
    return nn.Sequential(nn.Linear(4, 2))
def padded():
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 2))
def bad():
    return nn.Sequential(nn.Linear(4, 2), nn.Tanh())
"""


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checked_net.py").write_text(MINE)

    def said(*given):
        found = CliRunner().invoke(app, ["check", *given])
        return found.exit_code, found.stdout, str(found.exception), " ".join(found.stderr.split())

    code, text, *_ = said("checked_net:good", "--shape", "4", "--json")
    assert code == 0 and json.loads(text)["supported"]
    code, text, *_ = said("checked_net:bad", "--shape", "4")
    assert code == 1 and "1 of 2 nodes are not supported; supported are linear," in text
    scaled = ("checked_net:padded", "--shape", "1,4,4", "--scale", "1/255")
    for given, nodes in ((scaled, ["0", "2"]), ((*scaled, "--mean", "0.5"), ["inputs", "0", "2"])):
        assert [node["name"] for node in json.loads(said(*given, "--json")[1])["nodes"]] == nodes
    assert "as uint8; --data says what they are" in said(*scaled)[1]
    assert "did you mean checked_net:good?" in said("checked_net.py:good")[3]
    assert "give --shape, or --dataset" in said("checked_net:good")[2]
    assert "give sizes from 1" in said("checked_net:good", "--shape", "0,4")[2]

    def value(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4])

    weight = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    for kind, runs in (("Relu", ENGINE), ("Tanh", REFUSED)):
        nodes = [
            helper.make_node("Gemm", ["x", "w"], ["a"], name="first"),
            helper.make_node(kind, ["a"], ["b"], name="second"),
            helper.make_node("Gemm", ["b", "w"], ["y"], name="third"),
        ]
        graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], [weight])
        onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[
            helper.make_opsetid("", 17)]), "net.onnx")  # fmt: skip
        code, text, *_ = said("net.onnx", "--json")
        assert code == (runs == REFUSED)
        assert runs in [node["runs"] for node in json.loads(text)["nodes"]]

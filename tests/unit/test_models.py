"""Networks and checkpoints."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pleach.errors import DataError, ModelError
from pleach.model import Activation
from pleach.models import (
    from_state_dict,
    layers_of,
    lenet_300_100,
    load_checkpoint,
    mlp,
    save_checkpoint,
)


def test_lenet():
    model = lenet_300_100()
    assert sum(p.numel() for p in model.parameters()) == 266_610
    names, layers, activations = zip(*layers_of(model), strict=True)
    assert names == ("fc1", "fc2", "fc3")
    assert [(x.in_features, x.out_features) for x in layers] == [(784, 300), (300, 100), (100, 10)]
    assert activations == (Activation.RELU, Activation.RELU, Activation.NONE)


def test_seed_decides_and_leaves_torch_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = mlp([4, 3], seed=1), mlp([4, 3], seed=1), mlp([4, 3], seed=2)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


def test_nested_with_a_shared_relu():
    relu = nn.ReLU()
    body = nn.Sequential(nn.Linear(4, 3), relu, nn.Dropout())
    model = nn.Sequential(nn.Flatten(), body, nn.Sequential(nn.Linear(3, 3), relu), nn.Linear(3, 2))
    found = layers_of(model)
    assert [name for name, _, _ in found] == ["1.0", "2.0", "3"]
    assert [a for _, _, a in found] == [Activation.RELU, Activation.RELU, Activation.NONE]


class Odd(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs) + 1


TIED = nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Conv2d(1, 1, 3)), "'1' is a Conv2d.*not supported yet"),
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh())), "'1.0' is a Tanh: only Linear"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), "'0' is a ReLU before"),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 2)), "'1' takes 2 inputs, layer '0' .* 3"),
        (nn.Sequential(TIED, nn.ReLU(), TIED), "'2' is layer '0' again"),
        (nn.Sequential(Odd(2, 2)), "'0' is a Odd"),
        (nn.Sequential(nn.ReLU6()), "ReLU6"),
        (nn.Sequential(nn.Flatten()), "no Linear layer"),
        (nn.Linear(2, 2), "the network is a Linear; only an nn.Sequential"),
    ],
)
def test_what_is_not_supported_names_the_layer(model, words):
    with pytest.raises(ModelError, match=words):
        layers_of(model)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_checkpoint_round_trip(tmp_path, name):
    # Square layers, more than ten modules: only the order of the keys tells which comes first.
    model = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(3, 3), nn.ReLU())][:-1])
    inputs = torch.rand(7, 3)
    if name.endswith(".pt"):
        torch.save(model.state_dict(), tmp_path / name)
    else:
        save_checkpoint(model, tmp_path / name)
    again = from_state_dict(load_checkpoint(tmp_path / name))
    assert torch.equal(model(inputs), again(inputs))
    assert [n for n, _, _ in layers_of(again)] == ["0", "2", "4", "6", "8", "10"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_safetensors_of_others_is_sorted_naturally(tmp_path):
    model = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(3, 3), nn.ReLU())][:-1])
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    again = from_state_dict(load_checkpoint(tmp_path / "net.safetensors"))
    assert torch.equal(model(torch.eye(3)), again(torch.eye(3)))


def test_order_of_unnumbered_layers_survives(tmp_path):
    model = nn.Sequential()
    for name in ("zeta", "alpha"):
        model.add_module(name, nn.Linear(3, 3))
    save_checkpoint(model, tmp_path / "net.safetensors")
    assert [key for key in load_checkpoint(tmp_path / "net.safetensors") if "weight" in key] == [
        "zeta.weight",
        "alpha.weight",
    ]


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


def test_pickled_code_is_not_run(tmp_path):
    torch.save({"0.weight": torch.zeros(1, 1), "x": Evil()}, tmp_path / "net.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("net.pt", "raw.pt"):
        with pytest.raises(DataError, match=name):
            load_checkpoint(tmp_path / name)
    assert not Evil.ran


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt", "net.bin"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 9, b"PK\3\4" + bytes(60)])
def test_damaged_checkpoint(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        load_checkpoint(tmp_path / name)


def test_missing_checkpoint(tmp_path):
    with pytest.raises(DataError, match=r"no such checkpoint"):
        load_checkpoint(tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "holds no Linear weight"),
        ({"c.weight": torch.zeros(2, 1, 3, 3)}, "'c': weight of shape .* a convolution"),
        ({"a.weight": torch.zeros(2, 2), "a.running_mean": torch.zeros(2)}, "running_mean"),
        ({"a.bias": torch.zeros(2)}, "'a.bias' is neither"),
        ({"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(3)}, "bias .* for 2 outputs"),
        ({"a.weight": torch.zeros(2, 3), "b.weight": torch.zeros(2, 3)}, "'b' takes 3 .* gives 2"),
        ({"a.weight": torch.full((2, 3), torch.nan)}, "finite"),
        ({"a.weight": torch.zeros(2, 3, dtype=torch.int64)}, "int64"),
    ],
)
def test_state_dict_of_something_else(state, words):
    with pytest.raises(ModelError, match=words):
        from_state_dict(state)

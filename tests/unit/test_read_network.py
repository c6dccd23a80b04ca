"""Networks from files: what a file tells of them, and what has to be said."""

import itertools
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pleach.errors import ConfigError, DataError, ModelError
from pleach.model import Activation
from pleach.models import (
    from_state_dict,
    layers_of,
    lenet_5,
    mlp,
    read_layers,
    read_network,
    save_checkpoint,
)
from pleach.models.order import fitting_orders, numbered


def save(path, **shapes) -> dict[str, torch.Tensor]:
    """A file of somebody else: weights of (inputs, outputs), their names in any order."""
    state = {f"{name}.weight": torch.randn(size[::-1]) for name, size in shapes.items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return state


def names(model):
    return [layer.name for layer in layers_of(model)]


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_an_order_that_is_not_told_is_asked_for(tmp_path, name):
    path = tmp_path / name
    save(path, hidden=(8, 8), input=(8, 8), output=(8, 3))
    with pytest.raises(ModelError) as caught:
        read_network(path, activation="relu")
    text = str(caught.value)
    assert "hidden,input,output or input,hidden,output; give --order" in text and name in text
    order = ["input", "hidden", "output"]
    assert names(read_network(path, activation="relu", order=order)) == order
    with pytest.raises(ModelError, match="must name each layer once, there are hidden, input, out"):
        read_network(path, activation="relu", order=["input", "output"])


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_one_order_that_fits_is_taken(tmp_path, name):
    # By name, or in the order in which they stand, these would not run.
    save(tmp_path / name, c=(9, 3), b=(5, 9), a=(9, 9))
    assert names(read_network(tmp_path / name, activation="relu")) == ["b", "a", "c"]


def test_layers_of_any_shape_as_they_run(tmp_path):
    path = tmp_path / "net.pt"
    save(path, b=(3, 2), a=(4, 3))
    assert list(read_layers(path)) == ["a", "b"]
    save(path, b=(3, 3), a=(3, 3))
    with pytest.raises(ModelError, match="more than one fits: b,a or a,b"):
        read_layers(path)
    assert list(read_layers(path, order=["b", "a"])) == ["b", "a"]
    for order in ("ba", ["b"], ["a", "b", "b"]):
        with pytest.raises(ModelError, match="must name each layer once, there are b, a"):
            read_layers(path, order=order)
    state = {"conv.weight": torch.zeros(2, 1, 3, 3), "fc.weight": torch.zeros(3, 18)}
    torch.save(state, path)
    with pytest.raises(ModelError, match="in which order its layers conv, fc run; give --order"):
        read_layers(path)
    assert read_layers(path, order=["conv", "fc"])["conv"]["weight"].shape == (2, 1, 3, 3)


def test_an_order_may_be_any_sequence():
    state = {"a.weight": torch.eye(2), "b.weight": torch.eye(2)}
    for order in (["b", "a"], ("b", "a"), iter(["b", "a"])):
        assert names(from_state_dict(state, order=order)) == ["b", "a"]
    for order in ("ba", [1, 2], []):
        with pytest.raises(ModelError, match="must name each layer once, there are a, b"):
            from_state_dict(state, order=order)


def test_no_order_that_fits(tmp_path):
    save(tmp_path / "net.pt", a=(4, 3), b=(4, 3))
    with pytest.raises(ModelError, match="in no order does each layer take .* a 4→3, b 4→3"):
        read_network(tmp_path / "net.pt", activation="relu")


def test_numbers_tell_the_order(tmp_path):
    for prefix in ("", "net.", "module.net."):
        save(tmp_path / "net.pt", **{f"{prefix}{i}": (3, 3) for i in (10, 0, 2)})
        read = read_network(tmp_path / "net.pt", activation="none")
        assert names(read) == [f"{prefix}{i}".replace(".", "_") for i in (0, 2, 10)]
    save(tmp_path / "net.pt", **{"0": (3, 4), "2": (3, 4)})
    with pytest.raises(ModelError, match="'2' takes 3 inputs, layer '0' before it gives 4"):
        read_network(tmp_path / "net.pt", activation="relu")


@pytest.mark.parametrize("said", [["b", "a"], ["b.weight", "a.weight"]])
def test_metadata_tell_the_order(tmp_path, said):
    state = {"a.weight": torch.eye(2), "b.weight": torch.ones(2, 2)}
    path = tmp_path / "net.safetensors"
    save_file(state, path, metadata={"order": json.dumps(said)})
    assert names(read_network(path, activation="relu")) == ["b", "a"]
    for wrong in ('["b"]', "[1, 2]", "no json", "7", '["a", "c"]'):
        save_file(state, path, metadata={"order": wrong})
        with pytest.raises(ModelError, match="does not say in which order"):
            read_network(path, activation="relu")


def test_functions_that_are_not_told_are_asked_for(tmp_path):
    path = tmp_path / "net.pt"
    save(path, **{"0": (4, 3), "2": (3, 2)})
    with pytest.raises(
        ModelError,
        match=r"does not say which functions .*--activation relu or none.*ReLU or none and no",
    ):
        read_network(path)
    with pytest.raises(
        ConfigError, match="activation is relu or none, not 'tanh': .*--expect ERROR"
    ):
        read_network(path, activation="tanh")
    for activation, found in (("relu", Activation.RELU), ("none", Activation.NONE)):
        layers = layers_of(read_network(path, activation=activation))
        assert [layer.activation for layer in layers] == [found, Activation.NONE]
    save(path, only=(4, 3))  # nothing stands between its layers
    assert names(read_network(path)) == ["only"]


def network() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Unflatten(1, (2, 8, 8)),
        nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, bias=False), nn.MaxPool2d(2)
        ),
        nn.Conv2d(4, 6, 2),
        nn.ReLU(),
        nn.Dropout(),
        nn.Flatten(),
        nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 5), nn.ReLU()),
        nn.Linear(5, 3),
    )


def test_our_own_file_tells_all(tmp_path):
    model = network().eval()
    path = save_checkpoint(model, tmp_path / "net.safetensors")
    again = read_network(path)
    inputs = torch.rand(7, 128)
    assert torch.equal(model(inputs), again(inputs))
    assert names(again) == names(model) == ["1.0", "2", "6.0", "6.1", "7"]
    # What is said beside it has to agree.
    assert names(read_network(path, order=names(model))) == names(model)
    with pytest.raises(ModelError, match=r"says itself that its layers run 1\.0,2,"):
        read_network(path, order=names(model)[::-1])
    with pytest.raises(ModelError, match=r"says itself what follows its layers: 1\.0 none, 2 relu"):
        read_network(path, activation="relu")
    path = save_checkpoint(mlp([4, 3, 3, 2]), path)
    assert names(read_network(path, activation="relu")) == ["fc1", "fc2", "fc3"]
    with pytest.raises(ConfigError, match="not 'tanh'"):
        read_network(path, activation="tanh")


def test_tensors_in_one_piece_of_memory(tmp_path):
    memory = torch.randn(20)
    model = mlp([3, 3, 3])
    model.fc1.weight = nn.Parameter(memory[:9].view(3, 3).t())
    model.fc2.weight = nn.Parameter(memory[9:18].view(3, 3))
    again = read_network(save_checkpoint(model, tmp_path / "net.safetensors"))
    assert torch.equal(again.fc1.weight, model.fc1.weight)
    assert torch.equal(again.fc2.weight, model.fc2.weight)


@pytest.mark.parametrize("name", ["net.bin", "net", "net.pt"])
def test_a_file_is_what_it_holds_whatever_it_is_called(tmp_path, name):
    save_checkpoint(mlp([3, 2]), tmp_path / "net.safetensors").rename(tmp_path / name)
    assert names(read_network(tmp_path / name)) == ["fc1"]
    torch.save(mlp([3, 2]).state_dict(), tmp_path / "net.safetensors")
    assert names(read_network(tmp_path / "net.safetensors")) == ["fc1"]


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = save_checkpoint(mlp([3, 2]), tmp_path / "net.safetensors")

    def denied(*args):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(path), "open", denied)
    with pytest.raises(DataError, match="net.safetensors.*Permission denied"):
        read_network(path)


def test_lenet_5_by_its_tensors(tmp_path):
    torch.save(lenet_5().state_dict(), tmp_path / "net.pt")
    assert names(read_network(tmp_path / "net.pt", activation="relu")) == names(lenet_5())
    for activation in (None, "none"):
        with pytest.raises(ModelError):
            read_network(tmp_path / "net.pt", activation=activation)


@pytest.mark.parametrize(
    "modules",
    [
        "no json",
        "7",
        "[]",
        "[{}]",
        '[{"name": "fc1", "kind": "Tanh"}]',
        '[{"name": "fc9", "kind": "Linear"}]',
        '[{"name": "fc1", "kind": "Linear"}]',
        '[{"name": "fc2", "kind": "Linear"}, {"name": "fc1", "kind": "Linear"}]',
        '[{"name": "fc1", "kind": "Conv2d", "stride": 1, "padding": 0, "groups": 1}]',
        '[{"name": "fc1", "kind": "Conv2d", "stride": 1, "padding": 0, "groups": 0}]',
        '[{"name": "fc1", "kind": "Linear"}, {"name": "p", "kind": "MaxPool2d", "kernel_size": 2, '
        '"stride": "x"}]',
        '[{"name": "forward", "kind": "ReLU"}]',
        "[" * 100_000,
        '[{"name": 3, "kind": "ReLU"}]',
    ],
)
def test_damaged_metadata(tmp_path, modules):
    path = tmp_path / "net.safetensors"
    state = {"fc1.weight": torch.eye(2), "fc2.weight": torch.eye(2)}
    save_file(state, path, metadata={"pleach.modules": modules})
    with pytest.raises(DataError, match=r"net\.safetensors: its metadata, pleach\.modules, do not"):
        read_network(path)


def test_names_that_are_made_meet_no_others():
    state = {"a.b.weight": torch.ones(1, 1), "a_b.weight": torch.ones(1, 1)}
    assert names(from_state_dict(state)) == ["a_b_", "a_b"]
    state = {f"{name}.weight": torch.eye(2) for name in ("x", "relu0", "relu0_", "forward", "a.b")}
    model = from_state_dict(state)
    assert len(layers_of(model)) == 5
    assert [type(module).__name__ for module in model] == ["Linear", "ReLU"] * 4 + ["Linear"]
    assert torch.equal(model(torch.eye(2)), torch.eye(2))
    for name in ("training", "_modules", "append", "weight", "a..b", "add_module"):
        assert len(layers_of(from_state_dict({f"{name}.weight": torch.eye(2)}))) == 1


def by_hand(layers, most):
    return [
        list(order)
        for order in itertools.permutations(layers)
        if all(layers[a][1] == layers[b][0] for a, b in itertools.pairwise(order))
    ][:most]


def test_orders_as_trying_them_all_finds_them():
    generator = torch.Generator().manual_seed(0)
    found = set()
    for _ in range(300):
        count, widths = torch.randint(1, 6, (2,), generator=generator).tolist()
        sizes = torch.randint(0, max(widths // 2, 1), (count, 2), generator=generator).tolist()
        layers = {name: tuple(size) for name, size in zip("abcde", sizes, strict=False)}
        expected = by_hand(layers, 200)
        assert sorted(fitting_orders(layers, 200)) == sorted(expected)
        found.add(min(len(expected), 3))
    assert found == {0, 1, 2, 3}


def test_orders_of_a_deep_network_are_found_at_once():
    layers = {f"layer{i}": (8, 8) for i in range(255)}
    assert len(fitting_orders(layers)) == 4
    layers["last"] = (8, 3)
    layers["stray"] = (7, 9)
    assert fitting_orders(layers) == []


def test_numbered():
    assert numbered(["a", "a.0", "a.1"]) == [["a"], ["a.0"], ["a.1"]]
    assert numbered(["1.1", "1.0", "0"]) == [["0", "1.0", "1.1"]]
    assert numbered(["fc2", "fc1"]) == [["fc2"], ["fc1"]]


def test_every_length_of_a_header_is_one_of_safetensors(tmp_path):
    """128, 2176 and 19280 bytes begin as a pickle does, 2056 as ONNX, 19280 as an archive."""
    path, seen = tmp_path / "net.safetensors", set()
    state = {"fc.weight": torch.ones(2, 3)}
    for pad in (*range(0, 200), *range(1800, 2300), *range(19_000, 19_400, 4)):
        save_file(state, path, metadata={"note": "x" * pad})
        length = int.from_bytes(path.read_bytes()[:8], "little")
        if length in (128, 2056, 2176, 19280) and length not in seen:
            seen.add(length)
            assert names(read_network(path)) == ["fc"]
    assert seen == {128, 2056, 2176, 19280}

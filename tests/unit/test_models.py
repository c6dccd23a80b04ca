"""Networks and checkpoints."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pleach.errors import DataError, ModelError
from pleach.model import Activation, Convolution
from pleach.models import (
    channels_last,
    from_state_dict,
    layers_of,
    lenet_5,
    lenet_300_100,
    load_checkpoint,
    mlp,
    sample_shape,
    save_checkpoint,
)


def test_lenet():
    model = lenet_300_100()
    assert sum(p.numel() for p in model.parameters()) == 266_610
    layers = layers_of(model)
    assert [layer.name for layer in layers] == ["fc1", "fc2", "fc3"]
    assert [(x.values_in, x.values_out) for x in layers] == [(784, 300), (300, 100), (100, 10)]
    assert [x.activation for x in layers] == [Activation.RELU, Activation.RELU, Activation.NONE]
    assert all(layer.convolution is None for layer in layers)


def test_lenet_5():
    model = lenet_5()
    assert sum(p.numel() for p in model.parameters()) == 431_080
    assert torch.equal(lenet_5(seed=1).conv1.weight, lenet_5(seed=1).conv1.weight)
    layers = layers_of(model)
    assert [layer.name for layer in layers] == ["conv1", "conv2", "fc1", "fc2"]
    assert [x.activation for x in layers] == [Activation.RELU] * 3 + [Activation.NONE]
    pool = {"pool": 2, "pool_stride": 2}
    assert layers[0].convolution == Convolution(1, 28, 28, 5, 5, **pool)
    assert layers[1].convolution == Convolution(20, 12, 12, 5, 5, **pool)
    assert [x.values_in for x in layers] == [784, 2880, 800, 500]
    assert layers[-1].convolution is None and layers[-1].values_out == 10


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
    assert [x.name for x in found] == ["1.0", "2.0", "3"]
    assert [x.activation for x in found] == [Activation.RELU, Activation.RELU, Activation.NONE]


def test_geometry():
    model = nn.Sequential(
        nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2),
        nn.MaxPool2d(3, 1),
        nn.ReLU(),  # after the pool is as good as before it
        nn.Conv2d(6, 6, 3, padding="same", groups=6),
        nn.Dropout2d(),
        nn.Conv2d(6, 2, 1, padding="valid"),
        nn.Flatten(),
    )
    with torch.no_grad():
        gives = [model[:stop](torch.zeros(1, 4, 12, 10)).shape for stop in (3, 4, 6)]
    layers = layers_of(model, (4, 12, 10))
    assert [x.convolution.columns for x in layers] == [12, 9, 6]
    assert [(x.outputs, *x.convolution.pooled) for x in layers] == [tuple(s[1:]) for s in gives]
    assert [x.values_in for x in layers[1:]] == [x.values_out for x in layers[:-1]]
    assert [x.activation for x in layers] == [Activation.RELU, Activation.NONE, Activation.NONE]
    assert layers[0].convolution == Convolution(
        4, 12, 10, 3, 2, stride=2, padding=1, groups=2, pool=3, pool_stride=1
    )


CONV = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))


def test_shape_of_the_images():
    for shape in ((64,), (8, 8), (1, 8, 8)):
        assert layers_of(CONV, shape)[0].convolution.map == (6, 6)
        assert sample_shape(CONV, shape) == (1, 8, 8)
    rows = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *CONV)
    assert layers_of(rows)[0].convolution.map == (6, 6)
    assert sample_shape(rows, (64,)) == sample_shape(rows, (8, 8)) == (64,)
    # Names and modules can be had without it.
    first, last = layers_of(CONV)
    assert (first.name, last.name, last.values_in, last.convolution) == ("0", "3", 108, None)
    with pytest.raises(ModelError, match=r"'0' .* unknown shape: give .* or start .*Unflatten"):
        _ = first.convolution
    for shape in ((63,), (8, 8, 1), (3, 8, 8), ()):
        with pytest.raises(ModelError, match=r"'0' takes images of 1 channel, .* the shape \("):
            layers_of(CONV, shape)
    with pytest.raises(ModelError, match="'3' takes 108 inputs, layer '0' before it gives 147"):
        layers_of(CONV, (9, 9))


@pytest.mark.parametrize("shared", [False, True])
def test_channels_last_holds_with_parametrized_weights(shared):
    from pleach.compression import PruneConfig, ShareConfig, prune_, share_

    model = lenet_5()
    prune_(model, PruneConfig(density=0.5))
    if shared:
        share_(model, ShareConfig())
    seen = []
    for name in ("conv1", "pool1", "conv2", "pool2"):
        getattr(model, name).register_forward_hook(
            lambda _, args, maps: seen.append(maps.is_contiguous(memory_format=torch.channels_last))
        )
    inputs = torch.rand(3, 784)
    with torch.no_grad():
        with channels_last(model):
            fast = model(inputs)
        assert seen == [True] * 4
        assert torch.allclose(fast, model(inputs), atol=1e-6)
    assert seen[4:] == [False] * 4  # gone without a trace


class Odd(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs) + 1


TIED = nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Conv2d(1, 1, 3)), "'1' takes maps, .* gives rows"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Linear(2, 2)), "'1' .* put a Flatten before it"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(3, 2, 3)), "'1' takes 3 channels.* gives 4"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(9, 2)), "'2' .* 4 times the"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2)), "'0': dilation must be 1, not"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding_mode="circular")), "'0': .* not 'circular'"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, stride=(1, 2))), "'0': stride .* same in height and"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding=(1, 2))), "'0': padding .* same in height and"),
        (nn.Sequential(nn.Conv2d(1, 1, 4, padding="same")), "'0': padding 'same' needs .* odd"),
        (nn.Sequential(nn.Unflatten(1, (1, 9, 9)), nn.Conv2d(1, 1, 3, stride=16)), "'0|1': .* 15"),
        (nn.Sequential(nn.Unflatten(1, (1, 2, 9)), nn.Conv2d(1, 1, 3)), "'1': .* smaller"),
        (nn.Sequential(nn.Unflatten(1, (81,)), nn.Conv2d(1, 1, 3)), "'0': Unflatten must be"),
        (nn.Sequential(nn.Linear(2, 9), nn.Unflatten(1, (1, 3, 3))), "'1' is an Unflatten: only"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(2)), "'1': Flatten must take all"),
        (nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 1, 3)), "'0': .* must follow a Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.MaxPool2d(2)), "'1': .* must follow a Conv2d"),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2), nn.MaxPool2d(2)),
            "'2': .* one at most",
        ),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2, padding=1)), "'1': padding .* be 0"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2, dilation=2)), "'1': dilation .* be 1"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d((2, 3))), "'1': kernel_size .* same"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2, ceil_mode=True)), "'1': .* ceil_mode"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.AvgPool2d(2)), "'1' is a AvgPool2d: of pooling only"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)), "'1' is a BatchNorm2d: fold it"),
        (nn.Sequential(nn.Conv1d(1, 1, 3)), "'0' is a Conv1d: of convolutions only Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh())), "'1.0' is a Tanh: only Linear"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), "'0' is a ReLU before"),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 2)), "'1' takes 2 inputs, layer '0' .* 3"),
        (nn.Sequential(TIED, nn.ReLU(), TIED), "'2' is layer '0' again"),
        (nn.Sequential(Odd(2, 2)), "'0' is a Odd"),
        (nn.Sequential(nn.ReLU6()), "ReLU6"),
        (nn.Sequential(nn.Flatten()), "no Linear or Conv2d layer"),
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
    assert [layer.name for layer in layers_of(again)] == ["0", "2", "4", "6", "8", "10"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_checkpoint_of_lenet_5(tmp_path):
    model = lenet_5(seed=3)
    again = from_state_dict(load_checkpoint(save_checkpoint(model, tmp_path / "a.safetensors")))
    inputs = torch.rand(2, 784)
    assert torch.equal(model(inputs), again(inputs))
    state = model.state_dict()
    state["conv1.bias"] = torch.full((20,), torch.inf)
    with pytest.raises(ModelError, match="'conv1.bias' .* finite"):
        from_state_dict(state)


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


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_state_dict_within_what_a_training_loop_saves(tmp_path, key):
    state = {"0.weight": torch.ones(2, 3)}
    torch.save({key: state, "epoch": 3}, tmp_path / "net.pt")
    assert torch.equal(load_checkpoint(tmp_path / "net.pt")["0.weight"], state["0.weight"])


def test_missing_checkpoint(tmp_path):
    with pytest.raises(DataError, match=r"no such checkpoint"):
        load_checkpoint(tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "holds no Linear weight"),
        ({"c.weight": torch.zeros(2, 1, 3, 3)}, "'c': weight of shape .* load_state_dict"),
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

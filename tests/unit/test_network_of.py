"""Modules of the user's own, by what they compute: read, compressed, saved, run."""

import json
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pleach
from pleach.compile import calibrate
from pleach.compression import (
    CompressConfig,
    PruneConfig,
    ShareConfig,
    TrainConfig,
    finish,
    prune_,
    share_,
)
from pleach.compression.remove import remove_neurons_
from pleach.compression.train import pinned_threads, predict, train
from pleach.errors import DataError, ModelError
from pleach.model import network_line
from pleach.models import (
    Network,
    graph_of,
    layers_of,
    neighbours,
    network_of,
    read_network,
    real_graph,
    sample_shape,
    save_checkpoint,
)
from pleach.reference import Reference


class Net(nn.Module):
    """BatchNorm, a residual sum, functional ReLU and a global average pool."""

    def __init__(self, channels=6):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.block = nn.ModuleDict(
            {
                "conv1": nn.Conv2d(channels, channels, 3, padding=1),
                "bn1": nn.BatchNorm2d(channels),
                "conv2": nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                "bn2": nn.BatchNorm2d(channels),
            }
        )
        self.head = nn.Linear(channels, 3)

    def forward(self, x):
        x = x.view(-1, 1, 6, 6)
        x = functional.relu(self.bn(self.stem(x)))
        y = functional.relu(self.block["bn1"](self.block["conv1"](x)))
        x = functional.relu(self.block["bn2"](self.block["conv2"](y)) + x)
        return self.head(x.mean(dim=(2, 3)))


def settled(model: nn.Module, shape) -> nn.Module:
    """A module whose running statistics are those of some inputs, in evaluation mode."""
    torch.manual_seed(1)
    model.train()
    for _ in range(3):
        model(torch.randn(16, *shape) * 2 + 1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.uniform_(module.bias, -1, 1)
    return model.eval()


def same(model: nn.Module, shape) -> Network:
    """The network that was read, which computes what the module does."""
    network = network_of(model, shape)
    inputs = torch.randn(8, *shape)
    with torch.no_grad():
        wanted = model(inputs).flatten(1)
        found = network(inputs.reshape(8, *sample_shape(network, shape))).flatten(1)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    return network


# --- the way from Python to a file -----------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """The network, trained on three kinds of standardised pictures, and what it was trained on."""
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(3, 36))
    labels = rng.integers(0, 3, 900)
    inputs = kinds[labels] + 0.5 * rng.normal(size=(900, 36))
    inputs = ((inputs - inputs.mean()) / inputs.std()).astype(np.float32)
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    with pinned_threads():
        for chosen in (part for _ in range(6) for part in torch.randperm(600).split(50)):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
    return model.eval(), inputs, labels


def test_from_a_module_to_a_file_and_what_it_says(trained, tmp_path, pleach):
    model, inputs, labels = trained
    dense = pleach_error(model, inputs, labels)
    settings = CompressConfig().with_(density=0.7, clusters=64, epochs=6)
    fixed = compressed(model, inputs, labels, settings)
    path = tmp_path / "own.pleach"
    import pleach as library

    library.save(fixed, path)
    again = library.load(path)
    assert [layer.name for layer in again.layers] == [
        "stem", "block.conv1", "block.conv2", "head",
    ]  # fmt: skip
    outputs = Reference(again).run(again.quantise(inputs[600:]))
    error = 100 * float((outputs.argmax(1) != labels[600:]).mean())
    assert abs(error - dense) <= 0.34  # one of 300 inputs
    np.savez(
        tmp_path / "own.npz", train_images=inputs[:600], train_labels=labels[:600],
        test_images=inputs[600:], test_labels=labels[600:],
    )  # fmt: skip
    data = tmp_path / "own.npz"
    evaluated = json.loads(pleach("evaluate", path, "--dataset", data, "--json")[0])
    assert evaluated["error_pct"] == pytest.approx(error)
    info = json.loads(pleach("info", path, "--json")[0])
    assert "(block.conv1, stem)" in info["network"] and "sum/" in info["network"]
    assert info["engines"] and "engines with a map memory" in " ".join(
        pleach("info", path)[0].split()
    )
    call = ("simulate", path, "--dataset", data, "--pes", 1, "--images", 2, "--json")
    ran = json.loads(pleach(*call)[0])
    assert ran["bit_exact"] and ran["plan"].startswith("stem 1 × ")
    assert len(ran["latency_cycles"]) == 2


def pleach_error(model, inputs, labels) -> float:
    with torch.no_grad():
        found = model(torch.from_numpy(inputs[600:])).argmax(1).numpy()
    return 100 * float((found != labels[600:]).mean())


def compressed(model, inputs, labels, settings):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fixed = pleach.compress(model, inputs[:600], labels[:600], settings)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not fixed.is_chain
    return fixed


def test_the_command_takes_it(trained, tmp_path, pleach, monkeypatch):
    model, inputs, labels = trained
    torch.save(model.state_dict(), tmp_path / "net.pt")
    np.savez(
        tmp_path / "own.npz", train_images=inputs[:300], train_labels=labels[:300],
        test_images=inputs[600:], test_labels=labels[600:],
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "own_net_of_the_tests", sys.modules[__name__])
    summary = json.loads(
        pleach("compress", "own_net_of_the_tests:Net", "--weights", tmp_path / "net.pt",
               "--dataset", tmp_path / "own.npz", "--epochs", 0, "--density", 1, "--clusters", 64,
               "-o", tmp_path / "own.pleach", "--json")[0]
    )  # fmt: skip
    assert "Add (block.conv2, stem)" in summary["network"]


def test_fixed_point_comes_near_it(trained):
    model, inputs, _ = trained
    network = network_of(model, inputs.shape[1:])
    share_(network, ShareConfig(clusters=128, quantiser="kmeans"))
    fixed = finish(network, inputs)
    found = fixed.dequantise(Reference(fixed).run(fixed.quantise(inputs)))
    wanted = predict(network, inputs).numpy()
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
    # Where a layer's rows alone may move, they do, and nothing else changes.
    assert [(a.name, b.name) for a, b in neighbours(network)] == [("block.conv1", "block.conv2")]
    kept = finish(network, inputs, order=False)
    assert np.array_equal(Reference(kept).run(fixed.quantise(inputs)),
                          Reference(fixed).run(fixed.quantise(inputs)))  # fmt: skip


def test_neurons_leave_where_one_layer_alone_takes_them(trained):
    model, inputs, _ = trained
    network = network_of(model, (36,))
    with torch.no_grad():
        for name in ("stem", "block.conv1"):
            network.get_submodule(name).weight[2] = 0
            network.get_submodule(name).bias[2] = 0
    before = predict(network, inputs)
    assert remove_neurons_(network) == 1
    assert [layer.outputs for layer in layers_of(network)] == [6, 5, 6, 3]
    assert torch.allclose(predict(network, inputs), before, atol=1e-5)


def test_the_same_seed_the_same_weights(trained):
    model, inputs, labels = trained
    found = []
    for _ in range(2):
        network = network_of(model, (36,))
        prune_(network, PruneConfig(density=0.5))
        train(network, inputs[:100], labels[:100], seed=3)
        found.append(network.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_own_chains_run_on_the_engine():
    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(8, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.fc2(functional.dropout(functional.relu(self.fc1(x.flatten(1))), 0.5, False))

    network = same(Chain(), (2, 4))
    share_(network, ShareConfig(clusters=4))
    fixed = finish(network, np.ones((3, 8), np.float32))
    assert fixed.is_chain and fixed.unsupported is None
    assert [layer.name for layer in fixed.layers] == ["fc1", "fc2"]


# --- operators -------------------------------------------------------------------------------


class Of(nn.Module):
    """Two convolutions, and whatever is computed of what they give."""

    def __init__(self, function, *names):
        super().__init__()
        torch.manual_seed(2)
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(2, 4, 3, padding=1)
        self.fc, self.slopes = nn.Linear(4, 2), nn.PReLU(4)
        self.slopes.weight.data.copy_(torch.tensor([0.5, -0.25, 0.0, 1.0]))
        self.function = function

    def forward(self, x):
        return self.function(self, x)


FUNCTIONS = {
    "cat": (lambda m, x: torch.cat((m.a(x), m.b(x)), 1), ["Concat"]),
    "cat of the input": (lambda m, x: torch.cat((m.a(x), x), dim=-3), ["Concat"]),
    "relu6": (lambda m, x: functional.relu6(m.a(x)), ["Clip"]),
    "clamp": (lambda m, x: m.a(x).clamp(min=-0.5), ["Clip"]),
    "hardtanh": (lambda m, x: functional.hardtanh(m.a(x), -0.3, 0.7), ["Clip"]),
    "in place": (lambda m, x: functional.relu(m.a(x).add_(m.b(x)), inplace=True),
                 ["Add", "Clip"]),
    "leaky": (lambda m, x: functional.leaky_relu(m.a(x), 0.25),
              ["Affine", "Clip", "Affine", "Add"]),
    "prelu": (lambda m, x: m.slopes(m.a(x)), ["Affine", "Clip", "Affine", "Add"]),
    "one of two": (lambda m, x: (y := m.a(x)) + functional.relu(y), ["Clip", "Add"]),
    "mean": (lambda m, x: m.fc(m.a(x).mean((-1, -2))), ["AveragePool"]),
    "adaptive": (lambda m, x: functional.adaptive_avg_pool2d(m.a(x), (1, 3)), ["AveragePool"]),
    "average": (lambda m, x: functional.avg_pool2d(m.a(x), (2, 3), (1, 2), 1), ["AveragePool"]),
    "largest": (lambda m, x: functional.max_pool2d(m.a(x), 3, 2, 1), ["MaxPool"]),
    "into the layer": (lambda m, x: functional.relu(functional.max_pool2d(m.a(x), 2)), []),
    "views": (lambda m, x: m.fc(m.a(x).relu().mean((2, 3), keepdim=True).view(len(x), -1)),
              ["AveragePool"]),
}  # fmt: skip


@pytest.mark.parametrize("what", FUNCTIONS)
def test_operators_compute_what_torch_does(what):
    function, kinds = FUNCTIONS[what]
    network = same(Of(function), (2, 6, 6))
    graph = graph_of(network)
    assert [node.kind for node in graph.nodes if node.kind != "Layer"] == kinds
    for layer in layers_of(network):  # few values, so that it can be fixed
        layer.module.weight.data.mul_(16).round_().div_(16)
        layer.module.bias.data.mul_(16).round_().div_(16)
    inputs = np.random.default_rng(0).normal(size=(40, 72)).astype(np.float32)
    fixed = calibrate(real_graph(network), inputs)
    found = fixed.dequantise(Reference(fixed).run(fixed.quantise(inputs)))
    wanted = predict(network, inputs).numpy()
    assert np.abs(found - wanted).max() < 2e-3 * max(1, np.abs(wanted).max())


NORMALISED = {
    "after": nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                           nn.Linear(64, 3), nn.BatchNorm1d(3)),
    "before": nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4),
                            nn.Flatten(), nn.Linear(64, 3)),
    "groups": nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3, groups=2, bias=False)),
    "plain": nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False)),
    "flat": nn.Sequential(nn.Flatten(), nn.BatchNorm1d(72), nn.Linear(72, 3)),
    "pooled": nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.AvgPool2d(2),
                            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2), nn.Hardtanh()),
}  # fmt: skip


@pytest.mark.parametrize("where", NORMALISED)
def test_normalisations_fold_into_layers(where):
    model = settled(NORMALISED[where], (2, 6, 6))
    network = same(model, (2, 6, 6))
    assert not any("BatchNorm" in type(module).__name__ for module in network.modules())
    assert {layer.name for layer in layers_of(model, (2, 6, 6))} <= {"0", "1", "2", "4", "5", "6"}


def test_masks_stay_where_a_normalisation_folds():
    model = settled(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)), (6,))
    torch.nn.utils.prune.l1_unstructured(model[0], "weight", amount=10)
    fixed_of = pleach.compression.taken.taken(model, (6,))
    weight = layers_of(fixed_of)[0].module.weight
    assert int((weight == 0).sum()) == 10 and hasattr(
        layers_of(fixed_of)[0].module, "parametrizations"
    )


@pytest.mark.parametrize("what", FUNCTIONS)
def test_checkpoints_tell_how_it_is_joined(what, tmp_path):
    network = network_of(Of(FUNCTIONS[what][0]), (2, 6, 6))
    path = save_checkpoint(network, tmp_path / "net.safetensors")
    again = read_network(path)
    inputs = torch.randn(3, 2, 6, 6)
    assert torch.equal(again(inputs), network(inputs))
    assert [node.name for node in graph_of(again).nodes] == [
        node.name for node in graph_of(network).nodes
    ]
    with pytest.raises(ModelError, match="says itself"):
        read_network(path, activation="relu")


def test_damaged_joints_of_a_checkpoint(tmp_path):
    network = network_of(Of(FUNCTIONS["cat"][0]), (2, 6, 6))
    path = save_checkpoint(network, tmp_path / "net.safetensors")
    data = path.read_bytes()
    for old, new in (
        (b"Concat", b"Comcat"),
        (b"sources", b"soucers"),
        (b"[2, 6, 6]", b"[2, 6, 7]"),
    ):
        assert old in data
        path.write_bytes(data.replace(old, new, 1))
        if new != b"[2, 6, 7]":
            with pytest.raises(DataError, match="do not fit its tensors"):
                read_network(path)


# --- what is refused -------------------------------------------------------------------------


REFUSED = {
    "tanh": (lambda m, x: torch.tanh(m.a(x)), r"node 'tanh' computes tanh: supported are linear"),
    "factor": (lambda m, x: (y := m.a(x)) * y, "by a number only"),
    "number": (lambda m, x: m.a(x) + 1, r"'add' \(add\): sums what"),
    "broadcast": (lambda m, x: m.a(x) + m.a(x).mean((2, 3), True), "layer 'a' runs twice"),
    "batch": (lambda m, x: m.fc(m.a(x).mean((0, 2, 3), True).flatten(1)), "means over axes"),
    "twice": (lambda m, x: m.a(x) + m.a(x), "layer 'a' runs twice"),
    "tuple": (lambda m, x: (m.a(x), m.b(x)), "gives a tuple, must give one tensor"),
    "nothing": (lambda m, x: x.relu(), "no layer with weights"),
    "axis": (lambda m, x: torch.cat((m.a(x), m.b(x)), 2), "concatenates axis 2"),
    "branch": (lambda m, x: m.a(x) if x.sum() > 0 else m.b(x), "torch.export cannot trace"),
    "shape": (lambda m, x: m.fc(x), "does not run on inputs of shape"),
    "maps": (lambda m, x: nn.functional.linear(m.a(x), torch.eye(6)), "computes linear|tensors"),
    "slope": (lambda m, x: functional.leaky_relu(m.a(x), 1.5), "has a slope of 1.5 below 0"),
    "ceil": (
        lambda m, x: functional.avg_pool2d(m.a(x), 4, ceil_mode=True),
        "with ceil_mode windows reach over",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_names_the_node(what):
    function, words = REFUSED[what]
    with pytest.raises(ModelError, match=words):
        network_of(Of(function), (2, 6, 6))


def test_normalisations_that_do_not_fold():
    for model, words in (
        (
            nn.Sequential(nn.Conv2d(2, 129, 3), nn.ReLU(), nn.BatchNorm2d(129)),
            "neither right after",
        ),
        (
            nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
            "without running statistics",
        ),
    ):
        with pytest.raises(ModelError, match=words):
            network_of(settled(model, (2, 6, 6)), (2, 6, 6))


def test_few_normalisations_that_do_not_fold_stay():
    """Each is a node of its own, and computes the same: `network_of` compares."""
    for model in (
        nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3, padding=1)),
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
    ):
        network = network_of(settled(model, (2, 6, 6)), (2, 6, 6))
        assert "Affine" in network_line(graph_of(network))


def test_without_a_shape_it_is_asked_for():
    with pytest.raises(ModelError, match=r"Net, which is traced .*: give the shape of an input"):
        prune_(Net())


def test_a_traced_module_trains_as_it_is():
    """Its normalisation in training mode, too; what names layers of it asks for `network_of`."""
    rng = np.random.default_rng(4)
    inputs, labels = rng.random((16, 2, 6, 6), np.float32), rng.integers(0, 3, 16)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
    before = network[1].running_mean.clone()
    train(network, inputs, labels, TrainConfig(epochs=1))
    assert not torch.equal(network[1].running_mean, before)
    with pytest.raises(ModelError, match="network_of"):
        train(network, inputs, labels, TrainConfig(epochs=1, freeze=("0",)))


class Halves(nn.Module):
    """ShuffleNet's second version: half of the channels goes by."""

    def __init__(self):
        super().__init__()
        self.first, self.branch = nn.Conv2d(1, 4, 2), nn.Conv2d(2, 2, 1)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        kept, worked = self.first(x).relu().chunk(2, 1)
        both = torch.cat([kept, self.branch(worked).relu()], 1)
        shuffled = torch.channel_shuffle(both, 2)
        one, other = self.last(shuffled.mean((2, 3))).split([2, 1], 1)
        return torch.cat([other, one], 1)


def test_halves_of_a_map_and_of_a_row():
    torch.manual_seed(3)
    model = Halves().eval()
    network = network_of(model, (1, 5, 5))
    inputs = torch.randn(40, 1, 5, 5)
    with torch.no_grad():
        wanted = model(inputs)
        torch.testing.assert_close(network(inputs), wanted, atol=1e-5, rtol=1e-4)
        share_(network, ShareConfig(clusters=40), seed=0)
        wanted = network(inputs)
    fixed = finish(network, inputs.numpy())
    found = fixed.dequantise(Reference(fixed).run(fixed.quantise(inputs.numpy())))
    assert np.abs(found - wanted.numpy()).max() < 0.02
    with pytest.raises(ModelError, match=r"node '1.split' \(split\): cuts axis 2"):
        network_of(nn.Sequential(nn.Conv2d(1, 2, 1), Cut()), (1, 4, 4))


class Cut(nn.Module):
    def forward(self, x):
        return x.split(2, 2)[0].flatten(1)


@pytest.mark.parametrize("name", ["notes", "left_out"])
def test_a_module_with_the_name_of_what_a_network_has_is_refused(name):
    with pytest.raises(ModelError, match=f"no module can be called '{name}' here"):
        network_of(nn.Sequential(OrderedDict([(name, nn.Linear(3, 2))])), (3,))

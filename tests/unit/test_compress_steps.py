"""Lists of steps, teachers, factorisers and devices: what they do, and what is refused before."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from pleach.compression import (
    CompressConfig,
    Context,
    Factorise,
    Prune,
    PruneConfig,
    Share,
    ShareConfig,
    Step,
    TrainConfig,
    compress,
    factorise_,
    train,
)
from pleach.compression.factorise import FACTORISERS
from pleach.compression.observe import prunable
from pleach.compression.taken import taken
from pleach.compression.train import predict
from pleach.errors import ConfigError, DataError, TrainingError
from pleach.format import dumps
from pleach.models import layers_of, mlp
from pleach.reference import Reference

X = np.random.default_rng(0).random((64, 6)).astype(np.float32)
Y = (X @ np.array([1, -2, 3, -1, 0.5, -1]) > 0.25).astype(np.int64)
ONCE = TrainConfig(epochs=1, batch_size=32)
PRUNE = PruneConfig(density=0.5, ramp=1, train=ONCE)
SHARE = ShareConfig(clusters=8, train=ONCE)
SHORT = CompressConfig(prune=PRUNE, share=SHARE)
pytestmark = pytest.mark.filterwarnings("ignore::pleach.errors.PleachWarning")


def network(seed=0):
    return mlp([6, 10, 2], seed=seed)


def low_rank():
    """Layers of 30 inputs that are all but of rank 3."""
    model = mlp([30, 20, 2])
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        weight = torch.randn(20, 3, generator=rng) @ torch.randn(3, 30, generator=rng) / 5
        model.fc1.weight.copy_(weight + 1e-4 * torch.randn(20, 30, generator=rng))
    return model, np.random.default_rng(1).random((40, 30)).astype(np.float32)


@dataclass(frozen=True)
class Halve(Step):
    """A step of a user's own."""

    name: str = "halved"

    def run(self, context: Context) -> None:
        with torch.no_grad():
            for layer in layers_of(context.module):
                layer.module.weight.mul_(0.5)
        context.train(self.name, ONCE)


# Lists


def test_the_default_list_is_what_the_settings_say():
    stages = PRUNE, replace(PRUNE, density=0.3)
    several = CompressConfig(prune=stages, share=SHARE)
    for config, steps in (
        (SHORT, [Prune(PRUNE), Share(SHARE)]),
        (several, [Prune(stages[0], "pruned 1"), Prune(stages[1], "pruned 2"), Share(SHARE)]),
    ):
        seen = {}
        for kind, given in (("settings", None), ("steps", steps)):
            reports = seen.setdefault(kind, [])
            fixed = compress(
                network(), X, Y, config if given is None else None, steps=given,
                report=lambda stage, reports=reports: reports.append((stage.name, stage.kept)),
                progress=lambda *epoch, reports=reports: reports.append(epoch),
            )  # fmt: skip
            reports.append(dumps(fixed))
        assert seen["settings"] == seen["steps"]


def test_a_step_of_ones_own():
    names = []
    fixed = compress(
        network(), X, Y, steps=[Halve(), Share(SHARE)], report=lambda s: names.append(s.name)
    )
    assert names == ["dense", "halved", "shared", "fixed point"]
    assert fixed != compress(network(), X, Y, steps=(Share(SHARE),))
    with pytest.raises(TrainingError, match="fixed point: layer 'fc1' has .* distinct") as caught:
        compress(mlp([60, 10, 2]), np.ones((40, 60), np.float32), steps=[])
    assert caught.value.network.fc1.in_features == 60


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([Prune(PRUNE), "share"], "steps must be a list of pleach.compression.Step, not"),
        (Share(SHARE), "steps must be a list"),
        (
            [Share(SHARE), Prune(PRUNE)],
            "the step 'pruned' comes after one that shares: prune first",
        ),
        ([Halve(), Prune(replace(PRUNE, layers={"fx": 0.1}))], "prune.layers: no layer is called"),
        ([Factorise(layers=("fc3",))], "factorise.layers: no layer is called 'fc3'"),
        ([Factorise(train=replace(ONCE, freeze=("fc1.0",)))], "factorise.train.freeze: no layer"),
        ([Share(replace(SHARE, train=replace(ONCE, device="cuda")))], "share.train.device is cuda"),
    ],
)
def test_lists_are_looked_at_before_any_step(steps, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    begun = []
    with pytest.raises(ConfigError, match=words):
        compress(
            network(), X, Y, steps=steps,
            report=begun.append, progress=lambda *_: begun.append(1),
        )  # fmt: skip
    assert not begun


# Factorisers


def test_svd_is_the_best_product_of_its_rank():
    model, inputs = low_rank()
    weight = model.fc1.weight.detach().clone()
    before = predict(model, inputs)
    assert factorise_(model, {"kind": "svd", "energy": 0.999}) == ["fc1"]
    first, second = model.fc1
    assert first.out_features == 3 and first.bias is None
    product = (second.weight @ first.weight).detach()
    left, values, right = torch.linalg.svd(weight)
    best = (left[:, :3] * values[:3]) @ right[:3]
    assert torch.allclose(product, best, atol=1e-5)
    assert torch.allclose(predict(model, inputs), before, atol=1e-2)
    layer = prunable(mlp([6, 8, 2]))[0]
    assert FACTORISERS.of("svd", "").factors(layer) is None  # it would be no smaller


def test_a_network_with_factors_goes_the_whole_path():
    model, inputs = low_rank()
    factorise = Factorise({"kind": "svd", "rank": 3}, layers=("fc1",), train=ONCE)
    prune = Prune(replace(PRUNE, layers={"fc1.0": 0.9, "fc1.1": 0.8}, remove=False))
    kept = {}
    fixed = compress(
        model, inputs, None, steps=[factorise, prune, Share(SHARE)],
        report=lambda stage: kept.setdefault(stage.name, stage.kept),
    )  # fmt: skip
    assert [layer.name for layer in fixed.layers] == ["fc1.0", "fc1.1", "fc2"]
    assert [layer.bias for layer in fixed.layers] == [False, True, True]
    assert fixed.dense_bytes == 4 * (20 * 31 + 2 * 21)
    assert kept["factorised"] == (3 * 30 + 20 * 3 + 20 + 2 * 21) / (20 * 31 + 2 * 21)
    assert [layer.name for layer in layers_of(model)] == ["fc1", "fc2"]


class Residual(nn.Module):
    """A network that is no chain, and whose output is a sum."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        return self.fc3(x) + torch.relu(self.fc2(x))


def test_steps_take_a_network_that_is_no_chain():
    prune = Prune(
        replace(PRUNE, criterion="taylor", granularity="channel", every=0.5, remove=False)
    )
    factorise = Factorise({"kind": "svd", "rank": 2}, train=None)
    fixed = compress(Residual(), X, None, steps=[factorise, prune, Share(SHARE)])
    # The sum is a part of fc3.1, which stands where both its sources are there.
    assert [layer.name for layer in fixed.layers] == [
        "fc1.0", "fc1.1", "fc3.0", "fc2.0", "fc2.1", "fc3.1",
    ]  # fmt: skip
    kept = {layer.name: layer.kept for layer in fixed.layers}
    assert kept["fc1.1"] <= 6 * 3 and kept["fc2.0"] <= 12
    # Their rows are the network's outputs, and one skips to the other.
    assert kept["fc2.1"] == kept["fc3.1"] - 12 == 12 * 3
    # What is factorised exactly gives what it did.
    model = Residual()
    with torch.no_grad():
        for layer in (model.fc1, model.fc2, model.fc3):
            layer.weight[1:] = layer.weight[:1]
    small = taken(model, (6,))
    before = predict(small, X)
    assert factorise_(small, {"kind": "svd", "rank": 1}) == ["fc1", "fc3", "fc2"]
    assert torch.allclose(predict(small, X), before, atol=1e-5)


# Teachers


class Other(nn.Module):
    """A network that could not be compressed."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.norm(self.hidden(x))))


def test_a_teacher_may_be_any_model():
    torch.manual_seed(3)
    other = Other().train()
    with torch.no_grad():
        other.out.weight.mul_(4)
    state = {name: t.clone() for name, t in other.state_dict().items()}
    longer = TrainConfig(epochs=30, batch_size=16, learning_rate=0.02, distillation=1.0)
    steps = [Share(ShareConfig(clusters=64, train=longer))]
    wanted = other.eval()(torch.tensor(X)).detach().numpy()
    other.train()

    def off(fixed):
        found = fixed.dequantise(Reference(fixed).run(fixed.quantise(X)))
        return float(np.mean((found - wanted) ** 2))

    follows = compress(network(), X, None, steps=steps, teacher=other)
    assert off(follows) < 0.1 * off(compress(network(), X, None, steps=steps))
    assert all(torch.equal(state[name], t) for name, t in other.state_dict().items())
    assert other.training and other.norm.training
    # A function does as well, and one that gives arrays.
    assert follows == compress(network(), X, None, steps=steps, teacher=lambda _: wanted)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (nn.Linear(6, 3), r"the teacher gives outputs of the shape \(64, 3\), the network \(64, 2"),
        (
            nn.Linear(5, 2),
            r"the teacher does not take inputs of the shape \(64, 6\): mat1 and mat2",
        ),
        (lambda x: x[:3], r"the teacher gives \(3, 6\) for 64 inputs"),
        (lambda x: x[:, :2] * np.nan, "the teacher's outputs hold nan"),
        (lambda x: "wise", "the teacher does not take inputs"),
        (3, "a teacher is a module or a function, not int"),
    ],
)
def test_teachers_are_looked_at_before_any_training(teacher, words):
    begun = []
    with pytest.raises(DataError, match=words):
        compress(network(), X, Y, SHORT, teacher=teacher, report=begun.append)
    assert not begun


# Devices


def test_a_device_is_where_the_training_runs(monkeypatch):
    def trained(device):
        model = network()
        train(model, X, Y, replace(ONCE, device=device, dropout=0.1))
        return model.fc1.weight

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch.equal(trained("cpu"), trained("auto"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    to, seen = nn.Module.to, []

    def moved(self, where):
        seen.append(str(where))
        return self if str(where).startswith("cuda") else to(self, where)

    monkeypatch.setattr(nn.Module, "to", moved)
    assert torch.equal(trained("auto"), trained("cpu")) and seen == ["cuda", "cpu"]
    seen.clear()
    trained("cuda:1")
    assert seen == ["cuda:1", "cpu"]  # and back


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device_is_said():
    with pytest.raises(ConfigError, match="TrainConfig.device is cuda: "):
        train(network(), X, Y, replace(ONCE, device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_cuda_device_trains():
    on_gpu = replace(SHORT, share=replace(SHARE, reassign=0.5, train=replace(ONCE, device="auto")))
    assert compress(network(), X, Y, on_gpu).layers[0].kept <= 35

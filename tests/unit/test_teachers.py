"""What teachers add to the loss, by hand, and that a network follows them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pleach
from pleach.compression import CompressConfig, PruneConfig, ShareConfig, TrainConfig, train
from pleach.compression.teachers import TEACHERS
from pleach.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore::pleach.errors.PleachWarning")
X = torch.rand(24, 2, 4, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0].sum((1, 2)) > X[:, 1].sum((1, 2))).long().numpy()


def net(filters, seed=0):
    model = nn.Sequential(
        nn.Conv2d(2, filters, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * filters, 2)
    )
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(seed)) / 3)
    return model


def penalty(kind, student, teacher, inputs=X, labels=Y, **settings):
    rule = TEACHERS.of({"kind": kind, "model": teacher, **settings}, "teacher")
    follow = rule.follow(student)
    try:
        inputs = follow.before(inputs)
        outputs = student(inputs).flatten(1)
        wanted = torch.from_numpy(labels)
        return follow.penalty(
            inputs, outputs, lambda given: functional.cross_entropy(given, wanted)
        ), follow
    finally:
        follow.end()


@pytest.mark.parametrize("example", ["0", "1"])  # a layer behind its function, or the function
def test_attention_is_the_distance_of_maps_of_length_one(example):
    student, teacher = net(3), net(5, seed=1)
    found, _ = penalty("attention", student, teacher, pairs={"0": example}, weight=4.0)
    maps = []
    for model in (student, teacher):
        powers = model[:2](X).detach().numpy() ** 2
        flat = powers.sum(1).reshape(24, 16)
        maps.append(flat / np.sqrt((flat**2).sum(1, keepdims=True)))
    assert float(found.detach()) == pytest.approx(
        2 * ((maps[0] - maps[1]) ** 2).sum(1).mean(), rel=1e-4
    )
    same, _ = penalty("attention", student, copy.deepcopy(student), pairs={"0": "0"})
    assert float(same.detach()) == 0
    assert not student[0]._forward_hooks and not teacher[0]._forward_hooks


def test_hints_are_the_distance_after_a_regressor():
    student, teacher = net(3), net(5, seed=1)
    found, follow = penalty("hints", student, teacher, pairs={"0": "0"}, weight=3.0)
    (regressor,) = follow.parameters
    own, other = (model[:2](X).detach() for model in (student, teacher))
    want = 1.5 * ((torch.einsum("nchw,tc->nthw", own, regressor.detach()) - other) ** 2).sum() / 24
    assert float(found.detach()) == pytest.approx(float(want), rel=1e-4)
    found.backward()
    assert regressor.grad is not None and student[0].weight.grad is not None
    _, follow = penalty("hints", student, net(3, seed=1), pairs={"0": "0"})
    assert follow.parameters == []


def test_gradient_attention_of_linear_networks_by_hand():
    x = X.flatten(1)
    student, teacher = nn.Linear(32, 2), nn.Linear(32, 2)
    found, _ = penalty("gradient_attention", student, teacher, inputs=x, weight=2.0)
    each = []
    for model in (student, teacher):  # ∂ cross entropy / ∂x = Wᵀ·(softmax − one hot)
        apart = functional.softmax(model(x), 1) - functional.one_hot(torch.from_numpy(Y), 2)
        each.append((apart @ model.weight).detach())
    assert float(found.detach()) == pytest.approx(
        float(((each[0] - each[1]) ** 2).sum(1).mean()), rel=1e-4
    )
    found.backward()  # a gradient of a gradient, by finite differences
    place, step = (1, 5), 1e-3
    moved = []
    for change in (step, -step):
        with torch.no_grad():
            student.weight[place] += change
        again, _ = penalty("gradient_attention", student, teacher, inputs=x, weight=2.0)
        moved.append(float(again.detach()))
        with torch.no_grad():
            student.weight[place] -= change
    assert float(student.weight.grad[place]) == pytest.approx(
        (moved[0] - moved[1]) / 2e-3, rel=0.02
    )


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("attention", {"pairs": {"0": "0"}, "weight": 100.0}),
        ("hints", {"pairs": {"0": "0"}}),
        ("gradient_attention", {"weight": 100.0}),
    ],
)
def test_a_network_comes_nearer_to_its_teacher(kind, settings):
    teacher = net(5, seed=1)
    student, plain = net(3), net(3)
    before = copy.deepcopy(teacher.state_dict())
    rule = TEACHERS.of({"kind": kind, "model": teacher, **settings}, "teacher")
    few = TrainConfig(epochs=6, batch_size=8, learning_rate=0.02)
    train(plain, X.numpy(), Y, few)
    train(student, X.numpy(), Y, few, follow=rule.follow)
    if kind != "hints":  # whose regressor is left behind
        far = [
            float(penalty(kind, model, teacher, **settings)[0].detach())
            for model in (student, plain)
        ]
        assert far[0] < 0.8 * far[1]
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert not torch.equal(student[0].weight, plain[0].weight)
    assert not student[0]._forward_hooks


def test_a_teacher_of_hidden_layers_goes_the_whole_path():
    rule = TEACHERS.of({"kind": "attention", "model": net(5, seed=1), "pairs": {"0": "0"}}, "")
    few = TrainConfig(epochs=1, batch_size=8, distillation=0.5)
    config = CompressConfig(
        prune=PruneConfig(density=0.6, ramp=1, remove=False, train=few),
        share=ShareConfig(quantiser="twn", train=few),
    )
    fixed = pleach.compress(net(3), X.numpy(), Y, config, teacher=rule)
    assert len(fixed.layers) == 2


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("attention", {}, "AttentionTransfer.pairs must be a table"),
        (
            "attention",
            {"pairs": {"0": "O"}},
            "AttentionTransfer.pairs: the teacher has no layer 'O'",
        ),
        ("hints", {"pairs": {"1": "0"}}, "Hints.pairs: the network has no layer '1'"),
        ("attention", {"pairs": {"3": "3"}}, "maps of one height and width"),
        ("hints", {"pairs": {"0": "3"}}, "height and width may not"),
        ("gradient_attention", {"model": torch.relu}, "must be a module"),
    ],
)
def test_what_is_refused_before_training(kind, settings, words):
    epochs = []
    with pytest.raises((ConfigError, DataError), match=words):
        rule = TEACHERS.of({"kind": kind, "model": net(5), **settings}, "teacher")
        pleach.compress(
            net(3), X.numpy(), Y, teacher=rule, progress=lambda *each: epochs.append(each)
        )
    assert not epochs

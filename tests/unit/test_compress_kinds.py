"""Families of kinds, and each kind there is: what it does, and that one more is one more file."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pleach.compression
from pleach.compression import (
    CompressConfig,
    Observations,
    PruneConfig,
    ShareConfig,
    TrainConfig,
    compress,
    prune_,
    remove_neurons_,
    share_,
    train,
)
from pleach.compression.allocation import ALLOCATIONS, Candidates, Progress, largest
from pleach.compression.criteria import CRITERIA, Batch, Criterion, criterion
from pleach.compression.factorise import FACTORISERS
from pleach.compression.granularity import GRANULARITIES
from pleach.compression.kinds import Kinds
from pleach.compression.observe import prunable
from pleach.compression.quantisers import QUANTISERS, Quantiser, quantiser
from pleach.compression.regularisers import REGULARISERS, Regulariser, regulariser
from pleach.compression.schedules import SCHEDULES, Schedule, schedule
from pleach.compression.steps import narrowing
from pleach.compression.teachers import TEACHERS
from pleach.errors import ConfigError, ModelError
from pleach.models import lenet_5, mlp

X = np.random.default_rng(0).random((64, 6)).astype(np.float32)
Y = (X @ np.array([1, -2, 3, -1, 0.5, -1]) > 0.25).astype(np.int64)
PENALTIES = ("l1", "weight_decay", "group_lasso", "slimming")
ONCE = TrainConfig(epochs=2, batch_size=16, learning_rate=0.01)
pytestmark = pytest.mark.filterwarnings("ignore::pleach.errors.PleachWarning")


# The families


@pytest.mark.parametrize(
    ("family", "folder", "others"),
    [
        (CRITERIA, "criteria", {}),
        (GRANULARITIES, "granularity", {}),
        (ALLOCATIONS, "allocation", {"balance": {"pes": 4}, "threshold": {"quality": 1.0}}),
        (SCHEDULES, "schedules", {}),
        (QUANTISERS, "quantisers", {}),
        (REGULARISERS, "regularisers", {k: {"strength": 0.1} for k in PENALTIES}),
        (FACTORISERS, "factorise", {}),
        (
            TEACHERS,
            "teachers",
            {
                "model": {"model": abs},
                "attention": {"model": nn.ReLU(), "pairs": {"0": "0"}},
                "hints": {"model": nn.ReLU(), "pairs": {"0": "0"}},
                "gradient_attention": {"model": nn.ReLU()},
            },
        ),
    ],
)  # fmt: skip
def test_every_file_of_a_folder_is_a_kind(family, folder, others):
    files = Path(pleach.compression.__file__).parent.joinpath(folder).glob("[!_]*.py")
    kinds = [family.of({"kind": name} | others.get(name, {}), folder) for name in family.names()]
    assert {type(kind).__module__ for kind in kinds} == {
        f"pleach.compression.{folder}.{path.stem}" for path in files
    }
    for kind in kinds:
        assert family.of(kind, folder) is kind
        with pytest.raises(AttributeError):
            kind.kind = "another"


def test_a_file_in_the_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "family_of_a_test").mkdir()
    (tmp_path / "family_of_a_test/__init__.py").write_text(
        "from pleach.compression.kinds import Kinds\n"
        "class Base: pass\n"
        "FAMILY = Kinds(Base, __name__)\n"
    )
    (tmp_path / "family_of_a_test/one.py").write_text(
        "from dataclasses import dataclass\n"
        "from family_of_a_test import FAMILY, Base\n"
        "@FAMILY.register('first')\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class One(Base):\n"
        "    value: int\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import family_of_a_test

    try:
        family = family_of_a_test.FAMILY
        assert family.names() == ["first"] and family.of({"kind": "first", "value": 3}, "x").value
        with pytest.raises(ConfigError, match="x: first: .*missing 1 required.*'value'"):
            family.of("first", "x")
        with pytest.raises(
            ConfigError, match="x: unknown setting 'valu' of first: did you mean 'v"
        ):
            family.of({"kind": "first", "valu": 3}, "x")
        with pytest.raises(
            ConfigError, match="x must be one of first, not 'fist': did you mean 'f"
        ):
            family.of("fist", "x")
        with pytest.raises(ConfigError, match="x must be a list of first, not 3"):
            family.several(3, "x")
    finally:
        for name in [name for name in sys.modules if name.startswith("family_of_a_test")]:
            del sys.modules[name]


def test_what_joins_a_family_is_a_dataclass_of_it_with_a_name_of_its_own():
    class Base:
        pass

    family = Kinds(Base, "pleach.compression.schedules")

    def cell() -> type:
        @family.register("one")
        @dataclass(frozen=True)
        class One(Base):
            pass

        return One

    assert cell() is not cell()  # a cell that is run again says the same
    with pytest.raises(ConfigError, match="Two must be a dataclass: put @dataclass"):
        family.register("two")(type("Two", (family._found["one"],), {}))
    with pytest.raises(ConfigError, match="'three' must derive from Base"):
        family.register("three")(dict)

    @dataclass(frozen=True)
    class Other(Base):
        pass

    with pytest.raises(ConfigError, match=r"'one' is .*cell.<locals>.One already: give Other an"):
        family.register("one")(Other)


def test_a_name_a_table_and_the_thing_say_the_same():
    saliency = CRITERIA.of("saliency", "criterion")
    same = [PruneConfig(criterion=c) for c in ("saliency", {"kind": "saliency"}, saliency)]
    same.append(CompressConfig.from_dict({"prune": {"criterion": {"kind": "saliency"}}}).prune[0])
    assert all(each == same[0] for each in same)
    assert PruneConfig(balance=4).allocation == PruneConfig(
        scope={"kind": "balance", "pes": 4}
    ).allocation  # fmt: skip
    assert PruneConfig(quality=2.0).allocation == PruneConfig(
        scope={"kind": "threshold", "quality": 2.0}
    ).allocation  # fmt: skip
    optimal = {"kind": "kmeans", "initialisation": "optimal"}
    assert ShareConfig(initialisation="optimal") == ShareConfig(quantiser=optimal)
    assert replace(ShareConfig(quantiser=optimal), clusters=3).quantiser.initialisation == "optimal"
    read = CompressConfig.from_dict({"prune": {"train": {"regularisers": [
        {"kind": "l1", "strength": 0.5}]}}})  # fmt: skip
    assert [each.strength for each in read.prune[0].train.penalties] == [0.5]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PruneConfig(criterion="magnitud"), "not 'magnitud': did you mean 'magnitude'"),
        (
            lambda: PruneConfig(criterion={"kind": "taylor", "window": 3}),
            "'window' of taylor, it h",
        ),
        (lambda: PruneConfig(criterion={"window": 3}), "PruneConfig.criterion must be one of apoz"),
        (
            lambda: PruneConfig(granularity="filter"),
            "granularity must be one of .*channel, element",
        ),
        (lambda: PruneConfig(scope="all"), "PruneConfig.scope must be one of balance, .*layer"),
        (lambda: PruneConfig(schedule=None), "PruneConfig.schedule must be one of cubic, .*None"),
        (lambda: PruneConfig(scope={"kind": "balance", "pes": 65}), "Balance.pes must be an integ"),
        (lambda: PruneConfig(scope={"kind": "threshold", "quality": -1}), "Threshold.quality must"),
        (
            lambda: PruneConfig(criterion="apoz"),
            "'apoz' does not go with the granularity 'element': set gr",
        ),
        (lambda: PruneConfig(criterion="taylor", ramp=0), "'taylor' needs a ramp"),
        (lambda: PruneConfig(criterion="taylor", quality=1), "it needs criterion magnitude"),
        (lambda: PruneConfig(balance=2, granularity="channel"), "goes with the granularity elem"),
        (lambda: PruneConfig(layers={"a": 2}), r"layers\['a'\] must be a number from 0 to 1"),
        (
            lambda: ShareConfig(quantiser="ternary"),
            "ShareConfig.quantiser must be one of .*, kmeans",
        ),
        (
            lambda: ShareConfig(quantiser="powers_of_two", initialisation="linear"),
            "initialisation is of the quantiser kmeans, it does not go with powers_of_two",
        ),
        (
            lambda: TrainConfig(regularisers="l2"),
            "TrainConfig.regularisers must be one of .*l1, .*we",
        ),
        (lambda: TrainConfig(regularisers=3), "TrainConfig.regularisers must be a list of .*l1, "),
        (lambda: TrainConfig(regularisers=["l1"]), "l1: .*missing 1 required.*'strength'"),
        (lambda: TrainConfig(device="tpu"), "TrainConfig.device must be one of cpu, auto, cuda"),
    ],
)
def test_what_kinds_refuse(make: Callable, words: str):
    with pytest.raises(ConfigError, match=words):
        make()


def test_a_density_alone_takes_a_threshold_away():
    stage = PruneConfig(scope={"kind": "threshold", "quality": 2.0}, layers={"fc1": 1.5})
    small = CompressConfig(prune=stage).with_(density=0.1).prune[0]
    assert small.density == 0.1 and small.scope.kind == "layer" and not small.layers


# Criteria


def test_taylor_is_the_mean_square_of_weight_times_gradient():
    model = mlp([6, 4, 2])
    rule = CRITERIA.of("taylor", "")
    seen, expected = Observations(model, rule), torch.zeros(4, 6)
    assert rule.scores(prunable(model)[0], seen) is None
    for rows in (slice(0, 32), slice(32, 64)):
        model.zero_grad()
        nn.functional.cross_entropy(model(torch.tensor(X[rows])), torch.tensor(Y[rows])).backward()
        expected += (model.fc1.weight * model.fc1.weight.grad).detach().square() / 2
        seen.step()
    assert torch.allclose(rule.scores(prunable(model)[0], seen)["weight"], expected)
    prune_(model, PruneConfig(criterion=rule, density=0.5), seen=seen)
    kept = model.fc1.weight != 0
    assert expected[kept].min() >= expected[~kept].max()
    with pytest.raises(ConfigError, match=r"criterion taylor needs what it has seen: prune_\(…, s"):
        prune_(model, PruneConfig(criterion="taylor"))


def test_apoz_prunes_the_neuron_that_is_zero_most_often():
    model = mlp([6, 4, 2])
    rule = CRITERIA.of("apoz", "")
    with torch.no_grad():
        model.fc1.weight.fill_(0.1)  # every input is positive: three neurons always give something
        model.fc1.bias.copy_(torch.tensor([0.0, 0.0, -0.35, 0.0]))
    with Observations(model, rule) as seen:
        outputs = model.fc1(torch.tensor(X))
        seen.step()
    assert not model.fc1._forward_hooks
    active = (outputs > 0).float().mean(0)
    assert 0 < active[2] < 1 == active[0]
    assert torch.allclose(rule.scores(prunable(model)[0], seen)["weight"][:, 3], active)
    assert rule.scores(prunable(model)[1], seen) is None  # it has not run
    stage = PruneConfig(criterion=rule, granularity="channel", density=0.75)
    prune_(model, stage, seen=seen)
    assert [bool(row.any()) for row in model.fc1.weight] == [True, True, False, True]
    assert model.fc2.weight.all()


def test_what_was_seen_counts_until_the_next_pruning():
    model = mlp([6, 4, 2])
    stage = PruneConfig(criterion="taylor", ramp=2, train=TrainConfig(epochs=4))
    seen, steps = Observations(model, stage.criterion), []
    narrow = narrowing(model, stage, seen)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for epochs in (0, 0.5, 1.0, 1.5, 2.0):
        narrow(epochs, optimizer)
        steps.append(seen.steps)
        nn.functional.cross_entropy(model(torch.tensor(X)), torch.tensor(Y)).backward()
    assert steps == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("kind", ["taylor", "apoz"])
def test_criteria_that_look_go_the_whole_path(kind):
    stage = PruneConfig(
        criterion=kind, granularity="channel", density=0.5, ramp=1, every=0.5, train=ONCE
    )
    config = CompressConfig(prune=stage, share=ShareConfig(clusters=8, train=ONCE))
    fixed = compress(mlp([6, 12, 8, 2]), X, Y, config)
    assert [layer.outputs for layer in fixed.layers] == [6, 4, 2]
    assert fixed == compress(mlp([6, 12, 8, 2]), X, Y, config)


def test_a_criterion_of_ones_own_is_one_class():
    @criterion("last_first")
    @dataclass(frozen=True, kw_only=True)
    class LastFirst(Criterion):
        factor: float = 1.0

        def scores(self, layer, seen):
            return {
                part: self.factor * torch.arange(tensor.numel(), 0.0, -1).view_as(tensor)
                for part, tensor in layer.tensors.items()
            }

    model = nn.Sequential(nn.Linear(6, 3, bias=False))
    prune_(model, PruneConfig(density=0.5, criterion={"kind": "last_first", "factor": 2}))
    assert (model[0].weight != 0).flatten().tolist() == [True] * 9 + [False] * 9


# Granularity, allocation, schedule


def test_channels_are_pruned_whole_and_then_removed():
    model = lenet_5()
    importance = torch.cat(
        [model.conv1.weight.detach().flatten(1), model.conv1.bias.detach()[:, None]], 1
    ).abs().mean(1)  # fmt: skip
    prune_(model, PruneConfig(density=0.5, granularity="channel", layers={"fc1": 0.1}))
    rows = [m.weight.flatten(1).any(1) for m in (model.conv1, model.conv2, model.fc1, model.fc2)]
    assert [int(r.sum()) for r in rows] == [10, 25, 50, 10]
    assert importance[rows[0]].min() >= importance[~rows[0]].max()
    assert torch.equal(model.conv1.bias != 0, rows[0])
    assert remove_neurons_(model) == 10 + 25 + 450
    assert model.fc1.in_features == 25 * 16 and model.fc2.in_features == 50


def test_channels_of_the_whole_network_are_weighed_by_their_elements():
    model = mlp([6, 12, 8, 2])
    prune_(model, PruneConfig(density=0.5, scope="network", granularity="channel"))
    kept = [int(m.weight.any(1).sum()) for m in (model.fc1, model.fc2)]
    left = 7 * kept[0] + 13 * kept[1]
    total = 7 * 12 + 13 * 8
    assert total / 2 - 13 < left <= total / 2
    # What is pruned by elements first stays pruned in the channels that are kept.
    model = mlp([6, 12, 8, 2])
    prune_(model, PruneConfig(density=0.5))
    before = model.fc1.weight != 0
    prune_(model, PruneConfig(density=0.7, granularity="channel"))
    assert not (model.fc1.weight != 0)[~before].any() and model.fc1.weight.any()


def candidates(scores, sizes=None):
    scores = torch.tensor(scores)
    return Candidates(
        name="a",
        target=0.5,
        scores=(scores,),
        sizes=None if sizes is None else (torch.tensor(sizes),),
        held=(torch.ones_like(scores),),
        total=len(scores) if sizes is None else sum(sizes),
        deviations=(1.0,),
        splice=False,
    )


def test_the_largest_of_several_layers():
    a, b = candidates([1.0, 5.0, 3.0]), candidates([4.0, 0.0])
    assert [k[0].tolist() for k in largest([a, b], 0.6)] == [[False, True, True], [True, False]]
    groups = candidates([1.0, 5.0, 3.0], [1, 4, 2])
    assert largest([groups], 0.7)[0][0].tolist() == [False, True, False]
    assert largest([groups], 0.9)[0][0].tolist() == [False, True, True]
    assert largest([groups], 0.2)[0][0].tolist() == [False, True, False]  # one in any case
    assert largest([groups], 0.0)[0][0].tolist() == [False, False, False]
    assert Progress(start=0.9, remaining=0.25).density(0.1) == pytest.approx(0.3)
    unknown = replace(a, scores=None)
    assert ALLOCATIONS.of("layer", "").keep([a, unknown], Progress(1, 0))[1] is None
    assert ALLOCATIONS.of("network", "").keep([a, unknown], Progress(1, 0)) == [None, None]


def test_a_schedule_of_ones_own():
    @schedule("straight")
    @dataclass(frozen=True, kw_only=True)
    class Linear(Schedule):
        def remaining(self, progress):
            return 1 - progress

    model = nn.Sequential(nn.Linear(99, 10))
    for progress, count in ((0.25, 800), (0.5, 600), (1, 200)):
        prune_(model, PruneConfig(density=0.2, schedule="straight"), progress=progress)
        assert int(model[0].weight.count_nonzero() + model[0].bias.count_nonzero()) == count


# Quantisers


def test_powers_of_two_stay_what_they_are():
    share = ShareConfig(clusters=8, quantiser="powers_of_two", train=ONCE)
    model = mlp([6, 10, 2])
    share_(model, share)
    values = model.fc1.weight.detach().abs().unique()
    assert torch.equal(values.log2(), values.log2().round()) and len(values) <= 8
    assert not any(p.requires_grad for p in model.parameters())
    fixed = compress(mlp([6, 10, 2]), X, Y, CompressConfig(prune=(), share=share))
    for layer in fixed.layers:
        assert all(int(value).bit_count() == 1 for value in np.abs(layer.codebook))
    rule = QUANTISERS.of("powers_of_two", "")
    assert rule.codebook(np.array([0.7, -0.1]), 4, seed=0).tolist() == [-0.5, -0.25, 0.25, 0.5]
    assert rule.codebook(np.array([0.8, 0.1]), 3, seed=0).tolist() == [0.25, 0.5, 1.0]
    assert rule.project(np.array([0.8, 0.1]), 4, seed=0).tolist() == [1.0, 0.125]
    assert rule.codebook(np.zeros(0), 4, seed=0).tolist() == []


def test_values_that_stay_are_chosen_between_while_weights_learn():
    share = ShareConfig(clusters=4, quantiser="powers_of_two", reassign=0.25, train=ONCE)
    stay = replace(share, reassign=0)
    files = [
        compress(mlp([6, 10, 2]), X, Y, CompressConfig(prune=(), share=s)) for s in (share, stay)
    ]
    codes = [[layer.codes for layer in file.layers] for file in files]
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(*codes, strict=True))


def test_a_quantiser_of_ones_own_is_one_class():
    @quantiser("ternary")
    @dataclass(frozen=True, kw_only=True)
    class Ternary(Quantiser):
        def codebook(self, values, clusters, *, seed):
            mean = np.abs(values).mean() if len(values) else 1.0
            return np.array([-mean, mean])

    fixed = compress(
        mlp([6, 10, 2]), X, Y,
        CompressConfig(prune=(), share=ShareConfig(quantiser="ternary", train=ONCE)),
    )  # fmt: skip
    assert all(len(layer.codebook) <= 4 for layer in fixed.layers)  # biases may have their own


def test_nearest_takes_values_beyond_the_codebook():
    rule, codebook = QUANTISERS.of("kmeans", ""), np.array([-1.0, 0.0, 2.0])
    values = np.array([-9.0, -0.5, 0.1, 1.0, 1.1, 9.0])
    assert rule.codes(values, codebook).tolist() == [0, 0, 1, 1, 2, 2]
    assert Quantiser.codes(rule, values, codebook).tolist() == [0, 0, 1, 1, 2, 2]
    assert rule.codes(np.zeros(0), codebook).shape == (0,)
    assert rule.codes(np.array([0.5, 0.6]), codebook).tolist() == [1, 1]


# Regularisers


def test_a_regulariser_is_what_its_short_form_is():
    def trained(**settings):
        model = mlp([6, 8, 2])
        train(model, X, Y, replace(ONCE, **settings))
        return model.fc1.weight

    for name in ("l1", "weight_decay"):
        short, table = {name: 0.01}, {"regularisers": {"kind": name, "strength": 0.01}}
        assert torch.equal(trained(**short), trained(**table))
        assert not torch.equal(trained(**short), trained())


def test_a_regulariser_of_ones_own():
    @regulariser("rounding")
    @dataclass(frozen=True, kw_only=True)
    class Rounding(Regulariser):
        grid: float = 0.25

        def begin(self, model):
            begun.append(model)
            return replace(self, grid=2 * self.grid)

        def after_epoch(self, model):
            for parameter in model.parameters():
                parameter.copy_((parameter / self.grid).round() * self.grid)

        def penalty(self, model, parameters):
            seen.append(len(parameters))
            return parameters[0].sum() * 0

    seen, begun, model = [], [], mlp([6, 8, 2])
    train(model, X, Y, replace(ONCE, regularisers=[{"kind": "rounding", "grid": 0.25}]))
    assert seen == [4] * 8 and begun == [model]  # steps, trainings
    assert torch.equal(model.fc1.weight, (model.fc1.weight * 2).round() / 2)


def test_a_layer_that_is_shared_is_not_factorised_nor_is_one_that_has_no_gradient_observed():
    model = mlp([6, 8, 2])
    rule = CRITERIA.of("taylor", "")
    seen = Observations(model, rule)
    seen.step()  # before any gradient
    assert seen.steps == 0 and seen.mean(prunable(model)[0]) == {}
    assert rule.observe(prunable(model)[0], Batch()) == {}
    share_(model, ShareConfig(clusters=2))
    with pytest.raises(ModelError, match="'fc1' is pruned or shared already: factorise first"):
        pleach.compression.factorise_(model)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda layer: {part: tensor * float("nan") for part, tensor in layer.tensors.items()},
         "layer '0': a score for 'weight' is not a number"),
        (lambda layer: {"weight": layer.tensors["weight"].flatten()},
         "layer '0': scores must hold a tensor of shape (2, 3) for 'weight'"),
        (lambda layer: layer.inputs, "AttributeError"),
    ],
)  # fmt: skip
def test_what_a_criterion_says_is_looked_at(answer, message):
    class Own(Criterion):
        kind = "own"

        def scores(self, layer, seen):
            return answer(layer)

    with pytest.raises(ConfigError, match=re.escape(message)):
        prune_(nn.Sequential(nn.Linear(3, 2)), PruneConfig(criterion=Own(), density=0.5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda count: np.linspace(1, -1, count), "a row of finite numbers that rise"),
        (lambda count: [float("nan")], "a row of finite numbers that rise"),
        (lambda count: "no", "ValueError"),
        (lambda count: np.linspace(-1, 1, 300), "layer '0' 300 values, its setting clusters is 4"),
    ],
)
def test_what_a_quantiser_gives_is_looked_at(values, message):
    class Own(Quantiser):
        kind = "own"

        def codebook(self, kept, clusters, *, seed):
            return values(clusters)

    with pytest.raises(ConfigError, match=message):
        share_(nn.Sequential(nn.Linear(30, 20)), ShareConfig(quantiser=Own(), clusters=4))


def test_a_list_is_a_codebook_too():
    class Own(Quantiser):
        kind = "own"

        def codebook(self, kept, clusters, *, seed):
            return [-0.1, 0.1]

    model = nn.Sequential(nn.Linear(30, 20))
    share_(model, ShareConfig(quantiser=Own(), clusters=4))
    assert sorted(model[0].weight.unique().tolist()) == pytest.approx([-0.1, 0.1])

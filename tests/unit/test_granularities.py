"""What goes together, how fast and under which penalty: groups, schedules, regularisers, energy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pleach.compression import (
    CompressConfig,
    Factorise,
    Observations,
    Prune,
    PruneConfig,
    Samples,
    Share,
    ShareConfig,
    TrainConfig,
    compress,
    factorise_,
    prune_,
    remove_neurons_,
    sensitivity,
    train,
)
from pleach.compression.allocation import ALLOCATIONS, Candidates, Progress
from pleach.compression.factorise import FACTORISERS
from pleach.compression.granularity import GRANULARITIES
from pleach.compression.observe import prunable
from pleach.compression.regularisers import REGULARISERS
from pleach.compression.regularisers.group_lasso import shrunk
from pleach.compression.schedules import SCHEDULES
from pleach.cycles.energy import Costs, energies
from pleach.engine import EngineConfig
from pleach.engine.pipeline import block_bits, entry_bits
from pleach.errors import ConfigError
from pleach.model import Activation, CompressedLayer, CompressedModel, Convolution
from pleach.models import lenet_5, mlp

X = np.random.default_rng(0).random((64, 6)).astype(np.float32)
Y = (X @ np.array([1, -2, 3, -1, 0.5, -1]) > 0.25).astype(np.int64)
ONCE = TrainConfig(epochs=1, batch_size=32, learning_rate=0.01)
SHARE = ShareConfig(clusters=8, train=ONCE)
pytestmark = pytest.mark.filterwarnings("ignore::pleach.errors.PleachWarning")


def groups_of(module, kind, **settings):
    model = nn.Sequential(module)
    if isinstance(module, nn.Conv2d):
        model = nn.Sequential(nn.Unflatten(1, (4, 3, 3)), module, nn.Flatten(), nn.Linear(6, 2))
    layer = prunable(model)[0]
    return GRANULARITIES.of({"kind": kind} | settings, "").groups(layer)


# Granularities


def test_an_input_is_a_column_or_a_channel_of_all_filters():
    assert groups_of(nn.Linear(3, 2), "input")["weight"].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert "bias" not in groups_of(nn.Linear(3, 2), "input")
    numbers = groups_of(nn.Conv2d(4, 6, 3), "input")["weight"]
    assert torch.equal(numbers, torch.arange(4)[None, :, None, None].expand(6, 4, 3, 3))
    # Two groups: the filters of the second take channels 2 and 3.
    numbers = groups_of(nn.Conv2d(4, 6, 3, groups=2), "input")["weight"]
    assert numbers[2, :, 0, 0].tolist() == [0, 1] and numbers[3, :, 0, 0].tolist() == [2, 3]


def test_a_shape_is_a_column_of_the_matrix():
    numbers = groups_of(nn.Conv2d(4, 6, 3), "shape")["weight"]
    assert torch.equal(numbers.flatten(1), torch.arange(36).expand(6, 36))
    numbers = groups_of(nn.Conv2d(4, 6, 3, groups=2), "shape")["weight"].flatten(1)
    assert numbers[0].tolist() == list(range(18)) and numbers[5].tolist() == list(range(18, 36))


def test_blocks_pes_and_layers():
    numbers = groups_of(nn.Linear(5, 3), "block", rows=2, columns=2)["weight"].tolist()
    assert numbers == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    kernels = groups_of(nn.Conv2d(4, 6, 3), "block", rows=1, columns=9)["weight"]
    assert torch.equal(kernels[:, :, 1, 2], torch.arange(24).view(6, 4))
    numbers = groups_of(nn.Linear(2, 5), "pe", pes=2)["weight"].tolist()
    assert numbers == [[0, 2], [1, 3], [0, 2], [1, 3], [0, 2]]
    assert not groups_of(nn.Linear(2, 5), "layer")  # the last one
    assert groups_of(nn.Conv2d(4, 6, 3), "layer")["bias"].tolist() == [0] * 6


def test_a_channel_that_nobody_takes_goes_from_the_layer_before():
    model = mlp([6, 4, 3, 2])
    with torch.no_grad():
        model.fc2.weight[:, 1] *= 1e-3
    prune_(model, PruneConfig(granularity="input", density=0.8, layers={"fc1": 1.0, "fc3": 1.0}))
    assert remove_neurons_(model) == 1 and model.fc1.out_features == 3


# Schedules


def test_schedules_by_hand():
    steps = (0, 0.25, 0.5, 0.75, 1)
    found = {k: [SCHEDULES.of(k, "").remaining(t) for t in steps] for k in ("linear", "one_shot")}
    assert found == {"linear": [1, 0.75, 0.5, 0.25, 0], "one_shot": [1, 0, 0, 0, 0]}
    rounds = SCHEDULES.of({"kind": "iterative", "rounds": 2}, "")
    assert [rounds.remaining(t) for t in (0, 0.1, 0.49, 0.5, 1)] == [1, 0.5, 0.5, 0, 0]
    with pytest.raises(ConfigError, match=r"Iterative.rounds must be an integer from 1"):
        SCHEDULES.of({"kind": "iterative", "rounds": 0}, "")


def test_surgery_splices():
    assert PruneConfig(schedule="surgery").splice and not PruneConfig(schedule="linear").splice
    rule = SCHEDULES.of({"kind": "surgery", "power": 1}, "")
    assert [rule.remaining(t) for t in (0, 0.25, 1)] == [1, 0.75, 0]
    with pytest.raises(ConfigError, match="'obs' changes the weights that stay"):
        PruneConfig(schedule="surgery", criterion="obs")


def test_splicing_follows_equation_3():
    """Masked below the lower threshold, back above the upper one; behind the mask a weight gets the
    gradient that it would have without."""
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.95, 0.85, -2.0]]))
    threshold = 1.0 / float(model[0].weight.detach().std())
    stage = PruneConfig(quality=threshold, splice=True)
    prune_(model, stage)
    assert (model[0].weight != 0).tolist() == [[True, True, False, True]]  # 0.9 is the lower one
    model(torch.tensor([[1.0, 1.0, 3.0, 1.0]])).backward()
    assert model[0].parametrizations.weight.original.grad.tolist() == [[1, 1, 3, 1]]
    with torch.no_grad():
        model[0].parametrizations.weight.original.copy_(torch.tensor([[0.8, 1.05, 1.11, -2.0]]))
    prune_(model, stage)
    assert (model[0].weight != 0).tolist() == [[False, True, True, True]]


# Regularisers


def test_the_proximal_step_of_the_group_lasso_is_found_by_search():
    """The w that minimises ‖w − v‖²/2 + s·√n·‖w‖, over a grid of what could be its length."""
    values, strength = torch.tensor([0.6, -0.8, 0.5]), 0.3
    factor = shrunk(values, torch.zeros(3, dtype=torch.int64), torch.tensor([3.0]), strength)
    grid = torch.linspace(-0.5, 1.5, 20_001)
    tried = grid[:, None] * values
    cost = (tried - values).square().sum(1) / 2 + strength * 3**0.5 * tried.norm(dim=1)
    assert float(factor[0]) == pytest.approx(float(grid[cost.argmin()]), abs=2e-4)
    # No other direction is better.
    other = tried[cost.argmin()] + 1e-2 * torch.randn(1000, 3)
    best = ((other - values).square().sum(1) / 2 + strength * 3**0.5 * other.norm(dim=1)).min()
    assert float(best) > float(cost.min())


def test_group_lasso_empties_whole_groups():
    """Two neurons that the outputs hardly need vanish, the others do not."""
    model = mlp([6, 5, 2])
    with torch.no_grad():
        model.fc1.weight[:2] *= 0.01
        model.fc1.bias[:2] = 0
        model.fc2.weight[:, :2] *= 0.01
    lasso = {"kind": "group_lasso", "strength": 0.5, "granularity": "channel"}
    config = replace(ONCE, epochs=2, learning_rate=0.02, optimizer="sgd", regularisers=(lasso,))
    train(model, X, Y, config)
    empty = [not bool(row.any()) for row in model.fc1.weight]
    assert empty == [True, True, False, False, False] and model.fc1.bias[0] == 0
    rule = REGULARISERS.of(lasso | {"proximal": False}, "")
    rows = torch.cat([model.fc1.weight, model.fc1.bias[:, None]], 1)
    expected = 0.5 * (7**0.5 * rows.norm(dim=1)).sum()
    assert rule.penalty(model, list(model.parameters())).item() == pytest.approx(expected.item())
    assert REGULARISERS.of(lasso, "").penalty(model, list(model.parameters())) is None
    with pytest.raises(ConfigError, match="groups of one weight: that is the regulariser l1"):
        REGULARISERS.of(lasso | {"granularity": "element"}, "")


def test_slimming_s_gradient_is_the_sign_of_gamma():
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, -2.0, 0.0]))
    rule = REGULARISERS.of({"kind": "slimming", "strength": 0.25}, "")
    rule.penalty(model, list(model.parameters())).backward()
    assert model[1].weight.grad.tolist() == [0.25, -0.25, 0] and model[0].weight.grad is None
    with pytest.raises(ConfigError, match="slimming acts on batch normalisations, and the netw"):
        train(mlp([6, 2]), X, Y, replace(ONCE, regularisers=(rule,)))


# Energy


def test_energies_are_counted():
    """Two of three inputs are not zero; the bias counts as one more."""
    layer = CompressedLayer(
        "fc1", inputs=3, outputs=2, bias=True, positions=[0, 1, 2, 5, 6], codes=[0] * 5,
        codebook=[3], shift=1, activation=Activation.NONE, bias_exponent=2, output_fraction=8,
    )  # fmt: skip
    config, costs = EngineConfig(pes=4), Costs(bit=1.0, multiply=10.0, add=100.0)
    entry = entry_bits(config) + 16 + 2 * config.accumulator_bits + 110
    assert costs.of_entry(config) == entry
    met = 2 + 1 + 1  # entries of columns 0 (two), 2 (one) and of the bias (one)
    model, inputs = CompressedModel((layer,)), np.array([[7, 0, 9]], np.uint8)
    assert layer.column_of.tolist() == [0, 0, 1, 2, 3]
    assert energies(model, config, inputs, costs).tolist() == [
        met * entry + 3 * 4 * block_bits(config)
    ]


def test_energies_of_a_convolution_are_counted_by_window():
    """A map of 2 × 2 under a kernel of 2 × 2 with a pixel of padding: nine windows, of which each
    pixel is in four."""
    layer = CompressedLayer(
        "conv", inputs=4, outputs=1, bias=True, positions=[0, 4], codes=[0] * 2, codebook=[3],
        shift=1, activation=Activation.NONE, bias_exponent=2, output_fraction=8,
        convolution=Convolution(
            channels=1, height=2, width=2, kernel_height=2, kernel_width=2, padding=(1, 1, 1, 1)
        ),
    )  # fmt: skip
    model, config = CompressedModel((layer,)), EngineConfig(pes=4)
    inputs = np.array([[5, 0, 0, 6]], np.uint8)  # two pixels, one weight and the bias
    only = Costs(bit=0.0, multiply=1.0, add=0.0)
    assert energies(model, config, inputs, only).tolist() == [2 + 9]
    only = Costs(bit=1.0, multiply=0.0, add=0.0)
    per_entry = only.of_entry(config)
    assert energies(model, config, inputs, only).tolist() == [
        (2 + 9) * per_entry + (2 * 4 + 9) * only.of_column(config)
    ]


def test_energy_takes_most_from_the_layer_that_uses_most():
    def layer(name, uses, scores):
        scores = torch.tensor(scores)
        return Candidates(
            name=name, target=0.5, scores=(scores,), sizes=None, held=(torch.ones_like(scores),),
            total=len(scores), deviations=(1.0,), splice=False, uses=uses,
        )  # fmt: skip

    cheap, dear = layer("fc", 1.0, [1.0, 1.0, 2.0]), layer("conv", 9.0, [4.0, 5.0, 6.0])
    kept = ALLOCATIONS.of("energy", "").keep([cheap, dear], Progress(1, 0))
    # Half of 30: the cheap ones are 3 of it, one of the dear ones 9.
    assert [k[0].tolist() for k in kept] == [[True] * 3, [False, False, True]]
    same = replace(dear, uses=1.0)
    kept = ALLOCATIONS.of("energy", "").keep([cheap, same], Progress(1, 0))
    assert [int(k[0].sum()) for k in kept] == [1, 2]
    with pytest.raises(ConfigError, match="scope = 'energy' takes one density, no layers"):
        PruneConfig(scope="energy", layers={"a": 0.5})


def test_no_layer_loses_all_its_channels():
    model = mlp([6, 8, 8, 2])
    with torch.no_grad():
        model.fc2.weight *= 1e-3
        model.fc2.bias *= 1e-3
    for scope in ("network", "energy"):
        stage = PruneConfig(
            criterion="filter_norm", granularity="channel", scope=scope, density=0.4
        )
        prune_(model, stage)
        assert int(model.fc2.weight.any(1).sum()) == 1 < int(model.fc1.weight.any(1).sum())


def test_uses_are_counted_on_the_map():
    model = lenet_5()
    seen = Observations(model, PruneConfig().criterion)
    assert [seen.uses(layer) for layer in seen.layers()] == [576, 64, 1, 1]
    # 16 rows of 28 pixels are white, the others black.
    inputs = torch.zeros(2, 784)
    inputs[:, : 16 * 28] = 1
    seen = Observations(
        model, PruneConfig().criterion, samples=Samples(inputs, nn.functional.mse_loss)
    )
    rows = sum(min(16 - top, 24) for top in range(5)) / 5  # of windows that are white there
    assert seen.uses(seen.layers()[0]) == pytest.approx(24 * rows)
    bare = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(ConfigError, match="'0' is a convolution of images of unknown shape"):
        Observations(bare, PruneConfig().criterion).uses(prunable(bare)[0])


# Sparse decomposition


def test_a_sparse_decomposition_of_all_kernels_is_the_convolution():
    torch.manual_seed(0)
    module = nn.Conv2d(3, 40, 3, stride=2, padding=1)
    with torch.no_grad():  # of each channel only two kernels
        kernels = torch.randn(3, 2, 3, 3)
        module.weight.copy_(torch.einsum("rck,ckhw->rchw", torch.randn(40, 3, 2), kernels))
    maps = torch.randn(4, 3, 7, 7)
    layer = prunable(nn.Sequential(module, nn.Flatten(), nn.Linear(640, 2)))[0]
    rule = FACTORISERS.of({"kind": "sparse", "kernels": 6}, "")
    small = rule.factors(layer)
    assert torch.allclose(small(maps), module(maps), atol=1e-4)
    assert [tuple(m.weight.shape) for m in small] == [(3, 3, 1, 1), (18, 1, 3, 3), (40, 18, 1, 1)]
    fewer = FACTORISERS.of({"kind": "sparse", "kernels": 2}, "").factors(layer)
    lost = ((fewer(maps) - module(maps)).square().mean() / module(maps).square().mean()).item()
    assert 0 < lost < 0.5
    assert FACTORISERS.of({"kind": "sparse", "kernels": 9}, "").factors(layer) is None  # no smaller
    model = nn.Sequential(
        nn.Unflatten(1, (3, 7, 7)), module, nn.ReLU(), nn.Flatten(), nn.Linear(640, 2)
    )
    before = model(maps.flatten(1))
    assert factorise_(model, rule) == ["1"]
    assert torch.allclose(model(maps.flatten(1)), before, atol=1e-4)


# What goes together, and what does not


def test_sensitivity_of_filters():
    model = mlp([6, 8, 2])
    with torch.no_grad():
        model.fc1.weight[:4], model.fc1.bias[:4] = 0, 0
    stage = PruneConfig(criterion="filter_norm", granularity="channel")
    curves = sensitivity(model, X, Y, [0.5, 0.25], stage=stage)
    whole = sensitivity(model, X, Y, [1.0])
    assert curves[0].errors[0] == whole[0].errors[0]  # half of the filters are nothing


@pytest.mark.parametrize(
    "stage",
    [
        {"criterion": "obs", "density": 0.5},
        {"criterion": "obd", "density": 0.5, "scope": "network"},
        {"criterion": "least_squares", "scope": "energy", "density": 0.5},
        {"criterion": "feature_taylor", "granularity": "channel", "scope": "network"},
        {"criterion": "lda", "granularity": "channel", "schedule": "one_shot"},
        {"criterion": "entropy", "granularity": "channel", "schedule": "iterative"},
        {"criterion": "correlation", "granularity": "pe", "density": 0.5},
        {"criterion": {"kind": "genetic", "population": 4, "generations": 2}, "density": 0.5},
    ],
    ids=lambda stage: str(stage["criterion"]),
)
def test_the_whole_path(stage):
    config = CompressConfig(
        prune=PruneConfig(**{"ramp": 0.5, "every": 0.5, "train": ONCE, "density": 0.6} | stage),
        share=SHARE,
    )
    model = mlp([6, 10, 2])
    fixed = compress(model, X, Y, config)
    kept = sum(layer.kept for layer in fixed.layers)
    assert 10 < kept < 70
    assert fixed == compress(model, X, Y, config)


@pytest.mark.parametrize(
    ("steps", "labels", "words"),
    [
        (
            [Prune(PruneConfig(criterion="lda", granularity="channel", ramp=0, train=ONCE))],
            Y.astype(np.float32)[:, None] + [[0, 1]],
            "prune.criterion = 'lda' needs the classes of the training inputs",
        ),
        (
            [Prune(PruneConfig(criterion="slimming", granularity="channel", ramp=0, train=ONCE))],
            Y,
            "'slimming' needs batch normalisations behind layers, the network has none: fc1, fc2",
        ),
        (
            [
                Share(
                    replace(
                        SHARE,
                        train=replace(ONCE, regularisers=({"kind": "slimming", "strength": 0.1},)),
                    )
                )
            ],
            Y,
            "the regulariser slimming acts on batch normalisations, and the network has none",
        ),
        (
            [Prune(PruneConfig(ramp=0, train=ONCE)), Factorise(train=ONCE), Share(SHARE)],
            Y,
            "the step 'factorised' comes after one that prunes: factorise first",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_training(steps, labels, words):
    with pytest.raises(ConfigError, match=words):
        compress(
            mlp([6, 10, 2]), X, labels, steps=steps,
            progress=lambda *_: pytest.fail("it trains"),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"criterion": "obs", "granularity": "channel"}, "'obs' does not go with the granularity"),
        ({"criterion": "entropy"}, "granularity 'element': set granularity = 'channel'"),
        ({"criterion": "obd", "quality": 1.0}, "it needs criterion magnitude, not obd"),
        ({"criterion": {"kind": "genetic", "population": 1}}, "Genetic.population must be an int"),
        ({"criterion": {"kind": "obs", "block": -1}}, "Surgeon.block must be an integer from 0"),
        ({"criterion": "obs", "splice": True}, "with splice = true these would come back"),
        ({"granularity": "layer"}, "'layer' keeps a layer or does not: it goes with scope = 'netw"),
        ({"granularity": {"kind": "block", "rows": 0}}, "Block.rows must be an integer from 1"),
    ],
)
def test_settings_that_do_not_go_together(settings, words):
    with pytest.raises(ConfigError, match=words):
        PruneConfig(**settings)

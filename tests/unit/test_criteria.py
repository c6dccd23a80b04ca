"""Which weights go: the mathematics of each criterion, on cases that are exact or done by hand."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from pleach.compression import Observations, PruneConfig, Samples, prune_
from pleach.compression.criteria import CRITERIA
from pleach.compression.criteria.obs import removal_costs
from pleach.compression.surgery import fitted, moments
from pleach.errors import ConfigError
from pleach.models import mlp, network_of

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def samples_of(inputs, targets, loss=nn.functional.mse_loss) -> Samples:
    inputs, targets = (torch.as_tensor(each) for each in (inputs, targets))
    return Samples(inputs.float(), lambda outputs, rows: loss(outputs, targets[rows]), targets)


def quadratic(rows=2, columns=5, count=40):
    """A layer at the minimum of its mean squared error, and the samples of it."""
    inputs = torch.tensor(RNG.normal(size=(count, columns)) @ RNG.normal(size=(columns, columns)))
    model = nn.Sequential(nn.Linear(columns, rows, dtype=torch.float64))
    targets = torch.tensor(RNG.normal(size=(count, rows)))
    ones = torch.cat([inputs, torch.ones(count, 1)], 1)
    best = torch.linalg.lstsq(ones, targets).solution.T
    with torch.no_grad():
        model[0].weight.copy_(best[:, :-1])
        model[0].bias.copy_(best[:, -1])
    samples = Samples(inputs, lambda o, n: nn.functional.mse_loss(o, targets[n]), targets)
    return model, samples


def convolutions():
    """A small network with a convolution, a pooling and a fully connected layer."""
    model = nn.Sequential(
        nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(12, 3),
    )  # fmt: skip
    inputs, labels = torch.rand(20, 36), torch.randint(0, 3, (20,))
    return model, samples_of(inputs, labels, nn.functional.cross_entropy)


def scores_of(model, samples, kind, at=0, **settings):
    rule = CRITERIA.of({"kind": kind} | settings, "criterion")
    seen = Observations(model, rule, samples=samples)
    with torch.no_grad():
        return rule.scores(seen.layers()[at], seen)


def loss_of(model, samples):
    return float(samples.loss(model(samples.inputs).detach(), torch.arange(len(samples.inputs))))


# Second order


def test_obd_is_the_exact_diagonal_of_a_quadratic():
    model, samples = quadratic()
    before = loss_of(model, samples)
    scores = scores_of(model, samples, "obd")
    for part, place in itertools.product(("weight", "bias"), range(2)):
        tensor = getattr(model[0], part).data
        for index in range(tensor[place].numel()):
            flat = tensor[place].view(-1)
            value, flat[index] = float(flat[index]), 0.0
            change = loss_of(model, samples) - before  # at a minimum there is no first order
            flat[index] = value
            assert float(scores[part][place].view(-1)[index]) == pytest.approx(change, rel=1e-6)


def test_obd_is_the_exact_diagonal_of_a_network_with_relu():
    model, samples = convolutions()
    model = model.double()
    samples = Samples(samples.inputs.double(), samples.loss, samples.labels)
    names = [name for name, _ in model.named_parameters()]

    def loss(*values):
        outputs = torch.func.functional_call(
            model, dict(zip(names, values, strict=True)), (samples.inputs,)
        )
        return samples.loss(outputs, torch.arange(20))

    values = tuple(p.detach() for p in model.parameters())
    hessian = torch.autograd.functional.hessian(loss, values, vectorize=True)
    for layer, numbers in enumerate(((0, 1), (2, 3))):
        scores = scores_of(model, samples, "obd", layer)
        for part, number in zip(("weight", "bias"), numbers, strict=True):
            size = values[number].numel()
            exact = hessian[number][number].reshape(size, size).diagonal().view_as(values[number])
            assert torch.allclose(scores[part], exact * values[number].square() / 2, rtol=1e-5)


def test_the_surgeon_knows_what_a_quadratic_loses():
    """Each weight of a row alone, with the others where they are best then."""
    model, samples = quadratic(rows=2)
    before = loss_of(model, samples)
    scores = scores_of(model, samples, "obs", greedy=False, damping=0, block=0)
    ones = torch.cat([samples.inputs, torch.ones(40, 1)], 1)
    for row, column in itertools.product(range(2), range(6)):
        others = [c for c in range(6) if c != column]
        best = torch.linalg.lstsq(ones[:, others], samples.labels[:, row]).solution
        lost = (ones[:, others] @ best - samples.labels[:, row]).square().mean()
        own = model(samples.inputs)[:, row].detach()
        change = float(lost - (own - samples.labels[:, row]).square().mean())
        score = scores["bias"][row] if column == 5 else scores["weight"][row, column]
        assert float(score) == pytest.approx(change, rel=1e-6)
    assert before > 0


def test_the_surgeon_s_survivors_are_the_best_there_are():
    model, samples = quadratic(rows=3)
    rule = CRITERIA.of({"kind": "obs", "damping": 0, "block": 0}, "")
    seen = Observations(model, rule, samples=samples)
    prune_(model, PruneConfig(criterion=rule, density=0.5), seen=seen)
    ones = torch.cat([samples.inputs, torch.ones(40, 1)], 1)
    matrix = torch.cat([model[0].weight, model[0].bias[:, None]], 1).detach()
    assert int(matrix.count_nonzero()) == 9
    for row, target in zip(matrix, samples.labels.T, strict=True):
        stay = row != 0
        best = torch.linalg.lstsq(ones[:, stay], target[:, None]).solution[:, 0]
        assert torch.allclose(row[stay], best, atol=1e-8)


def test_weights_removed_one_by_one_end_where_they_go_together():
    """The corrections of ExactOBS and the closed form of all that went."""
    inputs = torch.tensor(RNG.normal(size=(30, 6)))
    hessian = inputs.T @ inputs / 30
    row = torch.tensor(RNG.normal(size=(1, 6)))
    costs = removal_costs(row, hessian)[0]
    order = costs.argsort(stable=True)
    for count in range(1, 6):
        kept = torch.ones(1, 6, dtype=torch.bool)
        kept[0, order[:count]] = False
        change = fitted(row, kept, hessian) - row
        lost = float((change @ hessian @ change.T).squeeze())
        # Never more than the sum of the costs so far; exactly the first one's for one weight.
        assert lost <= float(costs[order[:count]].sum()) + 1e-9
        if count == 1:
            assert lost == pytest.approx(float(costs[order[0]]))
    assert bool((costs[order].diff() >= 0).all())


def test_greedy_removal_is_found_by_trying_all():
    """At each step the weight goes whose loss, with all others refitted, is least."""
    inputs = torch.tensor(RNG.normal(size=(30, 5)) @ RNG.normal(size=(5, 5)))
    hessian, row = inputs.T @ inputs / 30, torch.tensor(RNG.normal(size=(1, 5)))
    costs = removal_costs(row, hessian)[0]
    gone, losses, lost = [], [], 0.0
    while len(gone) < 5:
        tried = {}
        for column in set(range(5)) - set(gone):
            kept = torch.ones(1, 5, dtype=torch.bool)
            kept[0, [*gone, column]] = False
            change = fitted(row, kept, hessian) - row
            tried[column] = float((change @ hessian @ change.T).squeeze())
        best = min(tried, key=tried.__getitem__)
        losses.append(tried[best] - lost)
        lost, gone = tried[best], [*gone, best]
    assert costs[gone].tolist() == pytest.approx(list(itertools.accumulate(losses, max)))
    # Rows of which some are pruned already, beside a whole one: those weights have no part.
    some = row.clone()
    some[0, [1, 4]] = 0
    there = [0, 2, 3]
    alone = removal_costs(row[:, there], hessian[there][:, there])[0]
    both = removal_costs(torch.cat([some, row]), hessian)
    assert torch.allclose(both[0, there], alone) and both[0, [1, 4]].tolist() == [0, 0]
    assert torch.allclose(both[1], costs)


@pytest.mark.parametrize(("block", "share"), [(0, 0.8), (7, 1.0)])
def test_rows_of_groups_are_mended_and_blocks_by_themselves(block, share):
    inputs = torch.rand(50, 4, 5, 5, dtype=torch.float64)
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2)).double()
    samples = samples_of(inputs, torch.zeros(50, 100))
    samples = Samples(inputs, samples.loss, samples.labels)
    rule = CRITERIA.of({"kind": "obs", "block": block}, "")
    seen = Observations(model, rule, samples=samples)
    layer = seen.layers()[0]
    found = moments(layer, seen, 50)
    assert found.shape == (2, 19, 19)
    # The bias column counts the positions; a column is the sum of its pixels.
    assert found[0, -1, -1] == 25 and found[1, 4, -1] == pytest.approx(
        float(inputs[:, 2].sum()) / 50
    )
    weight, before = model[0].weight.detach().clone(), model(inputs).detach()
    prune_(model, PruneConfig(criterion=rule, density=0.4), seen=seen)
    kept = model[0].weight.detach() != 0
    with torch.no_grad():
        mended = (model(inputs) - before).square().mean()
        plain = nn.functional.conv2d(inputs, weight * kept, model[0].bias, padding=1, groups=2)
    assert float(mended) < share * float((plain - before).square().mean())


def test_least_squares_scores_are_what_the_outputs_lose():
    model, samples = quadratic()
    scores = scores_of(model, samples, "least_squares", damping=0)
    lost = samples.inputs[:, 3] * model[0].weight[1, 3].detach()
    assert float(scores["weight"][1, 3]) == pytest.approx(float(lost.square().mean()))
    assert float(scores["bias"][0]) == pytest.approx(model[0].bias[0].item() ** 2)


# First order, activations, labels


def test_taylor_of_a_map_is_the_loss_s_true_change_where_it_is_small():
    model, samples = convolutions()
    with torch.no_grad():  # small: the change is of first order
        model[1].weight[1] *= 1e-3
        model[1].bias[1] = 1e-3
    scores = scores_of(model, samples, "feature_taylor", normalise=False)["weight"]
    numbers = torch.arange(20)
    whole = nn.functional.cross_entropy(model(samples.inputs), samples.labels, reduction="none")
    with torch.no_grad():
        model[1].weight[1] = 0
        model[1].bias[1] = 0
    less = nn.functional.cross_entropy(model(samples.inputs), samples.labels, reduction="none")
    change = (whole - less).abs().mean().item() / 16  # the score is the mean over 4 × 4 positions
    assert float(scores[1, 0, 0, 0]) == pytest.approx(change, rel=2e-2) and len(numbers) == 20
    normal = scores_of(model, samples, "feature_taylor")["bias"]
    assert float(normal.square().sum()) == pytest.approx(1, rel=1e-4)


def test_apoz_counts_zeros():
    model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1.0], [-1.0]]))
        model[0].bias.copy_(torch.tensor([0.5, -2.5, 0.5]))
    rule = CRITERIA.of("apoz", "")
    with Observations(model, rule) as seen:
        model(torch.tensor([[0.0], [1.0], [2.0], [3.0]]))
        seen.step()
    # 0.5 1.5 2.5 3.5; 0 0 0 0.5; 0.5 0 0 0
    assert rule.scores(seen.layers()[0], seen)["bias"].tolist() == [1.0, 0.25, 0.25]


def test_entropy_by_hand():
    model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 1.0, 1.0]))
    samples = samples_of([[0.0], [1.0], [2.0], [3.0]], torch.zeros(4, 1))
    scores = scores_of(model, samples, "entropy", bins=4)["bias"].tolist()
    # One of four in each bin; always the same; three zeros and a one: 3/4 and 1/4.
    quarter = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    assert scores == pytest.approx([np.log(4), 0, quarter])


def test_lda_by_hand():
    """Two classes of two images: means 1 and 4 with spread 1, and means that are the same."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1))
        model[0].bias.copy_(torch.tensor([0.0, 3.0]))
    # The largest response counts: 0, 2 of class 0 and 3, 5 of class 1.
    maps = torch.tensor([[0.0, -1.0], [2.0, 1.0], [1.0, 3.0], [5.0, 0.0]]).reshape(4, 1, 1, 2)
    labels = torch.tensor([0, 0, 1, 1])
    samples = samples_of(maps, labels, nn.functional.cross_entropy)
    between, within = 1.5**2, 1.0
    assert scores_of(model, samples, "lda")["bias"].tolist() == pytest.approx(
        [between / (between + within), 0]
    )
    with pytest.raises(ConfigError, match="lda needs the classes"):
        scores_of(model, samples_of(maps, torch.zeros(4, 2)), "lda")


def test_correlation_is_numpy_s():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    inputs = torch.tensor(RNG.normal(size=(200, 4))).float()
    inputs[:, 2] = 0.5  # never changes: no correlation
    samples = samples_of(inputs, torch.zeros(200, 1))
    given = model[:2](inputs).detach().numpy()
    scores = scores_of(model, samples, "correlation")
    for row, column in itertools.product(range(3), (0, 1, 3)):
        expected = abs(np.corrcoef(inputs[:, column].numpy(), given[:, row])[0, 1])
        assert float(scores["weight"][row, column]) == pytest.approx(expected, abs=1e-6)
    assert scores["weight"][:, 2].tolist() == [0, 0, 0] and scores["bias"].tolist() == [1, 1, 1]


def test_filter_norm_is_without_the_bias():
    model, _ = convolutions()
    with torch.no_grad():
        model[1].bias.fill_(9.0)
    for order in (1, 2):
        scores = scores_of(model, None, "filter_norm", order=order)
        expected = np.linalg.norm(model[1].weight.detach().flatten(1).numpy(), order, axis=1)
        assert scores["bias"].numpy() == pytest.approx(expected)


class Normalised(nn.Module):
    """A convolution with a batch normalisation after it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().flatten(1))


def test_slimming_goes_by_gamma_before_it_was_folded():
    own = Normalised()
    with torch.no_grad():
        own.norm.weight.copy_(torch.tensor([0.5, -0.01, 2.0, 0.1]))
        own.norm.running_var.copy_(torch.tensor([1.0, 1e-6, 100.0, 1.0]))  # folded, 1 is largest
        own.norm.bias.fill_(0.0)
    model = network_of(own.eval(), (1, 4, 4))
    assert scores_of(model, None, "slimming")["bias"].tolist() == pytest.approx([0.5, 0.01, 2, 0.1])
    stage = PruneConfig(criterion="slimming", granularity="channel", scope="network", density=0.75)
    prune_(model, stage)
    kept = model.conv.weight.flatten(1).any(1).tolist()
    assert kept == [True, False, True, True] and model.fc.weight.all()
    with pytest.raises(ConfigError, match="'slimming' needs batch normalisations behind layers"):
        prune_(mlp([4, 3, 2]), stage)


# Masks by trying


def toy():
    """Of 8 neurons the outputs hang on two alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[2].weight[:, [0, 1, 3, 4, 6, 7]] *= 1e-3
    inputs = torch.rand(64, 6)
    return model, samples_of(inputs, model(inputs).detach())


def test_masks_that_are_tried_beat_those_they_begin_with():
    found = {}
    for kind, settings in (
        ("random_masks", {"tries": 1}), ("random_masks", {"tries": 30}),
        ("genetic", {"population": 8, "generations": 1}),
        ("genetic", {"population": 8, "generations": 8}),
    ):  # fmt: skip
        model, samples = toy()
        rule = CRITERIA.of({"kind": kind} | settings, "")
        seen = Observations(model, rule, samples=samples)
        prune_(model, PruneConfig(criterion=rule, density=0.25, layers={"2": 1.0}), seen=seen)
        kept = int(model[0].weight.count_nonzero() + model[0].bias.count_nonzero())
        assert kept == 14 and model[2].weight.all()  # trying leaves no masks behind
        found[kind, *settings.values()] = loss_of(model, samples)
    assert found["random_masks", 30] < found["random_masks", 1]
    assert found["genetic", 8, 8] < found["genetic", 8, 1]


def test_the_same_seed_tries_the_same_masks():
    kept = []
    for seed in (1, 1, 2):
        model, samples = toy()
        rule = CRITERIA.of({"kind": "genetic", "generations": 2, "seed": seed}, "")
        prune_(model, PruneConfig(criterion=rule, density=0.3),
               seen=Observations(model, rule, samples=samples))  # fmt: skip
        kept.append((model[0].weight != 0).tolist())
    assert kept[0] == kept[1] != kept[2]


# What they are shown


def test_a_look_shows_what_the_layer_takes_and_gives():
    model, samples = convolutions()
    model.train()
    seen = Observations(model, CRITERIA.of("entropy", ""), samples=samples)
    layer = seen.layers()[0]
    (look,) = seen.look(layer, 100, slopes=True)
    assert torch.equal(look.outputs, model[:3](samples.inputs)) and look.slopes.shape == (
        20,
        3,
        4,
        4,
    )
    columns = layer.columns(look.inputs)
    given = model[1].weight.flatten(1) @ columns[:, 0] + model[1].bias[:, None]
    assert torch.allclose(given.relu().reshape(20, 3, 4, 4), look.outputs, atol=1e-6)
    assert [len(x.inputs) for x in seen.look(layer, 5)] == [5] and model.training
    assert all(p.grad is None for p in model.parameters())
    assert seen.loss(100) == pytest.approx(loss_of(model.eval(), samples))
    assert seen.uses(layer) == pytest.approx(float((columns != 0).sum()) / 20 / 9)
    with pytest.raises(ConfigError, match="needs samples: Observations"):
        next(Observations(model, CRITERIA.of("obd", "")).look(layer, 5))


def test_wanda_compares_what_a_row_takes_with_the_row_alone():
    model, samples = convolutions()
    seen = Observations(model, CRITERIA.of("wanda", ""), samples=samples)
    layer = seen.layers()[0]
    (look,) = seen.look(layer, 128)
    taken = layer.columns(look.inputs)
    assert taken.shape[1] == 1 and taken.shape[3] > 1  # a convolution, its positions summed
    norms = taken[:, 0].square().sum((0, 2)).sqrt()
    expected = model[1].weight.detach().flatten(1).abs() * norms
    prune_(model, PruneConfig(criterion="wanda", density=0.5), seen=seen)
    kept = model[1].weight.detach().flatten(1) != 0
    assert len(set(kept.sum(1).tolist())) == 1 and not kept.all()
    for row, stays in zip(expected, kept, strict=True):
        assert row[stays].min() > row[~stays].max()
    assert model[1].bias.count_nonzero() == len(model[1].bias)

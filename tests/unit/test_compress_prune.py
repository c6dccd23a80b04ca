"""Pruning and sharing where one line decides: schedules, thresholds, gradients."""

import pytest
import torch
from torch import nn

from pleach.compression import PruneConfig, ShareConfig, prune_, reassign_, share_
from pleach.compression.scan import Sensitivity


def line(values) -> nn.Sequential:
    """A layer of one row with these weights."""
    model = nn.Sequential(nn.Linear(len(values), 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([values]))
    return model


def kept(model) -> list[bool]:
    return (model[0].weight != 0)[0].tolist()


@pytest.mark.parametrize(
    ("progress", "count"), [(0.0, 80), (0.5, round(20 + 60 * 0.125)), (1.0, 20)]
)
def test_the_schedule_begins_where_it_is_told(progress, count):
    """Zhu and Gupta's law, from `start` to the target."""
    model = line([float(n) for n in range(1, 101)])
    prune_(model, PruneConfig(density=0.2, start=0.8), progress=progress)
    assert sum(kept(model)) == count


def test_a_spliced_weight_does_not_flicker():
    """It leaves a tenth below the threshold and comes back a tenth above it."""
    model = line([1.0, -1.0, 0.5, 0.3, 0.1])
    threshold = 0.5 / float(model[0].weight.detach().std())
    stage = PruneConfig(quality=threshold, splice=True)
    prune_(model, stage)
    for value, stays in ((0.46, True), (0.44, False), (0.54, False), (0.56, True), (0.51, True)):
        model[0].parametrizations.weight.original.data[0, 2] = value
        prune_(model, stage)
        assert kept(model) == [True, True, stays, False, False], value


def test_a_weight_s_own_value_gets_its_own_gradient():
    model = line([1.0, 1.25, 3.0, 3.25])
    share_(model, ShareConfig(clusters=2, reassign=1))
    parameters = model[0].parametrizations.weight
    model(torch.tensor([[2.0, 3.0, 5.0, 7.0]])).sum().backward()
    assert parameters.original1.grad.tolist() == [2.0, 3.0, 5.0, 7.0]
    assert parameters.original0.grad.tolist() == [5.0, 12.0]
    with torch.no_grad():
        parameters.original1[1] = 3.0  # it has learned away from its centroid
    reassign_(model)
    assert parameters[0].codes.tolist() == [0, 1, 1, 1]


def test_the_least_density_counts_from_above():
    """A density below one that costs too much is not looked at."""
    curve = Sensitivity("fc1", (0.8, 0.4, 0.2, 0.1), (1.0, 2.0, 9.0, 1.5))
    assert [curve.least(error) for error in (0.5, 1.0, 3.0, 9.0)] == [1.0, 0.8, 0.4, 0.1]

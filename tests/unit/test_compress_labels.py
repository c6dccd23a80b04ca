"""Labels, losses and metrics: what is taken, what is refused, and what they steer."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pleach import metrics
from pleach.compression import (
    CompressConfig,
    PruneConfig,
    ShareConfig,
    TrainConfig,
    compress,
    error_percent,
    sensitivity,
    train,
)
from pleach.compression.train import objective, predict
from pleach.errors import ConfigError, DataError, GuessWarning, PleachWarning
from pleach.metrics import as_targets, wrong_percent
from pleach.models import mlp
from pleach.reference import Reference

NOTHING = CompressConfig().with_(density=1, clusters=256, epochs=0)
SHORT = CompressConfig(
    prune=PruneConfig(
        density=0.6, ramp=5, train=TrainConfig(epochs=10, batch_size=32, learning_rate=3e-3)
    ),
    share=ShareConfig(train=TrainConfig(epochs=4, batch_size=32, learning_rate=1e-3)),
)


def identity(size):
    """A network that puts out its inputs."""
    model = nn.Sequential(nn.Linear(size, size))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(size))
        model[0].bias.zero_()
    return model


EYE = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2],
        torch.tensor([0, 1, 2]),
        torch.tensor([0, 1, 2], dtype=torch.uint8),
        np.array([0, 1, 2], np.uint16),
    ],
)
def test_labels_of_every_kind_are_the_array_that_they_hold(labels):
    assert wrong_percent(EYE, labels) == 0
    assert wrong_percent(torch.tensor(EYE, requires_grad=True), labels) == 0
    assert error_percent(identity(3), EYE, labels) == 0
    (curve,) = sensitivity(identity(3), EYE, labels, [1.0])
    assert curve.errors == (0.0,)
    stages = []
    compress(identity(3), EYE, labels, NOTHING, validation=(EYE, labels), report=stages.append)
    assert [stage.error for stage in stages] == [0] * 4


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([[0], [1], [2]]), r"int64 of shape \(3, 1\) for 3 outputs: classes are integers"),
        (np.eye(3, dtype=int), r"int64 of shape \(3, 3\)"),
        (np.array([0.0, 1.0, 2.0]), r"float64 of shape \(3,\) for 3 outputs"),
        (np.array([0, 1]), "2 labels for 3 inputs"),
        (np.int64(0), "one number for 3 inputs"),
        (np.array([0, 1, 3]), "labels 0 to 3, 3 outputs"),
        (np.array([0, -1, 2]), "labels -1 to 2"),
        (np.array(["a", "b", "c"]), "must be numbers, not <U1"),
        ([[0], [1, 2], [3]], "labels are no array"),
        (np.full((3, 3), np.nan), r"hold nan at \[0, 0\], which is not finite"),
    ],
)
def test_labels_that_do_not_fit_are_refused_wherever_they_go(labels, words):
    model, trained = identity(3), []
    for call in (
        lambda: wrong_percent(EYE, labels),
        lambda: error_percent(model, EYE, labels),
        lambda: sensitivity(model, EYE, labels, [0.5]),
        lambda: train(model, EYE, labels),
        lambda: compress(model, EYE, labels),
        lambda: compress(
            model, EYE, None, validation=(EYE, labels), progress=lambda *_: trained.append(1)
        ),
    ):
        with pytest.raises(DataError, match=words):
            call()
    assert not trained


def test_validation_is_looked_at_before_any_training(monkeypatch):
    def begun(*_, **__):
        raise AssertionError("it trains")

    monkeypatch.setattr("pleach.compression.step.train", begun)
    for validation, words in (
        ((EYE[:, :2], [0, 1, 2]), "takes 3 a sample"),
        ((EYE.astype(np.uint8), [0, 1, 2]), "validation inputs are uint8, the calibration's float"),
        (EYE, "validation is a pair"),
    ):
        with pytest.raises(DataError, match=words):
            compress(identity(3), EYE, [0, 1, 2], validation=validation)
    with pytest.raises(DataError, match="a loss needs labels"):
        compress(identity(3), EYE, loss="mse")


def test_outputs_that_are_not_finite_have_no_error():
    for outputs in (np.array([[np.nan, 1.0]]), np.array([[1.0, np.inf]])):
        with pytest.raises(DataError, match="outputs hold (nan|inf) at"):
            wrong_percent(outputs, [1])


def test_one_output_tells_two_classes():
    outputs = np.array([[-1.0], [0.0], [0.5]])
    assert wrong_percent(outputs, [0, 0, 1]) == 0
    assert wrong_percent(outputs, np.array([[False], [False], [True]])) == 0
    with pytest.raises(DataError, match="labels 0 to 2, 1 output, which tells 0 from 1"):
        wrong_percent(outputs, [0, 1, 2])


def test_targets():
    assert as_targets(np.array([1.5, 2.5]), 2, 1).tolist() == [[1.5], [2.5]]
    assert as_targets(torch.ones(2, 1, 2, dtype=torch.bfloat16), 2, 2).tolist() == [[1, 1]] * 2
    assert metrics.rmse(np.array([[3.0, 4.0]]), [[0.0, 0.0]]) == pytest.approx(12.5**0.5)
    with pytest.raises(DataError, match="classes are integers"):
        wrong_percent(EYE, EYE)
    with pytest.raises(ConfigError, match="error_pct, rmse, nrmse or a function"):
        metrics.named("accuracy")


def test_which_loss_is_taken():
    one, three = np.array([0, 1]), np.zeros((2, 3))
    assert objective(None, one, 2, 3)[0] == "cross_entropy"
    assert objective(None, one, 2, 1)[0] == "binary"
    assert objective("binary", one.astype(float), 2, 1)[1].dtype == np.int64
    assert objective("binary", three, 2, 3)[1].shape == (2, 3)
    assert objective("mse", one, 2, 1)[1].tolist() == [[0.0], [1.0]]
    for loss, labels, outputs, error, words in (
        ("hinge", one, 3, ConfigError, "cross_entropy, binary, mse or a function"),
        ("cross_entropy", three, 3, DataError, "are for the loss mse, not cross_entropy"),
        ("mse", one, 3, DataError, "for 3 outputs"),
        ("binary", one, 3, DataError, "are for the loss cross_entropy, not binary"),
        ("binary", three + 2, 3, DataError, "binary takes 0 to 1"),
        (nn.MSELoss(), three[:1], 3, DataError, "for 2 inputs"),
    ):
        with pytest.raises(error, match=words):
            objective(loss, labels, 2, outputs)


@pytest.fixture(scope="module")
def plane():
    """Points, on which side of a line they are, and two numbers that depend on them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    small = 0.004 * np.tanh(x @ rng.normal(size=6))
    large = 10 * np.tanh(x @ rng.normal(size=6))
    return x, (x[:, 0] + x[:, 1] > 0).astype(np.int64), np.column_stack([small, large])


def trained(x, labels, outputs, **options):
    model = mlp([6, 24, outputs])
    config = TrainConfig(epochs=25, batch_size=32, learning_rate=5e-3)
    train(model, x, labels, config, **options)
    return model


def test_one_logit_from_training_to_fixed_point(plane):
    x, side, _ = plane
    model = trained(x, side, 1)
    stages = []
    fixed = compress(model, x, side, SHORT, validation=(x, side), report=stages.append)
    assert all(stage.error < 6 and stage.metric == "error_pct" for stage in stages)
    run = fixed.dequantise(Reference(fixed).run(fixed.quantise(x)))
    assert np.mean((run[:, 0] > 0) != side) * 100 == pytest.approx(stages[-1].error)


def r2(outputs, targets):
    return 1 - ((outputs - targets) ** 2).mean(0) / targets.var(0)


def test_a_small_output_beside_a_large_one_keeps_its_precision(plane):
    x, _, targets = plane
    # Trained on outputs of one size, then the last layer is scaled: the network people have.
    model = trained(x, targets / [0.004, 10], 2)
    with torch.no_grad():
        scale = torch.tensor([0.004, 10.0])
        model.fc2.weight.mul_(scale[:, None])
        model.fc2.bias.mul_(scale)
    found = {}
    for how in ("auto", "each", "shared"):
        stages = []
        settings = replace(SHORT.with_(density=0.4, epochs=20), output_scale=how)
        fixed = compress(model, x, targets, settings, validation=(x, targets), report=stages.append)
        outputs = fixed.dequantise(Reference(fixed).run(fixed.quantise(x)))
        found[how] = r2(outputs, targets)
        assert stages[-1].metric == "nrmse"
        assert stages[-1].error == pytest.approx((1 - r2(outputs, targets).mean()) ** 0.5)
        assert bool(fixed.output_exponents) == (how != "shared")
    assert np.array_equal(found["auto"], found["each"])
    assert found["each"].min() > 0.8
    assert found["shared"][0] < 0.2  # what there would be without
    assert model.fc2.weight.abs().max() > 1  # the network given is as it was


def test_a_loss_and_a_metric_of_ones_own(plane):
    x, _, targets = plane
    labels = np.concatenate([targets[:, 1:], np.ones((len(x), 1))], 1)  # target and weight
    seen = set()

    def weighted(outputs, labels):
        seen.add((tuple(outputs.shape[1:]), tuple(labels.shape[1:]), labels.dtype))
        return (labels[:, 1] * (outputs[:, 0] - labels[:, 0]) ** 2).mean()

    def off_by(outputs, labels):
        return np.abs(outputs[:, 0] - labels[:, 0]).max()

    model = trained(x, labels, 1, loss=weighted)
    stages = []
    for metric in (None, off_by):
        compress(
            model, x, labels, SHORT, loss=weighted, metric=metric, validation=(x, labels),
            report=stages.append,
        )  # fmt: skip
    assert seen == {((1,), (2,), torch.float32)}
    assert [stage.metric for stage in stages] == ["loss"] * 4 + ["off_by"] * 4
    assert stages[3].error < 10 and stages[7].error > 1
    with pytest.raises(ConfigError, match="a loss must give one number as a tensor"):
        train(model, x, labels, loss=lambda outputs, labels: outputs)


def test_several_yes_or_no_outputs(plane):
    """Their labels are no logits: how far these are from 0 and 1 says nothing."""
    x, side, _ = plane
    both = np.column_stack([side, 1 - side]).astype(float)
    model, stages = trained(x, both, 2, loss="binary"), []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fixed = compress(
            model, x, both, SHORT, loss="binary", validation=(x, both), report=stages.append
        )
    outputs = fixed.dequantise(Reference(fixed).run(fixed.quantise(x)))
    assert np.mean((outputs > 0) != both) < 0.06
    assert stages[-1].metric == "loss" and stages[-1].error < 0.3


def test_a_network_no_better_than_a_guess_is_a_warning(plane):
    x, side, targets = plane
    good = trained(x, side, 2)
    with torch.no_grad():
        good.fc1.weight.copy_(good.fc1.weight.flip(1))
    with pytest.warns(GuessWarning, match=r"wrong for \d+\.\d % of its inputs, and always"):
        compress(good, x, side, NOTHING)
    with pytest.warns(GuessWarning, match="off its targets in root mean square"):
        compress(mlp([6, 4, 1]), x, targets[:, :1], NOTHING)


def test_each_output_of_a_regression_is_judged_by_itself(plane):
    """A small output that is dead or destroyed, whatever the large one does."""
    x, _, targets = plane
    good = trained(x, targets / [0.004, 10], 2)
    with torch.no_grad():
        good.fc2.weight.mul_(torch.tensor([[0.004], [10.0]]))
        good.fc2.bias.mul_(torch.tensor([0.004, 10.0]))
    found = predict(good, x).numpy()
    assert metrics.nrmse(found, targets) == pytest.approx((1 - r2(found, targets).mean()) ** 0.5)
    worse = found * [0, 1]
    assert metrics.rmse(worse, targets) == pytest.approx(metrics.rmse(found, targets), rel=0.01)
    assert metrics.nrmse(worse, targets) > 2 * metrics.nrmse(found, targets)
    assert metrics.in_doubt(found, targets) == [] and metrics.in_doubt(worse, targets) == [0]
    few = metrics.for_targets(targets, 2)(found[:1], targets[:1])  # in the deviation of them all
    assert few == pytest.approx(metrics.nrmse(found[:1], targets[:1], targets.std(0)))
    # Destroyed by compression: a warning that names it.
    settings = replace(NOTHING, output_scale="shared").with_(clusters=4)
    with pytest.warns(PleachWarning, match="compression output 0 "):
        compress(good, x, targets, settings)
    # Dead at the start: the guess is named, and compression is not blamed for it.
    with torch.no_grad():
        good.fc2.weight[0], good.fc2.bias[0] = 0, 0
    with pytest.warns(PleachWarning) as seen:
        compress(good, x, targets, NOTHING)
    assert [each.category for each in seen] == [GuessWarning]
    assert str(seen[0].message).startswith("output 0 (from 0; always 0) is 1")


def test_an_output_that_fixed_point_destroys_is_named(plane):
    x, _, targets = plane
    targets = targets * [1e-3, 1]
    model = trained(x, targets / targets.std(0), 2)
    with torch.no_grad():
        scale = torch.from_numpy(targets.std(0)).float()
        model.fc2.weight.mul_(scale[:, None])
        model.fc2.bias.mul_(scale)
    settings = replace(NOTHING, output_scale="shared")
    settings = replace(settings, share=replace(settings.share, initialisation="density"))
    with pytest.warns(PleachWarning, match="output 0 .* off its targets") as seen:
        compress(model, x, targets, settings)
    assert not any(issubclass(each.category, GuessWarning) for each in seen)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compress(model, x, targets, NOTHING)


def test_a_network_that_compression_made_a_guess_of_is_a_warning(plane):
    x, side, _ = plane
    good = trained(x, side, 2)
    with pytest.warns(PleachWarning, match="after compression .* keep more of its weights") as seen:
        compress(good, x, side, NOTHING.with_(density=0.01))
    assert not any(issubclass(each.category, GuessWarning) for each in seen)


def test_the_distance_to_soft_targets_of_one_logit_begins_at_zero(plane):
    """As that of several outputs does: what a log shows as the loss is comparable."""
    x, side, _ = plane
    good, losses = trained(x, side, 1), []
    still = TrainConfig(epochs=1, learning_rate=0.0, distillation=1.0)
    train(
        good, x, side, still, teacher=predict(good, x), progress=lambda *epoch: losses.append(epoch)
    )
    assert abs(losses[0][2]) < 1e-6

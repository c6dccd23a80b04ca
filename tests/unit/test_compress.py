"""Pruning, sharing, training and the whole path, on small data."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import pleach.data
from pleach.compression import (
    CompressConfig,
    PruneConfig,
    ShareConfig,
    TrainConfig,
    compress,
    error_percent,
    lenet_recipe,
    prune_,
    share_,
    train,
)
from pleach.compression.train import predict
from pleach.errors import ConfigError, DataError, ModelError
from pleach.models import lenet_300_100, load_checkpoint, mlp, save_checkpoint
from pleach.reference import Reference

FAST = CompressConfig(
    prune=PruneConfig(
        density=0.25,
        ramp=5,
        train=TrainConfig(epochs=10, batch_size=32, learning_rate=8e-3, distillation=0.5),
    ),
    share=ShareConfig(clusters=8, train=TrainConfig(epochs=3, batch_size=32, learning_rate=3e-4)),
)


@pytest.fixture(scope="module")
def digits():
    return pleach.data.load("digits")


@pytest.fixture(scope="module")
def dense(digits):
    model = mlp([64, 40, 20, 10])
    config = TrainConfig(epochs=15, batch_size=32, learning_rate=4e-3, dropout=0.1)
    train(model, digits.train_images, digits.train_labels, config)
    assert error_percent(model, digits.test_images, digits.test_labels) < 5
    return model


def joined(layer: nn.Linear) -> torch.Tensor:
    return torch.cat([layer.weight.detach().flatten(), layer.bias.detach()])


def nonzero(layer: nn.Linear) -> int:
    return int(joined(layer).count_nonzero())


# Pruning


def test_prune_keeps_the_largest_of_weights_and_biases_together(dense):
    model = copy.deepcopy(dense)
    with torch.no_grad():
        for name in ("fc1", "fc2", "fc3"):
            getattr(model, name).bias[1] = 4.0
    large = copy.deepcopy(model)
    prune_(model, PruneConfig(density=0.3, layers={"fc3": 0.5}))
    for name, density in (("fc1", 0.3), ("fc2", 0.3), ("fc3", 0.5)):
        before = joined(getattr(large, name))
        after = joined(getattr(model, name))
        assert nonzero(getattr(model, name)) == round(density * len(before))
        kept = after != 0
        assert torch.equal(after[kept], before[kept])
        assert before[kept].abs().min() >= before[~kept].abs().max()
        biases = kept[-len(getattr(model, name).bias) :]
        assert biases[1] and not biases.all()


def test_cubic_schedule():
    model = nn.Sequential(nn.Linear(99, 10))
    found = []
    for progress in (0, 0.25, 0.5, 1):
        prune_(model, PruneConfig(density=0.2), progress=progress)
        found.append(nonzero(model[0]))
    assert found == [1000, round(1000 * (0.2 + 0.8 * 0.75**3)), 300, 200]


def test_quality_is_in_deviations_of_the_dense_layer():
    model = nn.Sequential(nn.Linear(200, 50))
    with torch.no_grad():
        model[0].weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    deviation = float(model[0].weight.detach().std())
    before = joined(model[0]).abs()
    for _ in range(3):  # the deviation of the survivors is larger: it must not be used
        prune_(model, PruneConfig(quality=1.0))
        assert nonzero(model[0]) == int((before >= deviation).sum())


def test_a_users_own_loop_moves_survivors_only(dense, digits):
    model = copy.deepcopy(dense)
    prune_(model, PruneConfig(density=0.2))
    mask = model.fc1.weight.detach() != 0
    before = model.fc1.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = torch.tensor(digits.train_images[:200]).float() / 256
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), torch.tensor(digits.train_labels[:200]))
        loss.backward()
        optimizer.step()
    after = model.fc1.weight.detach()
    assert torch.equal(after != 0, mask)
    assert (after != before).any()
    # A second call may prune more and never brings one back.
    prune_(model, PruneConfig(density=0.9))
    assert torch.equal(model.fc1.weight.detach() != 0, mask)


def test_prune_names_the_nearest_layer(dense):
    with pytest.raises(ConfigError, match="no layer is called 'fc4': did you mean 'fc"):
        prune_(copy.deepcopy(dense), PruneConfig(layers={"fc4": 0.1}))


def test_prune_comes_before_share(dense):
    model = copy.deepcopy(dense)
    share_(model, ShareConfig(clusters=4))
    with pytest.raises(ModelError, match="'fc1' is parametrized already: prune before"):
        prune_(model)


# Sharing


def test_share_keeps_zeros_and_lets_any_optimizer_move_centroids(dense, digits):
    model = copy.deepcopy(dense)
    prune_(model, PruneConfig(density=0.3))
    mask = joined(model.fc2) != 0
    share_(model, ShareConfig(clusters=6, layers={"fc3": 3}))
    assert [len(p) for p in model.parameters()] == [6, 6, 3]
    assert torch.equal(joined(model.fc2) != 0, mask)
    assert len(joined(model.fc2)[mask].unique()) == 6

    values = joined(model.fc2)
    inputs = torch.tensor(digits.train_images[:64]).float() / 256
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model(inputs).square().sum().backward()
    codebook = model.fc2.parametrizations.weight.original0
    assert codebook is model.fc2.parametrizations.bias.original0
    gradient = codebook.grad.clone()
    optimizer.step()
    moved = joined(model.fc2)
    assert not torch.equal(moved, values)
    for value in values.unique():  # members of a cluster stay together, zeros stay zero
        assert len(moved[values == value].unique()) == 1
    assert torch.equal(moved != 0, mask)

    # Equation 3: the gradient of a centroid is the sum of its members'.
    plain = copy.deepcopy(dense)
    with torch.no_grad():
        for name in ("fc1", "fc2", "fc3"):
            layer = getattr(model, name)
            shared = values if name == "fc2" else joined(layer)
            getattr(plain, name).weight.copy_(shared[: layer.weight.numel()].view_as(layer.weight))
            getattr(plain, name).bias.copy_(shared[layer.weight.numel() :])
    # fc1 and fc3 moved in the step too: redo the gradient with what they were.
    again = copy.deepcopy(dense)
    prune_(again, PruneConfig(density=0.3))
    share_(again, ShareConfig(clusters=6, layers={"fc3": 3}))
    with torch.no_grad():
        for name in ("fc1", "fc3"):
            getattr(plain, name).weight.copy_(getattr(again, name).weight)
            getattr(plain, name).bias.copy_(getattr(again, name).bias)
    plain(inputs).square().sum().backward()
    members = torch.cat([plain.fc2.weight.grad.flatten(), plain.fc2.bias.grad])
    expected = [float(members[values == value].sum()) for value in values.unique() if value != 0]
    assert np.allclose(gradient.numpy(), expected, rtol=1e-4)


def test_shared_survives_copy_and_checkpoint(dense, tmp_path):
    model = copy.deepcopy(dense)
    prune_(model, PruneConfig(density=0.3))
    share_(model, ShareConfig(clusters=5))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.fc1.parametrizations.weight.original0.zero_()
    assert not joined(twin.fc1).any()  # still one codebook for weight and bias
    assert joined(model.fc1).any()  # and not the original's
    state = load_checkpoint(save_checkpoint(model, tmp_path / "a.safetensors"))
    assert torch.equal(state["fc1.weight"], model.fc1.weight)


def test_share_without_bias():
    model = nn.Sequential(nn.Linear(30, 4, bias=False))
    share_(model, ShareConfig(clusters=4))
    assert len(model[0].weight.unique()) == 4 and model[0].bias is None


# Training


def test_same_seed_same_weights_whatever_the_thread_count(digits):
    def trained(seed, threads):
        model = mlp([64, 20, 10])
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            config = TrainConfig(epochs=2, dropout=0.2, input_dropout=0.1)
            train(model, digits.train_images, digits.train_labels, config, seed=seed)
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        return model[0].weight

    first = trained(1, 1)
    assert torch.equal(first, trained(1, 2))
    assert not torch.equal(first, trained(2, 1))


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 3e-3), ("sgd", 0.1)])
def test_every_optimizer_learns(digits, schedule, optimizer, rate):
    model, losses = mlp([64, 20, 10]), []
    config = TrainConfig(
        epochs=6, batch_size=32, learning_rate=rate, optimizer=optimizer, schedule=schedule
    )
    train(
        model, digits.train_images, digits.train_labels, config,
        progress=lambda epoch, epochs, loss: losses.append((epoch, epochs, loss)),
    )  # fmt: skip
    assert [epoch for epoch, _, _ in losses] == [1, 2, 3, 4, 5, 6]
    assert losses[-1][2] < 0.5 * losses[0][2]
    assert error_percent(model, digits.test_images, digits.test_labels) < 15


@pytest.mark.parametrize("with_labels", [False, True])
def test_distillation_follows_the_teacher(dense, digits, with_labels):
    # Labels that tell nothing: what the student learns comes from the teacher.
    labels = np.zeros_like(digits.train_labels) if with_labels else None
    student = mlp([64, 30, 10], seed=3)
    train(
        student, digits.train_images, labels,
        TrainConfig(epochs=8, batch_size=16, learning_rate=8e-3, distillation=1.0),
        teacher=predict(dense, digits.train_images),
    )  # fmt: skip
    assert error_percent(student, digits.test_images, digits.test_labels) < 10


def test_the_models_own_dropout_follows_the_seed(digits):
    weights = []
    for disturbance in (0, 1):
        torch.manual_seed(disturbance)
        model = nn.Sequential(mlp([64, 16]), nn.ReLU(), nn.Dropout(0.5), mlp([16, 10]))
        train(model, digits.train_images, digits.train_labels, TrainConfig(epochs=1))
        weights.append(model[0][0].weight.detach())
        assert torch.initial_seed() == disturbance
    assert torch.equal(*weights)


def test_dropout_leaves_the_model_alone(digits):
    model = mlp([64, 20, 10]).eval()
    still = copy.deepcopy(model)
    train(model, digits.train_images, digits.train_labels, TrainConfig(epochs=1, dropout=0.5))
    train(still, digits.train_images, digits.train_labels, TrainConfig(epochs=1))
    assert not torch.equal(model.fc1.weight, still.fc1.weight)
    assert not model.training
    inputs = digits.test_images
    model.train()
    assert torch.equal(predict(model, inputs), predict(model, inputs))
    assert not any(module._forward_hooks for module in model.modules())


def test_arrays_that_do_not_match(digits):
    model, images, labels = mlp([64, 10]), digits.train_images, digits.train_labels
    for arguments, words in (
        ((images, None), "labels or a teacher"),
        ((images, labels[:5]), "5 labels for 1437 inputs"),
        ((images, labels / 2), "float64 of shape .1437,. for 10 outputs: classes are integers"),
        ((images, labels + 5), "labels 5 to 14, 10 outputs"),
        ((images[:, :9], labels), "'fc1' takes 64 a sample"),
        ((images.astype(np.int32), labels), "uint8 or float, not int32"),
        ((images[:2] * np.nan, labels[:2]), "not finite"),
    ):
        with pytest.raises(DataError, match=words):
            train(model, *arguments)


# The whole path


@pytest.fixture(scope="module")
def compressed(dense, digits):
    stages = []
    model = compress(
        dense, digits.train_images, digits.train_labels, FAST,
        validation=(digits.test_images, digits.test_labels), report=stages.append,
    )  # fmt: skip
    return model, stages


def test_stages(dense, digits, compressed):
    model, stages = compressed
    assert [stage.name for stage in stages] == ["dense", "pruned", "shared", "fixed point"]
    assert stages[0].kept == 1.0
    assert stages[1].kept == stages[2].kept == pytest.approx(0.25, abs=0.001)
    assert stages[3].kept <= stages[2].kept
    assert all(stage.error < 8 for stage in stages)
    run = Reference(model).run(model.quantise(digits.test_images))
    wrong = 100 * np.mean(run.argmax(axis=1) != digits.test_labels)
    assert stages[3].error == pytest.approx(wrong)
    assert all(len(layer.codebook) <= 8 for layer in model.layers)
    assert [layer.name for layer in model.layers] == ["fc1", "fc2", "fc3"]


def test_the_users_model_is_not_changed(dense, compressed):
    assert [type(module) for module in dense] == [nn.Linear, nn.ReLU] * 2 + [nn.Linear]
    assert all(nonzero(m) == joined(m).numel() for m in dense if isinstance(m, nn.Linear))


def test_same_seed_same_model(dense, digits, compressed):
    again = compress(dense, digits.train_images, digits.train_labels, FAST)
    assert again == compressed[0]


def test_without_labels_and_with_float_inputs(dense, digits):
    images = digits.train_images.astype(np.float32) / 256
    stages, epochs = [], []
    model = compress(
        dense, images, None, FAST,
        validation=(digits.test_images.astype(np.float32) / 256, digits.test_labels),
        report=stages.append, progress=lambda *epoch: epochs.append(epoch[:3]),
    )  # fmt: skip
    assert model.input_type.name == "INT16" and model.input_fraction == 14
    assert all(stage.error < 8 for stage in stages)
    assert epochs[0] == ("pruned", 1, 10) and epochs[-1] == ("shared", 3, 3)


@pytest.mark.filterwarnings("ignore::pleach.errors.PleachWarning")  # nobody has trained it
def test_a_network_of_ones_own_in_nested_form(digits):
    # Double precision and frozen: a copy is trained all the same.
    inner = nn.Sequential(nn.Linear(64, 16, bias=False), nn.ReLU(), nn.Dropout(0.1))
    model = nn.Sequential(nn.Flatten(), inner, nn.Linear(16, 10), nn.ReLU())
    model = model.double().requires_grad_(False)
    images = digits.train_images.reshape(-1, 8, 8)
    settings = CompressConfig(
        prune=PruneConfig(layers={"1.0": 0.5, "2": 0.8}, ramp=0, train=TrainConfig(epochs=1)),
        share=ShareConfig(train=TrainConfig(epochs=0)),
    )
    small = compress(model, images, digits.train_labels, settings)
    assert [layer.name for layer in small.layers] == ["1.0", "2"]
    assert [layer.bias for layer in small.layers] == [False, True]
    assert small.layers[0].density <= 0.5


def test_bad_requests_fail_before_any_training(dense, digits):
    trained = []
    for model, config, error, words in (
        (nn.Sequential(nn.Conv1d(1, 1, 3)), None, ModelError, "'0' is a Conv1d"),
        (dense, CompressConfig(share=ShareConfig(layers={"fx1": 4})), ConfigError, "'fx1'"),
    ):
        with pytest.raises(error, match=words):
            compress(
                model, digits.train_images, None, config,
                progress=lambda *epoch: trained.append(epoch),
            )  # fmt: skip
    assert not trained


def test_the_recipe_fits_its_network():
    _, config = lenet_recipe(seed=7)
    model = lenet_300_100()
    prune_(model, config.prune[0])
    share_(model, config.share, seed=config.seed)
    kept = sum(nonzero(layer) for layer in model if isinstance(layer, nn.Linear))
    assert config.seed == 7
    assert kept < 0.08 * 266_610

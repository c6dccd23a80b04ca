"""What other hands have trained, pruned or parametrized, and what goes wrong on the way."""

import copy
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from pleach import finish
from pleach.compile.calibrate import RealLayer, calibrate
from pleach.compression import (
    CompressConfig,
    PruneConfig,
    ShareConfig,
    TrainConfig,
    compress,
    prune_,
    reassign_,
    remove_neurons_,
    sensitivity,
    share_,
    train,
)
from pleach.compression.steps import reassignment
from pleach.compression.train import DROPOUTS, _drop, _dropped, exclusive, predict
from pleach.errors import ConfigError, DataError, ModelError, TrainingError
from pleach.format import dumps
from pleach.model import Activation
from pleach.models import lenet_5, mlp
from pleach.reference import Reference

X = np.random.default_rng(0).random((96, 6)).astype(np.float32)
Y = (X @ np.array([1, -2, 3, -1, 0.5, -1]) > 0.25).astype(np.int64)
ONCE = TrainConfig(epochs=1, batch_size=32)
SHORT = CompressConfig(
    prune=PruneConfig(density=0.5, ramp=1, train=ONCE), share=ShareConfig(clusters=8, train=ONCE)
)
QUANTISED = CompressConfig().with_(density=1, clusters=256, epochs=0)
pytestmark = pytest.mark.filterwarnings("ignore::pleach.errors.PleachWarning")


def network(seed=0):
    return mlp([6, 10, 2], seed=seed)


def fixed_outputs(model, inputs=X):
    return model.dequantise(Reference(model).run(model.quantise(inputs)))


# A file from any loop


def test_finish_is_what_a_users_loop_ends_with():
    model = network()
    prune_(model, PruneConfig(density=0.5))
    share_(model, ShareConfig(clusters=6))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.tensor(X)), torch.tensor(Y)).backward()
        optimizer.step()
    fixed = finish(model, torch.tensor(X))
    assert np.abs(fixed_outputs(fixed) - predict(model, X).numpy()).max() < 1e-3
    assert all(len(layer.codebook) <= 6 for layer in fixed.layers)
    assert sum(layer.kept for layer in fixed.layers) == round(70 * 0.5) + round(22 * 0.5)
    assert fixed.dense_bytes == 4 * 92
    assert parametrize.is_parametrized(model[0], "weight")  # and the user's is as it was


def test_finish_remembers_the_network_before_neurons_were_removed():
    model = mlp([6, 30, 8, 2])
    prune_(model, PruneConfig(density=0.1))
    assert remove_neurons_(model) > 0
    plain = copy.deepcopy(model)
    share_(model, ShareConfig(clusters=6))
    for each in (model, plain):
        assert finish(each, X).dense_bytes == 4 * sum(
            p.numel() for p in mlp([6, 30, 8, 2]).parameters()
        )


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_finish_takes_plain_tensors_of_every_precision(precision):
    model = network().to(precision)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * 4).round() / 4)
    fixed = finish(model, X, order=False, codebook_bits=8)
    inputs = torch.tensor(X)
    assert np.abs(fixed_outputs(fixed) - model.float()(inputs).detach().numpy()).max() < 0.05


def test_finish_says_what_is_missing():
    with pytest.raises(ModelError, match=r"'fc1' has 610 distinct weights.*share its weights"):
        finish(mlp([60, 10, 2]), np.zeros((1, 60), np.uint8))
    with pytest.raises(DataError, match="takes 6 a sample"):
        finish(network(), X[:, 1:])
    with pytest.raises(ConfigError, match="output_scale must be one of"):
        finish(network(), X, output_scale="all")


def test_finish_with_a_fraction_for_each_output():
    model = network()
    with torch.no_grad():
        model.fc2.weight[0] *= 1e-4
        model.fc2.bias[0] *= 1e-4
    real = predict(model, X).numpy()
    for how, most in (("each", 1e-3), ("shared", 2)):
        fixed = finish(model, X, output_scale=how)
        assert len(fixed.output_exponents) == (2 if how == "each" else 0)
        worst = (np.abs(fixed_outputs(fixed) - real) / np.abs(real).max(0)).max(0)
        assert worst[0] < most and worst[1] < 1e-3
    assert worst[0] > 0.02  # what a shared fraction costs


@pytest.mark.parametrize("scale", [256.0, 1 / 256])
@pytest.mark.parametrize("initialisation", ["linear", "optimal"])
def test_biases_far_from_the_weights_spoil_no_codebook(scale, initialisation):
    """The same function of larger or smaller inputs: shared as well as with inputs about 1."""

    def off(scale):
        model = mlp([20, 30, 3], seed=1)
        inputs = np.random.default_rng(1).random((50, 20)).astype(np.float32) * scale
        with torch.no_grad():
            model.fc1.weight /= scale
        before = predict(model, inputs)
        share_(model, ShareConfig(clusters=16, initialisation=initialisation))
        assert len(torch.cat([model.fc1.weight.flatten(), model.fc1.bias]).unique()) == 16
        return float((predict(model, inputs) - before).square().mean() / before.var())

    assert off(scale) < 4 * off(1.0)


def test_parametrizations_come_off_one_after_the_other():
    for parts in (("weight", "bias"), ("bias", "weight")):
        model = network()
        share_(model, ShareConfig(clusters=3))
        values = {part: getattr(model.fc1, part).detach().clone() for part in parts}
        for part in parts:
            parametrize.remove_parametrizations(model.fc1, part)
        assert all(torch.equal(getattr(model.fc1, part), values[part]) for part in parts)
        assert all(isinstance(getattr(model.fc1, part), nn.Parameter) for part in parts)


def test_shared_weights_can_be_shared_again():
    model = network()
    share_(model, ShareConfig(clusters=9, reassign=1))
    share_(model, ShareConfig(clusters=3))
    assert len(torch.cat([model.fc1.weight.flatten(), model.fc1.bias]).unique()) == 3


# Masks of others, and reparametrized weights


def test_masks_of_torchs_pruning_stay():
    model = network()
    prune.l1_unstructured(model.fc1, "weight", 0.5)
    prune.random_structured(model.fc2, "weight", 0.5, dim=1)
    prune.identity(model.fc2, "bias")
    masks = [model.fc1.weight_mask != 0, model.fc2.weight_mask != 0]
    with torch.no_grad():  # what the module shows until it next runs is old
        model.fc1.weight_orig.mul_(2)
    settings = CompressConfig(
        prune=PruneConfig(density=0.95, ramp=1, remove=False, train=ONCE),
        share=ShareConfig(train=ONCE),
        order=False,
    )
    before = [p.clone() for p in model.parameters()]
    for fixed in (finish(model, X, order=False), compress(model, X, Y, settings)):
        for layer, mask in zip(fixed.layers, masks, strict=True):
            assert not layer.dense()[:, : layer.inputs][~mask.numpy()].any()
            assert layer.dense()[:, : layer.inputs].any()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    model(torch.tensor(X))
    assert np.abs(fixed_outputs(finish(model, X)) - predict(model, X).numpy()).max() < 1e-3

    # In a loop of one's own, too, and the optimiser keeps its parameters.
    weight = model.fc1.weight_orig
    prune_(model, PruneConfig(density=0.9))
    assert model.fc1.parametrizations.weight.original is weight
    assert not model.fc1.weight[~masks[0]].any() and model.fc1.weight.any()


def test_sharing_and_removal_take_masks_of_torchs_pruning():
    for function in (lambda m: share_(m, ShareConfig(clusters=3)), remove_neurons_):
        model = network()
        prune.l1_unstructured(model.fc1, "weight", 30)
        function(model)
        assert int((model.fc1.weight == 0).sum()) == 30
        assert not model.fc1._forward_pre_hooks


def old(function):
    def apply(layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated, and people's networks have it
            return function(layer)

    return apply


@pytest.mark.parametrize(
    "function",
    [
        old(torch.nn.utils.weight_norm),
        old(torch.nn.utils.spectral_norm),
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
    ],
)
def test_weights_that_are_computed_are_taken_as_what_they_come_to(function):
    model = network()
    function(model.fc1)
    outputs = model.eval()(torch.tensor(X)).detach().numpy()
    fixed = compress(model, X, Y, QUANTISED)
    assert np.abs(fixed_outputs(fixed) - outputs).max() < 0.01
    assert compress(model, X, Y, SHORT).layers[0].kept <= 35


def test_what_is_assigned_to_a_masked_or_shared_weight():
    model = network()
    prune_(model, PruneConfig(density=0.5))
    mask = model.fc1.parametrizations.weight[0].mask
    with pytest.raises(ModelError, match=r"multiply by its mask, .*mask, first, or take the mask"):
        model.fc1.weight = torch.ones(10, 6)
    with pytest.raises(ModelError, match="multiply by its mask"):
        model.fc1.weight = nn.Parameter(torch.ones(10, 6))
    model.fc1.weight = torch.full((10, 6), 3.0) * mask
    assert torch.equal(model.fc1.weight, 3.0 * mask)
    share_(model, ShareConfig(clusters=2))
    before = model.fc1.weight.detach().clone()
    for part in ("weight", "bias"):
        for value in (torch.ones(10, 6), nn.Parameter(torch.ones(10, 6))):
            with pytest.raises(ModelError, match=r"a shared weight or bias: set its codebook, la"):
                setattr(model.fc1, part, value)
    assert torch.equal(model.fc1.weight, before)


# Threads, precisions


def test_threads_give_the_bytes_of_one_alone():
    """Networks are made, and numbers drawn, while others train with the dropout of their own."""

    def run(_):
        model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 2))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
        return dumps(compress(model, X, Y, SHORT))

    alone = run(0)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(run, range(8))) == {alone}


def test_networks_are_made_as_torch_makes_them_whatever_other_threads_draw():
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5), nn.Linear(800, 500), nn.Linear(500, 10)]
    state = torch.random.get_rng_state()
    model = lenet_5(seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, layer in zip(("conv1", "conv2", "fc1", "fc2"), layers, strict=True):
        made = getattr(model, name)
        assert torch.equal(made.weight, layer.weight) and torch.equal(made.bias, layer.bias)


def test_one_thread_trains_at_a_time():
    """Torch's count of threads belongs to the process: the last bit of a sum may hang on it."""
    inside, most = [], []

    def enter(_):
        with exclusive():
            inside.append(1)
            time.sleep(0.005)
            most.append((len(inside), torch.get_num_threads()))
            inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(8)))
    assert set(most) == {(1, 1)}


def test_training_moves_no_generator_of_torchs():
    model = nn.Sequential(nn.Linear(6, 2), nn.Dropout(0.1))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(model, X, Y, ONCE)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_whoever_calls_has_gradients_off(mode):
    alone = compress(network(), X, Y, SHORT)
    with mode():
        assert compress(network(), X, Y, SHORT) == alone
        assert finish(network(), X).layers[0].kept == 70


def test_a_network_in_double_precision_or_without_biases():
    for bias in (True, False):
        model = nn.Sequential(nn.Linear(6, 9, bias=bias), nn.ReLU(), nn.Linear(9, 2)).double()
        with torch.no_grad():
            model[0].weight[3] = 0
            model[2].weight[:, 5] = 0
        outputs = model(torch.tensor(X).double())
        assert predict(model, X).dtype == torch.float32
        assert remove_neurons_(model) == 2
        assert torch.allclose(model(torch.tensor(X).double()), outputs)
        train(model, X, Y, TrainConfig(epochs=2, dropout=0.1, input_dropout=0.1, distillation=0.5),
              teacher=predict(model, X))  # fmt: skip
        prune_(model, PruneConfig(density=0.5))
        share_(model, ShareConfig(clusters=3, reassign=1))
        reassign_(model)
        assert model[0].weight.dtype == torch.float64
        assert [curve.layer for curve in sensitivity(network().double(), X, Y, [0.5])]


# What is not finite


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_at_once(value):
    model, words = network(), rf"layer 'fc2': its bias holds {value} at \[1\], which is not finite"
    with torch.no_grad():
        model.fc2.bias[1] = value
    begun = []
    for call in (
        lambda: compress(model, X, Y, progress=lambda *_: begun.append(1)),
        lambda: train(model, X, Y, progress=lambda *_: begun.append(1)),
        lambda: finish(model, X),
        lambda: predict(model, X),
        lambda: prune_(copy.deepcopy(model)),
        lambda: share_(copy.deepcopy(model)),
        lambda: sensitivity(model, X, Y),
    ):
        with pytest.raises(ModelError, match=words):
            call()
    assert not begun


def test_training_that_diverges_stops_and_hands_out_what_there_is():
    wild = TrainConfig(epochs=50, optimizer="sgd", learning_rate=100, schedule="constant")
    targets = X[:, :1]
    with pytest.raises(TrainingError, match=r"epoch \d+ of 50: the loss is (nan|inf).*learning_r"):
        train(mlp([6, 1]), X, targets, wild)
    settings = CompressConfig(prune=SHORT.prune, share=ShareConfig(clusters=8, train=wild))
    with pytest.raises(TrainingError, match=r"shared: epoch \d+ of 50: the loss is") as caught:
        compress(mlp([6, 1]), X, targets, settings, report=lambda stage: None)
    assert [stage.name for stage in caught.value.stages] == ["dense", "pruned"]
    network_ = caught.value.network
    codebook = network_.fc1.parametrizations.weight.original0
    assert len(codebook) == 4  # of six weights and a bias, half is kept
    # It is as it was before the epoch that went wrong, so a file can be made of it.
    assert bool(codebook.isfinite().all())
    assert finish(network_, X).layers[0].kept <= 4


def test_a_loss_that_is_not_finite_is_named():
    with pytest.raises(TrainingError, match="epoch 1 of 20: the loss is nan"):
        train(network(), X, Y, loss=lambda outputs, labels: outputs.sum() * float("nan"))


# Accumulators


def wide():
    """Two layers whose second sums so much that 32 bits leave its weights too little."""
    codebook = np.array([-1.0, 0.011, 1.0])
    rng = np.random.default_rng(0)
    first = RealLayer("a", codebook[rng.integers(0, 3, (4000, 8))], None, Activation.RELU)
    second = RealLayer("b", codebook[rng.integers(0, 3, (2, 4000))], None, Activation.NONE)
    return [first, second], rng.integers(0, 256, (20, 8)).astype(np.uint8)


def test_the_width_of_accumulators_is_chosen():
    layers, inputs = wide()
    with pytest.raises(
        ModelError, match=r"'b': 32-bit .*set accumulator_bits = (\d+), or \"auto\""
    ):
        calibrate(layers, inputs, accumulator_bits=32)
    model = calibrate(layers, inputs)
    first, second = model.accumulator_bits()
    assert first <= 32 < second < 40
    # The least that does: one bit less would not.
    assert calibrate(layers, inputs, accumulator_bits=second) == model
    with pytest.raises(ModelError, match=f"set accumulator_bits = {second}, "):
        calibrate(layers, inputs, accumulator_bits=second - 1)


def test_torchs_own_mnist_example_fits():
    """Its shape, weights as torch makes them: 9216 inputs want 35 bits."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 10),
    )  # fmt: skip
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28)).astype(np.uint8)
    settings = CompressConfig(order=False).with_(density=0.25, epochs=0)
    bits = compress(model, images, None, settings).accumulator_bits()
    assert max(bits) == bits[2] > 32 >= max(bits[:2])


def test_a_width_that_is_too_small_loses_no_training():
    settings = CompressConfig(prune=SHORT.prune, share=SHORT.share, accumulator_bits=16)
    with pytest.raises(
        TrainingError, match=r"fixed point: layer 'fc1': 16-bit .*\.network"
    ) as caught:
        compress(network(), X, Y, settings, report=lambda stage: None)
    assert [stage.name for stage in caught.value.stages] == ["dense", "pruned", "shared"]
    assert finish(caught.value.network, X) == compress(network(), X, Y, SHORT)


def test_a_layer_that_no_section_holds_loses_no_training(monkeypatch):
    monkeypatch.setattr("pleach.engine.words.MAX_PAYLOAD", 20)
    with pytest.raises(
        TrainingError, match=r"fixed point: layer 'fc1': its .* weights take"
    ) as err:
        compress(network(), X, Y, SHORT)
    assert finish(err.value.network, X).layers[0].kept > 10


def test_a_training_lost_with_scaled_outputs_gives_real_ones_back():
    targets = np.column_stack([X[:, 0] * 1e-3, X[:, 1]])
    still = CompressConfig(accumulator_bits=16).with_(density=1, clusters=16, epochs=0)
    with pytest.raises(TrainingError) as caught:
        compress(network(), X, targets, still)
    found = predict(caught.value.network, X)
    assert torch.allclose(found, predict(network(), X), atol=0.3)


# Refused before the first epoch


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prune": PruneConfig(layers={"fx": 0.1})}, "prune.layers: no layer is called 'fx'"),
        (
            {"prune": (PruneConfig(), PruneConfig(train=TrainConfig(epochs=30, freeze=["nope"])))},
            r"prune\[1\].train.freeze: no layer is called 'nope'",
        ),
        ({"share": ShareConfig(layers={"fc": 3})}, "share.layers: no layer .*did you mean 'fc"),
        (
            {"share": ShareConfig(train=TrainConfig(freeze=("fc3",)))},
            "share.train.freeze: no layer is called 'fc3'",
        ),
        (
            {"share": ShareConfig(train=TrainConfig(freeze=("fc1", "fc2")))},
            "share.train.freeze names every layer",
        ),
    ],
)
def test_names_are_looked_at_before_any_training(settings, words):
    begun = []
    with pytest.raises(ConfigError, match=words):
        compress(network(), X, Y, CompressConfig(**settings), progress=lambda *_: begun.append(1))
    assert not begun


def test_what_no_file_holds_is_refused_before_any_training():
    begun = []
    model = nn.Sequential(nn.Linear(6, 65536), nn.ReLU(), nn.Linear(65536, 2))
    with pytest.raises(ModelError, match="'0': outputs is 65536, must be 1 to 65535"):
        compress(model, X, None, progress=lambda *_: begun.append(1))
    assert not begun


def test_a_network_that_is_shared_already():
    model, begun = network(), []
    share_(model, ShareConfig(clusters=3))
    with pytest.raises(ModelError, match="'fc1' is shared already.*pleach.finish takes it"):
        compress(model, X, Y, progress=lambda *_: begun.append(1))
    assert not begun
    again = compress(model, X, Y, CompressConfig(prune=(), share=SHORT.share))
    assert again.layers[0].kept == 70


def test_a_network_that_is_none():
    for call in (lambda: compress("net", X), lambda: finish(None, X)):
        with pytest.raises(ModelError, match="a network is a torch module, not (str|NoneType)"):
            call()


# Settings that steer the training


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_frozen_layers_stay():
    model = network()
    before = copy.deepcopy(model)
    train(model, X, Y, TrainConfig(epochs=2, freeze=["fc1"]))
    assert torch.equal(model.fc1.weight, before.fc1.weight)
    assert torch.equal(model.fc1.bias, before.fc1.bias)
    assert not torch.equal(model.fc2.weight, before.fc2.weight)
    with pytest.raises(ConfigError, match="every layer is frozen"):
        train(model, X, Y, TrainConfig(freeze=["fc1", "fc2"]))


@pytest.mark.parametrize("penalty", [{"l1": 0.05}, {"weight_decay": 0.3}])
def test_penalties_make_weights_smaller(penalty):
    config = {"epochs": 10, "batch_size": 16, "learning_rate": 0.01}
    plain, less = network(), network()
    train(plain, X, Y, TrainConfig(**config))
    train(less, X, Y, TrainConfig(**config, **penalty))
    assert weights(less).abs().mean() < 0.7 * weights(plain).abs().mean()
    small = [int((weights(m).abs() < 0.01).sum()) for m in (plain, less)]
    assert "l1" not in penalty or small[1] > 2 * small[0]  # one norm makes them sparse


def test_dropout_follows_the_connections_that_are_left(monkeypatch):
    """Equation 2 of Han 2015: a quarter of the connections, half of the dropout."""

    model = nn.Sequential(nn.Linear(4, 9, bias=False), nn.ReLU(), nn.Linear(9, 1))
    with torch.no_grad():
        model[0].weight[:, 1:] = 0
    drop, shares = _drop, []

    def seen(values, share, generator):
        shares.append((values.shape[1], share))
        return drop(values, share, generator)

    monkeypatch.setattr(sys.modules["pleach.compression.train"], "_drop", seen)
    for rescale in (False, True):
        config = TrainConfig(epochs=1, dropout=0.6, rescale_dropout=rescale, freeze=["0"])
        train(model, np.ones((1, 4), np.float32), np.array([0.0]), config)
    assert shares == [(4, 0.0), (9, 0.6), (4, 0.0), (9, 0.3)]


def test_the_models_own_dropout_draws_what_torchs_would():
    for kind in DROPOUTS:
        maps = {"Dropout1d": 1, "Dropout3d": 3}.get(kind.__name__, 2)
        values = torch.rand(7, 4, *[3] * maps)
        for p in (0.0, 0.3, 1.0):
            module = kind(p)
            torch.manual_seed(9)
            expected = module(values)
            found = _dropped(module, values, torch.Generator().manual_seed(9))
            assert torch.allclose(found, expected, rtol=1e-6), (kind, p)
            exact = not isinstance(module, nn.AlphaDropout | nn.FeatureAlphaDropout)
            assert torch.equal(found, expected) or not exact


def test_a_high_temperature_tells_the_student_of_the_other_classes():
    """A teacher sure of class 0, with class 1 before class 2: warmer targets show that more."""
    teacher = torch.tensor([[12.0, 6.0, 0.0]]).repeat(len(X), 1)
    gaps = []
    for temperature in (1.0, 8.0):
        model = mlp([6, 8, 3])
        config = TrainConfig(
            epochs=40, learning_rate=0.02, distillation=1.0, temperature=temperature
        )
        train(model, X, np.zeros(len(X), int), config, teacher=teacher)
        outputs = predict(model, X).mean(0)
        gaps.append(float(outputs[1] - outputs[2]))
    assert gaps[1] > 1.5 * gaps[0]


def test_spliced_weights_come_back_while_the_ramp_lasts():
    counts = {}
    for splice in (False, True):
        model, seen, learned = mlp([6, 40, 2]), [], []
        stage = PruneConfig(density=0.3, splice=splice, start=0.3)

        def narrow(epochs, optimizer, model=model, stage=stage, seen=seen, learned=learned):
            prune_(model, stage, progress=min(epochs / 4, 1))
            seen.append(model.fc1.weight.detach() != 0)
            learned.append(model.fc1.parametrizations.weight.original.detach().clone())

        config = TrainConfig(epochs=5, batch_size=16, learning_rate=0.03)
        train(model, X, Y, config, before_step=narrow)
        counts[splice] = sum(int((~a & b).sum()) for a, b in pairwise(seen))
        assert int(seen[-1].sum() + (model.fc1.bias != 0).sum()) == round(0.3 * 280)
        # What is masked from the first step to the last goes on learning behind its mask, or not.
        never = ~torch.stack(seen).any(0)
        assert never.any()
        assert torch.equal(learned[0][never], learned[-1][never]) == (not splice)
    assert counts[False] == 0 < counts[True]


def test_reassignment_moves_weights_to_the_nearer_value():
    model = network()
    share_(model, ShareConfig(clusters=4, reassign=0.5))
    codes = model.fc1.parametrizations.weight[0].codes.clone()
    settings = ShareConfig(clusters=4, reassign=0.5)
    config = TrainConfig(epochs=6, batch_size=16, learning_rate=0.02)
    reassign = reassignment(model, ShareConfig(reassign=settings.reassign, train=config))
    train(model, X, Y, config, before_step=reassign)
    list_ = model.fc1.parametrizations.weight
    assert not torch.equal(list_[0].codes, codes)
    assert len(model.fc1.weight.unique()) <= 4
    reassign_(model)
    nearest = (list_.original1[:, None] - list_.original0).abs().argmin(1)
    assert torch.equal(list_[0].codes, nearest)

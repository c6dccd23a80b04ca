"""The mathematics of the quantisers that are projections, and what of it stands in a file."""

import copy
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import pleach
from pleach.compression import CompressConfig, PruneConfig, ShareConfig, TrainConfig, finish, share_
from pleach.compression.activations import ACTIVATIONS
from pleach.compression.latent import input_moments, latent_, latents_of, stepping
from pleach.compression.quantisers import QUANTISERS, Matrix, Projection
from pleach.compression.quantisers.admm import LEVELS
from pleach.compression.regularisers.admm import Admm
from pleach.compression.steps import low_bit_
from pleach.errors import ConfigError
from pleach.format import dumps, loads
from pleach.models import mlp, network_of
from pleach.reference import Reference

pytestmark = pytest.mark.filterwarnings("ignore::pleach.errors.PleachWarning")
PROJECTIONS = [n for n in QUANTISERS.names() if issubclass(QUANTISERS._found[n], Projection)]
W = torch.randn(3, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def of(kind, **settings):
    return QUANTISERS.of({"kind": kind, **settings}, "quantiser")


def lost(weight, put):
    return float(((weight - put) ** 2).sum())


def net(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    model = mlp(list(sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return model


# --- each is a projection, and a file ------------------------------------------------------------


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_a_projection_has_as_many_values_as_it_says_and_takes_pruned_weights(kind):
    rule = of(kind)
    weight = W.clone()
    weight[0, :3] = 0
    weight[2] = 0  # a row of nothing
    fit = rule.fit(Matrix.of(weight))
    assert fit.codes.shape == weight.shape and fit.codes.dtype == torch.int64
    assert (fit.values.diff() >= 0).all() and fit.values.count_nonzero() <= rule.size
    assert fit.tensor.isfinite().all()
    assert fit.scales is None or (fit.scales >= 0).all()
    assert rule.fit(Matrix.of(W * 0)).tensor.isfinite().all()


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_a_file_holds_just_the_set(kind):
    model, clusters = net(12, 9, 4), 256
    inputs = torch.rand(64, 12, generator=torch.Generator().manual_seed(3))
    latents = {layer: getattr(model, layer).weight.detach().clone() for layer in ("fc1", "fc2")}
    moments = input_moments(model, inputs)
    rule = of(kind)
    share_(model, ShareConfig(quantiser=rule, clusters=clusters), moments=moments)
    fixed = loads(dumps(finish(model, inputs.numpy(), order=False)))
    for layer, (weight, bias) in zip(fixed.layers, fixed.weights(), strict=True):
        module = getattr(model, layer.name)
        found = moments[layer.name] if rule.looks else None
        matrix = replace(Matrix.of(latents[layer.name]), moments=found)
        fit = rule.fit(matrix)
        assert torch.allclose(module.weight, fit.tensor, atol=1e-6)
        close = 2.0**-12 * float(module.weight.abs().max())
        assert np.abs(weight - module.weight.detach().numpy()).max() < close
        assert np.abs(bias - module.bias.detach().numpy()).max() < 0.01
        assert len(np.unique(layer.values[layer.column_of < layer.inputs])) <= rule.size
        assert (layer.scales is None) == (fit.scales is None)
        if fit.scales is not None:  # the set's own integers, whatever the rows' scales are
            own = np.unique(layer.values[layer.column_of < layer.inputs])
            assert np.gcd.reduce(own) == np.abs(own).min()
    want = model(inputs).detach().numpy()
    got = fixed.dequantise(Reference(fixed).run(fixed.quantise(inputs.numpy())))
    assert np.abs(got - want).max() < 0.02 * np.abs(want).max()


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_training_through_it_ends_on_the_set(kind):
    x = np.random.default_rng(0).random((64, 6)).astype(np.float32)
    y = (x @ np.array([1, -2, 3, -1, 0.5, -1]) > 0.25).astype(np.int64)
    few = TrainConfig(epochs=2, batch_size=16, learning_rate=0.02)
    share = ShareConfig(quantiser=kind, clusters=256, train=few)
    prune = PruneConfig(density=0.7, ramp=0, train=replace(few, epochs=0))
    fixed = pleach.compress(net(6, 8, 2), x, y, CompressConfig(prune=prune, share=share))
    size = of(kind).size
    for layer in fixed.layers:
        assert len(np.unique(layer.values[layer.column_of < layer.inputs])) <= size
    assert sum(layer.kept for layer in fixed.layers) <= 0.71 * fixed.original
    loads(dumps(fixed))


# --- binary --------------------------------------------------------------------------------------


def test_binary_connect_is_the_sign_or_so_in_the_mean():
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, -0.25, 2.0], [0.0, -0.1, 0.75]]))
    plain, dice = copy.deepcopy(model), model
    rule = of("binary_connect", magnitude=1.0)
    latent_(plain, {"0": rule})
    assert plain[0].weight.tolist() == [[1, -1, 1], [1, -1, 1]]
    latent_(dice, {"0": of("binary_connect", magnitude=1.0, stochastic=True)}, seed=4)
    drawn = torch.stack([dice[0].weight.detach() for _ in range(4000)])
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    hard = torch.tensor([[0.5, -0.25, 1.0], [0.0, -0.1, 0.75]])  # 2 P(+1) − 1, P the hard sigmoid
    assert (drawn.mean(0) - hard).abs().max() < 5 / math.sqrt(4000)
    assert not drawn[:, 0, 2].eq(-1).any()
    dice.eval()
    assert torch.equal(dice[0].weight, plain[0].weight)
    # The gradient is the weight's own, and a step ends with a clip.
    dice(torch.ones(1, 3)).sum().backward()
    ((_, original),) = latents_of(dice)
    assert original.grad.tolist() == [[1, 1, 1], [1, 1, 1]]
    stepping(dice, 1)(0.0, None)
    assert original.tolist() == [[0.5, -0.25, 1.0], [0, pytest.approx(-0.1), 0.75]]


def test_bwn_is_the_nearest_scaled_sign_matrix_and_bnn_has_powers_of_two():
    bwn, bnn = of("bwn").fit(Matrix.of(W)), of("bnn").fit(Matrix.of(W))
    for row, put in zip(W, bwn.tensor, strict=True):
        best = min(
            lost(row, s * torch.tensor(b, dtype=row.dtype))
            for b in product((-1.0, 1.0), repeat=7)
            for s in [float(row @ torch.tensor(b, dtype=row.dtype)) / 7]
        )
        assert lost(row, put) == pytest.approx(best)
    assert torch.equal(bnn.tensor.sign(), bwn.tensor.sign())
    assert (bnn.scales.log2() % 1 == 0).all()
    assert ((bnn.scales / bwn.scales).log2().abs() <= 0.5).all()


def test_bwn_s_gradient():
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, -3.0, 0.1, 0.4]]))  # α = 1
    latent_(model, {"0": of("bwn")})
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    model(x).sum().backward()
    ((_, original),) = latents_of(model)
    assert original.grad.tolist() == [[1.25, 0.5, 3.75, 5.0]]  # g · (1/4 + 1(|w| ≤ 1))


def test_bwnh_is_the_best_for_what_the_layer_gives():
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    inputs[:, 1] += inputs[:, 0]
    weight = torch.randn(8, 6, generator=generator, dtype=torch.float64)
    moments = inputs.T @ inputs / 40
    matrix = Matrix(weight, weight != 0, moments)
    found, plain = of("bwnh").fit(matrix).tensor, of("bwn").fit(matrix).tensor

    def error(row, put):
        return float(((inputs @ (row - put)) ** 2).mean())

    met = 0
    for row, put, other in zip(weight, found, plain, strict=True):
        best = math.inf
        for signs in product((-1.0, 1.0), repeat=6):
            b = torch.tensor(signs, dtype=torch.float64)
            alpha = float(row @ moments @ b / (b @ moments @ b))
            best = min(best, error(row, alpha * b))
        assert best - 1e-12 <= error(row, put) <= error(row, other) + 1e-12
        met += error(row, put) < best + 1e-9
    assert met >= 6  # the others are where no single sign makes it better


# --- ternary -------------------------------------------------------------------------------------


def test_twn_s_threshold_and_scale_against_a_search():
    weight = W[:1]
    mean = weight.abs().mean()
    fit = of("twn").fit(Matrix.of(weight)).tensor
    over = weight.abs() > 0.7 * mean
    assert torch.equal(fit != 0, over)
    # The scale is the best for that threshold, and the optimal threshold the best of all.
    scale = fit.abs().max()
    assert lost(weight, fit) <= min(
        lost(weight, fit / scale * s) for s in scale * torch.linspace(0.5, 1.5, 101)
    )
    for each in ("layer", "row"):
        rows = W if each == "row" else W.reshape(1, -1)
        best = sum(
            min(
                lost(row, scale * row.sign() * (row.abs() >= least))
                for least in row.abs()
                for scale in [row.abs()[row.abs() >= least].mean()]
            )
            for row in rows
        )
        found = of("twn", threshold="optimal", scale=each).fit(Matrix.of(W))
        assert lost(W, found.tensor) == pytest.approx(best)
        assert (found.scales is None) == (each == "layer")


def test_ttq_s_gradients_by_finite_differences():
    model = nn.Sequential(nn.Linear(5, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.9, -0.6, 0.02, 0.4, -1.0]]))
    latent_(model, {"0": of("ttq", threshold=0.05)})
    x = torch.tensor([[0.3, -1.0, 2.0, 0.7, 0.4]], dtype=torch.float64)

    def loss():
        return (model(x) ** 3).sum()

    loss().backward()
    ((latent, original),) = latents_of(model)
    values = latent.through.values
    assert values.tolist() == pytest.approx([-0.8, 0.65])
    for place in range(2):
        with torch.no_grad():
            values[place] += 1e-6
            above = float(loss())
            values[place] -= 2e-6
            below = float(loss())
            values[place] += 1e-6
        assert float(values.grad[place]) == pytest.approx((above - below) / 2e-6, rel=1e-6)
    # A weight's own: what its place gets, times the magnitude of its value, 1 for zero.
    own = 3 * float(model(x).detach()) ** 2 * x[0]
    want = own * torch.tensor([0.65, 0.8, 1.0, 0.65, 0.8], dtype=torch.float64)
    assert torch.allclose(original.grad[0], want)


@pytest.mark.parametrize("levels", LEVELS)
def test_admm_s_projection_against_every_choice(levels):
    choices = torch.tensor(list(product(LEVELS[levels], repeat=5)), dtype=torch.float64)
    for row in torch.randn(4, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64):
        put = of("admm", levels=levels).fit(Matrix.of(row[None])).tensor[0]
        # Every choice with its own best scale; that of zeros only is 0 of 1.
        scales = choices @ row / choices.square().sum(1).clamp(min=1)
        best = float((row - scales[:, None] * choices).square().sum(1).min())
        assert lost(row, put) <= best * (1 + 1e-9)


def test_admm_s_three_updates_by_hand():
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.25]]))
    running = Admm(quantiser={"kind": "admm", "levels": "binary"}, rho=2.0).begin(model)
    # G = (0.625, 0.625), U = 0: ρ/2·‖W − G + U‖² = 2 · 0.375²
    assert float(running.penalty(model, list(model.parameters()))) == pytest.approx(2 * 0.375**2)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.75, 0.5]]))
        running.after_epoch(model)  # G the same, U = W − G
    assert float(running.penalty(model, [])) == pytest.approx(2 * 0.25**2)
    with pytest.raises(ConfigError, match=r"Admm.quantiser kmeans is no projection"):
        Admm(quantiser="kmeans")


# --- more bits -----------------------------------------------------------------------------------


def nearest_of(weight, levels):
    levels = torch.tensor(sorted(levels), dtype=weight.dtype)
    return levels[(weight[..., None] - levels).abs().argmin(-1)]


def test_fixed_point_minifloat_and_linear_steps_are_the_nearest_of_their_sets():
    weight = W / W.abs().max() * 0.9  # one bit before the point, 0.5 to 1
    found = of("fixed_point", bits=4).fit(Matrix.of(weight)).tensor
    assert torch.allclose(found, nearest_of(weight, [n / 8 for n in range(-8, 8)]))
    found = of("minifloat", exponent=2, mantissa=1).fit(Matrix.of(weight)).tensor
    top = 2.0 ** math.ceil(math.log2(0.9 / 1.5))  # of which 1.5 times is not less than the largest
    sizes = [top * 2.0**-e * (1 + m / 2) for e in range(4) for m in range(2)]
    sizes.remove(min(sizes))
    assert torch.allclose(found, nearest_of(weight, [0, *sizes, *(-s for s in sizes)]))
    found = of("qnn", bits=3).fit(Matrix.of(weight)).tensor
    assert torch.allclose(found, nearest_of(weight, [n / 4 for n in range(-4, 5)]))


def test_logarithmic_steps_are_nearest_in_the_exponent():
    weight = torch.tensor([[1.0, 0.72, 0.7, -0.3, 0.001]], dtype=torch.float64)
    found = of("qnn", bits=3, steps="logarithmic").fit(Matrix.of(weight)).tensor
    assert found.tolist() == [[1.0, 1.0, 0.5, -0.25, 0.25]]  # log2 0.72 = −0.47, clipped at 2^−2


def test_dorefa_s_weights_by_hand():
    weight = torch.tensor([[0.5, -0.2, 0.9, 0.01]], dtype=torch.float64)
    found = of("dorefa", bits=2, scale="one").fit(Matrix.of(weight)).tensor
    squeezed = np.tanh(weight.numpy()) / (2 * np.tanh(0.9)) + 0.5
    assert np.allclose(found.numpy(), 2 * np.rint(squeezed * 3) / 3 - 1)
    found = of("dorefa", bits=1).fit(Matrix.of(weight)).tensor
    assert found.tolist() == [pytest.approx([0.4025, -0.4025, 0.4025, 0.4025])]
    # Straight through the rounding, and by the chain rule through the rest.
    model = nn.Sequential(nn.Linear(4, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(weight)
    latent_(model, {"0": of("dorefa", bits=2, scale="one")})
    model(torch.ones(1, 4, dtype=torch.float64)).sum().backward()
    ((_, original),) = latents_of(model)
    own = weight.clone().requires_grad_()
    (own.tanh() / own.tanh().abs().max()).sum().backward()
    assert torch.allclose(original.grad, own.grad)


def test_shiftcnn_by_its_algorithm_and_for_one_term_by_search():
    weight = torch.tensor([[1.0, 0.8, -0.3, 0.04, 0.0625]], dtype=torch.float64)
    one = of("shiftcnn", terms=1).fit(Matrix.of(weight)).tensor
    sizes = [2.0**-n for n in range(7)]
    assert torch.equal(one, nearest_of(weight, [0, *sizes, *(-s for s in sizes)]))
    rule = of("shiftcnn", terms=2, bits=4)
    # 0.8: 1 is nearest, then −0.25 to what is left, −0.2. −0.3: −0.25, then −0.0625 of −0.05.
    two = rule.fit(Matrix.of(weight)).tensor
    assert two[0].tolist() == [1.0, 0.75, -0.3125, 0.0390625, 0.0625]
    with pytest.raises(ConfigError, match="more than 256 sums"):
        of("shiftcnn", terms=3, bits=5)


def test_inq_puts_the_largest_first_and_the_others_learn():
    weight = torch.tensor([[1.2, -0.7, 0.3, 0.04, -0.06, 0.5, 0.1, -0.26]])
    rule = of("inq", bits=3, portions=[0.5, 1.0])
    found = rule.fit(Matrix.of(weight)).tensor
    # 4/3 of 1.2 is 1.6: n₁ = 0, n₂ = −1. 0.3 is above half of 2^−1, 0.04 is not.
    assert found.tolist() == [[1.0, -0.5, 0.5, 0.0, 0.0, 0.5, 0.0, -0.5]]
    model = nn.Sequential(nn.Linear(8, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(weight)
    latent_(model, {"0": rule})
    ((latent, original),) = latents_of(model)
    assert latent.through.frozen.tolist() == [[True, True, True, False, False, True, False, False]]
    model(torch.ones(1, 8)).sum().backward()
    assert original.grad.tolist() == [[0, 0, 0, 1, 1, 0, 1, 1]]
    assert model[0].weight[0, 3].item() == pytest.approx(0.04)
    step = stepping(model, 1.0)
    step(0.9, None)
    assert not latent.through.frozen.all()
    step(1.0, None)
    assert latent.through.frozen.all() and torch.equal(model[0].weight.detach(), found)


def test_hashed_values_get_the_sums_of_their_places():
    model = nn.Sequential(nn.Linear(20, 6, bias=False))
    rule = of("hashed", values=3)
    latent_(model, {"0": rule})
    ((latent, _),) = latents_of(model)
    place, sign = rule.places(Matrix.of(model[0].weight.detach()))
    assert place.unique().tolist() == [0, 1, 2] and sign.unique().tolist() == [-1, 1]
    assert len(model[0].weight.unique()) <= 6
    x = torch.rand(1, 20)
    model(x).sum().backward()
    for value in range(3):
        want = (x.expand(6, 20) * sign)[place == value].sum()
        assert float(latent.through.values.grad[value]) == pytest.approx(float(want), rel=1e-4)
    other = QUANTISERS.of({"kind": "hashed", "values": 3, "seed": 1}, "").places(Matrix.of(W))[0]
    assert not torch.equal(other, rule.places(Matrix.of(W))[0])


# --- activations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["sign", "ternary", "dorefa", {"kind": "dorefa", "bits": 2, "top": 3.0}, "qnn",
     {"kind": "qnn", "signed": True, "bits": 3, "whole": 1}],
)  # fmt: skip
@pytest.mark.parametrize("quantiser", ["kmeans", "bwn"])
def test_hidden_layers_give_few_bits_in_the_file_too(kind, quantiser):
    model = net(10, 16, 12, 3)
    inputs = torch.rand(200, 10, generator=torch.Generator().manual_seed(3)) * 2 - 1
    low_bit_(model, kind)
    share_(model, ShareConfig(quantiser=quantiser, clusters=64))
    fixed = loads(dumps(finish(model, inputs.numpy(), order=False)))
    function = ACTIVATIONS.of(kind, "").function
    hidden = model[:2](inputs)
    assert len(hidden.unique()) <= 1 + (function.high - function.low) / function.unit
    assert fixed.layers[0].activation.sign == function.sign
    bounds = [round(bound / function.unit) for bound in (function.low, function.high)]
    assert fixed.layers[0].activation.bounds == tuple(bounds)
    want = model(inputs).detach().numpy()
    got = fixed.dequantise(Reference(fixed).run(fixed.quantise(inputs.numpy())))
    # Where a sum lies by a threshold one step may come out otherwise: few rows do.
    off = np.abs(got - want).max(1) > 0.03 * np.abs(want).max()
    assert off.mean() < 0.1


@pytest.mark.parametrize(("quantiser", "kind"), [("bwn", "sign"), ("bnn", "ternary")])
def test_convolutions_with_pooling_and_groups_too(quantiser, kind):
    inputs = torch.rand(20, 2, 10, 10, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, groups=2),
        nn.ReLU(), nn.Flatten(), nn.Linear(72, 3),
    )  # fmt: skip
    for network in (network_of(model, (2, 10, 10)), model):
        low_bit_(network, kind)
        share_(network, ShareConfig(quantiser=quantiser, clusters=64))
        fixed = loads(dumps(finish(network, inputs.numpy())))
        want = network(inputs).detach().numpy()
        got = fixed.dequantise(Reference(fixed).run(fixed.quantise(inputs.numpy())))
        assert (np.abs(got - want).max(1) > 0.03 * np.abs(want).max()).mean() < 0.11
        # Of a sign nothing is scaled; and sums of few small integers are short.
        assert [layer.scales is None for layer in fixed.layers] == [kind == "sign"] * 2 + [False]
        assert max(fixed.accumulator_bits()) < 24


def test_gradients_pass_between_the_bounds_and_dorefa_s_in_few_bits():
    from pleach.compression.activations.dorefa import few_bits
    from pleach.models import Function

    x = torch.tensor([-1.5, -0.5, 0.25, 1.5], requires_grad=True)
    for kind, gradient in (("sign", [0, 1, 1, 0]), ("dorefa", [0, 0, 1, 0])):
        x.grad = None
        Function(ACTIVATIONS.of(kind, "").function)(x).sum().backward()
        assert x.grad.tolist() == gradient
    gradient = torch.tensor([[0.3, -1.0, 0.05], [0.0, 0.0, 0.0]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([few_bits(gradient, 2, generator) for _ in range(6000)])
    near = drawn[:, 0, :, None] - torch.tensor([-1, -1 / 3, 1 / 3, 1], dtype=torch.float64)
    assert near.abs().min(-1).values.max() < 1e-9
    inner = drawn.mean(0)[0] - gradient[0]
    assert inner[[0, 2]].abs().max() < 5 * 0.34 / math.sqrt(6000)
    assert not drawn[:, 1].any()


# --- what does not go together -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "words"),
    [
        ({"quantiser": "dorefa"}, "share.clusters is 16 for layer 'fc1': the set of dorefa has 16"),
        ({"quantiser": "twn", "reassign": 1.0}, "with twn they learn behind its set"),
        ({"quantiser": "twn", "initialisation": "linear"}, "does not go with twn"),
        ({"activations": "signs"}, "activations must be one of dorefa, qnn, sign, ternary"),
        ({"quantiser": {"kind": "inq", "portions": [0.5]}}, "rising shares to 1"),
        ({"quantiser": {"kind": "minifloat", "exponent": 5, "mantissa": 3}}, "7 bits at most"),
    ],
)
def test_what_is_refused_before_training(share, words):
    x, y = np.ones((8, 4), np.float32), np.array([0, 1] * 4)
    with pytest.raises(ConfigError, match=words):
        config = CompressConfig.from_dict({"share": share, "prune": {"density": 1.0}})
        pleach.compress(net(4, 3, 2), x, y, config)


def test_a_network_without_hidden_functions_has_none_of_few_bits():
    x, y = np.ones((8, 4), np.float32), np.array([0, 1] * 4)
    config = CompressConfig.from_dict({"share": {"activations": "sign"}})
    with pytest.raises(ConfigError, match="no hidden layer of the network has a function"):
        pleach.compress(nn.Sequential(nn.Linear(4, 2)), x, y, config)

"""What takes a layer's place computes what its decomposition says, and goes the whole path."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import pleach
from pleach.compression import (
    CompressConfig,
    Factorise,
    PruneConfig,
    Share,
    ShareConfig,
    Step,
    factorise_,
)
from pleach.compression.config import TrainConfig
from pleach.compression.factorise import FACTORISERS, PrunableLayer
from pleach.compression.factorise.cp import polyadic
from pleach.compression.factorise.product import quantised
from pleach.compression.factorise.tensor_train import laid_out, train_of
from pleach.compression.factorise.ternary import semidiscrete
from pleach.compression.latent import input_moments
from pleach.compression.steps import Prune
from pleach.errors import ConfigError
from pleach.format import dumps, loads
from pleach.models import network_of

pytestmark = pytest.mark.filterwarnings("ignore::pleach.errors.PleachWarning")
SHARE = Share(ShareConfig(clusters=64, train=TrainConfig(epochs=0)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def conv(rows=10, channels=8, size=(3, 3), seed=0, **more):
    module = nn.Conv2d(channels, rows, size, **more).double()
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator(seed), dtype=tensor.dtype))
    return module


def factors(kind, module, moments=None, **settings):
    rule = FACTORISERS.of({"kind": kind, **settings}, "factoriser")
    return rule.factors(PrunableLayer("layer", module, moments=moments))


def kernel(layers, like):
    """What layers without biases compute as one convolution: their answer to single pixels."""
    rows, channels, height, width = like.weight.shape
    found = torch.zeros_like(like.weight)
    bias = [m.bias for m in layers.modules() if getattr(m, "bias", None) is not None]
    for c, y, x in itertools.product(range(channels), range(height), range(width)):
        image = torch.zeros(1, channels, height, width, dtype=like.weight.dtype)
        image[0, c, y, x] = 1
        found[:, c, y, x] = layers(image)[0, :, 0, 0] - sum(bias)
    return found.detach()


def far(one, other):
    return float(((one - other) ** 2).sum())


@pytest.mark.parametrize("more", [{"stride": (2, 1), "padding": (1, 2)}, {"padding": "same"}])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("svd", {"rank": 2, "convolutions": "matrix"}),
        ("svd", {"rank": 2, "convolutions": "separable"}),
        ("tucker2", {"ranks": [3, 2]}),
        ("cp", {"rank": 3}),
        ("block_term", {"blocks": 2, "rank_in": 2, "rank_out": 1}),
        ("ternary", {"rank": 5}),
        ("product", {"part": 4, "codewords": 3}),
    ],
)
def test_factors_are_a_convolution_with_the_same_stride_and_padding(kind, settings, more):
    module = conv(**more)
    layers = factors(kind, module, **settings)
    assert sum(p.numel() for p in layers.parameters()) < 2 * module.weight.numel()
    x = torch.randn(2, 8, 7, 6, generator=generator(1), dtype=torch.float64)
    plain = nn.Sequential(*(m for m in layers))
    bare = {k: v for k, v in more.items() if k == "stride"}
    whole = kernel(factors(kind, conv(**bare | {"stride": 1}), **settings), module)
    want = nn.functional.conv2d(x, whole, module.bias, module.stride, module.padding)
    assert torch.allclose(plain(x), want, atol=1e-9)


def test_a_matrix_of_filters_and_separable_filters_are_the_best_of_their_rank():
    module = conv()
    for how, shape in (("matrix", (0, 1, 2, 3)), ("separable", (0, 3, 1, 2))):
        layers = factors("svd", module, rank=2, convolutions=how)
        values = torch.linalg.svdvals(
            module.weight.detach().permute(shape).reshape((10, -1) if how == "matrix" else (30, -1))
        )
        lost = far(kernel(layers, module), module.weight.detach())
        assert lost == pytest.approx(float((values[2:] ** 2).sum()))


def test_tucker_against_the_full_tensor():
    module = conv()
    with torch.no_grad():  # of ranks 3 and 2, exactly
        core = torch.randn(2, 3, 3, 3, generator=generator(4), dtype=torch.float64)
        inner, outer = torch.randn(8, 3, generator=generator(5)), torch.randn(10, 2)
        module.weight.copy_(torch.einsum("srhw,cr,os->ochw", core, inner.double(), outer.double()))
    layers = factors("tucker2", module, energy=0.999999)
    assert [tuple(m.weight.shape) for m in layers] == [(3, 8, 1, 1), (2, 3, 3, 3), (10, 2, 1, 1)]
    assert torch.allclose(kernel(layers, module), module.weight.detach(), atol=1e-9)
    # Of a full tensor: no worse than both truncations, no better than either alone.
    module = conv(seed=3)
    weight = module.weight.detach()
    lost = far(kernel(factors("tucker2", module, ranks=[3, 2]), module), weight)
    alone = [
        float((torch.linalg.svdvals(weight.movedim(axis, 0).flatten(1))[rank:] ** 2).sum())
        for axis, rank in ((1, 3), (0, 2))
    ]
    assert max(alone) <= lost <= sum(alone)


def test_cp_and_block_terms_find_what_a_tensor_is_made_of():
    parts = [
        torch.randn(size, 2, generator=generator(6 + size), dtype=torch.float64)
        for size in (5, 4, 3, 3)
    ]
    tensor = torch.einsum("ar,br,cr,dr->abcd", *parts)
    assert torch.allclose(
        torch.einsum("ar,br,cr,dr->abcd", *polyadic(tensor, 2)), tensor, atol=1e-4
    )
    one = polyadic(tensor, 1)
    lost = far(torch.einsum("ar,br,cr,dr->abcd", *one), tensor)
    for axis in range(4):  # each is the best beside the others
        for change in (-0.01, 0.01):
            moved = [f * (1 + change * (n == axis)) for n, f in enumerate(one)]
            assert lost <= far(torch.einsum("ar,br,cr,dr->abcd", *moved), tensor)
    module = conv(seed=9)
    with torch.no_grad():
        module.weight.zero_()
        for seed in (11, 12):
            a = torch.randn(10, 1, generator=generator(seed), dtype=torch.float64)
            b = torch.randn(8, 2, generator=generator(seed + 5), dtype=torch.float64)
            g = torch.randn(1, 2, 3, 3, generator=generator(seed + 9), dtype=torch.float64)
            module.weight += torch.einsum("srhw,cr,os->ochw", g, b, a)
    layers = factors("block_term", module, blocks=2, rank_in=2, rank_out=1)
    assert layers[1].groups == 2
    assert far(kernel(layers, module), module.weight.detach()) < 1e-3 * far(
        module.weight.detach(), 0
    )
    assert factors("block_term", module, blocks=20) is None  # it would be no smaller


def test_a_semidiscrete_term_is_the_best_of_all_and_sums_come_nearer():
    for seed in range(4):
        matrix = torch.randn(3, 4, generator=generator(seed), dtype=torch.float64)
        x, scale, y = semidiscrete(matrix, 1)
        best = min(
            far(matrix, float(a @ matrix @ b / (a.abs().sum() * b.abs().sum())) * a[:, None] * b)
            for a in map(torch.tensor, itertools.product((-1.0, 0.0, 1.0), repeat=3))
            for b in map(torch.tensor, itertools.product((-1.0, 0.0, 1.0), repeat=4))
            for a, b in [(a.double(), b.double())]
            if a.any() and b.any()
        )
        assert far(matrix, x @ torch.diag(scale) @ y) == pytest.approx(best)
    lost = [
        far(matrix, x @ torch.diag(s) @ y)
        for x, s, y in (semidiscrete(matrix, r) for r in (1, 3, 8))
    ]
    assert lost[0] > lost[1] > lost[2] and set(y.unique().tolist()) <= {-1.0, 0.0, 1.0}
    x, s, y = semidiscrete(matrix, energy=0.95)
    assert far(matrix, x @ torch.diag(s) @ y) <= 0.05 * far(matrix, 0)


def test_a_tensor_train_against_the_full_tensor():
    weight = torch.randn(12, 30, generator=generator(8), dtype=torch.float64)
    for rows, columns in (((3, 4), (5, 6)), ((2, 2, 3), (5, 3, 2))):
        cores = train_of(weight, rows, columns, 1.0)
        letters = "abc"[: len(rows)], "xyz"[: len(rows)]
        terms = ",".join(
            f"{'opqr'[n]}{letters[0][n]}{letters[1][n]}{'opqr'[n + 1]}" for n in range(len(rows))
        )
        whole = torch.einsum(f"{terms}->{''.join(letters)}", *cores).reshape(12, 30)
        assert torch.allclose(whole, weight)
        product = torch.linalg.multi_dot(laid_out(cores)[::-1])
        assert torch.allclose(product, weight)
    # Cut to a rank, two cores are the best there are: the rearranged matrix's decomposition.
    cores = train_of(weight, (3, 4), (5, 6), 1.0, rank=2)
    values = torch.linalg.svdvals(weight.reshape(3, 4, 5, 6).permute(0, 2, 1, 3).reshape(15, 24))
    lost = far(torch.linalg.multi_dot(laid_out(cores)[::-1]), weight)
    assert lost == pytest.approx(float((values[2:] ** 2).sum()))
    module = nn.Linear(30, 12)
    layers = factors("tensor_train", module, rank=1)
    assert [int(m.weight.count_nonzero()) for m in layers] == [5 * 24, 4 * 15]
    layers[0].weight.sum().backward()
    assert torch.equal(layers[0].parametrizations.weight.original.grad != 0, layers[0].weight != 0)
    assert factors("tensor_train", nn.Linear(7, 5)) is None


def test_ternary_factors_are_ternary_in_the_file_with_a_scale_a_row():
    model = nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3))
    x = np.random.default_rng(0).random((40, 12)).astype(np.float32)
    rule = {"kind": "twn", "scale": "row"}
    share = Share(ShareConfig(quantiser=rule, clusters=32, train=TrainConfig(epochs=0)))
    steps = [Factorise({"kind": "ternary", "rank": 6}, layers=("0",), train=None), share]
    fixed = loads(dumps(pleach.compress(model, x, None, CompressConfig(order=False), steps=steps)))
    assert [layer.name for layer in fixed.layers] == ["0.0", "0.1", "2"]
    x, s, y = semidiscrete(model[0].weight.detach().double(), 6)
    (first, _), (second, _) = fixed.weights()[:2]
    product = (x @ torch.diag(s) @ y).numpy()
    assert np.abs(second @ first - product).max() < 1e-3 * np.abs(product).max()
    for layer in fixed.layers[:2]:
        own = np.unique(np.abs(layer.values[layer.column_of < layer.inputs]))
        assert len(own) == 1 and layer.scales is not None


def test_product_quantisation_minimises_what_the_layer_gives():
    weight = torch.randn(4, 4, generator=generator(2), dtype=torch.float64)
    inputs = torch.randn(50, 4, generator=generator(3), dtype=torch.float64)
    inputs[:, 2] += 2 * inputs[:, 0]
    moments, parts = inputs.T @ inputs / 50, [slice(0, 2), slice(2, 4)]

    def error(moments, codebooks, codes):
        put = torch.cat([codebooks[n][codes[:, n]] for n in range(2)], 1)
        return float((((weight - put) @ moments) * (weight - put)).sum())

    found = min(error(moments, *quantised(weight, parts, 2, moments, seed)) for seed in range(12))
    plain = min(error(moments, *quantised(weight, parts, 2, None, seed)) for seed in range(4))
    best = float("inf")  # over all ways to put four rows into two groups, in both parts
    for one, other in itertools.product(range(8), repeat=2):
        chosen = [[(n >> row) & 1 for row in range(4)] for n in (one, other)]
        columns = [torch.nn.functional.one_hot(torch.tensor(c), 2).double() for c in chosen]
        root = torch.linalg.cholesky(moments)
        # codewords by least squares of both parts together
        a = torch.cat([torch.kron(columns[n], root[parts[n]].T.contiguous()) for n in range(2)], 1)
        b = (weight @ root).flatten()
        rest = b - a @ torch.linalg.lstsq(a, b[:, None], driver="gelsd").solution[:, 0]
        best = min(best, float(rest @ rest))
    assert best <= found + 1e-9 and found <= best * 1.05 + 1e-9 and found < plain
    # In the network: codewords of a part and of no other columns, then ones.
    module = nn.Linear(8, 30)
    layers = factors("product", module, part=4, codewords=4)
    first, second = layers
    assert first.weight.shape == (8, 8) and not first.weight[:4, 4:].any()
    assert second.weight.sum(1).tolist() == [2.0] * 30 and not second.weight.requires_grad
    assert torch.equal(second.bias, module.bias)


def test_local_binary_convolutions_keep_their_filters():
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(75, 2))
    x = np.random.default_rng(0).random((32, 2, 5, 5)).astype(np.float32)
    y = (x[:, 0].sum((1, 2)) > x[:, 1].sum((1, 2))).astype(np.int64)
    few = TrainConfig(epochs=2, batch_size=8, learning_rate=0.01)
    rule = FACTORISERS.of({"kind": "lbcnn", "filters": 6, "density": 0.4}, "")
    drawn = rule.factors(PrunableLayer("0", model[0]))[0].weight
    assert set(drawn.unique().tolist()) == {-1.0, 0.0, 1.0}
    share = Share(ShareConfig(clusters=32, train=few))
    config = CompressConfig(order=False)
    fixed = pleach.compress(model, x, y, config, steps=[Factorise(rule, train=few), share])
    (fixed_filters, _), (mixed, _) = fixed.weights()[:2]
    assert np.array_equal(fixed_filters, drawn.detach().numpy())
    assert mixed.shape == (3, 6, 1, 1) and fixed.layers[0].activation.said == "ReLU"
    # A network that is no chain takes it too.
    network = network_of(model, (2, 5, 5))
    assert factorise_(network, rule) == ["0"]
    again = nn.Sequential(
        *factors("lbcnn", model[0], filters=6, density=0.4), nn.ReLU(), model[2], model[3]
    )
    assert torch.allclose(network(torch.tensor(x)), again(torch.tensor(x)), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("svd", {"energy": 0.5, "convolutions": "separable"}),
        ("tucker2", {"ranks": [3, 6]}),
        ("cp", {}),
        ("block_term", {"blocks": 2, "rank_in": 2, "rank_out": 3}),
        ("ternary", {}),
        ("product", {}),
        ("lbcnn", {}),
        ("tensor_train", {"rank": 2}),
    ],
)
def test_a_network_with_each_goes_the_whole_path(kind, settings):
    model = nn.Sequential(
        nn.Conv2d(4, 24, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 24), nn.ReLU(), nn.Linear(24, 3)
    )
    x = np.random.default_rng(0).random((16, 4, 4, 4)).astype(np.float32)
    steps: list[Step] = [Factorise({"kind": kind, **settings}, train=None)]
    if kind not in ("product", "tensor_train"):  # which have a mask of its own already
        steps.append(
            Prune(PruneConfig(density=0.8, ramp=0, remove=False, train=TrainConfig(epochs=0)))
        )
    fixed = loads(dumps(pleach.compress(model, x, steps=[*steps, SHARE])))
    assert len(fixed.layers) > 3 or kind == "svd"
    moments = input_moments(model, torch.tensor(x))
    assert moments["0"].shape == (36, 36) and moments["3"].shape == (96, 96)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"kind": "tucker2", "ranks": [3]}, "Tucker2.ranks must be two"),
        ({"kind": "cp", "share": 2}, "Cp.share must be a number from 0 to 1"),
        ({"kind": "svd", "convolutions": "all"}, "must be one of leave, matrix, separable"),
        ("tuker2", "did you mean 'tucker2'"),
    ],
)
def test_what_is_refused(kind, words):
    with pytest.raises(ConfigError, match=words):
        Factorise(kind)

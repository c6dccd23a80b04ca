"""Networks and checkpoints."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune

from pleach.compression import (
    CompressConfig,
    PruneConfig,
    ShareConfig,
    TrainConfig,
    compress,
    finish,
    prune_,
    remove_neurons_,
    sensitivity,
    share_,
    train,
)
from pleach.compression.taken import taken
from pleach.errors import DataError, ModelError, PleachWarning
from pleach.model import Activation, Convolution
from pleach.models import (
    channels_last,
    fold_inputs,
    from_state_dict,
    layers_of,
    lenet_5,
    lenet_300_100,
    load_checkpoint,
    mlp,
    network_of,
    read_network,
    sample_shape,
    save_checkpoint,
    tensor_of,
)


def test_lenet():
    model = lenet_300_100()
    assert sum(p.numel() for p in model.parameters()) == 266_610
    layers = layers_of(model)
    assert [layer.name for layer in layers] == ["fc1", "fc2", "fc3"]
    assert [(x.values_in, x.values_out) for x in layers] == [(784, 300), (300, 100), (100, 10)]
    assert [x.activation for x in layers] == [Activation.RELU, Activation.RELU, Activation.NONE]
    assert all(layer.convolution is None for layer in layers)


def test_lenet_5():
    model = lenet_5()
    assert sum(p.numel() for p in model.parameters()) == 431_080
    assert torch.equal(lenet_5(seed=1).conv1.weight, lenet_5(seed=1).conv1.weight)
    layers = layers_of(model)
    assert [layer.name for layer in layers] == ["conv1", "conv2", "fc1", "fc2"]
    assert [x.activation for x in layers] == [Activation.RELU] * 3 + [Activation.NONE]
    pool = {"pool": 2, "pool_stride": 2}
    assert layers[0].convolution == Convolution(1, 28, 28, 5, 5, **pool)
    assert layers[1].convolution == Convolution(20, 12, 12, 5, 5, **pool)
    assert [x.values_in for x in layers] == [784, 2880, 800, 500]
    assert layers[-1].convolution is None and layers[-1].values_out == 10


def test_seed_decides_and_leaves_torch_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = mlp([4, 3], seed=1), mlp([4, 3], seed=1), mlp([4, 3], seed=2)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


def test_nested_with_a_shared_relu():
    relu = nn.ReLU()
    body = nn.Sequential(nn.Linear(4, 3), relu, nn.Dropout())
    model = nn.Sequential(nn.Flatten(), body, nn.Sequential(nn.Linear(3, 3), relu), nn.Linear(3, 2))
    found = layers_of(model)
    assert [x.name for x in found] == ["1.0", "2.0", "3"]
    assert [x.activation for x in found] == [Activation.RELU, Activation.RELU, Activation.NONE]


def test_geometry():
    model = nn.Sequential(
        nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2),
        nn.MaxPool2d(3, 1),
        nn.ReLU(),  # after the pool is as good as before it
        nn.Conv2d(6, 6, (3, 4), padding="same", groups=6),
        nn.Dropout2d(),
        nn.Conv2d(6, 2, 1, padding="valid"),
        nn.Flatten(),
    )
    with torch.no_grad():
        gives = [model[:stop](torch.zeros(1, 4, 12, 10)).shape for stop in (3, 4, 6)]
    layers = layers_of(model, (4, 12, 10))
    assert [x.convolution.columns for x in layers] == [24, 72, 6]
    assert [(x.outputs, *x.convolution.pooled) for x in layers] == [tuple(s[1:]) for s in gives]
    assert [x.values_in for x in layers[1:]] == [x.values_out for x in layers[:-1]]
    assert [x.activation for x in layers] == [Activation.RELU, Activation.NONE, Activation.NONE]
    assert layers[0].convolution == Convolution(
        4, 12, 10, 3, 2, stride=2, padding=1, groups=2, pool=3, pool_stride=1
    )
    assert layers[1].convolution.padding == (1, 1, 1, 2)  # what is over goes to the end


CONV = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))


def test_shape_of_the_images():
    for shape in ((64,), (8, 8), (1, 8, 8)):
        assert layers_of(CONV, shape)[0].convolution.map == (6, 6)
        assert sample_shape(CONV, shape) == (1, 8, 8)
    rows = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *CONV)
    assert layers_of(rows)[0].convolution.map == (6, 6)
    assert sample_shape(rows, (64,)) == sample_shape(rows, (8, 8)) == (64,)
    # Names and modules can be had without it.
    first, last = layers_of(CONV)
    assert (first.name, last.name, last.values_in, last.convolution) == ("0", "3", 108, None)
    with pytest.raises(ModelError, match=r"'0' .* unknown shape: give .* or start .*Unflatten"):
        _ = first.convolution
    for shape in ((63,), (8, 8, 1), (3, 8, 8), ()):
        with pytest.raises(ModelError, match=r"'0' takes images of 1 channel, .* the shape \("):
            layers_of(CONV, shape)
    with pytest.raises(ModelError, match="'3' takes 108 inputs, layer '0' before it gives 147"):
        layers_of(CONV, (9, 9))


@pytest.mark.parametrize("shared", [False, True])
def test_channels_last_holds_with_parametrized_weights(shared):
    model = lenet_5()
    prune_(model, PruneConfig(density=0.5))
    if shared:
        share_(model, ShareConfig())
    seen = []
    for name in ("conv1", "pool1", "conv2", "pool2"):
        getattr(model, name).register_forward_hook(
            lambda _, args, maps: seen.append(maps.is_contiguous(memory_format=torch.channels_last))
        )
    inputs = torch.rand(3, 784)
    with torch.no_grad():
        with channels_last(model):
            fast = model(inputs)
        assert seen == [True] * 4
        assert torch.allclose(fast, model(inputs), atol=1e-6)
    assert seen[4:] == [False] * 4  # gone without a trace


class Odd(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs) + 1


TIED = nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Conv2d(1, 1, 3)), "'1' takes maps, .* gives rows"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Linear(2, 2)), "'1' .* put a Flatten before it"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(3, 2, 3)), "'1' takes 3 channels.* gives 4"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(9, 2)), "'2' .* 4 times the"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2)), "'0': dilation must be 1, not"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding_mode="circular")), "'0': .* not 'circular'"),
        (nn.Sequential(nn.Unflatten(1, (1, 9, 9)), nn.Conv2d(1, 1, 3, stride=256)), "'1': .* 255"),
        (nn.Sequential(nn.Unflatten(1, (1, 2, 9)), nn.Conv2d(1, 1, 3)), "'1': .* smaller"),
        (nn.Sequential(nn.Unflatten(1, (81,)), nn.Conv2d(1, 1, 3)), "'0': Unflatten must be"),
        (nn.Sequential(nn.Linear(2, 9), nn.Unflatten(1, (1, 3, 3))), "'1' is an Unflatten: only"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(2)), "'1': Flatten must take all"),
        (nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 1, 3)), "'0': .* must follow a Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.MaxPool2d(2)), "'1': .* must follow a Conv2d"),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2), nn.MaxPool2d(2)),
            "'2': .* one at most",
        ),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2, padding=1)), "'1': padding .* be 0"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2, dilation=2)), "'1': dilation .* be 1"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d((2, 3))), "'1': kernel_size .* same"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2, ceil_mode=True)), "'1': .* ceil_mode"),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3), nn.AvgPool2d(2)),
            "'1' is a AvgPool2d, .* give the shape",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3), nn.LPPool2d(2, 2)),
            "'1' is a LPPool2d: of pooling only",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)),
            "'1' is a BatchNorm2d, .* the shape",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3), nn.LazyBatchNorm2d()),
            "'1' is a LazyBatchNorm2d that has",
        ),
        (nn.Sequential(nn.Conv1d(1, 1, 3)), "'0' is a Conv1d: of convolutions only Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh())), "'1.0' is a Tanh: only Linear"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), "'0' is a ReLU before"),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 2)), "'1' takes 2 inputs, layer '0' .* 3"),
        (nn.Sequential(TIED, nn.ReLU(), TIED), "'2' is layer '0' again"),
        (nn.Sequential(nn.ReLU6()), "ReLU6"),
        (nn.Sequential(nn.Flatten()), "no Linear or Conv2d layer"),
        (nn.Linear(2, 2), "the network is a Linear, which is traced .*: give the shape of an"),
    ],
)
def test_what_is_not_supported_names_the_layer(model, words):
    with pytest.raises(ModelError, match=words):
        layers_of(model)


class Times0(nn.ReLU):
    def forward(self, inputs):
        return inputs * 0


class Backwards(nn.Sequential):
    def __iter__(self):
        return iter(list(self._modules.values())[::-1])


class Kernel(nn.Conv2d):
    def _conv_forward(self, inputs, weight, bias):
        return super()._conv_forward(inputs, -weight, bias)


class Called(nn.Dropout):
    def __call__(self, inputs):
        return inputs + 1


class Flatten(nn.Module):
    def forward(self, inputs):
        return inputs.sum(1, keepdim=True)


class OnlyMadeOtherwise(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)


class Noted(nn.Sequential):
    """Its forward is that of Sequential."""


def test_subclasses_that_compute_the_same():
    assert len(layers_of(Noted(OnlyMadeOtherwise(), nn.ReLU()))) == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            nn.Sequential(Odd(2, 2)),
            r"'0' is a .*\.Odd, whose forward is not that of torch's Linear",
        ),
        (
            nn.Sequential(nn.Linear(2, 2), Times0()),
            r"'1' is a .*test_models\.Times0, whose .* ReLU",
        ),
        (Backwards(nn.Linear(2, 2)), r"the network is a .*Backwards, whose .* Sequential"),
        (nn.Sequential(Backwards(nn.Linear(2, 2))), r"layer '0' is a .*Backwards, whose forward"),
        (nn.Sequential(Kernel(1, 1, 3)), r"'0' is a .*Kernel, whose forward .* Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), Called()), r"'1' is a .*Called, whose forward .* Dropout"),
        (
            nn.Sequential(nn.Linear(2, 2), Flatten()),
            r"'1' is a .*test_models\.Flatten, which is traced .* give the shape",
        ),
        (
            nn.Sequential(torch.ao.nn.quantized.dynamic.Linear(2, 2)),
            r"'0' is a torch\.ao\..*\.Linear, which is traced",
        ),
    ],
)
def test_a_class_that_computes_something_else(model, words):
    with pytest.raises(ModelError, match=words):
        layers_of(model)


EVERY = (
    nn.Sequential(nn.Linear(2, 2)),
    nn.Sequential(nn.Conv2d(1, 1, 3)),
    nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
    nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2)),
    nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten()),
    nn.Sequential(nn.Unflatten(1, (1, 3, 3)), nn.Conv2d(1, 1, 3)),
    nn.Sequential(nn.Linear(2, 2), nn.Dropout()),
    nn.Sequential(nn.Linear(2, 2), nn.AlphaDropout()),
    nn.Sequential(nn.Linear(2, 2), nn.Identity()),
    nn.Sequential(nn.Sequential(nn.Linear(2, 2))),
)


@pytest.mark.parametrize("model", EVERY, ids=lambda model: type(model[-1]).__name__)
def test_hooks_and_a_forward_of_its_own(model):
    expected = [layer.name for layer in layers_of(model)]
    for where, module in (
        (r"layer '\d'", model[0]),
        (r"layer '\d'", model[-1]),
        ("network", model),
    ):
        for register in (module.register_forward_hook, module.register_forward_pre_hook):
            handle = register(lambda *args: None)
            with pytest.raises(
                ModelError, match=rf"{where} has the forward hook .*<lambda>.*remove"
            ):
                layers_of(model)
            handle.remove()
        module.forward = lambda inputs: inputs * 0
        with pytest.raises(ModelError, match=f"{where} is a .* with a forward of its own"):
            layers_of(model)
        del module.forward
    for register in (
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
    ):
        handle = register(lambda *args: None)
        with pytest.raises(ModelError, match="forward hook is registered for all modules"):
            layers_of(model)
        handle.remove()
    assert [layer.name for layer in layers_of(model)] == expected


def test_hooks_of_ours_pass():
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(1, 1))
    with channels_last(model):
        assert len(layers_of(model)) == 2
    seen = []
    train(
        model, np.ones((2, 1, 3, 3), np.float32), np.zeros(2, np.int64),
        TrainConfig(epochs=1, dropout=0.5),
        before_step=lambda *_: seen.append(
            (len(model[2]._forward_pre_hooks), len(layers_of(model)))
        ),
    )  # fmt: skip
    assert seen == [(1, 2), (1, 2)]


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_masks_of_torchs_pruning(tmp_path, part):
    model = mlp([4, 3, 2])
    prune.l1_unstructured(model.fc1, part, amount=2)
    assert [layer.name for layer in layers_of(model)] == ["fc1", "fc2"]
    # As the next run computes it, whatever the last one left in the attribute.
    getattr(model.fc1, f"{part}_orig").data.fill_(1.5)
    assert tensor_of(model.fc1, part).unique().tolist() == [0.0, 1.5]
    again = load_checkpoint(save_checkpoint(model, tmp_path / "net.safetensors"))
    model(torch.rand(1, 4))
    assert torch.equal(again[f"fc1.{part}"], getattr(model.fc1, part))


def half_pruned():
    model = mlp([4, 3, 2])
    prune.l1_unstructured(model.fc1, "weight", amount=6)
    model(torch.ones(1, 4))
    return model


def test_masks_of_torchs_pruning_stay_in_all_that_is_done():
    inputs = np.eye(4, dtype=np.float32)
    pruned = tensor_of(half_pruned().fc1, "weight") == 0
    none = TrainConfig(epochs=0)
    settings = CompressConfig(
        prune=PruneConfig(density=1.0, ramp=0, train=none), share=ShareConfig(train=none)
    )
    shared, fewer, removed = half_pruned(), half_pruned(), half_pruned()
    share_(shared)
    prune_(fewer, PruneConfig(density=0.4))
    remove_neurons_(removed)
    assert bool((shared.fc1.weight[pruned] == 0).all() and (fewer.fc1.weight[pruned] == 0).all())
    assert len(removed.fc1.weight) <= 3
    for network in (shared, fewer):
        assert all(layer.module.weight.requires_grad for layer in layers_of(network))
    kept = 4 * 3 + 3 - int(pruned.sum())
    assert finish(half_pruned(), inputs, order=False).layers[0].kept == kept
    assert compress(half_pruned(), inputs, config=settings).layers[0].kept <= kept
    curves = sensitivity(half_pruned(), inputs, np.array([0, 1, 0, 1]), [0.5])
    assert [curve.layer for curve in curves] == ["fc1", "fc2"]
    assert torch.equal(fold_inputs(half_pruned(), kind="float").fc1.weight == 0, pruned)
    with pytest.raises(ModelError, match="'fc1' is pruned or shared"):
        fold_inputs(half_pruned(), kind="float", scale=2)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("normalise", "words"),
    [
        (nn.utils.weight_norm, "'fc1' has the forward hook WeightNorm: .*remove_weight_norm"),
        (nn.utils.spectral_norm, "'fc1' has the forward hook SpectralNorm: .*remove_spectral_norm"),
        (parametrizations.weight_norm, "'fc1': its weight has the parametrization .*_WeightNorm; "),
        (parametrizations.orthogonal, "'fc1': its weight has the .*_Orthogonal; .*remove_param"),
    ],
)
def test_normalised_weights(normalise, words):
    model = mlp([4, 3, 2])
    normalise(model.fc1)
    with pytest.raises(ModelError, match=words):
        layers_of(model)


def tied(part):
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    setattr(model[2], part, getattr(model[0], part))
    return model


def test_tied_tensors():
    for part in ("weight", "bias"):
        with pytest.raises(
            ModelError, match=f"'2' shares its {part} with layer '0': tie no layers"
        ):
            layers_of(tied(part))
    model = tied("weight")
    for layer in (model[0], model[2]):
        prune.identity(layer, "weight")
    with pytest.raises(ModelError, match="'2' shares its weight with layer '0'"):
        layers_of(model)


def sparse(layout):
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].weight = nn.Parameter(model[0].weight.detach().to_sparse(layout=layout))
    return model


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            sparse(torch.sparse_coo),
            r"'0': its weight is of layout torch\.sparse_coo: make it dense",
        ),
        (
            sparse(torch.sparse_csr),
            r"'0': its weight is of layout torch\.sparse_csr: make it dense",
        ),
        (nn.Sequential(nn.Linear(2, 2, device="meta")), "'0': its weight is on the meta device"),
        (nn.Sequential(nn.Linear(2, 2, dtype=torch.complex64)), "'0': its weight is .*complex64"),
        (nn.Sequential(nn.LazyLinear(2)), "'0' is a LazyLinear that has no shape yet: run the net"),
        (nn.Sequential(nn.LazyConv2d(2, 3)), "'0' is a LazyConv2d that has no shape yet"),
        (
            nn.Sequential(nn.Linear(2, 0)),
            r"'0' has a weight of the shape \(0, 2\), which holds noth",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_tensors_that_are_no_plain_reals(model, words):
    inputs = np.ones((1, 4), np.float32)
    for take in (
        layers_of,
        lambda model: compress(model, inputs),
        lambda model: finish(model, inputs),
        lambda model: prune_(model),
        lambda model: fold_inputs(model, kind="float", scale=2),
    ):
        with pytest.raises(ModelError, match=words):
            take(model)


def test_a_lazy_layer_that_has_run():
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU())
    model(torch.zeros(1, 5))
    assert layers_of(model)[0].values_in == 5


def test_a_weight_of_another_size_than_its_module_says():
    model = mlp([4, 3, 2])
    model.fc1.weight = nn.Parameter(torch.ones(3, 9))
    with pytest.raises(ModelError, match=r"'fc1': its weight has the shape \(3, 9\), .* \(3, 4\)"):
        layers_of(model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrapped_and_compiled_networks():
    model = mlp([4, 3, 2])
    scripted = torch.jit.script(model)
    for network, words in (
        (torch.compile(model), r"OptimizedModule: give the network in it, model\._orig_mod"),
        (nn.DataParallel(model), r"DataParallel: give the network in it, model\.module"),
        (scripted, "which TorchScript compiled: give the torch module that it was made from"),
        (nn.Sequential(scripted), "'0' is a .*, which TorchScript compiled"),
        (model.state_dict(), "a network is a torch module, not OrderedDict"),
    ):
        for take in (layers_of, lambda model: compress(model, np.ones((1, 4), np.float32))):
            with pytest.raises(ModelError, match=words):
                take(network)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (nn.Softmax(1), "the softmax at the end is left out: the largest output stays the largest"),
        (nn.LogSoftmax(-1), "the log_softmax at the end is left out"),
        (nn.Sigmoid(), "the sigmoid at the end is left out: an output above 0 is a probability"),
    ],
)
def test_functions_at_the_end_that_change_no_decision(last, words):
    """They are left out, and a line says so; anywhere else they are refused."""
    first = nn.Linear(2, 2)
    model, inputs = nn.Sequential(first, last), torch.randn(5, 2)
    network = network_of(model, (2,))
    assert network.notes[0].startswith(words) and torch.equal(network(inputs), first(inputs))
    with pytest.warns(PleachWarning, match=words):
        taken(model, (2,))
    with pytest.raises(ModelError, match="and softmax and sigmoid at the end"):
        network_of(nn.Sequential(first, last, nn.Linear(2, 2)), (2,))


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_checkpoint_round_trip(tmp_path, name):
    # Square layers, more than ten modules: only the order of the keys tells which comes first.
    model = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(3, 3), nn.ReLU())][:-1])
    inputs = torch.rand(7, 3)
    if name.endswith(".pt"):
        torch.save(model.state_dict(), tmp_path / name)
    else:
        save_checkpoint(model, tmp_path / name)
    again = from_state_dict(load_checkpoint(tmp_path / name))
    assert torch.equal(model(inputs), again(inputs))
    assert [layer.name for layer in layers_of(again)] == ["0", "2", "4", "6", "8", "10"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_checkpoint_of_lenet_5(tmp_path):
    model = lenet_5(seed=3)
    again = from_state_dict(load_checkpoint(save_checkpoint(model, tmp_path / "a.safetensors")))
    inputs = torch.rand(2, 784)
    assert torch.equal(model(inputs), again(inputs))
    state = model.state_dict()
    state["conv1.bias"] = torch.full((20,), torch.inf)
    with pytest.raises(ModelError, match="'conv1.bias' .* finite"):
        from_state_dict(state)


def test_safetensors_of_others_is_sorted_naturally(tmp_path):
    model = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(3, 3), nn.ReLU())][:-1])
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    again = from_state_dict(load_checkpoint(tmp_path / "net.safetensors"))
    assert torch.equal(model(torch.eye(3)), again(torch.eye(3)))


def test_order_of_unnumbered_layers_survives(tmp_path):
    model = nn.Sequential()
    for name in ("zeta", "alpha"):
        model.add_module(name, nn.Linear(3, 3))
    save_checkpoint(model, tmp_path / "net.safetensors")
    assert [key for key in load_checkpoint(tmp_path / "net.safetensors") if "weight" in key] == [
        "zeta.weight",
        "alpha.weight",
    ]


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


def test_pickled_code_is_not_run(tmp_path):
    torch.save({"0.weight": torch.zeros(1, 1), "x": Evil()}, tmp_path / "net.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("net.pt", "raw.pt"):
        with pytest.raises(DataError, match=name):
            load_checkpoint(tmp_path / name)
    assert not Evil.ran


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt", "net.bin"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 9, b"PK\3\4" + bytes(60)])
def test_damaged_checkpoint(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        load_checkpoint(tmp_path / name)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damage_anywhere(tmp_path, kind):
    path = tmp_path / "net.pt"
    if kind == "safetensors":
        save_checkpoint(mlp([2, 2, 1]), path)
    else:
        state = mlp([2, 2, 1]).state_dict()
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    whole, refused = path.read_bytes(), 0
    for place in [*range(0, len(whole), 41), *range(len(whole) - 120, len(whole), 7)]:
        damaged = bytearray(whole)
        damaged[place] ^= 0xF5
        path.write_bytes(damaged)
        try:
            read_network(path, activation="relu")
        except (DataError, ModelError):
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_state_dict_within_what_a_training_loop_saves(tmp_path, key):
    state = {"0.weight": torch.ones(2, 3)}
    torch.save({key: state, "epoch": 3}, tmp_path / "net.pt")
    assert torch.equal(load_checkpoint(tmp_path / "net.pt")["0.weight"], state["0.weight"])


def test_missing_checkpoint(tmp_path):
    with pytest.raises(DataError, match=r"no such checkpoint"):
        load_checkpoint(tmp_path / "net.pt")


def pruned_state():
    model = nn.Sequential(nn.Linear(2, 2))
    prune.identity(model[0], "weight")
    return model.state_dict()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "holds no Linear weight"),
        (mlp([3, 2]), "maps names to tensors, this is a Sequential"),
        ({"a.weight": torch.zeros(0, 2)}, "'a': weight of shape .* holds nothing"),
        ({"c.weight": torch.zeros(2, 1, 3, 3)}, "'c': weight of shape .* load_state_dict"),
        ({"c.weight": torch.zeros(2, 1, 3)}, "'c': weight of shape .* Conv1d is not supported"),
        ({"a.weight": torch.zeros(2)}, "'a': weight of shape .* a normalisation is to be folded"),
        (
            {"a.weight": torch.zeros(2, 2), "a.running_mean": torch.zeros(2)},
            "'a.running_mean' is neither .* BatchNorm: fold that into the layer before it",
        ),
        (
            nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).state_dict(),
            "'1.running_mean' .* fold",
        ),
        (pruned_state(), "'0.weight_orig' is neither .* torch.nn.utils.prune.remove"),
        (
            {"a.weight_g": torch.zeros(2, 1)},
            "'a.weight_g' is neither .* torch.nn.utils.remove_weight",
        ),
        ({"a.parametrizations.weight.original": torch.zeros(1, 1)}, "save_checkpoint.* plain ones"),
        (nn.LSTM(2, 2).state_dict(), "'weight_ih_l0' is neither .* recurrent and attention"),
        (nn.Linear(2, 2).state_dict(), "'weight' is neither .* a layer has a name and a weight"),
        ({"a.bias": torch.zeros(2)}, "'a.bias' is neither"),
        ({"a.weight": np.zeros((2, 2))}, "'a.weight' is no named tensor"),
        ({0: torch.zeros(2, 2)}, "0 is no named tensor"),
        ({"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(3)}, "bias .* for 2 outputs"),
        ({"a.weight": torch.zeros(2, 3), "b.weight": torch.zeros(2, 3)}, "'b' takes 3 .* gives 2"),
        ({"a.weight": torch.full((2, 3), torch.nan)}, "finite"),
        ({"a.weight": torch.zeros(2, 3, dtype=torch.int64)}, "'a.weight' holds torch.int64 values"),
        ({"a.weight": torch.zeros(2, 3, dtype=torch.complex64)}, "'a.weight' holds .*complex64"),
        ({"a.weight": torch.zeros(2, 3, dtype=torch.bool)}, "'a.weight' holds torch.bool values"),
        ({"a.weight": torch.zeros(2, 3, device="meta")}, "'a.weight' is on the meta device"),
        ({"a.weight": nn.LazyLinear(2).weight}, "'a.weight' has no shape yet: run the network"),
        ({"a.weight": torch.tensor([[0.1]]).double() + 1e-12}, "float64 values that float32 does"),
        (
            {"a.weight": torch.tensor([[1e300]], dtype=torch.float64)},
            "float64 values that float32 does not",
        ),
        ({"a.weight": torch.empty(1, 1, dtype=torch.float4_e2m1fn_x2)}, "cannot be converted"),
        ({"a.weight": torch.empty(1, 1, dtype=torch.bits8)}, "'a.weight' holds torch.bits8"),
        (
            {"a.weight": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])},
            "'a.weight' .* cannot be converted",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_state_dict_of_something_else(state, words):
    with pytest.raises(ModelError, match=words):
        from_state_dict(state)


VALUES = torch.tensor([[0.5, 0.0], [-2.0, 1.0]])
FORMATS = (
    *((VALUES.to(dtype), str(dtype)) for dtype in (torch.float16, torch.bfloat16, torch.float64)),
    *((VALUES.to(dtype), str(dtype)) for dtype in vars(torch).values()
      if isinstance(dtype, torch.dtype) and "float8" in str(dtype) and "e8m0" not in str(dtype)),
    *((VALUES.to_sparse(layout=layout), str(layout))
      for layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)),
    *((VALUES.to_sparse(layout=layout, blocksize=(1, 1)), str(layout))
      for layout in (torch.sparse_bsr, torch.sparse_bsc)),
    (VALUES.to_mkldnn(), "mkldnn"),
    (torch.quantize_per_tensor(VALUES, 0.5, 3, torch.qint8), "quantized"),
    (nn.Parameter(VALUES.t().contiguous().t()), "strides"),
)  # fmt: skip


@pytest.mark.parametrize("tensor", [x for x, _ in FORMATS], ids=[name for _, name in FORMATS])
def test_tensors_that_convert_exactly(tensor):
    model = from_state_dict({"a.weight": tensor, "b.weight": torch.eye(2)})
    weight = model.a.weight
    assert weight.dtype == torch.float32 and torch.equal(weight.detach(), VALUES)
    assert weight.layout == torch.strided and weight.requires_grad


def onnx_file(path):
    path.write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(40))


def torchscript(path):
    torch.jit.script(mlp([3, 2])).save(path)


def exported(path):
    torch.export.save(torch.export.export(mlp([3, 2]), (torch.zeros(1, 3),)), path)


def whole_module(path):
    torch.save(mlp([3, 2]), path)


def lazy(path):
    torch.save(nn.Sequential(nn.LazyLinear(2)).state_dict(), path)


def optimiser_only(path):
    torch.save({"net": {"0.weight": torch.ones(1, 1)}, "epoch": 3}, path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (
            onnx_file,
            "net.onnx",
            "is an ONNX file: save the network it was exported from, torch.save",
        ),
        (onnx_file, "net.pt", "is an ONNX file"),
        (
            torchscript,
            "net.pt",
            r"is a TorchScript archive: torch\.save\(torch\.jit\.load\('.*net\.pt",
        ),
        (exported, "net.pt2", r"is a torch\.export archive: torch\.save\(torch\.export\.load"),
        (whole_module, "net.pt", r"holds pickled objects, .* save model\.state_dict\(\) instead"),
        (lazy, "net.pt", "holds pickled objects, .* a lazy layer runs once before"),
        (optimiser_only, "net.pt", "holds no state dict, its keys are net, epoch; save model"),
    ],
)
def test_files_of_other_kinds(tmp_path, make, name, words):
    make(tmp_path / name)
    for read in (load_checkpoint, read_network):
        with pytest.raises(DataError, match=words) as caught:
            read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_the_ways_out_that_are_named(tmp_path):
    """What the messages say to do works."""
    path = tmp_path / "net.pt"
    torchscript(path)
    torch.save(torch.jit.load(path).state_dict(), path)
    assert len(layers_of(from_state_dict(load_checkpoint(path)))) == 1
    exported(path)
    torch.save(torch.export.load(path).state_dict, path)
    assert len(layers_of(from_state_dict(load_checkpoint(path)))) == 1
    linear, norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
    fused = nn.utils.fusion.fuse_linear_bn_eval(linear.eval(), norm.eval())
    assert len(layers_of(nn.Sequential(fused))) == 1

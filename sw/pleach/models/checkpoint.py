"""Checkpoints, read without running any code that they may hold."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pleach.errors import ConfigError, DataError, ModelError
from pleach.files import write_whole
from pleach.model import Activation, Add, Clip, Concat, Graph, Node
from pleach.models.graph import layers_of
from pleach.models.layers import PARTS, Function, leaves, tensor_of
from pleach.models.network import (
    Affine,
    Network,
    Pad,
    Pool,
    Reshape,
    Shuffle,
    Weighted,
    joints_of,
)
from pleach.models.networks import lenet_5
from pleach.models.order import fitting_orders, numbered

_ONLY = (
    "Pleach runs ReLU or none and no other; whether the answer is right, pleach compress --expect "
    "ERROR checks"
)
ACTIVATIONS = {"relu": Activation.RELU, "none": Activation.NONE}
# What a safetensors file may say beside its tensors: the order of its layers, as a JSON list of
# their names or of its keys, and the modules of the network, which `save_checkpoint` writes.
ORDER, MODULES, NODES = "order", "pleach.modules", "pleach.nodes"


def read_network(
    path: str | Path, *, order: Sequence[str] | None = None, activation: str | None = None
) -> nn.Module:
    """The network in a checkpoint, as far as the file tells it; the rest is asked for.

    A file of `save_checkpoint` tells all. Any other tells names and shapes of its layers: which
    functions stand between them has to be said, and in which order they run too where neither
    numbers, as an nn.Sequential's keys have, nor shapes leave only one.

    Args:
        order: names of the layers as they run.
        activation: ``"relu"`` between the layers, or ``"none"``; Pleach runs no other.

    Raises:
        DataError: no such file, a damaged one, or one that holds anything but named tensors.
        ModelError: what the network is cannot be told, or is no network that is supported; says
            what to give.
    """
    state, metadata = _read(Path(path))
    if MODULES in metadata:
        model = _rebuilt(Path(path), metadata[MODULES], state)
        _agree(Path(path), model, order, activation)
        return model
    if NODES in metadata:
        if order is not None or activation is not None:
            raise ModelError(
                f"{path} says itself how its layers run: leave out order and activation"
            )
        return _joined(Path(path), metadata[NODES], state)
    layers = _layers(state)
    if not _is_lenet_5(state):
        order = _running_order(Path(path), layers, metadata, order)
    if activation is None and len(layers) > 1:
        raise ModelError(
            f"{path} does not say which functions stand between its layers: give --activation relu "
            f"or none (activation= in Python). {_ONLY}"
        )
    return from_state_dict(state, order=order, activation=activation or "none")


def read_layers(
    path: str | Path, *, order: Sequence[str] | None = None
) -> dict[str, dict[str, Tensor]]:
    """The layers in a checkpoint as `layer_tensors` gives them, whatever their shapes, as they run.

    Args:
        order: names of the layers as they run, where the file does not tell.

    Raises:
        DataError, ModelError: as `read_network`.
    """
    state, metadata = _read(Path(path))
    layers = layer_tensors(state)
    return {name: layers[name] for name in _running_order(Path(path), layers, metadata, order)}


def load_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a ``.safetensors`` file, or in one of torch's without pickled code.

    Its order says nothing of how layers run: safetensors keep none, so that keys are sorted where
    the metadata have no order, and torch's files have that in which the layers were made.
    `read_network` and `read_layers` find the running order, or ask for it.

    Raises:
        DataError: no such file, a damaged one, or one that holds anything but named tensors.
    """
    return _read(Path(path))[0]


def save_checkpoint(model: nn.Module, path: str | Path) -> Path:
    """Write the network as safetensors; the file appears whole or not at all.

    `read_network` makes it again: beside weights and biases the file tells which modules there are
    and how they run. Pruned and shared layers are written as the plain tensors that they amount to,
    Dropout and Identity are left out.

    Raises:
        ModelError: as `layers_of`.
    """
    state = {}
    for layer in layers_of(model):
        for part in PARTS:
            if (tensor := tensor_of(layer.module, part)) is not None:
                # A copy: the format refuses tensors that lie in one piece of memory.
                plain = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
                state[f"{layer.name}.{part}"] = plain
    if isinstance(model, Network):
        return save_state_dict(state, path, **{NODES: json.dumps(_nodes(model))})
    return save_state_dict(state, path, **{MODULES: json.dumps(list(_described(model)))})


def save_state_dict(state: Mapping[str, Tensor], path: str | Path, **metadata: str) -> Path:
    """Write named tensors as safetensors, their order in the metadata."""
    metadata[ORDER] = json.dumps(list(state))
    return write_whole(path, save(dict(state), metadata=metadata))


def from_state_dict(
    state: Mapping[str, Tensor],
    *,
    order: Sequence[str] | None = None,
    activation: str = "relu",
) -> nn.Sequential:
    """The network of the Linear layers in `state`; or LeNet-5.

    Keys are ``<layer>.weight``, ``(outputs, inputs)``, and optionally ``<layer>.bias``,
    ``(outputs,)``. A state dict says neither in which order its layers run nor what stands between
    them: both are as the arguments have it. Layers keep their names, dots become underscores.
    Tensors with the names and shapes of `lenet_5` are taken for that network. Of other convolutions
    a state dict does not say how they stride, pad and pool: make such a network yourself and load
    the state dict into it.

    Values of any floating type are converted where float32 holds them exactly, of any layout and
    device too.

    Args:
        order: names of the layers as they run. By default the dict's order, which is that in which
            a module's layers were made, not always that in which they run.
        activation: ``"relu"`` after every layer but the last, or ``"none"``.

    Raises:
        ModelError: a tensor that is no part of such a network; names it.

    >>> from_state_dict({"0.weight": torch.zeros(3, 4), "2.weight": torch.zeros(2, 3)})
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=False)
      (relu0): ReLU()
      (2): Linear(in_features=3, out_features=2, bias=False)
    )
    """
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation is relu or none, not {activation!r}: {_ONLY}")
    layers = _layers(state)
    if order is not None:
        order = _checked(order, layers)
    if _is_lenet_5(state):
        if activation != "relu":
            raise ModelError("LeNet-5 has ReLU between its layers: make another network in Python")
        lenet = lenet_5()
        _fill(lenet, layers)
        return lenet
    layers = {name: layers[name] for name in order or layers}
    for before, after in pairwise(layers):
        gives, takes = layers[before]["weight"].shape[0], layers[after]["weight"].shape[1]
        if gives != takes:
            raise ModelError(
                f"layer {after!r} takes {takes} inputs, layer {before!r} before it gives {gives}"
            )
    modules: dict[str, nn.Module] = {}
    names = _module_names(list(layers))
    for index, (name, parts) in enumerate(layers.items()):
        modules[names[name]] = _linear(parts)
        if activation == "relu" and index < len(layers) - 1:
            modules[_free(f"relu{index}", {*names.values(), *modules})] = nn.ReLU()
    model = nn.Sequential()
    for name, module in modules.items():
        model.add_module(name, module)
    _fill(model, {names[name]: parts for name, parts in layers.items()})
    return model


def layer_tensors(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Weight and, where there is one, bias of each layer in `state`, by its name: dense float32
    tensors on the CPU, of any shape.

    Raises:
        ModelError: another tensor, or values that float32 does not hold exactly; names the key.

    >>> layer_tensors({"a.weight": torch.eye(2, dtype=torch.float16).to_sparse()})["a"]["weight"]
    tensor([[1., 0.],
            [0., 1.]])
    """
    if not isinstance(state, Mapping):
        raise ModelError(f"a state dict maps names to tensors, this is a {type(state).__name__}")
    for key, tensor in state.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            raise ModelError(f"{key!r} is no named tensor: a state dict maps names to tensors")
    names = [key.removesuffix(".weight") for key in state if key.endswith(".weight")]
    layers: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    split = {key: key.rpartition(".")[::2] for key in state}
    others = [key for key, (name, part) in split.items() if part not in PARTS or name not in layers]
    if others:
        # One of another kind tells more than the bias of a layer whose weight is of another kind.
        key = min(others, key=lambda key: split[key][1] in PARTS)
        raise ModelError(f"{key!r} is neither weight nor bias of a layer{_way_out(key)}")
    for key, (name, part) in split.items():
        layers[name][part] = _real(key, state[key])
    return layers


# --- tensors ---------------------------------------------------------------------------------


def _layers(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """`layer_tensors` of Linear layers, or of LeNet-5."""
    layers = layer_tensors(state)
    if not layers:
        raise ModelError("the checkpoint holds no Linear weight")
    for name, parts in layers.items():
        shape = tuple(parts["weight"].shape)
        if 0 in shape:
            raise ModelError(f"layer {name!r}: weight of shape {shape} holds nothing")
        if len(shape) != 2 and not _is_lenet_5(state):
            why = {
                1: ": a normalisation is to be folded into the layer before it "
                "(torch.nn.utils.fusion)",
                3: ": a Conv1d is not supported, Conv2d is",
                4: ": how a convolution strides, pads and pools is not in a state dict; make the "
                "network in Python, load_state_dict, then pleach.compress or "
                "pleach.models.save_checkpoint",
            }
            raise ModelError(f"layer {name!r}: weight of shape {shape}{why.get(len(shape), '')}")
        if "bias" in parts and tuple(parts["bias"].shape) != shape[:1]:
            raise ModelError(
                f"layer {name!r}: bias {tuple(parts['bias'].shape)} for {shape[0]} outputs"
            )
    return layers


def _way_out(key: str) -> str:
    """What to do about a tensor that is no weight and no bias."""
    for part, advice in (
        (
            r"running_mean|running_var|num_batches_tracked",
            "it belongs to a BatchNorm: fold that into the layer before it "
            "(torch.nn.utils.fusion.fuse_linear_bn_eval, fuse_conv_bn_eval)",
        ),
        (
            r"\w+_mask|weight_orig|bias_orig",
            "torch.nn.utils.prune.remove, or remove_spectral_norm, before state_dict()",
        ),
        (r"weight_[gvu]", "torch.nn.utils.remove_weight_norm before state_dict()"),
        (
            r"original\d*",
            "pleach.models.save_checkpoint(model, path) writes parametrized tensors as plain ones",
        ),
        (r"weight_[ih]h_l.*|in_proj_weight", "recurrent and attention layers are not supported"),
        (r"(weight|bias)", "a layer has a name and a weight, as 0.weight and 0.bias"),
    ):
        if re.fullmatch(part, key.rpartition(".")[2]):
            return f"; {advice}"
    return "; only Linear layers can be read from a state dict"


def _real(key: str, tensor: Tensor) -> Tensor:
    """`tensor` as a dense float32 one on the CPU, where that is exact."""
    if is_lazy(tensor):
        raise ModelError(f"{key!r} has no shape yet: run the network on an input once, then save")
    if tensor.is_meta:
        raise ModelError(f"{key!r} is on the meta device, which holds no values")
    try:
        plain = tensor.detach()
        if plain.is_quantized:
            plain = plain.dequantize()
        if plain.layout is not torch.strided:
            plain = plain.to_dense()
        if not plain.is_floating_point():
            raise ModelError(f"{key!r} holds {plain.dtype} values, not reals")
        plain = plain.cpu()
        real = plain.to(torch.float32)
        finite, exact = (
            torch.isfinite(plain.double()).all(),
            torch.equal(real.double(), plain.double()),
        )
    except (RuntimeError, TypeError, ValueError) as error:
        what = f"{tensor.dtype} values of layout {tensor.layout}"
        raise ModelError(f"{key!r} holds {what}, which cannot be converted to float32") from error
    if not finite:
        raise ModelError(f"{key!r} holds {tensor.dtype} values that are not all finite")
    if not exact:
        raise ModelError(
            f"{key!r} holds {tensor.dtype} values that float32 does not hold exactly: "
            "round them as you want them, model.float()"
        )
    return real


def _is_lenet_5(state: Mapping[str, Tensor]) -> bool:
    return _lenet_5_shapes() == {key: tensor.shape for key, tensor in state.items()}


@cache
def _lenet_5_shapes() -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in lenet_5().state_dict().items()}


# --- networks --------------------------------------------------------------------------------


def _running_order(
    path: Path,
    layers: Mapping[str, Mapping[str, Tensor]],
    metadata: Mapping[str, str],
    order: Sequence[str] | None,
) -> list[str]:
    """Names of the layers as they run: as given, as the metadata or the names tell, or as shapes
    leave only one order.

    Raises:
        ModelError: none fits, or more than one.
    """
    if order is not None:
        return _checked(order, layers)
    said = _list(metadata.get(ORDER))
    found = dict.fromkeys(key if key in layers else key.rpartition(".")[0] for key in said)
    if sorted(found) == sorted(layers):
        return list(found)
    if len(runs := numbered(list(layers))) == 1:
        return runs[0]
    shapes = {name: tuple(parts["weight"].shape) for name, parts in layers.items()}
    if any(len(shape) != 2 for shape in shapes.values()):
        raise ModelError(
            f"{path} does not say in which order its layers {', '.join(layers)} run; give --order "
            "with their names in running order (order= in Python)"
        )
    orders = fitting_orders({name: (takes, gives) for name, (gives, takes) in shapes.items()})
    if not orders:
        sizes = ", ".join(f"{name} {takes}→{gives}" for name, (gives, takes) in shapes.items())
        raise ModelError(f"{path}: in no order does each layer take what one before gives: {sizes}")
    if len(orders) > 1:
        fit = " or ".join(",".join(order) for order in orders[:3])
        raise ModelError(
            f"{path} does not say in which order its layers run, and more than one fits: {fit}"
            f"{' or others' * (len(orders) > 3)}; give --order with their names in running order "
            "(order= in Python)"
        )
    return orders[0]


def _checked(order: Sequence[str], layers: Mapping[str, Any]) -> list[str]:
    """An order that was given, which names each layer once."""
    names = [order] if isinstance(order, str) else list(map(str, order))
    if sorted(names) != sorted(layers):
        raise ModelError(
            f"the order {', '.join(names)} must name each layer once, there are {', '.join(layers)}"
        )
    return names


def _agree(
    path: Path, model: nn.Sequential, order: Sequence[str] | None, activation: str | None
) -> None:
    """Refuse what contradicts a file that tells its network."""
    layers = layers_of(model)
    names = [layer.name for layer in layers]
    if order is not None and list(order) != names:
        raise ModelError(f"{path} says itself that its layers run {','.join(names)}")
    if activation is None:
        return
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation is relu or none, not {activation!r}: {_ONLY}")
    if any(layer.activation != ACTIVATIONS[activation] for layer in layers[:-1]):
        functions = {kind: name for name, kind in ACTIVATIONS.items()}
        said = ", ".join(f"{layer.name} {functions[layer.activation]}" for layer in layers)
        raise ModelError(f"{path} says itself what follows its layers: {said}; leave it out")


def _linear(parts: Mapping[str, Tensor]) -> nn.Linear:
    outputs, inputs = parts["weight"].shape
    return nn.utils.skip_init(nn.Linear, inputs, outputs, bias="bias" in parts)


def _fill(model: nn.Module, layers: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Give each layer its tensors."""
    with torch.no_grad():
        for name, parts in layers.items():
            for part, tensor in parts.items():
                model.get_submodule(name).get_parameter(part).copy_(tensor)


def _free(name: str, taken: set[str]) -> str:
    """`name`, longer where a module cannot be called so."""
    while not name or name in taken or hasattr(nn.Sequential(), name):
        name += "_"
    return name


def _module_names(names: list[str]) -> dict[str, str]:
    """What the modules of the layers `names` are called: the same wherever that can be."""
    made: dict[str, str] = {}
    for name in sorted(names, key=lambda name: "." in name):
        made[name] = _free(name.replace(".", "_"), set(made.values()))
    return made


def _described(model: nn.Module) -> Iterator[dict[str, Any]]:
    """The modules of a network that `layers_of` takes, as JSON; what they do, not their values."""
    for name, module in leaves(model):
        for kind in KINDS:
            if isinstance(module, kind):
                settings = {setting: getattr(module, setting) for setting in KINDS[kind]}
                if isinstance(module, Function):
                    settings["activation"] = dataclasses.astuple(module.activation)
                yield {"name": name, "kind": kind.__name__, **settings}


def _rebuilt(path: Path, text: str, state: Mapping[str, Tensor]) -> nn.Sequential:
    """The network that `_described` tells, with its tensors."""
    layers = layer_tensors(state)
    kinds = {kind.__name__: kind for kind in KINDS}
    model = nn.Sequential()
    try:
        for entry in json.loads(text):
            name, kind = entry["name"], kinds[entry["kind"]]
            if kind is Function:
                settings = {"activation": _function(*entry["activation"])}
            else:
                settings = {setting: _setting(entry[setting]) for setting in KINDS[kind]}
            if kind is nn.Conv2d:
                outputs, columns, *sides = layers[name]["weight"].shape
                module = nn.utils.skip_init(
                    nn.Conv2d, columns * settings["groups"], outputs, sides,
                    bias="bias" in layers[name], **settings,
                )  # fmt: skip
            else:
                module = _linear(layers[name]) if kind is nn.Linear else kind(**settings)
            *parents, last = name.split(".")
            place = model
            for parent in parents:
                if parent not in place._modules:
                    place.add_module(parent, nn.Sequential())
                place = place._modules[parent]
            place.add_module(last, module)
        if [layer.name for layer in layers_of(model)] != list(layers):
            raise ValueError("layers and tensors differ")
        _fill(model, layers)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ModelError) as error:
        raise DataError(f"{path}: its metadata, {MODULES}, do not fit its tensors") from error
    return model


def _nodes(network: Network) -> dict[str, Any]:
    """How a network that is no chain is joined, as JSON."""
    joints = joints_of(network)
    nodes = []
    for node in joints.nodes:
        entry = {"name": node.name, "kind": node.kind, "sources": node.sources}
        fields = {field.name: getattr(node.op, field.name) for field in dataclasses.fields(node.op)}
        if isinstance(node.op, Weighted):
            module = network.get_submodule(node.name)
            kind = nn.Conv2d if isinstance(module, nn.Conv2d) else nn.Linear
            entry["layer"] = {setting: getattr(module, setting) for setting in KINDS[kind]}
            function = node.op.activation
            plain = function in (Activation.NONE, Activation.RELU)
            fields["activation"] = (
                int(function == Activation.RELU) if plain else dataclasses.astuple(function)
            )
        nodes.append(entry | {"settings": fields})
    return {"shape": joints.shape, "nodes": nodes}


def _joined(path: Path, text: str, state: Mapping[str, Tensor]) -> Network:
    """The network that `_nodes` tells, with its tensors."""
    steps = (Weighted, Pool, Reshape, Pad, Add, Concat, Clip, Shuffle, Affine)
    kinds = {kind.__name__: kind for kind in steps}
    layers = layer_tensors(state)
    modules: dict[str, nn.Linear | nn.Conv2d] = {}
    nodes = []
    try:
        told = json.loads(text)
        for entry in told["nodes"]:
            name, settings = entry["name"], entry["settings"]
            lists = {key: tuple(x) if isinstance(x, list) else x for key, x in settings.items()}
            lists.pop("rescale", None)  # of no meaning, and once written
            op = kinds[entry["kind"]](**lists)
            if isinstance(op, Weighted):
                if isinstance(op.activation, tuple):
                    function = _function(*op.activation)
                elif op.activation in (0, 1):
                    function = tuple(ACTIVATIONS.values())[1 - op.activation]
                else:
                    raise ValueError(f"no activation: {op.activation!r}")
                op = replace(op, activation=function)
                modules[name] = _made(layers[name], entry["layer"])
            nodes.append(Node(name, op, tuple(entry["sources"])))
        network = Network(Graph(tuple(nodes), tuple(told["shape"])), modules)
        with torch.no_grad():
            network(torch.zeros(1, *told["shape"]))
        _fill(network, layers)
    except (
        ValueError, TypeError, KeyError, AttributeError, RuntimeError, RecursionError, ModelError
    ) as error:  # fmt: skip
        raise DataError(f"{path}: its metadata, {NODES}, do not fit its tensors") from error
    return network


def _made(tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> nn.Linear | nn.Conv2d:
    """A layer for these tensors, not filled yet."""
    if tensors["weight"].ndim == 2:
        return _linear(tensors)
    settings = {setting: _setting(told[setting]) for setting in KINDS[nn.Conv2d]}
    outputs, columns, *sides = tensors["weight"].shape
    return nn.utils.skip_init(
        nn.Conv2d, columns * settings["groups"], outputs, sides, bias="bias" in tensors, **settings
    )


def _function(low: Any, high: Any, sign: Any, step: Any) -> Activation:
    """A function out of JSON."""
    numbers = all(type(bound) in (int, float, type(None)) for bound in (low, high))
    if not numbers or type(sign) is not bool or type(step) not in (int, float):
        raise ValueError(f"no function: {[low, high, sign, step]}")
    return Activation(low, high, sign, float(step))


def _setting(value: Any) -> int | str | tuple[int, ...]:
    """A setting of a module out of JSON: a number, numbers, or how it pads."""
    if isinstance(value, list) and all(type(each) is int for each in value):
        return tuple(value)
    if type(value) is int or value in ("same", "valid"):
        return value
    raise ValueError(f"no setting: {value!r}")


# What a module of each kind is made with, beside its weights.
KINDS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: (),
    nn.Conv2d: ("stride", "padding", "groups"),
    nn.ReLU: (),
    Function: ("activation",),
    nn.MaxPool2d: ("kernel_size", "stride"),
    nn.Flatten: (),
    nn.Unflatten: ("dim", "unflattened_size"),
}


# --- files -----------------------------------------------------------------------------------


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict of a file and its metadata, which only safetensors have."""
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint")
    metadata: dict[str, str] = {}
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(64)
        if _is_safetensors(path, head):
            with safe_open(path, "pt") as file:
                # The format sorts its keys; a file of ours has the layers' order in its metadata.
                metadata = file.metadata() or {}
                keys = _list(metadata.get(ORDER))
                if sorted(keys) != sorted(file.keys()):
                    keys = sorted(file.keys(), key=_natural)
                return {key: file.get_tensor(key) for key in keys}, metadata
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of odd pickle protocols: what matters is refused
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch's reader trips over in a damaged file
        raise DataError(_what_it_is(path, head, error)) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in state.items()
    ):
        keys = f", its keys are {', '.join(map(str, state))}" if isinstance(state, Mapping) else ""
        raise DataError(f"{path} holds no state dict{keys}; save model.state_dict()")
    return dict(state), metadata


def _is_safetensors(path: Path, head: bytes) -> bool:
    """By its first bytes, whatever it is called: a length of eight bytes, then JSON. Of a pickle or
    an archive those bytes would be a length that no file has."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _what_it_is(path: Path, head: bytes, error: Exception) -> str:
    """What a file that cannot be read is, and what to do."""
    save = "torch.save({}.state_dict(), 'net.pt')"
    if path.suffix == ".onnx" or (head[:1] == b"\x08" and not _is_safetensors(path, head)):
        return f"{path} is an ONNX file: save the network it was exported from, " + save.format(
            "model"
        )
    inside = _names_in_archive(path)
    if "constants.pkl" in inside:
        return f"{path} is a TorchScript archive: " + save.format(f"torch.jit.load({str(path)!r})")
    if path.suffix == ".npz" or (inside and all(name.endswith(".npy") for name in inside)):
        return f"{path} holds numpy arrays, which are data (--dataset) and no checkpoint"
    if "archive_format" in inside:
        return (
            f"{path} is a torch.export archive: "
            f"torch.save(torch.export.load({str(path)!r}).state_dict, 'net.pt')"
        )
    pickled = head[:2] == b"PK" or head[:1] == b"\x80"
    if isinstance(error, pickle.UnpicklingError) and pickled:
        return (
            f"{path} holds pickled objects, which are never run; save model.state_dict() instead"
            f"{'; a lazy layer runs once before it' if 'Uninitialized' in str(error) else ''}"
        )
    if isinstance(error, pickle.UnpicklingError):
        return f"{path} is not a checkpoint"
    why = error if isinstance(error, SafetensorError | OSError) else type(error).__name__
    return f"{path} is not a checkpoint or is damaged: {why}"


def _names_in_archive(path: Path) -> set[str]:
    """The names of the files in a zip archive, below its folder; none of what is no whole one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.partition("/")[2] or name for name in archive.namelist()}
    except Exception:  # a damaged directory fails in many ways
        return set()


def _list(text: str | None) -> list[str]:
    """The list of strings in a JSON text; empty where it is something else."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) and all(isinstance(x, str) for x in found) else []


def _natural(key: str) -> list[tuple[str, int]]:
    """Sort key in which ``10.weight`` comes after ``2.weight``."""
    return [(text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d*)", key)]

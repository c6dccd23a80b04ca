"""Reading a user's network: which layers it has, and how its convolutions lie over their maps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod

from pleach.errors import ModelError
from pleach.model import Activation, Convolution, Shape

IGNORED = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    nn.Identity,
)
SUPPORTED = (
    "only Linear, Conv2d, ReLU, ReLU6, Hardtanh, LeakyReLU, PReLU, MaxPool2d, AvgPool2d, "
    "AdaptiveAvgPool2d, BatchNorm1d and 2d, Flatten, Dropout and Identity are supported"
)
# By a part of the name of a class of torch's.
WHY_NOT = (
    ("BatchNorm", "of normalisations only BatchNorm1d and BatchNorm2d are supported"),
    ("Softmax", "at the end leave it out, the largest output stays the largest without it"),
    ("Sigmoid", "at the end leave it out, an output above 0 is a probability above one half"),
    ("Conv", "of convolutions only Conv2d is supported"),
    ("Pool", "of pooling only MaxPool2d, AvgPool2d and AdaptiveAvgPool2d are supported"),
    ("", SUPPORTED),
)
# What a class of the user's, or one object, may have instead of the supported class's own.
COMPUTING = ("forward", "__call__", "_conv_forward", "__iter__")
NORMS = {
    "WeightNorm": "torch.nn.utils.remove_weight_norm",
    "SpectralNorm": "torch.nn.utils.remove_spectral_norm",
}
PARTS = ("weight", "bias")


class Parametrization(nn.Module):
    """A parametrization that `layers_of` takes: what a layer's tensor is, not what it computes.

    Attributes:
        scales: what the rows of the tensor are multiplied by, ``(rows,)``; None of 1.
    """

    scales: Tensor | None

    def unscaled(self, *originals: Any) -> Tensor:
        """The tensor without what its rows are multiplied by."""
        return self(*originals)


class Put(torch.autograd.Function):
    """A tensor in the place of another one, which gets its gradient: the straight-through estimator
    (Bengio et al. 2013)."""

    @staticmethod
    def forward(ctx: Any, learned: Tensor, put: Tensor) -> Tensor:
        return put.detach().clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class Function(nn.Module):
    """The function of a layer, where it is no ReLU: a clip, steps, a sign.

    Steps and sign pass the gradient straight through between the bounds (Courbariaux et al. 2016,
    equation 4).

    >>> Function(Activation(-1, 1, sign=True))(torch.tensor([-0.3, 0.0])).tolist()
    [-1.0, 1.0]
    """

    def __init__(self, activation: Activation):
        super().__init__()
        self.activation = activation

    def forward(self, values: Tensor) -> Tensor:
        return applied(self.activation, values)


def applied(activation: Activation, values: Tensor) -> Tensor:
    """What a layer's function gives, with the gradient as `Function` has it."""
    if activation == Activation.NONE:
        return values
    if activation == Activation.RELU:
        return values.relu()
    clipped = values.clamp(activation.low, activation.high)
    if activation.sign:
        high, low = (clipped.new_tensor(bound) for bound in (activation.high, activation.low))
        return Put.apply(clipped, torch.where(values >= 0, high, low))
    if activation.step:
        step = activation.step
        return Put.apply(clipped, torch.floor(clipped / step + 0.5) * step)
    return clipped


KINDS = (
    nn.Linear,
    nn.Conv2d,
    nn.ReLU,
    Function,
    nn.MaxPool2d,
    nn.Flatten,
    nn.Unflatten,
    *IGNORED,
)


def ours(hook: Callable) -> Callable:
    """A forward hook that `layers_of` lets pass, because it is gone when the training is over."""
    hook.of_pleach = True
    return hook


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a torch network, with what follows it.

    Args:
        name: qualified name.
        module: it holds the weight, ``(outputs, inputs)`` or ``(outputs, channels / groups,
            kernel_height, kernel_width)``, and the bias, ``(outputs,)`` or None.
        activation: function after it.
        geometry: what `convolution` gives; None too where the shape of the images is not known.
    """

    name: str
    module: nn.Linear | nn.Conv2d
    activation: Activation = Activation.NONE
    geometry: Convolution | None = None

    @property
    def convolution(self) -> Convolution | None:
        """How the weights are laid over the input map; None where it is fully connected.

        Raises:
            ModelError: the shape of the images is not known.
        """
        if self.geometry is None and isinstance(self.module, nn.Conv2d):
            raise ModelError(
                f"layer {self.name!r} is a convolution of images of unknown shape: give their "
                "shape, (channels, height, width), or start the network with nn.Unflatten(1, shape)"
            )
        return self.geometry

    @property
    def known(self) -> bool:
        """Whether the sizes of what it takes and gives are."""
        return self.geometry is not None or isinstance(self.module, nn.Linear)

    @property
    def outputs(self) -> int:
        """Rows of the weight matrix: neurons, or channels."""
        module = self.module
        return module.out_features if isinstance(module, nn.Linear) else module.out_channels

    @property
    def values_in(self) -> int:
        """Activations that the layer takes."""
        return self.convolution.inputs if self.convolution else self.module.in_features

    @property
    def values_out(self) -> int:
        """Activations that it gives, pooled."""
        pooled = self.convolution.pooled if self.convolution else ()
        return self.outputs * math.prod(pooled)

    def out_shape(self, *inputs: Shape) -> Shape:
        """``(outputs,)``, or ``(outputs, height, width)``, pooled."""
        return (self.outputs, *(self.convolution.pooled if self.convolution else ()))


def check_module(model: nn.Module) -> None:
    """Refuse what is no torch module, or computes what no look at it shows.

    Raises:
        ModelError: says why.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"a network is a torch module, not {type(model).__name__}")
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        raise ModelError(
            "a forward hook is registered for all modules: what they compute is not known; "
            "remove it (handle.remove())"
        )


def chain_of(model: nn.Module, shape: Sequence[int] | None = None) -> list[Layer]:
    """The layers of an nn.Sequential, in running order; see `pleach.models.layers_of`.

    Raises:
        ModelError: anything else than a chain of supported modules; names the layer.
    """
    check_module(model)
    layers: list[Layer] = []
    owners: dict[int, str] = {}
    # What the next module gets: maps or rows (None: either, nothing has said it yet).
    maps: bool | None = None
    pooled = False
    for name, module in leaves(model):
        kind = _kind(name, module)
        if kind is nn.Linear:
            if maps:
                raise ModelError(f"layer {name!r} takes rows, not maps: put a Flatten before it")
            _append(layers, Layer(name, module), owners)
            maps = False
        elif kind is nn.Conv2d:
            if maps is False:
                raise ModelError(f"layer {name!r} takes maps, what comes before it gives rows")
            geometry = _geometry(name, module, layers, shape)
            _append(layers, Layer(name, module, geometry=geometry), owners)
            maps, pooled = True, False
        elif kind is nn.ReLU:
            if not layers:
                raise ModelError(f"layer {name!r} is a ReLU before the first layer with weights")
            layers[-1] = replace(layers[-1], activation=Activation.RELU)
        elif kind is Function:
            if not layers:
                raise ModelError(f"layer {name!r} is a function before the first layer")
            layers[-1] = replace(layers[-1], activation=module.activation)
        elif kind is nn.MaxPool2d:
            if not (layers and maps) or pooled:
                raise ModelError(f"layer {name!r}: a MaxPool2d must follow a Conv2d, one at most")
            layers[-1], pooled = _pooled(layers[-1], name, module), True
        elif kind is nn.Unflatten:
            if layers:
                raise ModelError(f"layer {name!r} is an Unflatten: only the first module may be")
            shape, maps = _unflattened(name, module), True
        elif kind is nn.Flatten:
            if (module.start_dim, module.end_dim) != (1, -1):
                raise ModelError(f"layer {name!r}: Flatten must take all dimensions but the first")
            maps = False
    if not layers:
        raise ModelError("the network has no Linear or Conv2d layer")
    return layers


def copied(model: nn.Module) -> nn.Module:
    """A copy of a network, also of one that torch.nn.utils.prune, weight_norm or the like work on.

    Raises:
        ModelError: a network without plain real values, or one that cannot be copied.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"a network is a torch module, not {type(model).__name__}")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(f"{_place(name)} is a {class_of(module)}{_why_not(module)}")
        _check_tensors(name, module)
    # What hooks compute is no leaf of autograd, which deepcopy refuses: a stand-in is copied.
    memo = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and value.grad_fn is not None
    }
    try:
        twin = copy.deepcopy(model, memo)
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"the network cannot be copied: {error}") from error
    for module in twin.modules():
        if parametrize.is_parametrized(module):
            # deepcopy leaves both with one class, and the parametrizations are its properties.
            kind = type(module)
            module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
    return twin


def tensor_of(module: nn.Module, part: str) -> Tensor | None:
    """The ``weight`` or ``bias`` with which `module` computes; None where it has no bias.

    torch.nn.utils.prune lays its mask over the parameter when the module runs, so that between a
    step of training and the next run the attribute is an old one.

    >>> layer = nn.Linear(2, 1)
    >>> _ = torch.nn.utils.prune.l1_unstructured(layer, "weight", amount=1)
    >>> _ = layer.weight_orig.data.fill_(3.0)
    >>> tensor_of(layer, "weight").sum().item()
    3.0
    """
    mask = getattr(module, f"{part}_mask", None)
    if mask is None or f"{part}_orig" not in module._parameters:
        return getattr(module, part)
    original = getattr(module, f"{part}_orig")
    return mask.to(original.dtype) * original


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Let `model` run its convolutions channels last, which is the faster way.

    The layout of the first convolution's input decides that of all that follows, whatever the
    weights' is; so parametrized weights need nothing. Inputs, outputs and weights stay as they are.
    """
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        yield
        return
    # clone: contiguous() leaves maps of one channel, which are both, with the strides they have.
    handle = first.register_forward_pre_hook(
        ours(lambda _, inputs: inputs[0].clone(memory_format=torch.channels_last))
    )
    try:
        yield
    finally:
        handle.remove()


def _kind(name: str, module: nn.Module) -> type[nn.Module]:
    """The supported class whose function `module` computes.

    Raises:
        ModelError: there is none, or its tensors are no plain reals; names the layer.
    """
    _check_tensors(name, module)
    kind = next((kind for kind in KINDS if isinstance(module, kind)), None)
    if kind is None:
        raise ModelError(f"layer {name!r} is a {class_of(module)}{_why_not(module)}")
    check_own(f"layer {name!r}", module, kind)
    if kind is nn.Linear:
        _check_shape(name, module, (module.out_features, module.in_features))
    elif kind is nn.Conv2d:
        inner = module.in_channels // module.groups
        _check_shape(name, module, (module.out_channels, inner, *module.kernel_size))
    return kind


def check_own(where: str, module: nn.Module, kind: type[nn.Module]) -> None:
    """Refuse a module that computes anything but what `kind` does.

    Raises:
        ModelError: a forward that is not the class's own, a hook, or a parametrization.
    """
    _check_forward(where, module, kind)
    check_hooks(where, module)


def _check_forward(where: str, module: nn.Module, kind: type[nn.Module]) -> None:
    other = any(
        getattr(type(module), part, None) is not getattr(kind, part, None) for part in COMPUTING
    )
    if other:
        raise ModelError(
            f"{where} is a {class_of(module)}, whose forward is not that of torch's {kind.__name__}"
        )
    if vars(module).keys() & set(COMPUTING):
        raise ModelError(
            f"{where} is a {class_of(module)} with a forward of its own, not that of its class"
        )


def check_hooks(where: str, module: nn.Module) -> None:
    """Refuse a module with a hook or a parametrization of which is not known what it computes.

    Raises:
        ModelError: there is one.
    """
    for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
        if getattr(hook, "of_pleach", False) or isinstance(hook, BasePruningMethod):
            continue
        called = getattr(hook, "__qualname__", type(hook).__name__)
        way_out = NORMS.get(called, "handle.remove()")
        raise ModelError(
            f"{where} has the forward hook {called}: what it computes with that is not known; "
            f"remove it ({way_out})"
        )
    for part, listed in getattr(module, "parametrizations", {}).items():
        for parametrization in listed:
            if not isinstance(parametrization, Parametrization):
                raise ModelError(
                    f"{where}: its {part} has the parametrization "
                    f"{class_of(parametrization)}; make it plain first: "
                    f"torch.nn.utils.parametrize.remove_parametrizations(layer, {part!r})"
                )


def _check_tensors(name: str, module: nn.Module) -> None:
    """Refuse parameters of a module's own that are no dense tensors of reals."""
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        raise ModelError(
            f"{_place(name)} is a {type(module).__name__} that has no shape yet: run the network "
            "on an input once"
        )
    for part, tensor in module.named_parameters(recurse=isinstance(module, KINDS)):
        if tensor.is_meta:
            why = "on the meta device, which holds no values"
        elif not tensor.is_floating_point():
            why = f"{tensor.dtype}: only reals are supported"
        elif tensor.layout is not torch.strided:
            why = f"of layout {tensor.layout}: make it dense, nn.Parameter(tensor.to_dense())"
        else:
            continue
        raise ModelError(f"{_place(name)}: its {_part(part)} is {why}")


def _check_shape(name: str, module: nn.Module, shape: tuple[int, ...]) -> None:
    """Refuse a weight or bias that was replaced by one of another size than the module says."""
    if not math.prod(shape):
        raise ModelError(f"layer {name!r} has a weight of the shape {shape}, which holds nothing")
    if parametrize.is_parametrized(module):
        return
    for part, wanted in (("weight", shape), ("bias", shape[:1])):
        tensor = getattr(module, part)
        if tensor is not None and tuple(tensor.shape) != wanted:
            raise ModelError(
                f"layer {name!r}: its {part} has the shape {tuple(tensor.shape)}, the module says "
                f"{wanted}"
            )


def _place(name: str) -> str:
    return f"layer {name!r}" if name else "the network"


def class_of(module: nn.Module) -> str:
    """The class of a module, with where it is from unless that is torch.nn."""
    kind = type(module)
    if getattr(nn, kind.__name__, None) is kind:
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"


def _why_not(module: nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return ", which TorchScript compiled: give the torch module that it was made from"
    if class_of(module) != type(module).__name__:
        return f", which is no class of torch.nn: {SUPPORTED}"
    return f": {next(why for part, why in WHY_NOT if part in type(module).__name__)}"


def _part(name: str) -> str:
    """``weight`` or ``bias``, of the name of a parameter that may be parametrized or pruned."""
    return next((part for part in PARTS if part in name.replace("_", ".").split(".")), name)


def _append(layers: list[Layer], layer: Layer, owners: dict[int, str]) -> None:
    """Add a layer that takes what the one before gives and shares no module or parameter; `owners`
    are the layers of those so far, by their ids."""
    owner = owners.setdefault(id(layer.module), layer.name)
    if owner != layer.name:
        raise ModelError(f"layer {layer.name!r} is layer {owner!r} again: tie no layers")
    for name, parameter in layer.module.named_parameters():
        owner = owners.setdefault(id(parameter), layer.name)
        if owner != layer.name:
            raise ModelError(
                f"layer {layer.name!r} shares its {_part(name)} with layer {owner!r}: "
                "tie no layers, give it a copy, nn.Parameter(tensor.detach().clone())"
            )
    if layers and isinstance(layer.module, nn.Linear):
        before, takes = layers[-1], layer.module.in_features
        known = before.known
        gives = before.values_out if known else before.outputs
        # Without a shape only so much is known: every channel gives as many values.
        if takes != gives if known else takes % gives:
            raise ModelError(
                f"layer {layer.name!r} takes {takes} inputs, layer {before.name!r} before it gives "
                f"{gives}{'' if known else ' times the pixels of a map'}"
            )
    layers.append(layer)


def _geometry(
    name: str, module: nn.Conv2d, layers: list[Layer], shape: Sequence[int] | None
) -> Convolution | None:
    """How `module` lies over the map before it; None where that has no known shape."""
    _steps(name, module)
    if layers:
        before = layers[-1]
        if before.outputs != module.in_channels:
            raise ModelError(
                f"layer {name!r} takes {module.in_channels} channels, layer {before.name!r} before "
                f"it gives {before.outputs}"
            )
        if before.geometry is None:
            return None
        image = (before.outputs, *before.geometry.pooled)
    elif shape is None:
        return None
    else:
        image = _image(name, module.in_channels, tuple(shape))
    return convolution_of(name, module, image)


def convolution_of(
    name: str,
    module: nn.Conv2d,
    image: tuple[int, ...],
    pool: int = 1,
    pool_stride: int = 1,
    more: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Convolution:
    """How `module` lies over a map of that shape, max pooling after it.

    Args:
        more: padding at the top, left, bottom and right beside its own.

    Raises:
        ModelError: what is not supported; names the layer.
    """
    stride, (high, wide) = _steps(name, module)
    # What an even kernel cannot have on both sides alike torch puts at the end.
    ends = [
        padding + (module.padding == "same" and size % 2 == 0)
        for padding, size in zip((high, wide), module.kernel_size, strict=True)
    ]
    with naming(name):
        return Convolution(
            *image,
            kernel_height=module.kernel_size[0],
            kernel_width=module.kernel_size[1],
            stride=stride,
            padding=tuple(a + b for a, b in zip((high, wide, *ends), more, strict=True)),
            groups=module.groups,
            pool=pool,
            pool_stride=pool_stride,
        )


def _steps(name: str, module: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Stride of a convolution, and its padding at the top and at the left.

    Raises:
        ModelError: they are not supported, or anything else of it; names the layer.
    """
    if module.padding_mode != "zeros":
        raise ModelError(f"layer {name!r}: only padding with zeros, not {module.padding_mode!r}")
    if tuple(module.dilation) != (1, 1):
        raise ModelError(f"layer {name!r}: dilation must be 1, not {module.dilation}")
    padding = module.padding
    if padding == "valid":
        padding = (0, 0)
    elif padding == "same":
        padding = tuple((size - 1) // 2 for size in module.kernel_size)
    return tuple(module.stride), tuple(padding)


def _pooled(layer: Layer, name: str, pool: nn.MaxPool2d) -> Layer:
    """The convolution with `pool` after it."""
    size = _square(name, "kernel_size", pool.kernel_size)
    stride = _square(name, "stride", pool.stride)
    for part, wanted in (("padding", 0), ("dilation", 1)):
        if _square(name, part, getattr(pool, part)) != wanted:
            raise ModelError(f"layer {name!r}: {part} of a MaxPool2d must be {wanted}")
    for part in ("ceil_mode", "return_indices"):
        if getattr(pool, part):
            raise ModelError(f"layer {name!r}: a MaxPool2d with {part} is not supported")
    if layer.geometry is None:
        return layer
    with naming(name):
        return replace(layer, geometry=replace(layer.geometry, pool=size, pool_stride=stride))


def _image(name: str, channels: int, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """``(channels, height, width)`` of an image that comes in `shape`."""
    if len(shape) == 3 and shape[0] == channels:
        return shape
    if len(shape) == 2 and channels == 1:
        return 1, *shape
    if len(shape) == 1:
        side = math.isqrt(shape[0] // max(channels, 1))
        if channels * side * side == shape[0]:
            return channels, side, side
    raise ModelError(
        f"layer {name!r} takes images of {channels} channel{'s'[: channels != 1]}, an input has "
        f"the shape {shape}: give (channels, height, width)"
    )


def _unflattened(name: str, module: nn.Unflatten) -> tuple[int, ...]:
    sizes = tuple(module.unflattened_size)
    if module.dim != 1 or len(sizes) != 3 or not all(isinstance(x, int) and x > 0 for x in sizes):
        raise ModelError(
            f"layer {name!r}: Unflatten must be of dimension 1 into (channels, height, width)"
        )
    return sizes


def _square(name: str, part: str, value) -> int:
    """The one number of a setting that torch allows to differ by direction."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if pair[0] != pair[-1]:
        raise ModelError(f"layer {name!r}: {part} {pair} must be the same in height and width")
    return pair[0]


@contextmanager
def naming(name: str) -> Iterator[None]:
    try:
        yield
    except ModelError as error:
        raise ModelError(f"layer {name!r}: {error}") from None


def leaves(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules in running order; one used twice (a shared ReLU) comes twice."""
    if not isinstance(module, nn.Sequential):
        if not name:
            raise ModelError(f"the network is a {class_of(module)}{_unwrapped(module)}")
        yield name, module
        return
    check_own(_place(name), module, nn.Sequential)
    for child, inner in module._modules.items():
        yield from leaves(inner, f"{name}.{child}" if name else child)


# Modules around a network, and where in them it is.
WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module"}


def is_wrapped(module: nn.Module) -> bool:
    """Whether a module is one around another, or compiled: the network in it is to be given."""
    return isinstance(module, torch.jit.ScriptModule) or type(module).__name__ in WRAPPERS


def is_plain(module: nn.Module) -> bool:
    """Whether a module computes what the supported class that it is of does."""
    kind = next((kind for kind in KINDS if isinstance(module, kind)), nn.Module)
    try:
        _check_forward("", module, kind)
    except ModelError:
        return False
    return True


def _unwrapped(module: nn.Module) -> str:
    """What to give instead of a network that is no nn.Sequential."""
    if isinstance(module, torch.jit.ScriptModule):
        return _why_not(module)
    if type(module).__name__ in WRAPPERS:
        return f": give the network in it, model.{WRAPPERS[type(module).__name__]}"
    return "; only an nn.Sequential shows the order in which its layers run"


def columns_of(module: nn.Module, value: np.ndarray) -> np.ndarray:
    """`value`, of each channel or feature, for each element of a row of the weight matrix, or for
    each row and element where a convolution's groups see different channels."""
    if isinstance(module, nn.Linear):
        return np.repeat(value, module.in_features // value.size)
    each = np.broadcast_to(value, module.in_channels).reshape(module.groups, -1)
    rows = np.repeat(each, module.out_channels // module.groups, axis=0)
    return np.repeat(rows, math.prod(module.kernel_size), axis=1)


def pads(module: nn.Conv2d) -> bool:
    if module.padding == "same":
        return max(module.kernel_size) > 1
    return module.padding != "valid" and any(module.padding)

"""Reading a user's network: which layers it has, and how its convolutions lie over their maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from pleach.errors import ModelError
from pleach.model import Activation, Convolution

IGNORED = (nn.Dropout, nn.Dropout2d, nn.Identity)
SUPPORTED = "only Linear, Conv2d, ReLU, MaxPool2d, Flatten, Dropout and Identity are supported"
WHY_NOT = (
    ("BatchNorm", "fold it into the layer before (torch.nn.utils.fusion.fuse_conv_bn_eval)"),
    ("Conv", "of convolutions only Conv2d is supported"),
    ("Pool", "of pooling only MaxPool2d is supported"),
    ("", SUPPORTED),
)


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


def layers_of(model: nn.Module, shape: Sequence[int] | None = None) -> list[Layer]:
    """The Linear and Conv2d layers of `model`, in running order.

    `model` is an nn.Sequential, nested or not, of Linear, Conv2d, ReLU and MaxPool2d, with a
    Flatten between convolutions and Linear. A ReLU may stand before a convolution's MaxPool2d or
    after it, it is the same. Dropout and Identity are passed over: they change nothing of the
    numbers at inference.

    Args:
        shape: of an input: ``(channels, height, width)``, ``(height, width)`` of images of one
            channel, or ``(features,)`` of square ones, channel by channel. It matters only where a
            convolution comes first, and not where nn.Unflatten at the start gives it. Without it
            names and modules can be had, `Layer.convolution` cannot.

    Raises:
        ModelError: anything else; names the layer.

    >>> [layer.name for layer in layers_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))]
    ['0']
    >>> conv = nn.Sequential(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU())
    >>> layers_of(conv, shape=(784,))[0].convolution.pooled
    (12, 12)
    >>> layers_of(nn.Sequential(nn.Linear(2, 1), nn.Tanh()))
    Traceback (most recent call last):
    pleach.errors.ModelError: layer '1' is a Tanh: only Linear, Conv2d, ReLU, MaxPool2d, Flatten,
    Dropout and Identity are supported
    """
    layers: list[Layer] = []
    # What the next module gets: maps or rows (None: either, nothing has said it yet).
    maps: bool | None = None
    pooled = False
    for name, module in leaves(model):
        if _is(module, nn.Linear):
            if maps:
                raise ModelError(f"layer {name!r} takes rows, not maps: put a Flatten before it")
            _append(layers, Layer(name, module))
            maps = False
        elif _is(module, nn.Conv2d):
            if maps is False:
                raise ModelError(f"layer {name!r} takes maps, what comes before it gives rows")
            geometry = _geometry(name, module, layers, shape)
            _append(layers, Layer(name, module, geometry=geometry))
            maps, pooled = True, False
        elif isinstance(module, nn.ReLU):
            if not layers:
                raise ModelError(f"layer {name!r} is a ReLU before the first layer with weights")
            layers[-1] = replace(layers[-1], activation=Activation.RELU)
        elif isinstance(module, nn.MaxPool2d):
            if not (layers and maps) or pooled:
                raise ModelError(f"layer {name!r}: a MaxPool2d must follow a Conv2d, one at most")
            layers[-1], pooled = _pooled(layers[-1], name, module), True
        elif isinstance(module, nn.Unflatten):
            if layers:
                raise ModelError(f"layer {name!r} is an Unflatten: only the first module may be")
            shape, maps = _unflattened(name, module), True
        elif isinstance(module, nn.Flatten):
            if (module.start_dim, module.end_dim) != (1, -1):
                raise ModelError(f"layer {name!r}: Flatten must take all dimensions but the first")
            maps = False
        elif not isinstance(module, IGNORED):
            kind = type(module).__name__
            why = next(why for part, why in WHY_NOT if part in kind)
            raise ModelError(f"layer {name!r} is a {kind}: {why}")
    if not layers:
        raise ModelError("the network has no Linear or Conv2d layer")
    return layers


def sample_shape(model: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape in which `model` takes an input that comes in `shape`: a row, or maps.

    Raises:
        ModelError: as `layers_of`.

    >>> sample_shape(nn.Sequential(nn.Conv2d(1, 2, 3)), (784,))
    (1, 28, 28)
    >>> sample_shape(nn.Sequential(nn.Linear(784, 2)), (28, 28))
    (784,)
    """
    first = layers_of(model, shape)[0]
    conv = first.convolution
    if conv is None or any(isinstance(module, nn.Unflatten) for _, module in leaves(model)):
        return (first.values_in,)
    return conv.channels, conv.height, conv.width


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Let `model` run its convolutions channels last, by a third faster than channels first.

    The layout of the first convolution's input decides that of all that follows, whatever the
    weights' is; so parametrized weights need nothing. Inputs, outputs and weights stay as they are.
    """
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        yield
        return
    # clone: contiguous() leaves maps of one channel, which are both, with the strides they have.
    handle = first.register_forward_pre_hook(
        lambda _, inputs: inputs[0].clone(memory_format=torch.channels_last)
    )
    try:
        yield
    finally:
        handle.remove()


def _is(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether it computes what a `kind` does; a parametrized one does."""
    return isinstance(module, kind) and type(module).forward is kind.forward


def _append(layers: list[Layer], layer: Layer) -> None:
    """Add a layer that is not there yet and takes what the one before gives."""
    for before in layers:
        if before.module is layer.module:
            raise ModelError(f"layer {layer.name!r} is layer {before.name!r} again: tie no layers")
    if layers and isinstance(layer.module, nn.Linear):
        before, takes = layers[-1], layer.module.in_features
        known = before.geometry is not None or isinstance(before.module, nn.Linear)
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
    if module.padding_mode != "zeros":
        raise ModelError(f"layer {name!r}: only padding with zeros, not {module.padding_mode!r}")
    if tuple(module.dilation) != (1, 1):
        raise ModelError(f"layer {name!r}: dilation must be 1, not {module.dilation}")
    kernel_height, kernel_width = module.kernel_size
    padding = module.padding
    if padding == "valid":
        padding = 0
    elif padding == "same":
        if kernel_height % 2 == 0 or kernel_width % 2 == 0:
            raise ModelError(f"layer {name!r}: padding 'same' needs a kernel of odd sides")
        padding = (kernel_height // 2, kernel_width // 2)
    stride = _square(name, "stride", module.stride)
    padding = _square(name, "padding", padding)
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
    with _naming(name):
        return Convolution(
            *image,
            kernel_height=kernel_height,
            kernel_width=kernel_width,
            stride=stride,
            padding=padding,
            groups=module.groups,
        )


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
    with _naming(name):
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
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except ModelError as error:
        raise ModelError(f"layer {name!r}: {error}") from None


def leaves(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules in running order; one used twice (a shared ReLU) comes twice."""
    if type(module).forward is not nn.Sequential.forward:
        if not name:
            raise ModelError(
                f"the network is a {type(module).__name__}; only an nn.Sequential shows the order "
                "in which its layers run"
            )
        yield name, module
        return
    for child, inner in module._modules.items():
        yield from leaves(inner, f"{name}.{child}" if name else child)

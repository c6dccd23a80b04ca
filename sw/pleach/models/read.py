"""Any torch module as a `Network`, by what `torch.export` says that it computes."""

from __future__ import annotations

import math
import operator as operator_module
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod, remove

from pleach.errors import ModelError
from pleach.model import Activation, Add, Clip, Concat, Graph, Node, Shape, takers
from pleach.models.layers import (
    check_hooks,
    check_module,
    check_own,
    columns_of,
    copied,
    pads,
)
from pleach.models.network import (
    Affine,
    Network,
    Pad,
    Part,
    Pool,
    Reshape,
    Shuffle,
    Step,
    Weighted,
    through,
)
from pleach.numbers import CODEBOOK_MAX, POOL_MAX

#: inputs that a module is traced with: no other size is likely to be the same by accident
BATCH = 3
CLOSE = 1e-3
OPERATORS = (
    "supported are linear, conv2d, batch_norm, relu, relu6, hardtanh, clamp, leaky_relu, prelu, "
    "add, neg, mul by a number, cat, chunk, split, channel_shuffle, mean over height and width, "
    "avg_pool2d, adaptive_avg_pool2d, max_pool2d, flatten, view, reshape, dropout, and softmax and "
    "sigmoid at the end"
)
_LARGEST = "the largest output stays the largest"
#: what is left out at the end of a network: what it computes, and why that does not matter
ENDS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "softmax": (lambda outputs: outputs.softmax(1), _LARGEST),
    "log_softmax": (lambda outputs: outputs.log_softmax(1), _LARGEST),
    "sigmoid": (torch.sigmoid, "an output above 0 is a probability above one half"),
}


@dataclass(frozen=True)
class Normalise:
    """A batch normalisation, until it is folded: of each channel, ``x · scale + offset``.

    Args:
        gamma: its own scale, of what has the variance 1.
        maps: whether it takes maps.
    """

    scale: Tensor
    offset: Tensor
    gamma: Tensor
    maps: bool = False


def network_of(model: nn.Module, shape: Sequence[int]) -> Network:
    """What a module computes in evaluation mode, as a network of layers and what joins them.

    The module is any that `torch.export` can trace: with a forward of its own, residual sums,
    concatenations, functions of torch.nn.functional. BatchNorm1d and 2d are folded into the layer
    before them, or into those after; Dropout is left out, and so is what `ENDS` has at the end, of
    which the network's `notes` tell. Layers keep their names, and their masks and shared weights;
    `model` itself is not changed.

    Args:
        shape: of an input as the module takes it, or as a data set stores it: of rows, square
            images of one channel are tried too.

    Raises:
        ModelError: an operator that is not supported, or a module that cannot be traced; names the
            node.

    >>> class Residual(nn.Linear):
    ...     def forward(self, x):
    ...         return torch.relu(super().forward(x)) + x
    >>> network = network_of(nn.Sequential(Residual(4, 4)), (4,))
    >>> [name for name, _ in network.named_children()]
    ['0']
    """
    check_module(model)
    own = copied(model).to("cpu", torch.float32).eval()
    for name, module in own.named_modules():
        check_hooks(f"layer {name!r}" if name else "the network", module)
    plain = plain_copy(own)
    with torch.inference_mode(False), torch.no_grad():
        inputs, wanted = first_run(plain, shape)
        reader = Reader(own, plain, tuple(inputs.shape[1:]))
        reader.read(traced(plain, inputs))
        network = Network(*_joined(reader.nodes, reader.modules, tuple(inputs.shape[1:])))
        network.eval()
        found = network(inputs).flatten(1)
    if reader.end:
        run, why = ENDS[reader.end]
        found = run(found)
        network.left_out = reader.end
        network.notes = (f"the {reader.end} at the end is left out: {why}",)
    wanted = wanted.flatten(1)
    if not torch.allclose(found, wanted, rtol=CLOSE, atol=CLOSE * float(wanted.std())):
        raise ModelError(
            "what was read of the network does not compute what it computes: write it with "
            f"modules of torch.nn; {OPERATORS}"
        )
    return network


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy whose tensors are plain ones, whatever prunes or parametrizes them."""
    plain = copied(model)
    for module in plain.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, BasePruningMethod):
                remove(module, hook._tensor_name)
        if parametrize.is_parametrized(module):
            for part in list(module.parametrizations):
                parametrize.remove_parametrizations(module, part)
    return plain


def first_run(model: nn.Module, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Inputs of the first likely shape that the module takes, and what it gives."""
    generator = torch.Generator().manual_seed(0)
    why = None
    for candidate in _shapes(model, tuple(shape)):
        inputs = torch.randn((BATCH, *candidate), generator=generator)
        try:
            outputs = model(inputs)
        except Exception as error:  # whatever a module of the user's trips over
            why = why or error
            continue
        if not isinstance(outputs, Tensor):
            raise ModelError(f"the network gives a {type(outputs).__name__}, must give one tensor")
        return inputs, outputs
    channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    raise ModelError(
        f"the network does not run on inputs of shape {tuple(shape)}: "
        f"{type(why).__name__}: {str(why).splitlines()[0] if str(why) else ''}"
        f"{channels_last(shape, channels)}"
    ) from why


def channels_last(shape: Sequence[int], channels: int | None) -> str:
    """What helps where the channels of maps seem to come last; else nothing.

    >>> channels_last((28, 28, 3), 3)
    '; its channels come last: .transpose(0, 3, 1, 2) puts them first'
    """
    if len(shape) != 3 or channels is None or shape[2] != channels or shape[0] == channels:
        return ""
    return "; its channels come last: .transpose(0, 3, 1, 2) puts them first"


def _shapes(model: nn.Module, shape: Shape) -> list[Shape]:
    """That shape, and others in which the same values may be meant."""
    values = math.prod(shape)
    found = [shape]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            channels = module.in_channels
            if len(shape) == 2 and channels == 1:
                found.append((1, *shape))
            side = math.isqrt(values // channels)
            if len(shape) == 1 and channels * side * side == values:
                found.append((channels, side, side))
            break
    return [*dict.fromkeys([*found, (values,)])]


def traced(model: nn.Module, inputs: Tensor) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(model, (inputs,), strict=False)
    except Exception as error:  # whatever a module of the user's trips over
        raise ModelError(
            f"torch.export cannot trace the network: {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''}"
        ) from error


class Reader:
    """From the operations of a trace to nodes.

    Attributes:
        nodes: in running order; the operators are a `Step` or `Normalise`.
        modules: the layers, by the names of their nodes.
        end: which of `ENDS` is left out; empty where none is.
    """

    def __init__(self, own: nn.Module, plain: nn.Module, shape: Shape):
        self._own, self._state = own, dict(plain.state_dict())
        self._inner = dict(plain.named_modules())
        self.nodes: list[Node] = []
        self.modules: dict[str, nn.Linear | nn.Conv2d] = {}
        self.end = ""
        self._shapes: list[Shape] = [shape]
        self._number: dict[fx.Node, int] = {}
        self._tensors: dict[fx.Node, str] = {}

    def read(self, program: Any) -> None:
        signature = program.graph_signature
        (last,) = program.graph.find_nodes(op="output")
        (end,) = last.args[0]
        if self._ends(end):
            self.end = operator_of(end)
        held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        for node in program.graph.nodes:
            if node.op == "placeholder":
                if node.name in held:
                    self._tensors[node] = held[node.name]
                elif node.name in signature.user_inputs:
                    self._number[node] = 0
            elif node.op == "call_function" and not (self.end and node is end):
                self._call(node)
        self._end(end.args[0] if self.end else end)

    @staticmethod
    def _ends(node: Any) -> bool:
        """Whether a node, which gives the network's output, is one of `ENDS`, over its values."""
        if not isinstance(node, fx.Node) or operator_of(node) not in ENDS:
            return False
        rank = node.meta["val"].ndim
        return operator_of(node) == "sigmoid" or (rank == 2 and node.args[1] in (1, -1))

    def _end(self, output: Any) -> None:
        if not self.nodes or self._number.get(output) is None:
            raise ModelError("the network gives back nothing that it computes of its input")
        last = self._number[output]
        if last != len(self.nodes):  # what is computed after it, nobody takes
            del self.nodes[last:]
        alive = {last}
        for number in range(last, 0, -1):
            if number in alive:
                alive.update(self.nodes[number - 1].sources)
        self.nodes = _without(self.nodes, [n for n in range(1, last + 1) if n not in alive])
        if not self.modules:
            raise ModelError("the network has no layer with weights")

    def _call(self, node: fx.Node) -> None:
        operator = operator_of(node)
        if operator.startswith(("_assert", "sym_")):
            return
        if node.target is operator_module.getitem:
            self._part(node, *node.args)
            return
        handler = getattr(self, f"op_{operator.removesuffix('_')}", None)
        taken = [self._number[n] for n in node.all_input_nodes if n in self._number]
        if not taken and handler is None:
            raise ModelError(
                f"node {self._name(node)!r} computes {operator} of the network's "
                f"own tensors: make them parameters of a layer; {OPERATORS}"
            )
        if handler is None:
            raise ModelError(f"node {self._name(node)!r} computes {operator}: {OPERATORS}")
        arguments: dict[str, Any] = {}
        for place, argument in enumerate(node.target._schema.arguments):
            given = node.args[place] if place < len(node.args) else argument.default_value
            name = {"self": "value", "input": "value", "value": "filling"}.get(
                argument.name, argument.name
            )
            arguments[name] = node.kwargs.get(argument.name, given)
        before = taken[0] if taken else None
        try:
            number = handler(node, **arguments)
        except ModelError as error:
            if str(error).startswith(("layer ", "node ")):
                raise
            raise ModelError(f"node {self._name(node)!r} ({operator}): {error}") from None
        except KeyError:
            raise ModelError(
                f"node {self._name(node)!r} computes {operator} of something else than what the "
                f"network computes of its input: {OPERATORS}"
            ) from None
        self._number[node] = number
        if operator.endswith("_"):  # in place: whoever has what it took has what it gives
            for other, value in list(self._number.items()):
                if value == before:
                    self._number[other] = number

    # --- names and shapes ----------------------------------------------------------------------

    def _name(self, node: fx.Node) -> str:
        """A name for a node: that of the module that computes it and nothing else, or one in the
        module in whose forward it stands."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path = stack[-1][0] if stack else ""
        inner = self._inner.get(path)
        if path and inner is not None and type(inner).__module__.startswith("torch.nn"):
            name = path
        else:
            operator = operator_of(node).rstrip("_")
            name = f"{path}.{operator}" if path else operator
        return name

    def _free(self, name: str) -> str:
        layers = (nn.Linear, nn.Conv2d)
        used = {name for name, module in self._inner.items() if isinstance(module, layers)}
        used |= {node.name for node in self.nodes}
        count, free = 1, name
        while free in used:
            count += 1
            free = f"{name}_{count}"
        return free

    def _add(
        self, node: fx.Node, op: Step | Normalise, *sources: fx.Node | int, name: str = ""
    ) -> int:
        shape = tuple(node.meta["val"].shape)
        if len(shape) < 2 or shape[0] != BATCH:
            raise ModelError(f"gives the shape {shape}: the first axis, that of inputs, must stay")
        numbers = tuple(n if isinstance(n, int) else self._number[n] for n in sources)
        self.nodes.append(Node(name or self._free(self._name(node)), op, numbers))
        self._shapes.append(shape[1:])
        return len(self.nodes)

    def _shape(self, node: fx.Node) -> Shape:
        return self._shapes[self._number[node]]

    def _tensor(self, node: fx.Node | None) -> tuple[str, Tensor] | None:
        if node is None:
            return None
        if node not in self._tensors:
            raise ModelError("its weights are computed: make them a parameter of the network")
        name = self._tensors[node]
        return name, self._state[name]

    # --- layers --------------------------------------------------------------------------------

    def _layer(self, node: fx.Node, source: fx.Node, weight, bias, make: Callable) -> int:
        """A Linear or Conv2d: the user's own where it computes just this, or a new one."""
        (key, values), bias = self._tensor(weight), self._tensor(bias)
        name = key.removesuffix(".weight")
        if name in self.modules:
            raise ModelError(f"layer {name!r} runs twice, or shares its weight: tie no layers")
        own = self._own.get_submodule(name) if name in self._inner else None
        kind = nn.Linear if values.ndim == 2 else nn.Conv2d
        plain = bias is None or bias[0] == f"{name}.bias"
        if plain and _is_its_class(own, kind) and (own.bias is None) == (bias is None):
            self.modules[name] = own
        else:
            module = make(values, bias is not None)
            module.weight.copy_(values)
            if bias is not None:
                module.bias.copy_(bias[1])
            self.modules[name] = module
        return self._add(node, Weighted(), source, name=name)

    def op_linear(self, node, value, weight, bias) -> int:
        if len(self._shape(value)) != 1:
            raise ModelError(f"takes rows, not the shape {self._shape(value)}: flatten it")

        def make(values: Tensor, bias: bool) -> nn.Linear:
            return nn.utils.skip_init(nn.Linear, values.shape[1], values.shape[0], bias=bias)

        return self._layer(node, value, weight, bias, make)

    def op_conv2d(self, node, value, weight, bias, stride, padding, dilation, groups) -> int:
        def make(values: Tensor, bias: bool) -> nn.Conv2d:
            outputs, columns, *sides = values.shape
            return nn.utils.skip_init(
                nn.Conv2d, columns * groups, outputs, sides, groups=groups, bias=bias,
                stride=_pair(stride), dilation=_pair(dilation),
                padding=padding if isinstance(padding, str) else _pair(padding),
            )  # fmt: skip

        return self._layer(node, value, weight, bias, make)

    def op_batch_norm(
        self, node, value, weight, bias, running_mean, running_var, training, momentum, eps,
        cudnn_enabled,
    ) -> int:  # fmt: skip
        mean, variance = self._tensor(running_mean), self._tensor(running_var)
        if training or mean is None or variance is None:
            raise ModelError("without running statistics it depends on its batch")
        if len(self._shape(value)) not in (1, 3):
            raise ModelError(f"normalises rows or maps, not the shape {self._shape(value)}")
        scale = (variance[1].double() + eps).rsqrt()
        gamma = torch.ones_like(scale) if weight is None else self._tensor(weight)[1].double()
        scale = scale * gamma
        offset = -mean[1].double() * scale
        if bias is not None:
            offset = offset + self._tensor(bias)[1].double()
        maps = len(self._shape(value)) == 3
        return self._add(node, Normalise(scale, offset, gamma, maps), value)

    # --- functions -----------------------------------------------------------------------------

    def op_relu(self, node, value) -> int:
        return self._add(node, Clip(0.0, math.inf), value)

    def op_relu6(self, node, value) -> int:
        return self._add(node, Clip(0.0, 6.0), value)

    def op_hardtanh(self, node, value, min_val, max_val) -> int:
        return self._add(node, Clip(float(min_val), float(max_val)), value)

    def op_clamp(self, node, value, min=None, max=None) -> int:
        if isinstance(min, fx.Node) or isinstance(max, fx.Node):
            raise ModelError("its bounds must be numbers")
        low = -math.inf if min is None else float(min)
        return self._add(node, Clip(low, math.inf if max is None else float(max)), value)

    op_clamp_min = op_clamp_max = op_clamp

    def op_leaky_relu(self, node, value, negative_slope) -> int:
        return self._leaky(node, value, (float(negative_slope),))

    def op_prelu(self, node, value, weight) -> int:
        return self._leaky(node, value, tuple(self._tensor(weight)[1].tolist()))

    def _leaky(self, node: fx.Node, value: fx.Node, slopes: tuple[float, ...]) -> int:
        """``slope · x + max((1 − slope) · x, 0)``: two layers and a sum."""
        if max(slopes) > 1:
            raise ModelError(f"has a slope of {max(slopes):g} below 0: 1 is the most")
        rest = self._add(node, Affine(tuple(1 - slope for slope in slopes)), value)
        above = self._add(node, Clip(0.0, math.inf), rest)
        return self._add(node, Add(), self._add(node, Affine(slopes), value), above)

    def op_add(self, node, value, other, alpha) -> int:
        if not isinstance(other, fx.Node) or not isinstance(value, fx.Node) or alpha != 1:
            raise ModelError("sums what the network computes of its input, no numbers")
        if self._shape(value) != self._shape(other):
            raise ModelError(f"adds the shapes {self._shape(value)} and {self._shape(other)}")
        return self._add(node, Add(), value, other)

    def op_cat(self, node, tensors, dim) -> int:
        if dim not in (1, 1 - node.meta["val"].ndim):
            raise ModelError(f"concatenates axis {dim}: only the first after that of the inputs")
        return self._add(node, Concat(), *tensors)

    op_concat = op_concatenate = op_cat

    def op_mean(self, node, value, dim=None, keepdim=False, dtype=None) -> int:
        shape = self._shape(value)
        axes = sorted(axis % (len(shape) + 1) for axis in dim or ())
        if len(shape) != 3 or axes != [2, 3]:
            raise ModelError(f"means over axes {dim} of the shape {shape}: only height and width")
        return self._pooled(node, Pool(average=True, kernel=None), value)

    def op_adaptive_avg_pool2d(self, node, value, output_size) -> int:
        shape, wanted = self._shape(value), _pair(output_size)
        if wanted == (1, 1):
            return self._pooled(node, Pool(average=True, kernel=None), value)
        if len(shape) != 3 or shape[1] % wanted[0] or shape[2] % wanted[1]:
            raise ModelError(f"pools {shape[1:]} to {wanted}: windows must have one size")
        kernel = (shape[1] // wanted[0], shape[2] // wanted[1])
        return self._pooled(node, Pool(average=True, kernel=kernel, stride=kernel), value)

    def op_avg_pool2d(
        self, node, value, kernel_size, stride, padding, ceil_mode, count_include_pad,
        divisor_override,
    ) -> int:  # fmt: skip
        if divisor_override is not None or (not count_include_pad and any(_pair(padding))):
            raise ModelError("divides by the size of its window only, padding counted")
        return self._windows(node, value, True, kernel_size, stride, padding, ceil_mode)

    def op_max_pool2d(self, node, value, kernel_size, stride, padding, dilation, ceil_mode) -> int:
        if _pair(dilation) != (1, 1):
            raise ModelError("a dilation other than 1")
        return self._windows(node, value, False, kernel_size, stride, padding, ceil_mode)

    def _windows(self, node, value, average: bool, kernel, stride, padding, ceil_mode) -> int:
        kernel, (padding, other) = _pair(kernel), _pair(padding)
        if padding != other:
            raise ModelError("padding must be the same in height and width")
        pool = Pool(average, kernel, _pair(stride) if stride else kernel, padding)
        shape = self._shape(value)
        if ceil_mode and pool.resolved(shape).out_shape(shape) != node.meta["val"].shape[1:]:
            raise ModelError(f"with ceil_mode windows reach over the edge of maps of {shape[1:]}")
        return self._pooled(node, pool, value)

    def _pooled(self, node: fx.Node, pool: Pool, value: fx.Node) -> int:
        pool.resolved(self._shape(value))
        number = self._add(node, pool, value)
        if len(self._shapes[-1]) != 3:  # a mean that keeps no axes of size 1
            flat, self._shapes[-1] = self._shapes[-1], (*self._shapes[-1], 1, 1)
            name = self._free(f"{self.nodes[-1].name}.flatten")
            self.nodes.append(Node(name, Reshape(), (number,)))
            self._shapes.append(flat)
        return len(self.nodes)

    def op_view(self, node, value, **_) -> int:
        shape, wanted = self._shape(value), tuple(node.meta["val"].shape[1:])
        if shape == wanted and node.meta["val"].shape[0] == BATCH:
            return self._number[value]
        flat = len(wanted) == 1
        return self._add(node, Reshape(None if flat else wanted), value)

    def op_chunk(self, node, value, dim, chunks=None, split_size=None, split_sizes=None) -> int:
        """The parts, where they are taken, are nodes; this one stands for its source."""
        if dim not in (1, -1 - len(self._shape(value)) + 1):
            raise ModelError(f"cuts axis {dim}: only the first after that of the inputs")
        return self._number[value]

    op_split = op_split_with_sizes = op_chunk

    def _part(self, node: fx.Node, whole: fx.Node, index: int) -> None:
        if whole not in self._number or not operator_of(whole).startswith(("chunk", "split")):
            raise ModelError(
                f"node {self._name(whole)!r} computes {operator_of(whole)}: {OPERATORS}"
            )
        sizes = [part.shape[1] for part in whole.meta["val"]]
        start = sum(sizes[:index])
        self._number[node] = self._add(node, Part(start, start + sizes[index]), whole)

    def op_channel_shuffle(self, node, value, groups) -> int:
        return self._add(node, Shuffle(groups), value)

    def op_transpose(self, node, value, dim0, dim1) -> int:
        """Of a map seen as groups of channels: what a view makes of the two is a shuffle."""
        shape, number = self._shape(value), self._number[value]
        rank = len(shape) + 1
        reshape = self.nodes[number - 1] if number else None
        whole = self._shapes[reshape.sources[0]] if reshape is not None else ()
        axes = {dim0 % rank, dim1 % rank}
        grouped = isinstance(getattr(reshape, "op", None), Reshape) and len(shape) == 4
        if reshape is None or not grouped or axes != {1, 2} or whole[1:] != shape[2:]:
            raise ModelError("moves axes: only groups of a map's channels, to shuffle them")
        groups = shape[0]
        self.nodes.append(
            Node(self._free(self._name(node)), Shuffle(groups), (reshape.sources[0],))
        )
        self._shapes.append((shape[1], groups, *shape[2:]))
        return len(self.nodes)

    op_swapaxes = op_swapdims = op_transpose

    def op_permute(self, node, value, dims) -> int:
        if list(dims) != [0, 2, 1, *range(3, len(dims))]:
            raise ModelError("moves axes: only groups of a map's channels, to shuffle them")
        return self.op_transpose(node, value, 1, 2)

    def op_neg(self, node, value) -> int:
        return self._add(node, Affine((-1.0,)), value)

    def op_mul(self, node, value, other) -> int:
        if isinstance(other, fx.Node) or not isinstance(value, fx.Node):
            raise ModelError("multiplies what the network computes by a number only")
        return self._add(node, Affine((float(other),)), value)

    op_reshape = op_flatten = op_unflatten = op_squeeze = op_unsqueeze = op_view
    op_contiguous = op_clone = op_detach = op_alias = op_view
    op_to = op__to_copy = op_view

    def op_pad(self, node, value, pad, mode="constant", filling=None) -> int:
        sides = [*pad, *[0] * (4 - len(pad))]
        if mode != "constant" or filling or len(sides) != 4 or min(sides) < 0:
            raise ModelError("pads height and width, with zeros, and cuts nothing off")
        left, right, top, bottom = sides
        return self._add(node, Pad((top, left, bottom, right)), value)

    op_constant_pad_nd = op_pad

    def op_dropout(self, node, value, p, train) -> int:
        return self._number[value]

    op_feature_dropout = op_alpha_dropout = op_feature_alpha_dropout = op_dropout


def operator_of(node: fx.Node) -> str:
    """What a node computes, in torch's word for it."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return getattr(node.target, "__name__", str(node.target))
    return schema.name.partition("::")[2]


def _pair(value: Any) -> tuple[int, int]:
    """One number, or one a side, as one a side."""
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return (int(numbers[0]), int(numbers[-1]))


def _is_its_class(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Whether a module computes what that class of torch's does."""
    if not isinstance(module, kind):
        return False
    try:
        check_own("", module, kind)
    except ModelError:
        return False
    return True


# --- joints ----------------------------------------------------------------------------------


def _joined(
    nodes: list[Node], modules: dict[str, nn.Linear | nn.Conv2d], shape: Shape
) -> tuple[Graph, dict[str, nn.Linear | nn.Conv2d]]:
    """The nodes with their batch normalisations folded into layers, and with ReLU and max pooling
    taken into the layers that they follow."""
    number = 1
    while number <= len(nodes):
        op = nodes[number - 1].op
        if isinstance(op, Normalise):
            users = takers(nodes, number)
            after = nodes[users[0] - 1].op if len(users) == 1 else None
            if isinstance(after, Normalise):  # two in a row are one
                both = Normalise(
                    after.scale * op.scale,
                    after.scale * op.offset + after.offset,
                    after.gamma * op.gamma,
                    op.maps,
                )
                nodes[users[0] - 1] = replace(nodes[users[0] - 1], op=both)
            elif not _fold(nodes, number, modules):
                own = Affine(tuple(op.scale.tolist()), tuple(op.offset.tolist()))
                nodes[number - 1] = replace(nodes[number - 1], op=own)
                continue
            nodes = _bypassed(nodes, number)
        else:
            number += 1
    number = 1
    while number <= len(nodes):
        users = takers(nodes, number)
        op = nodes[number - 1].op
        taken = None
        if isinstance(op, Weighted) and len(users) == 1:
            taken = _taken(op, modules[nodes[number - 1].name], nodes[users[0] - 1].op)
        if taken is None:
            number += 1
        else:
            nodes[number - 1] = replace(nodes[number - 1], op=taken)
            nodes = _bypassed(nodes, users[0])
    names = [node.name for node in nodes if isinstance(node.op, Weighted)]
    return Graph(tuple(nodes), shape), {name: modules[name] for name in names}


def _taken(op: Weighted, module: nn.Module, after: Step) -> Weighted | None:
    """A layer with what follows it taken in; None where that stays on its own."""
    if after == Clip(0.0, math.inf):
        return replace(op, activation=Activation.RELU)
    if not isinstance(after, Pool) or after.average or after.kernel is None or after.padding:
        return None
    (height, width), (down, right) = after.kernel, after.stride
    if not isinstance(module, nn.Conv2d) or (op.pool, op.pool_stride) != (1, 1):
        return None
    if height != width or down != right or max(height, down) > POOL_MAX:
        return None
    return replace(op, pool=height, pool_stride=down)


def _fold(nodes: list[Node], number: int, modules: dict[str, nn.Linear | nn.Conv2d]) -> bool:
    """Fold a batch normalisation into the layer before it, or into all that take it; False: there
    are no such, and it takes so few maps that it is left on its own.

    Raises:
        ModelError: there is no such layer; names the node.
    """
    node = nodes[number - 1]
    (source,) = node.sources
    scale, offset = node.op.scale, node.op.offset
    before = nodes[source - 1] if source else None
    if before is not None and isinstance(before.op, Weighted) and len(takers(nodes, source)) == 1:
        module = modules[before.name]
        rows = scale.reshape(-1, *[1] * (module.weight.ndim - 1))
        bias = 0 if module.bias is None else module.bias.double() * scale
        _set(before.name, module, module.weight.double() * rows, bias + offset)
        # For network slimming, which prunes by it.
        module.register_buffer("gamma", node.op.gamma.to(module.weight.dtype), persistent=False)
        return True
    after = through(nodes, number)
    takes = [modules.get(nodes[n - 1].name) for n in after]
    padded = any(isinstance(module, nn.Conv2d) and pads(module) for module in takes)
    if not takes or None in takes or (padded and bool(offset.any())):
        if node.op.maps and 2 * len(scale) <= CODEBOOK_MAX:  # a value each in its codebook
            return False
        raise ModelError(
            f"node {node.name!r} is a batch normalisation that stands neither right after a layer "
            "nor right before layers that pad nothing: it cannot be folded, and alone it takes "
            f"maps of {CODEBOOK_MAX // 2} channels at most, not {len(scale)} values"
        )
    for name in (nodes[n - 1].name for n in after):
        module = modules[name]
        columns = module.weight.double().flatten(1)
        gain, shift = (
            torch.from_numpy(columns_of(module, part.numpy())) for part in (scale, offset)
        )
        bias = 0 if module.bias is None else module.bias.double()
        weight = (columns * gain).reshape(module.weight.shape)
        _set(name, module, weight, bias + (columns * shift).sum(1))
    return True


def _set(name: str, module: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Give a layer a weight and bias; a mask over its weight stays."""
    if parametrize.is_parametrized(module, "bias"):
        parametrize.remove_parametrizations(module, "bias")
    if module.bias is None:
        module.bias = nn.Parameter(bias.to(module.weight.dtype))
    else:
        module.bias.copy_(bias)
    try:
        if parametrize.is_parametrized(module, "weight"):
            module.weight = weight.to(module.weight.dtype)
        else:
            module.weight.copy_(weight)
    except ModelError:
        raise ModelError(
            f"layer {name!r} is shared already: fold the batch normalisation next to it first, "
            "pleach.models.network_of(model, shape), then share"
        ) from None


def _bypassed(nodes: list[Node], number: int) -> list[Node]:
    """The nodes without that one: whatever takes it takes its source."""
    (source,) = nodes[number - 1].sources
    through = [
        replace(node, sources=tuple(source if n == number else n for n in node.sources))
        for node in nodes
    ]
    return _without(through, [number])


def _without(nodes: list[Node], gone: list[int]) -> list[Node]:
    """The nodes without some that nothing takes, numbered anew."""
    kept = [number for number in range(1, len(nodes) + 1) if number not in gone]
    place = {0: 0, **{number: n for n, number in enumerate(kept, start=1)}}
    return [
        replace(nodes[n - 1], sources=tuple(place[source] for source in nodes[n - 1].sources))
        for n in kept
    ]

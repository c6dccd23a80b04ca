"""Networks out of ONNX files, opened without running code and without trust in what they say."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pleach.errors import DataError, ModelError
from pleach.extras import need
from pleach.models.network import Network
from pleach.models.read import CLOSE, ENDS, channels_last, network_of

need("onnx", "onnxruntime")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from onnx import numpy_helper  # noqa: E402

OPSET = 13
FILE_MAX = 1 << 31
#: elements that a constant may have which a node makes, not a tensor of the file
FOLDED_MAX = 4096
#: random inputs on which a network is compared with its file
CHECKED = 16
FLOATS = (np.float16, np.float32, np.float64)
QONNX = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")


def read_onnx(path: str | Path, shape: Sequence[int] | None = None) -> Network:
    """The network of an ONNX file (https://onnx.ai/onnx/operators), opset 13 or newer.

    It is compared with what onnxruntime computes of the file on random inputs. Its `notes` say how
    far it is from that, and what was left out.

    Weights may lie in the file or beside it. Nodes that only compute shapes and constants are
    evaluated; DequantizeLinear and QONNX's Quant of weights leave the values that they stand for.

    Args:
        shape: of an input, without the axis of the batch; needed where the file leaves it open.

    Raises:
        DataError: no ONNX file, or one that is damaged, or whose weights are not there.
        ModelError: a node that is not supported, or the network differs from what the runtime
            computes; names the node.
        NotInstalledError: without the extra ``onnx``.
    """
    path = Path(path)
    proto = _parsed(path)
    tensors = {tensor.name: _array(tensor, path) for tensor in proto.graph.initializer}
    name, found, batch = _input(proto.graph, tensors, path)
    shape = _agreed(path, name, found, shape)
    module = _Module(proto.graph, tensors, name, batch)
    with torch.no_grad():
        module.eval()(torch.zeros(2, *shape))  # makes its layers
    network = network_of(module, shape)
    if module.own_kinds:
        check = "not compared with a runtime: it has nodes of QONNX, which none here runs"
    else:
        check = _compared(path, network, name, tuple(shape), batch)
    network.notes = (check, *dict.fromkeys((*network.notes, *module.notes)))
    return network


def kinds_of(path: str | Path) -> list[tuple[str, str, bool]]:
    """Name, kind and whether it is known of each node that a file's output needs, as they run.

    Raises:
        DataError, ModelError: as `read_onnx`, of the file.
    """
    proto = _parsed(Path(path))
    module = _Module(proto.graph, {}, "", None, known=False)
    return [(node.name, node.kind, hasattr(module, f"op_{node.kind}")) for node in module.nodes]


def shape_of(path: str | Path, shape: Sequence[int] | None = None) -> tuple[int, ...]:
    """The shape of an input, as `read_onnx` takes it.

    Raises:
        DataError, ModelError: as `read_onnx`, of the file and of the shape.
    """
    path = Path(path)
    proto = _parsed(path)
    tensors = {tensor.name: np.empty(0) for tensor in proto.graph.initializer}
    name, found, _ = _input(proto.graph, tensors, path)
    return _agreed(path, name, found, shape)


# --- the file --------------------------------------------------------------------------------


def _parsed(path: Path) -> onnx.ModelProto:
    try:
        if path.stat().st_size > FILE_MAX:
            raise DataError(f"{path} has more than {FILE_MAX >> 30} GiB")
        proto = onnx.load_model(path, load_external_data=False)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except DataError:
        raise
    except Exception as error:  # protobuf's own
        raise DataError(f"{path} is no ONNX file: {error}") from error
    if not proto.graph.node:
        raise DataError(f"{path} is no ONNX file: it has no graph")
    versions = {one.domain: one.version for one in proto.opset_import}
    version = versions.get("", versions.get("ai.onnx", 0))
    if version < OPSET:
        raise ModelError(
            f"{path} has opset {version}, must have {OPSET} or newer: "
            f"onnx.version_converter.convert_version(model, {OPSET}) makes it so"
        )
    if proto.graph.sparse_initializer:
        raise ModelError(f"{path} has sparse tensors: make them dense")
    return proto


def _array(tensor: onnx.TensorProto, path: Path) -> np.ndarray:
    """The values of a tensor; what lies beside the file is read only inside its folder.

    Raises:
        DataError: they are not there, or not as many as the shape says.
    """
    where = f"{path}: tensor {tensor.name!r}"
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except Exception as error:
        raise DataError(f"{where} has the unknown type {tensor.data_type}") from error
    count = math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0 or count > FILE_MAX:
        raise DataError(f"{where} has the shape {list(tensor.dims)}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        given = {entry.key: entry.value for entry in tensor.external_data}
        folder = path.resolve().parent
        beside = (folder / given.get("location", "")).resolve()
        if not beside.is_relative_to(folder) or beside == folder:
            raise DataError(f"{where} lies outside of the file's folder: {given.get('location')!r}")
        try:
            offset = int(given.get("offset", 0))
            size = count * kind.itemsize
            with beside.open("rb") as file:
                if offset < 0 or offset + size > beside.stat().st_size:
                    raise DataError(f"{where} is not whole in {beside.name}")
                file.seek(offset)
                return np.frombuffer(file.read(size), kind).reshape(tensor.dims)
        except OSError as error:
            raise DataError(
                f"{where}: cannot read {beside.name} beside it: {error.strerror}"
            ) from error
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # values that are not as many as the shape says
        raise DataError(f"{where} is damaged: {error}") from error


def _input(
    graph: onnx.GraphProto, tensors: dict[str, np.ndarray], path: Path
) -> tuple[str, tuple[int | None, ...], int | None]:
    """Name of the one input, its shape without the batch, and the batch; None is open."""
    inputs = [value for value in graph.input if value.name not in tensors]
    for what, values in (("inputs", inputs), ("outputs", graph.output)):
        if len(values) != 1:
            names = ", ".join(value.name for value in values)
            raise ModelError(f"{path} has {len(values)} {what} ({names}), must have one")
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in (1, 10, 11):
        raise ModelError(f"{path}: input {inputs[0].name!r} is not of real numbers")
    sizes = [axis.dim_value or None for axis in kind.shape.dim]
    if len(sizes) < 2:
        raise ModelError(
            f"{path}: input {inputs[0].name!r} has {len(sizes)} axes, must have one for the batch "
            "and those of an input"
        )
    return inputs[0].name, tuple(sizes[1:]), sizes[0]


def _agreed(
    path: Path, name: str, found: tuple[int | None, ...], shape: Sequence[int] | None
) -> tuple[int, ...]:
    """The shape of an input: the file's, or where that is open, that of the data.

    Raises:
        ModelError: they differ, or nothing says it.
    """
    known = tuple(size for size in found if size is not None)
    if shape is None:
        if len(known) < len(found):
            raise ModelError(
                f"{path}: input {name!r} has the shape {_shown(found)}, which is open: give the "
                "shape of an input (--shape), or a data set"
            )
        return known
    given = tuple(shape)
    if len(known) == len(found) and len(given) != len(found):
        given = known if math.prod(known) == math.prod(given) else given
    elif len(found) == 1:
        given = (math.prod(given),)
    elif len(given) == len(found) - 1:  # images of one channel
        given = (1, *given)
    if len(given) != len(found) or any(
        a not in (b, None) for a, b in zip(found, given, strict=True)
    ):
        raise ModelError(
            f"{path}: an input has the shape {_shown(found)}, not {tuple(shape)}"
            f"{channels_last(shape, found[0])}"
        )
    return given


def _shown(shape: Sequence[int | None]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


# --- the graph -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Node:
    """A node of the file, with what torch needs for it."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    given: dict[str, Any] = field(default_factory=dict)


class _Module(nn.Module):
    """What the graph of a file computes, in torch: `network_of` traces it.

    Attributes:
        nodes: those that the output needs, as they run.
        notes: sentences on what was left out or taken otherwise than the file has it.
        own_kinds: whether there are nodes that only QONNX's tools run.
    """

    def __init__(
        self, graph: onnx.GraphProto, tensors: dict[str, np.ndarray], name: str,
        batch: int | None, known: bool = True,
    ):  # fmt: skip
        super().__init__()
        self.notes: list[str] = []
        self.own_kinds = False
        self._input, self._output, self._batch = name, graph.output[0].name, batch
        self._constants: dict[str, np.ndarray] = dict(tensors)
        self._places: dict[str, str] = {}
        nodes = [self._node(node, number) for number, node in enumerate(graph.node)]
        self.nodes = self._needed(nodes)
        for node in self.nodes:
            if known and not hasattr(self, f"op_{node.kind}"):
                raise ModelError(
                    f"node {node.name!r} computes {node.kind}: supported are {_known()}"
                )

    def _node(self, node: onnx.NodeProto, number: int) -> _Node:
        name = node.name or f"{node.op_type}_{number}"
        if node.domain in QONNX:
            self.own_kinds = True
        elif node.domain not in ("", "ai.onnx"):
            raise ModelError(f"node {name!r} computes {node.op_type} of {node.domain}: not known")
        given = {}
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                raise ModelError(f"node {name!r} computes {node.op_type}, which holds a graph")
            value = onnx.helper.get_attribute_value(attribute)
            if isinstance(value, onnx.TensorProto):
                value = _array(value, Path(name))
            given[attribute.name] = value.decode() if isinstance(value, bytes) else value
        return _Node(node.op_type, name, tuple(node.input), tuple(node.output), given)

    def _needed(self, nodes: list[_Node]) -> list[_Node]:
        """The nodes that the output needs."""
        made = {output: node for node in nodes for output in node.outputs}
        wanted, alive = [self._output], set()
        while wanted:
            node = made.get(wanted.pop())
            if node is not None and id(node) not in alive:
                alive.add(id(node))
                wanted += node.inputs
        return [node for node in nodes if id(node) in alive]

    def forward(self, inputs: Tensor) -> Tensor:
        values: dict[str, Any] = {"": None, **self._constants, self._input: inputs}
        for node in self.nodes:
            try:
                taken = [values[name] for name in node.inputs]
                found = getattr(self, f"op_{node.kind}")(node, *taken)
            except ModelError as error:
                if str(error).startswith(("layer ", "node ")):
                    raise
                raise ModelError(f"node {node.name!r} ({node.kind}): {error}") from None
            except KeyError as error:
                raise ModelError(f"node {node.name!r} takes {error}, which nothing gives") from None
            except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
                why = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ModelError(f"node {node.name!r} ({node.kind}): {why}") from error
            parts = found if isinstance(found, tuple) else (found,)
            for output, value in zip(node.outputs, parts, strict=False):
                values[output] = value
        if not isinstance(values.get(self._output), Tensor):
            raise ModelError(f"the output {self._output!r} is not computed of the input")
        return values[self._output]

    # --- weights -------------------------------------------------------------------------------

    def _layer(self, node: _Node, weight: str, make: Callable[[], nn.Module]) -> nn.Module:
        """The layer of a node, made once; named after its weight, or the node."""
        if node.name not in self._places:
            stem = weight.removesuffix(".weight") if weight.endswith(".weight") else _stem(node)
            name = _identifier(stem)
            while name in self._places.values() or _taken(self, name):
                name += "_"
            *parents, own = name.split(".")
            place: nn.Module = self
            for parent in parents:
                if parent not in place._modules:
                    place.add_module(parent, nn.Module())
                place = place._modules[parent]
            place.add_module(own, make())
            self._places[node.name] = name
        return self.get_submodule(self._places[node.name])

    def _affine(self, node: _Node, value: Tensor, scale: np.ndarray, offset: np.ndarray) -> Tensor:
        """``value · scale + offset``, of each channel: a batch normalisation to fold."""
        channels = value.shape[1]
        held = []
        for part, given in (("scale", scale), ("offset", offset)):
            plain = np.asarray(given, np.float64)
            while plain.ndim and plain.ndim >= value.ndim and plain.shape[0] == 1:
                plain = plain[0]
            if plain.ndim == 0 or plain.size == 1:
                plain = np.full(channels, plain.item())
            if value.ndim > 2 and plain.ndim == value.ndim - 1:
                plain = plain.reshape(plain.shape[0], -1)
                plain = plain[:, 0] if plain.shape[1] == 1 else plain
            if plain.shape != (channels,):
                raise ModelError(
                    f"a constant of the shape {list(np.shape(given))} on {list(value.shape[1:])}: "
                    "only one number, or one for each channel"
                )
            held.append(self._held(node, part, plain))
        mean, variance = (
            self._held(node, part, np.full(channels, start))
            for part, start in (("mean", 0.0), ("variance", 1.0))
        )
        return functional.batch_norm(value, mean, variance, held[0], held[1], False, 0.0, 0.0)

    def _held(self, node: _Node, part: str, value: np.ndarray) -> Tensor:
        """A constant as a buffer, which a trace knows by its name."""
        name = f"{_identifier(node.name).replace('.', '_')}_{part}"
        if name not in self._buffers:
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))
        return getattr(self, name)

    def op_Conv(self, node: _Node, value: Tensor, weight: Any, bias: Any = None) -> Tensor:
        weight, bias = _constant(weight, "weight"), _constant(bias, "bias")
        if weight.ndim != 4:
            raise ModelError(f"of {weight.ndim - 2} dimensions: only Conv of height and width")
        kernel, strides = weight.shape[2:], node.given.get("strides", [1, 1])
        pads = _pads(node.given, value.shape[2:], kernel, strides)
        square = pads[:2] == pads[2:]

        def make() -> nn.Module:
            groups = node.given.get("group", 1)
            module = nn.utils.skip_init(
                nn.Conv2d, weight.shape[1] * groups, weight.shape[0], kernel, stride=tuple(strides),
                padding=tuple(pads[:2]) if square else 0, groups=groups, bias=bias is not None,
                dilation=tuple(node.given.get("dilations", [1, 1])),
            )  # fmt: skip
            return _filled(module, weight, bias)

        layer = self._layer(node, node.inputs[1], make)
        if not square:
            value = functional.pad(value, (pads[1], pads[3], pads[0], pads[2]))
        return layer(value)

    def op_Gemm(self, node: _Node, value: Tensor, weight: Any, bias: Any = None) -> Tensor:
        weight, bias = _constant(weight, "weight"), _constant(bias, "bias")
        if node.given.get("transA", 0):
            raise ModelError("transA must be 0")
        weight = weight if node.given.get("transB", 0) else weight.T
        weight = weight * np.float32(node.given.get("alpha", 1.0))
        if bias is not None:
            bias = np.broadcast_to(bias * np.float32(node.given.get("beta", 1.0)), (1, len(weight)))
            bias = bias[0]
        return self._linear(node, value, weight, bias)

    def op_MatMul(self, node: _Node, value: Tensor, weight: Any) -> Tensor:
        return self._linear(node, value, _constant(weight, "weight").T, None)

    def _linear(self, node: _Node, value: Tensor, weight: np.ndarray, bias) -> Tensor:
        if weight.ndim != 2:
            raise ModelError(f"a weight of {weight.ndim} axes, must have two")

        def make() -> nn.Module:
            outputs, inputs = weight.shape
            module = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias is not None)
            return _filled(module, weight, bias)

        return self._layer(node, node.inputs[1], make)(value)

    def op_BatchNormalization(self, node, value, scale, offset, mean, variance) -> Tensor:
        if node.given.get("training_mode", 0):
            raise ModelError("training_mode must be 0")
        held = [
            self._held(node, part, _constant(array, part))
            for part, array in (
                ("mean", mean), ("variance", variance), ("scale", scale), ("offset", offset),
            )
        ]  # fmt: skip
        epsilon = float(node.given.get("epsilon", 1e-5))
        return functional.batch_norm(value, *held, False, 0.0, epsilon)

    # --- of values, or of shapes and constants --------------------------------------------------

    def op_Add(self, node: _Node, one: Any, other: Any) -> Any:
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            return one + other
        if isinstance(one, Tensor) or isinstance(other, Tensor):
            value, constant = (one, other) if isinstance(one, Tensor) else (other, one)
            return self._affine(node, value, np.ones(1), constant)
        return _small(np.add(one, other))

    def op_Sum(self, node: _Node, *values: Any) -> Any:
        total = values[0]
        for value in values[1:]:
            total = self.op_Add(node, total, value)
        return total

    def op_Sub(self, node: _Node, one: Any, other: Any) -> Any:
        if isinstance(one, Tensor) and isinstance(other, np.ndarray):
            return self._affine(node, one, np.ones(1), -other)
        if isinstance(other, Tensor) and isinstance(one, np.ndarray):
            return self._affine(node, other, -np.ones(1), one)
        return _small(np.subtract(_constant(one), _constant(other)))

    def op_Mul(self, node: _Node, one: Any, other: Any) -> Any:
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            raise ModelError("a product of two things that the network computes")
        if isinstance(one, Tensor) or isinstance(other, Tensor):
            value, constant = (one, other) if isinstance(one, Tensor) else (other, one)
            return self._affine(node, value, constant, np.zeros(1))
        return _small(np.multiply(one, other))

    def op_Div(self, node: _Node, one: Any, other: Any) -> Any:
        other = _constant(other)
        if isinstance(one, Tensor):
            return self._affine(node, one, 1.0 / other.astype(np.float64), np.zeros(1))
        if other.dtype.kind in "iu":
            return _small(np.asarray(one) // other)
        return _small(np.divide(one, other))

    def op_Relu(self, node: _Node, value: Tensor) -> Tensor:
        return functional.relu(value)

    def op_LeakyRelu(self, node: _Node, value: Tensor) -> Tensor:
        return functional.leaky_relu(value, node.given.get("alpha", 0.01))

    def op_PRelu(self, node: _Node, value: Tensor, slope: Any) -> Tensor:
        slopes = np.ravel(_constant(slope, "slope"))
        if len(slopes) not in (1, value.shape[1]):
            raise ModelError(f"has {len(slopes)} slopes for {value.shape[1]} channels")
        return functional.prelu(value, self._held(node, "slope", slopes))

    def op_Max(self, node: _Node, *values: Any) -> Any:
        return self._bound(values, np.maximum, "min")

    def op_Min(self, node: _Node, *values: Any) -> Any:
        return self._bound(values, np.minimum, "max")

    def _bound(self, values: tuple[Any, ...], choose: np.ufunc, side: str) -> Any:
        """The larger, or smaller, of a number and of what the network computes: a clamp."""
        computed = [value for value in values if isinstance(value, Tensor)]
        numbers = [np.asarray(value) for value in values if not isinstance(value, Tensor)]
        if not computed:
            return _small(functools.reduce(choose, numbers))
        if len(computed) > 1 or any(number.size != 1 for number in numbers):
            raise ModelError("compares what the network computes with a number only")
        if not numbers:
            return computed[0]
        return computed[0].clamp(**{side: functools.reduce(choose, numbers).item()})

    def op_Softmax(self, node: _Node, value: Tensor) -> Tensor:
        return value.softmax(node.given.get("axis", -1))

    def op_LogSoftmax(self, node: _Node, value: Tensor) -> Tensor:
        return value.log_softmax(node.given.get("axis", -1))

    def op_Sigmoid(self, node: _Node, value: Tensor) -> Tensor:
        return torch.sigmoid(value)

    def op_Clip(self, node: _Node, value: Tensor, low: Any = None, high: Any = None) -> Tensor:
        bounds = [None if x is None else float(_constant(x).item()) for x in (low, high)]
        return value.clamp(*bounds)

    def op_Identity(self, node: _Node, value: Any, *_: Any) -> Any:
        return value

    op_Dropout = op_Identity

    def op_Cast(self, node: _Node, value: Any) -> Any:
        kind = onnx.helper.tensor_dtype_to_np_dtype(node.given["to"])
        if isinstance(value, Tensor):
            if kind not in FLOATS:
                raise ModelError(f"what the network computes becomes {kind}")
            return value
        return np.asarray(value).astype(kind)

    def op_Constant(self, node: _Node) -> np.ndarray:
        for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
            if name in node.given:
                kind = {"f": np.float32, "i": np.int64}.get(name[6:7])
                return np.asarray(node.given[name], kind)
        raise ModelError(f"holds {', '.join(node.given) or 'nothing'}")

    def op_ConstantOfShape(self, node: _Node, shape: Any) -> np.ndarray:
        sizes = [int(size) for size in _constant(shape)]
        if math.prod(sizes) > FOLDED_MAX:
            raise ModelError(f"makes a constant of the shape {sizes}")
        return np.full(sizes, np.asarray(node.given.get("value", np.float32(0))).item())

    def op_Shape(self, node: _Node, value: Any) -> np.ndarray:
        return np.array(value.shape, np.int64)[node.given.get("start", 0) : node.given.get("end")]

    def op_Gather(self, node: _Node, value: Any, places: Any) -> np.ndarray:
        return _small(np.take(_constant(value), _constant(places), node.given.get("axis", 0)))

    def op_Slice(self, node, value, starts, ends, axes=None, steps=None) -> Any:
        cut = [slice(None)] * value.ndim
        starts, ends = (np.atleast_1d(_constant(x)) for x in (starts, ends))
        which = range(len(starts)) if axes is None else np.atleast_1d(_constant(axes))
        steps = np.ones(len(starts), np.int64) if steps is None else np.atleast_1d(_constant(steps))
        for axis, start, end, step in zip(which, starts, ends, steps, strict=True):
            cut[int(axis)] = slice(int(start), int(end), int(step))
        if not isinstance(value, Tensor):
            return value[tuple(cut)]
        whole = [slice(None)] * value.ndim
        start, stop, step = cut[1].indices(value.shape[1])
        if cut[:1] + cut[2:] != whole[1:] or step != 1 or stop <= start:
            raise ModelError("cuts what the network computes: only neighbouring channels")
        return self._cut(value, [start, stop - start, value.shape[1] - stop])[1]

    def op_Split(self, node: _Node, value: Any, sizes: Any = None) -> Any:
        axis, count = node.given.get("axis", 0), len(node.outputs)
        if sizes is None:
            side = -(-value.shape[axis] // count)
            sizes = [side] * (count - 1) + [value.shape[axis] - side * (count - 1)]
        sizes = [int(size) for size in _constant(sizes)]
        if not isinstance(value, Tensor):
            return tuple(np.split(value, np.cumsum(sizes)[:-1], axis))
        if axis % value.ndim != 1:
            raise ModelError("cuts what the network computes: only neighbouring channels")
        return tuple(self._cut(value, sizes))

    @staticmethod
    def _cut(value: Tensor, sizes: list[int]) -> list[Tensor | None]:
        """Neighbouring channels, so many each; None of none."""
        parts = iter(torch.split(value, [size for size in sizes if size], 1))
        return [next(parts) if size else None for size in sizes]

    def op_Concat(self, node: _Node, *values: Any) -> Any:
        if all(isinstance(value, Tensor) for value in values):
            return torch.cat(values, node.given["axis"])
        return _small(
            np.concatenate([np.asarray(_constant(x)) for x in values], node.given["axis"])
        )

    def op_Unsqueeze(self, node: _Node, value: Any, axes: Any) -> Any:
        places = sorted(int(axis) for axis in np.atleast_1d(_constant(axes)))
        for axis in places:
            value = (
                value.unsqueeze(axis) if isinstance(value, Tensor) else np.expand_dims(value, axis)
            )
        return value

    def op_Squeeze(self, node: _Node, value: Any, axes: Any = None) -> Any:
        if not isinstance(value, Tensor):
            return np.squeeze(value, None if axes is None else tuple(int(x) for x in axes))
        places = range(1, value.ndim) if axes is None else np.atleast_1d(_constant(axes))
        kept = {int(axis) % value.ndim for axis in places if value.shape[int(axis)] == 1}
        return value.reshape([size for axis, size in enumerate(value.shape) if axis not in kept])

    def op_Transpose(self, node: _Node, value: Any) -> Any:
        order = list(node.given.get("perm", reversed(range(value.ndim))))
        if not isinstance(value, Tensor):
            return np.transpose(value, order)
        moved = [axis for axis in order if value.shape[axis] != 1]
        if order[0] != 0 or moved != sorted(moved):
            raise ModelError(
                f"moves axes of {list(value.shape[1:])} to the order {order}: only maps as "
                "(channels, height, width), export it so (tf2onnx: --inputs-as-nchw)"
            )
        return value.reshape([value.shape[axis] for axis in order])

    def op_Flatten(self, node: _Node, value: Any) -> Any:
        if node.given.get("axis", 1) not in (1, 1 - value.ndim):
            raise ModelError("must keep the axis of the batch alone")
        return value.flatten(1)

    def op_Reshape(self, node: _Node, value: Any, shape: Any) -> Any:
        sizes = [int(size) for size in _constant(shape)]
        if not node.given.get("allowzero", 0):
            sizes = [value.shape[n] if size == 0 else size for n, size in enumerate(sizes)]
        if not isinstance(value, Tensor):
            return np.reshape(value, sizes)
        if self._batch is not None and sizes[:1] == [self._batch]:
            sizes[0] = value.shape[0]
        return value.reshape(sizes)

    # --- pools ---------------------------------------------------------------------------------

    def op_ReduceMean(self, node: _Node, value: Tensor, axes: Any = None) -> Tensor:
        places = node.given.get("axes") if axes is None else _constant(axes)
        where = [int(axis) for axis in (range(value.ndim) if places is None else places)]
        return value.mean(where, keepdim=bool(node.given.get("keepdims", 1)))

    def op_GlobalAveragePool(self, node: _Node, value: Tensor) -> Tensor:
        return value.mean((2, 3), keepdim=True)

    def op_GlobalMaxPool(self, node: _Node, value: Tensor) -> Tensor:
        return functional.max_pool2d(value, value.shape[2:])

    def op_MaxPool(self, node: _Node, value: Tensor) -> Tensor:
        kernel, strides, pads = self._window(node, value)
        dilations = tuple(node.given.get("dilations", [1, 1]))
        ceil = bool(node.given.get("ceil_mode", 0))
        return functional.max_pool2d(value, kernel, strides, pads, dilations, ceil)

    def op_AveragePool(self, node: _Node, value: Tensor) -> Tensor:
        kernel, strides, pads = self._window(node, value)
        ceil, counted = (bool(node.given.get(x, 0)) for x in ("ceil_mode", "count_include_pad"))
        return functional.avg_pool2d(value, kernel, strides, pads, ceil, counted or not any(pads))

    def _window(self, node: _Node, value: Tensor) -> tuple[list[int], list[int], list[int]]:
        kernel = node.given["kernel_shape"]
        strides = node.given.get("strides", [1] * len(kernel))
        pads = _pads(node.given, value.shape[2:], kernel, strides)
        if len(kernel) != 2 or pads[:2] != pads[2:]:
            raise ModelError(
                f"windows {kernel} with padding {pads}: it must be the same on all sides"
            )
        return kernel, strides, pads[:2]

    def op_Pad(self, node: _Node, value: Tensor, pads: Any, fill: Any = None, axes: Any = None):
        if node.given.get("mode", "constant") != "constant" or (fill is not None and np.any(fill)):
            raise ModelError("pads with something else than zeros")
        sides = [int(side) for side in _constant(pads)]
        which = range(value.ndim) if axes is None else [int(x) for x in _constant(axes)]
        before, after = [0] * value.ndim, [0] * value.ndim
        for place, axis in enumerate(which):
            before[axis], after[axis] = sides[place], sides[place + len(sides) // 2]
        flat = [
            side for axis in reversed(range(value.ndim)) for side in (before[axis], after[axis])
        ]
        return functional.pad(value, flat) if any(flat) else value

    # --- quantised -----------------------------------------------------------------------------

    def op_DequantizeLinear(self, node: _Node, value: Any, scale: Any, zero: Any = None) -> Any:
        value, scale = _constant(value, "input"), _constant(scale)
        zero = np.zeros((), np.int64) if zero is None else _constant(zero)
        if scale.ndim == 1 and scale.size > 1:
            sides = [1] * value.ndim
            sides[node.given.get("axis", 1)] = -1
            scale, zero = scale.reshape(sides), np.broadcast_to(zero, scale.size).reshape(sides)
        return ((value.astype(np.int64) - zero.astype(np.int64)) * scale).astype(np.float32)

    def op_Quant(self, node: _Node, value: Any, scale: Any, zero: Any, width: Any) -> Any:
        """QONNX: ``clip(round(x / scale + zero)) − zero) · scale``."""
        scale, zero, width = (_constant(x).astype(np.float64) for x in (scale, zero, width))
        signed, narrow = node.given.get("signed", 1), node.given.get("narrow", 0)
        high = 2 ** (width - signed) - 1 - (narrow if not signed else 0)
        low = -(2 ** (width - 1)) + narrow if signed else np.zeros_like(width)
        if not isinstance(value, Tensor):
            if node.given.get("rounding_mode", "ROUND") != "ROUND":
                raise ModelError(f"rounds by {node.given['rounding_mode']}: only ROUND")
            steps = np.clip(np.rint(value / scale + zero), low, high)
            return ((steps - zero) * scale).astype(np.float32)
        bounds = [np.unique((bound - zero) * scale) for bound in (low, high)]
        if any(bound.size != 1 for bound in bounds):
            raise ModelError("bounds of activations must be the same for each channel")
        self.notes.append(
            f"node {node.name!r} bounds activations at {bounds[0].item():.4g} and "
            f"{bounds[1].item():.4g}; between them they keep 16 bits"
        )
        return value.clamp(bounds[0].item(), bounds[1].item())

    def op_BipolarQuant(self, node: _Node, value: Any, scale: Any) -> np.ndarray:
        value = _constant(value, "input")
        return (np.where(value >= 0, 1.0, -1.0) * _constant(scale)).astype(np.float32)


def _known() -> str:
    return ", ".join(sorted(name[3:] for name in vars(_Module) if name.startswith("op_")))


def _stem(node: _Node) -> str:
    """A node's name without its kind, where a module's path stands before that."""
    path, _, last = node.name.rpartition("/")
    return path if path.strip("/") and re.fullmatch(rf"{node.kind}(_\d+)?", last) else node.name


def _identifier(text: str) -> str:
    """A text as the path of a module."""
    parts = [re.sub(r"\W", "_", part) for part in re.split(r"[./]", text) if part]
    return ".".join(part or "_" for part in parts) or "layer"


def _taken(module: nn.Module, name: str) -> bool:
    """Whether a path in `module` is that of a module or of a part of one."""
    place: Any = module
    for part in name.split("."):
        if isinstance(place, (nn.Linear, nn.Conv2d)) or (
            place is not module and not isinstance(place, nn.Module)
        ):
            return True
        place = place._modules.get(part) if part in place._modules else getattr(place, part, None)
        if place is None:
            return False
    return True


def _filled(module: nn.Module, weight: np.ndarray, bias: np.ndarray | None) -> nn.Module:
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(np.array(weight, np.float32)))
        if bias is not None:
            module.bias.copy_(torch.from_numpy(np.array(bias, np.float32)))
    return module


def _constant(value: Any, what: str = "operand") -> Any:
    if isinstance(value, Tensor):
        raise ModelError(f"its {what} is computed of the network's input, must be a constant")
    return value


def _small(value: np.ndarray) -> np.ndarray:
    """A constant that nodes compute of others; small, or nothing bounds what a file may make."""
    if value.size > FOLDED_MAX and value.dtype.kind in "iu":
        raise ModelError(f"computes a constant of the shape {list(value.shape)}")
    return value


def _pads(given: dict[str, Any], sides, kernel, strides) -> list[int]:
    """``[top, left, bottom, right]``."""
    auto = given.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return list(given.get("pads", [0] * 2 * len(kernel)))
    if auto == "VALID":
        return [0] * 2 * len(kernel)
    before, after = [], []
    for side, size, stride in zip(sides, kernel, strides, strict=True):
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    return before + after


# --- the check -------------------------------------------------------------------------------


def _compared(path: Path, network: Network, name: str, shape, batch: int | None) -> str:
    """A sentence on how far a network is from what onnxruntime computes of the file.

    Raises:
        ModelError: too far.
    """
    inputs = np.random.default_rng(0).standard_normal((CHECKED, *shape)).astype(np.float32)
    runtime = f"onnxruntime {onnxruntime.__version__}"
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own kinds
        raise ModelError(f"{path} does not run in {runtime}: {error}") from error
    kind = session.get_inputs()[0].type
    dtype = {"tensor(double)": np.float64, "tensor(float16)": np.float16}.get(kind, np.float32)
    size = batch or len(inputs)
    rows = []
    try:
        for start in range(0, len(inputs), size):
            some = np.resize(inputs[start : start + size], (size, *shape)).astype(dtype)
            rows.append(np.asarray(session.run(None, {name: some})[0], np.float64))
    except Exception as error:  # the runtime's own kinds
        raise ModelError(f"{path} does not run in {runtime}: {error}") from error
    wanted = np.concatenate(rows)[: len(inputs)].reshape(len(inputs), -1)
    with torch.no_grad():
        outputs = network(torch.from_numpy(inputs)).flatten(1).double()
        found = (ENDS[network.left_out][0](outputs) if network.left_out else outputs).numpy()
    if found.shape != wanted.shape:
        raise ModelError(f"{path} gives {wanted.shape[1]} values, what was read {found.shape[1]}")
    difference, largest = float(np.abs(found - wanted).max()), float(np.abs(wanted).max())
    if not difference <= CLOSE * max(largest, 1e-6):
        raise ModelError(
            f"what was read of {path} differs from {runtime} by {difference:.3g}, of outputs up to "
            f"{largest:.3g}"
        )
    return (
        f"{runtime} on {len(inputs)} random inputs: outputs up to {largest:.3g}, largest "
        f"difference {difference:.2g}"
    )

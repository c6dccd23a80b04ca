"""A network as a graph: of its torch layers, of plain arrays, or of integers without a weight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.utils import parametrize

from pleach.compile.real import MapLayer, RealLayer, mapped
from pleach.errors import ModelError
from pleach.model import (
    Activation,
    CompressedLayer,
    CompressedModel,
    Graph,
    Node,
    Op,
    Pool,
    Shape,
)
from pleach.models.layers import (
    KINDS,
    Function,
    Layer,
    chain_of,
    check_module,
    class_of,
    is_plain,
    is_wrapped,
    leaves,
)
from pleach.models.network import Network, Weighted, joints_of, resolved, through
from pleach.models.read import network_of

# Beside those of a chain, what the modules of an nn.Sequential may be.
JOINED = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.ReLU6,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ZeroPad2d,
    nn.Softmax,
    nn.LogSoftmax,
    nn.Sigmoid,
)


def layers_of(model: nn.Module, shape: Sequence[int] | None = None) -> list[Layer]:
    """The Linear and Conv2d layers of `model`, in running order.

    `model` is an nn.Sequential, nested or not, of Linear, Conv2d, ReLU and MaxPool2d, with a
    Flatten between convolutions and Linear. A ReLU may stand before a convolution's MaxPool2d or
    after it, it is the same. Dropout and Identity are passed over: they change nothing of the
    numbers at inference. A module that computes anything but what its class does, by a forward of
    its own or a hook, is none of these. Masks and shared weights of Pleach and masks of
    torch.nn.utils.prune may lie over the tensors (`tensor_of`), no other parametrizations.

    Or it is any other module whose inputs' shape is given: what it computes is traced
    (`network_of`), and the layers are those of a copy.

    Args:
        shape: of an input: ``(channels, height, width)``, ``(height, width)`` of images of one
            channel, or ``(features,)`` of square ones, channel by channel. Of a chain it matters
            only where a convolution comes first, and not where nn.Unflatten at the start gives it.
            Without it names and modules can be had, `Layer.convolution` cannot.

    Raises:
        ModelError: anything else; names the layer.

    >>> [layer.name for layer in layers_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))]
    ['0']
    >>> conv = nn.Sequential(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU())
    >>> layers_of(conv, shape=(784,))[0].convolution.pooled
    (12, 12)
    >>> layers_of(nn.Sequential(nn.Linear(2, 1), nn.Tanh()))
    Traceback (most recent call last):
    pleach.errors.ModelError: layer '1' is a Tanh: only Linear, Conv2d, ReLU, ReLU6, Hardtanh,
    LeakyReLU, PReLU, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, BatchNorm1d and 2d, Flatten, Dropout
    and Identity are supported
    """
    if isinstance(model, nn.Module) and not isinstance(model, Network) and _is_chain(model, shape):
        return chain_of(model, shape)
    return [node.op for node in graph_of(model, shape).nodes if isinstance(node.op, Layer)]


def graph_of(model: nn.Module, shape: Sequence[int] | None = None) -> Graph:
    """A network as a graph of `Layer` and of operators of real numbers, as `layers_of` takes it.

    Raises:
        ModelError: as `layers_of`.

    >>> from pleach.model import network_line
    >>> network_line(graph_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))))
    '4 → 0 3 ReLU → 2 2'
    """
    check_module(model)
    if isinstance(model, Network):
        return resolved(model)
    if _is_chain(model, shape):
        layers = chain_of(model, shape)
        nodes = [Node(layer.name, layer, (number,)) for number, layer in enumerate(layers)]
        return Graph(tuple(nodes), (layers[0].values_in,) if layers[0].known else ())
    if shape is None:
        raise ModelError(
            f"{_traced(model)}, which is traced to see what it computes: give the shape of an "
            "input with it, or make it a network of its layers first, "
            "pleach.models.network_of(model, shape)"
        )
    return resolved(network_of(model, shape))


def is_network(model: nn.Module, shape: Sequence[int]) -> bool:
    """Whether a network is trained and shared as it is; any other has to go through `network_of`.

    Args:
        shape: of an input.
    """
    return isinstance(model, Network) or _is_chain(model, shape)


def _traced(model: nn.Module) -> str:
    """What of a network only a trace reads."""
    if isinstance(model, nn.Sequential):
        for name, module in leaves(model):
            if not isinstance(module, KINDS):
                return f"layer {name!r} is a {class_of(module)}"
    return f"the network is a {class_of(model)}"


def _is_chain(model: nn.Module, shape: Sequence[int] | None) -> bool:
    """Whether a network is read as the chain of its modules; what cannot be read at all is, too,
    which says why."""
    check_module(model)
    if not isinstance(model, nn.Sequential):
        return is_wrapped(model)
    try:
        modules = [module for _, module in leaves(model)]
    except ModelError:  # a forward of its own: only a trace shows what it does
        return shape is None
    others = [module for module in modules if not isinstance(module, KINDS)]
    if any(is_wrapped(module) for module in others):
        return True
    if any(class_of(m) == type(m).__name__ and not isinstance(m, JOINED) for m in others):
        return True
    return not others and (shape is None or all(map(is_plain, modules)))


def sample_shape(model: nn.Module, shape: Sequence[int]) -> Shape:
    """The shape in which `model` takes an input that comes in `shape`: a row, or maps.

    Raises:
        ModelError: as `layers_of`.

    >>> sample_shape(nn.Sequential(nn.Conv2d(1, 2, 3)), (784,))
    (1, 28, 28)
    >>> sample_shape(nn.Sequential(nn.Linear(784, 2)), (28, 28))
    (784,)
    """
    graph = graph_of(model, shape)
    if not isinstance(model, nn.Sequential) or not _is_chain(model, shape):
        return graph.shape
    first = graph.nodes[0].op
    conv = first.convolution
    if conv is None or any(isinstance(module, nn.Unflatten) for _, module in leaves(model)):
        return (first.values_in,)
    return conv.channels, conv.height, conv.width


def neighbours(model: nn.Module) -> list[tuple[Layer, Layer]]:
    """The layers of which one other layer alone takes what they give, each with that other: so
    their rows may move or go, and its columns with them.

    Raises:
        ModelError: as `layers_of`.
    """
    if not isinstance(model, Network):
        return list(pairwise(layers_of(model)))
    layers = {layer.name: layer for layer in layers_of(model)}
    nodes = joints_of(model).nodes
    found = []
    for number, node in enumerate(nodes, start=1):
        if not isinstance(node.op, Weighted):
            continue
        after = through(nodes, number)
        if len(after) == 1 and isinstance(nodes[after[0] - 1].op, Weighted):
            found.append((layers[node.name], layers[nodes[after[0] - 1].name]))
    return found


def real_graph(model: nn.Module, shape: Sequence[int] | None = None) -> Graph:
    """A network, dense, pruned or shared, as plain arrays: what `pleach.compile.calibrate` takes.

    Args:
        shape: of an input.

    Raises:
        ModelError: as `layers_of`.
    """

    def real(node: Node) -> Op:
        if not isinstance(node.op, Layer):
            return node.op
        module = node.op.module
        weight, scales = _rows(module, "weight")
        bias = None if module.bias is None else _rows(module, "bias")[0].numpy()
        return RealLayer(
            node.name,
            weight.flatten(1).numpy(),
            bias,
            node.op.activation,
            node.op.convolution,
            None if scales is None else scales.numpy(),
        )

    return graph_of(model, shape).with_ops(real)


def _rows(module: nn.Module, part: str) -> tuple[Tensor, Tensor | None]:
    """A layer's weight or bias and, where its rows have scales, without these, and they."""
    if parametrize.is_parametrized(module, part):
        parameters: Any = cast(nn.ModuleDict, module.parametrizations)[part]
        if (scales := getattr(parameters[0], "scales", None)) is not None:
            # One parameter is called original, several have numbers.
            found = [p for name, p in parameters.named_parameters(recurse=False) if "orig" in name]
            return parameters[0].unscaled(*found).detach().cpu(), scales.detach().cpu()
    return getattr(module, part).detach().cpu(), None


def put_function_(model: nn.Module, name: str, activation: Activation) -> None:
    """Give the layer of that name another function than the ReLU or the like that it has.

    Raises:
        ModelError: nothing follows that layer.
    """
    if isinstance(model, Network):
        model.put_function_(name, activation)
        return
    behind = False
    for place, module in leaves(model):
        if isinstance(module, nn.Linear | nn.Conv2d):
            behind = place == name
        elif behind and isinstance(module, nn.ReLU | Function):
            owner, _, own = place.rpartition(".")
            model.get_submodule(owner)._modules[own] = Function(activation)
            return
    raise ModelError(f"layer {name!r} has no function")


def empty_model(model: nn.Module, shape: Sequence[int] | None = None) -> CompressedModel:
    """A network as integers without a weight: what no training makes representable is refused.

    Raises:
        ModelError: as `layers_of`, or a layer too large.
    """

    def empty(node: Node) -> CompressedLayer | Pool:
        op = node.op
        if isinstance(op, MapLayer):
            return CompressedLayer(
                name=node.name,
                inputs=op.weight.shape[1],
                outputs=len(op.weight),
                bias=op.bias is not None,
                positions=[],
                codes=[],
                codebook=[],
                shift=0,
                activation=Activation.NONE,
                bias_exponent=0,
                output_fraction=0,
                convolution=op.convolution,
                skip=op.skip,
            )
        return Pool(op.window)

    return CompressedModel.of(mapped(real_graph(model, shape)).with_ops(empty))

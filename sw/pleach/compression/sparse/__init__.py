"""Training of a sparse network at the cost of the weights that it has."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pleach.compression.masks import Mask, over, parts_of
from pleach.compression.share import Shared
from pleach.compression.sparse import loops
from pleach.compression.sparse.loops import BLOCK, TOGETHER
from pleach.model import Activation
from pleach.models import Layer, graph_of

#: Of the products of the dense network, the share from which torch is no slower; those of a matrix
#: count so much less than those of a convolution.
WORTH, MATRIX = 0.5, 0.4

LOG = logging.getLogger(__name__)


class SparseNetwork:
    """What a network gives, computed over the weights that its masks or codebooks leave.

    It is called in the place of the module and gives what that gives, but for the last bits of
    float sums; autograd finds the gradients of the module's parameters through it. Where the dense
    network is as fast, it calls that. The choice depends on counts of weights alone, so the same
    seed goes the same way.

    Args:
        model: a chain that `held` takes.
        shape: of an input.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int]):
        self._model = model
        self._layers = [_Layer(node.op) for node in graph_of(model, shape).nodes]
        self._state: list[tuple[int, int]] | None = None
        self._worth = False
        self._said = False
        self._runs = 0
        self._parameters: dict[int, nn.Parameter] = {}
        self._places: dict[int, np.ndarray] = {}
        self._gradients: dict[int, np.ndarray] = {}

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs, ``(inputs, outputs)``."""
        if not self.worth():
            return self._model(inputs).flatten(1)
        return _Run.apply(self, inputs, *self._parameters.values())

    def worth(self) -> bool:
        """Whether the weights that are there now are few enough."""
        state = [mark for layer in self._layers for mark in layer.marks]
        if state != self._state:
            self._state = state
            self._lay()
        return self._worth

    def _lay(self) -> None:
        """List the weights that are there."""
        places: dict[int, list[np.ndarray]] = {}
        self._parameters.clear()
        for layer in self._layers:
            layer.lay()
            for parameter, index in layer.uses():
                self._parameters[id(parameter)] = parameter
                places.setdefault(id(parameter), []).append(index)
        self._places = {key: np.unique(np.concatenate(each)) for key, each in places.items()}
        self._gradients = {
            key: np.zeros(p.numel(), np.float32) for key, p in self._parameters.items()
        }
        dense = sum(layer.dense for layer in self._layers)
        self._worth = sum(layer.products for layer in self._layers) < WORTH * dense
        if self._worth and not self._said:
            self._said = True
            left = sum(len(layer.index) for layer in self._layers)
            LOG.info("training over the %d weights that are left, not through torch's layers", left)

    def forward(self, rows: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
        """Outputs, ``(inputs, outputs)``, of rows, ``(inputs, features)``, float32; of those
        chosen, if any are."""
        self._runs += 1
        chosen = np.arange(len(rows)) if chosen is None else chosen
        blocks, first = -(-len(chosen) // BLOCK), self._layers[0]
        if first.maps:
            values = first.room("inputs", (blocks, rows.shape[1], BLOCK))
            loops.spread(rows, chosen, values)
        else:
            values = first.room("inputs", (rows.shape[1], blocks * BLOCK))
            loops.turned(rows, chosen, first.features, values)
        for layer in self._layers:
            values = layer.forward(values)
        return np.ascontiguousarray(values[:, : len(chosen)].T)

    def backward(self, slopes: np.ndarray) -> dict[int, np.ndarray]:
        """The gradients of the parameters, flat, by their ids, for those of the outputs of the last
        `forward`. They stand where those of the next one will."""
        for key, gradient in self._gradients.items():
            gradient[self._places[key]] = 0
        inputs = -(-len(slopes) // BLOCK) * BLOCK
        values = np.zeros((slopes.shape[1], inputs), np.float32)
        values[:, : len(slopes)] = slopes.T
        for layer in reversed(self._layers):
            values = layer.backward(values, layer is not self._layers[0], self._gradients)
        return self._gradients

    def descend(self, slopes: Tensor | None, optimizer: torch.optim.Optimizer) -> None:
        """A step of torch's Adam without decay, for the weights that are there alone: a masked
        weight has no gradient, and nobody sees where Adam's momentum would take it.

        Args:
            slopes: of the loss by the outputs of the last `forward`; none where it does not depend
                on them.
        """
        if slopes is None:
            return
        gradients = self.backward(slopes.numpy())
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                key = id(parameter)
                if key not in gradients:
                    continue
                state = optimizer.state[parameter]
                if not state:
                    like = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
                    state.update(
                        step=torch.zeros(()), exp_avg=like, exp_avg_sq=torch.zeros_like(like)
                    )
                state["step"] += 1
                parameter.grad = torch.from_numpy(gradients[key]).view(parameter.shape)
                loops.adam(
                    _flat(parameter), gradients[key], _flat(state["exp_avg"]),
                    _flat(state["exp_avg_sq"]), self._places[key], group["lr"], group["betas"],
                    group["eps"], int(state["step"]),
                )  # fmt: skip


def _flat(tensor: Tensor) -> np.ndarray:
    """Its values where they stand."""
    return tensor.detach().view(-1).numpy()


def held(model: nn.Module, shape: Sequence[int]) -> bool:
    """Whether `SparseNetwork` computes all that a network in training does: a chain of convolutions
    without padding or strides, each with a window of its own side or none, and of fully connected
    layers, with ReLUs; float32 on the CPU, nobody looking at what its modules give."""
    nodes = graph_of(model, shape).nodes
    return (
        all(
            isinstance(node.op, Layer) and node.sources == (number,) and _plain(node.op)
            for number, node in enumerate(nodes)
        )
        and nodes[-1].op.convolution is None
        and not any(
            module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
            for module in model.modules()
        )
        and not any(getattr(module, "p", 0) for module in model.modules())
    )


def _plain(layer: Layer) -> bool:
    conv = layer.convolution
    if layer.activation not in (Activation.NONE, Activation.RELU):
        return False
    if conv is not None and (
        conv.stride != (1, 1)
        or any(conv.padding)
        or conv.groups != 1
        or conv.pool != conv.pool_stride
        or conv.pool > 2
    ):
        return False
    for part in parts_of(layer.module):
        if parametrize.is_parametrized(layer.module, part):
            listed = over(layer.module, part)
            through = listed[0]
            if len(listed) != 1:
                return False
            if isinstance(through, Mask):
                if through.splice:
                    return False
            elif (
                not isinstance(through, Shared)
                or through.scales is not None
                or hasattr(listed, "original1")
            ):
                return False
        tensor = getattr(layer.module, part)
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            return False
    return True


class _Run(torch.autograd.Function):
    """One pass over the lists."""

    @staticmethod
    def forward(ctx: Any, network: SparseNetwork, inputs: Tensor, *parameters: Tensor) -> Tensor:
        ctx.network = network
        outputs = network.forward(inputs.flatten(1).contiguous().numpy())
        ctx.run = network._runs
        return torch.from_numpy(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        network = ctx.network
        assert ctx.run == network._runs, "another batch has run meanwhile"
        found = network.backward(gradients[0].numpy())
        shaped = (
            torch.from_numpy(found[key].copy()).view(p.shape)
            for key, p in network._parameters.items()
        )
        return None, None, *shaped


class _Layer:
    """A layer as lists.

    Attributes:
        maps: whether it is a convolution.
        parameters: what its weights and biases come from, by part.
        features: what it takes anything of; of a convolution all.
        index: of each weight, its place in its parameter.
        products: with its weights, an input.
        dense: with all that it could have, as if they took as long.
    """

    def __init__(self, layer: Layer):
        self._module, self._conv = layer.module, layer.convolution
        self._relu = layer.activation == Activation.RELU
        self._parts = parts_of(self._module)
        self.maps = self._conv is not None
        self.parameters: dict[str, nn.Parameter] = {}
        self._rooms: dict[str, np.ndarray] = {}
        self.index = np.zeros(0, np.int64)

    @property
    def marks(self) -> list[tuple[int, int]]:
        """They change when the weights that are there do."""
        found = []
        for part in self._parts:
            if parametrize.is_parametrized(self._module, part):
                through = over(self._module, part)[0]
                buffer = through.mask if isinstance(through, Mask) else through.codes
                found.append((id(buffer), buffer._version))
        return found

    def _parameter(self, part: str) -> nn.Parameter:
        if not parametrize.is_parametrized(self._module, part):
            return getattr(self._module, part)
        listed = over(self._module, part)
        return listed.original if isinstance(listed[0], Mask) else listed.original0

    def _there(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """The places in the tensor of what is there, and where in the parameter its value is."""
        if not parametrize.is_parametrized(self._module, part):
            places = np.arange(getattr(self._module, part).numel())
            return places, places
        through = over(self._module, part)[0]
        if isinstance(through, Mask):
            places = through.mask.flatten().nonzero().flatten().numpy()
            return places, places
        places, codes = through.positions.numpy(), through.codes.numpy()
        order = np.argsort(places, kind="stable")
        return places[order], codes[order]

    def lay(self) -> None:
        """List what is there, row by row, each filled up to a multiple of `TOGETHER`."""
        self.parameters = {part: self._parameter(part) for part in self._parts}
        weight = self._module.weight
        rows, columns = len(weight), weight[0].numel()
        positions, self.index = self._there("weight")
        row, column = positions // columns, positions % columns
        counts = np.bincount(row, minlength=rows)
        filled = -(-counts // TOGETHER) * TOGETHER
        self._starts = np.r_[0, np.cumsum(filled)]
        first = np.r_[0, np.cumsum(counts)]
        self._slots = self._starts[row] + np.arange(len(row)) - first[row]
        conv = self._conv
        place = column
        if conv is not None:
            kernel = conv.kernel_height * conv.kernel_width
            y, x = divmod(column % kernel, conv.kernel_width)
            place = (column // kernel * conv.height + y) * conv.width + x
        self._places = np.zeros(self._starts[-1], np.int64)
        self._places[self._slots] = place
        self.features = np.unique(self._places)
        self._weights = np.zeros(self._starts[-1], np.float32)
        self._bias = np.zeros(rows, np.float32)
        if "bias" in self.parameters:
            self._bias_slots, self._bias_index = self._there("bias")
        uses = 1 if conv is None else math.prod(conv.map)
        self.products = len(positions) * uses
        self.dense = weight.numel() * (uses if self.maps else MATRIX)

    def uses(self) -> Iterator[tuple[nn.Parameter, np.ndarray]]:
        """Each parameter, and the places in it that something is taken from."""
        yield self.parameters["weight"], self.index
        if "bias" in self.parameters:
            yield self.parameters["bias"], self._bias_index

    def _take(self) -> None:
        """The weights as they are now."""
        value = self.parameters["weight"].detach().reshape(-1).numpy()
        loops.gathered(value, self.index, self._slots, self._weights)
        if "bias" in self.parameters:
            value = self.parameters["bias"].detach().reshape(-1).numpy()
            loops.gathered(value, self._bias_index, self._bias_slots, self._bias)

    def forward(self, values: np.ndarray) -> np.ndarray:
        """What it gives for maps, ``(blocks, features, BLOCK)``, or rows, ``(features, inputs)``;
        maps of a convolution, rows of others."""
        self._take()
        conv = self._conv
        if conv is None:
            if values.ndim == 3:
                rows = self.room("taken", (values.shape[1], len(values) * BLOCK))
                loops.to_rows(values, rows)
                values = rows
            self._taken = values
            self._given = self.room("given", (len(self._bias), values.shape[1]))
            loops.connect(
                values.reshape(-1), self._given.reshape(-1), self._starts, self._places,
                self._weights, self._bias, self._relu,
            )  # fmt: skip
            return self._given
        self._taken = values
        self._given = self.room(
            "given", (len(values), len(self._bias), math.prod(conv.pooled) * BLOCK)
        )
        self._which = self.room("which", self._given.shape)
        loops.convolve(
            values.reshape(-1), self._given, self._which, self._starts, self._places,
            self._weights, self._bias, conv.pooled, conv.width, conv.map[1], conv.pool, self._relu,
        )  # fmt: skip
        return self._given.reshape(len(values), -1, BLOCK)

    def room(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Room for values, the same from step to step: fresh memory has to be faulted in."""
        if name not in self._rooms or self._rooms[name].shape != shape:
            self._rooms[name] = np.empty(shape, np.float32)
        return self._rooms[name]

    def backward(
        self, slopes: np.ndarray, further: bool, found: dict[int, np.ndarray]
    ) -> np.ndarray:
        """The gradients by what it took, if they are asked for; those of its parameters are added
        to `found`."""
        conv = self._conv
        by_weight, by_bias = np.zeros_like(self._weights), np.zeros_like(self._bias)
        by_taken = self.room("by_taken", self._taken.shape if further else (0,))
        by_taken[:] = 0
        if conv is None:
            loops.connect_back(
                self._taken.reshape(-1), self._given.reshape(-1), slopes.reshape(-1),
                self._starts, self._places, self._weights, self._relu, by_weight, by_bias,
                by_taken.reshape(-1),
            )  # fmt: skip
        else:
            if slopes.ndim == 2:
                maps = self.room("slopes", (len(self._taken), len(slopes), BLOCK))
                loops.to_maps(slopes, maps)
                slopes = maps
            loops.convolve_back(
                self._taken.reshape(-1), slopes.reshape(self._which.shape), self._which,
                self._starts, self._places, self._weights, conv.pooled, conv.width, conv.map[1],
                conv.pool, by_weight, by_bias, by_taken.reshape(-1),
            )  # fmt: skip
        loops.scattered(by_weight, self._slots, self.index, found[id(self.parameters["weight"])])
        if "bias" in self.parameters:
            loops.scattered(
                by_bias, self._bias_slots, self._bias_index, found[id(self.parameters["bias"])]
            )
        return by_taken

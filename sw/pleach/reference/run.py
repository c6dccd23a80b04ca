"""The reference: a network run in integers, equal to the engine on every bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from pleach.arrays import as_array
from pleach.errors import ModelError
from pleach.model import CompressedLayer, CompressedModel, Node, Shape
from pleach.reference import maps
from pleach.reference.requantizer import Requantizer

#: what a layer takes of its source and of its skip, ``[n, values]`` each
Taken: TypeAlias = tuple[np.ndarray, np.ndarray]

SPARSE = 1 / 5  # density of a matrix below which a sparse product is the faster
#: of a layer and one input: values given, sums over weights; and values that a kernel meets
MOST_VALUES, MOST_PATCHES = 1 << 26, 1 << 28


@dataclass(frozen=True)
class LayerTrace:
    """What went into and came out of one layer for a batch of ``n`` inputs.

    ``inputs`` is ``[n, values_in]``; ``skips`` what its skip takes, ``[n, values]``, without a skip
    ``[n, 0]``; ``accumulators``, int64, is ``[n, outputs]``, of a convolution
    ``[n, height · width · outputs]``, the map before pooling; ``outputs``, int16, is
    ``[n, values_out]``; ``macs``, int64 ``[n]``, counts products of a kept weight and a non-zero
    activation, bias included. Maps are pixel by pixel, channels innermost.
    """

    inputs: np.ndarray
    skips: np.ndarray
    accumulators: np.ndarray
    outputs: np.ndarray
    macs: np.ndarray


class Reference:
    """Bit-exact numpy model of the engine (docs/numerics.md).

    Rows and columns without a weight cost no time and no memory, but for their inputs and outputs.

    Raises:
        ModelError: a layer of a map too large to be evaluated; names it.

    >>> import numpy as np
    >>> from pleach.model import Activation, CompressedLayer, CompressedModel
    >>> layer = CompressedLayer("fc1", inputs=2, outputs=1, bias=True, positions=[0, 2],
    ...     codes=[1, 0], codebook=[-3, 5], shift=1, activation=Activation.NONE,
    ...     bias_exponent=2, output_fraction=8)
    >>> Reference(CompressedModel((layer,))).run(np.array([[7, 9]], np.uint8))
    array([[12]], dtype=int16)
    """

    #: inputs evaluated at a time, fewer where maps are large
    BATCH = 1000

    def __init__(self, model: CompressedModel):
        self.model = model

        shapes = model.graph.shapes()

        def ready(node: Node) -> Any:
            if isinstance(node.op, CompressedLayer):
                return _Layer(node.op, [shapes[source] for source in node.sources])
            return _Pool(node)

        self._graph = model.graph.with_ops(ready)
        largest = max(node.op.values for node in self._graph.nodes)
        self._batch = max(1, min(self.BATCH, maps.VALUES // largest))

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs, int16 ``[n, outputs]``, for inputs of the model's type, ``[n, inputs]``, both
        in the order of maps: as `CompressedModel.quantise` gives and `dequantise` takes them.

        Raises:
            ModelError: the wrong shape or type of inputs.
        """
        outputs = []
        for activations in self._batches(inputs):
            *_, (_, _, given) = self._graph.walk(activations, _run)
            outputs.append(given.T)
        return np.concatenate(outputs)

    def taken(self, inputs: np.ndarray) -> list[Taken]:
        """What each layer takes of its source and of its skip, ``[n, values]`` each: as `trace` has
        them, and no more."""
        batches = []
        last = self._graph.nodes[-1]
        for activations in self._batches(inputs):
            batches.append([])

            def apply(node: Node, *values: np.ndarray) -> np.ndarray:
                if isinstance(node.op, _Layer):
                    batches[-1].append((values[0].T, _skip(values).T))
                return values[0] if node is last else _run(node, *values)

            for _ in self._graph.walk(activations, apply):
                pass
        return [
            (np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts]))
            for parts in zip(*batches, strict=True)
        ]

    def nodes(self, inputs: np.ndarray) -> list[np.ndarray]:
        """What each layer and each pooling gives, int16 ``[n, values]``."""
        batches = [
            [given.T for _, _, given in self._graph.walk(activations, _run)]
            for activations in self._batches(inputs)
        ]
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    def trace(self, inputs: np.ndarray) -> list[LayerTrace]:
        """Every layer's inputs, accumulators, outputs and MAC counts."""
        batches = []
        for activations in self._batches(inputs):
            batches.append([])

            def apply(node: Node, *values: np.ndarray) -> np.ndarray:
                layer = node.op
                if not isinstance(layer, _Layer):
                    return _run(node, *values)
                sums = layer.sums(*values)
                accumulators, outputs = layer.every_row(sums), layer.outputs(sums)
                found = (values[0].T, _skip(values).T, accumulators.T, outputs.T)
                batches[-1].append(LayerTrace(*found, layer.macs(*values)))
                return outputs

            for _ in self._graph.walk(activations, apply):
                pass
        return [
            LayerTrace(*map(np.concatenate, zip(*(vars(t).values() for t in traces), strict=True)))
            for traces in zip(*batches, strict=True)
        ]

    def _batches(self, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """The inputs as ``[inputs, n]``, one batch at least."""
        inputs, dtype = as_array(inputs), self.model.input_type.dtype
        if inputs.ndim != 2 or inputs.shape[1] != self.model.inputs or inputs.dtype != dtype:
            raise ModelError(
                f"inputs are {inputs.dtype} of shape {inputs.shape}; "
                f"the model takes {dtype} of shape (n, {self.model.inputs})"
            )
        for start in range(0, max(len(inputs), 1), self._batch):
            yield inputs[start : start + self._batch].T


def _run(node: Node, *values: np.ndarray) -> np.ndarray:
    return node.op.run(*values)


def _skip(values: tuple[np.ndarray, ...]) -> np.ndarray:
    """Of what a layer takes, ``[values, n]`` each, that of its skip."""
    return values[1] if values[1:] else values[0][:0]


class _Pool:
    """A pooling made ready to run; activations are ``[values, n]``.

    Raises:
        ModelError: one that a few bytes of a file make large.
    """

    def __init__(self, node: Node):
        self._window, self._shift = node.op.window, node.op.shift
        values = self._given = math.prod(self._window.out_shape(self._window.shape))
        met = values * self._window.size
        if values > MOST_VALUES or met > MOST_PATCHES:
            raise ModelError(
                f"node {node.name!r} has {values:,} outputs and windows that meet {met:,} values "
                f"for each input: the reference evaluates {MOST_VALUES:,} of the first and "
                f"{MOST_PATCHES:,} of the last at most"
            )
        self.values = max(values, math.prod(self._window.shape))

    def run(self, values: np.ndarray) -> np.ndarray:
        """int16 ``[values_out, n]``."""
        found = maps.pooled(values, self._window, largest=self._shift is None)
        if self._shift is not None:
            found = Requantizer(shift=self._shift)(found)
        return found.astype(np.int16).reshape(self._given, values.shape[1])


class _Layer:
    """A layer made ready to run; activations are ``[values, n]``.

    Only rows and columns with weights are here, the bias column apart. Products run in float64 and
    are exact: a weight and an activation are 2^15 at most and a row has 65535 of them at most, so
    that no partial sum, in whatever order, passes 2^46 of float64's 2^53.
    """

    def __init__(self, layer: CompressedLayer, shapes: list[Shape]):
        conv = layer.convolution
        self._layer, self._shapes = layer, shapes
        self._pixels = math.prod(conv.map) if conv else 1
        column, values = layer.column_of, layer.values.astype(np.float64)
        self._rows, row = _present(layer.row_of, layer.outputs)
        bias = column == (layer.columns - 1 if layer.bias else -1)
        self._bias = np.zeros(len(self._rows))
        self._bias[row[bias]] = values[bias] * 2.0**layer.bias_exponent
        self._bias_macs = self._pixels * int(bias.sum())
        kernel, skip = column < layer.inputs, (column >= layer.inputs) & ~bias
        self._kernel = _Part(row[kernel], column[kernel], values[kernel], len(self._rows))
        self._skip = _Part(row[skip], column[skip] - layer.inputs, values[skip], len(self._rows))
        self._requantize = Requantizer(shift=layer.shift, activation=layer.activation)
        columns = max(len(self._kernel.columns), len(self._skip.columns))
        sums, met = (size * self._pixels for size in (len(self._rows), columns))
        if max(sums, layer.values_out) > MOST_VALUES or met > MOST_PATCHES:
            raise ModelError(
                f"layer {layer.name!r} has {layer.values_out:,} outputs, {sums:,} sums and kernels "
                f"that meet {met:,} values for each input: the reference evaluates "
                f"{MOST_VALUES:,} of the first two and {MOST_PATCHES:,} of the last at most"
            )
        #: the most values that it handles of an input
        self.values = max(1, sums, met, *map(math.prod, shapes), layer.values_out)

    def run(self, *activations: np.ndarray) -> np.ndarray:
        """int16 ``[values_out, n]``."""
        return self.outputs(self.sums(*activations))

    def sums(self, *activations: np.ndarray) -> np.ndarray:
        """The accumulators of the rows with weights, int64 ``[height · width, rows, n]``."""
        layer, conv, values = self._layer, self._layer.convolution, activations[0]
        if conv is not None:
            met = maps.patches(values, conv, np.float64, self._kernel.columns)
        else:
            met = self._kernel.of(values)
        sums = self._kernel.weights @ met
        sums += self._bias[:, None]
        if layer.skip is not None:
            taken = maps.skipped(activations[1], self._shapes[1], layer.skip, conv)
            sums += self._skip.weights @ self._skip.of(taken)
        sums = sums.astype(np.int64).reshape(len(self._rows), self._pixels, values.shape[1])
        return sums.swapaxes(0, 1)

    def every_row(self, rows: np.ndarray) -> np.ndarray:
        """``[pixels, rows, n]`` of the rows with weights as ``[pixels · outputs, n]``; the others
        sum nothing."""
        return _flat(self._spread(rows, 0))

    def _spread(self, rows: np.ndarray, other: int) -> np.ndarray:
        """``[pixels, rows, n]`` of every row, those without weights being `other`."""
        if len(self._rows) == self._layer.outputs:
            return rows
        every = np.full((len(rows), self._layer.outputs, rows.shape[2]), other, rows.dtype)
        every[:, self._rows] = rows
        return every

    def outputs(self, sums: np.ndarray) -> np.ndarray:
        """int16 ``[values_out, n]``, of what `sums` gives."""
        conv, scales, count = self._layer.convolution, self._layer.scales, sums.shape[2]
        scales = None if scales is None else scales[self._rows, None]
        values = self._requantize(sums, scales)
        if conv is not None and conv.pool > 1:
            found = maps.max_pool(values.reshape(*conv.map, len(self._rows), count), conv)
            values = found.reshape(math.prod(conv.pooled), len(self._rows), count)
        nothing = int(self._requantize(np.zeros(1, np.int64))[0])
        return _flat(self._spread(values, nothing))

    def macs(self, *activations: np.ndarray) -> np.ndarray:
        """int64 ``[n]``."""
        layer, conv, values = self._layer, self._layer.convolution, activations[0]
        kernel, count = self._kernel, values.shape[1]
        if conv is None:
            active = kernel.counts @ (kernel.of(values) != 0)
        else:
            channels = maps.touched(conv, kernel.columns)[0]
            each = maps.reach(conv, kernel.columns, kernel.counts)
            shape = (conv.height * conv.width, conv.channels, count)
            met = values.reshape(shape)[:, channels] != 0
            active = each.ravel() @ met.reshape(each.size, count)
        if layer.skip is not None:
            taken = maps.skipped(activations[1], self._shapes[1], layer.skip, conv)
            met = self._skip.of(taken) != 0
            met = met.reshape(len(met), self._pixels, count)
            active = active + self._skip.counts @ met.sum(axis=1)
        return active + self._bias_macs


def _flat(values: np.ndarray) -> np.ndarray:
    """``[pixels, rows, n]`` as ``[pixels · rows, n]``."""
    return values.reshape(values.shape[0] * values.shape[1], values.shape[2])


class _Part:
    """The weights of a layer over one of its sources: only rows and columns that have some."""

    def __init__(self, row: np.ndarray, column: np.ndarray, values: np.ndarray, rows: int):
        self.columns, place = _present(column, int(column.max(initial=-1)) + 1)
        self.counts = np.bincount(place, minlength=len(self.columns))
        shape = (rows, len(self.columns))
        self.weights = sparse.csr_array((values, (row, place)), shape=shape)
        if len(values) >= SPARSE * math.prod(shape):
            self.weights = self.weights.toarray()

    def of(self, activations: np.ndarray) -> np.ndarray:
        """Those of the columns."""
        if len(self.columns) < len(activations):
            return activations[self.columns]
        return activations


def _present(numbers: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Those of 0 … ``size - 1`` that are among `numbers`, ascending, and the place of each number
    among them; time in proportion to the numbers."""
    if size > 8 * len(numbers):
        return np.unique(numbers, return_inverse=True)
    there = np.zeros(size, bool)
    there[numbers] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[numbers]

"""The reference: a network run in integers, equal to the engine on every bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from pleach.arrays import as_array
from pleach.errors import ModelError
from pleach.model import CompressedLayer, CompressedModel, Node
from pleach.reference import maps
from pleach.reference.requantizer import Requantizer

SPARSE = 1 / 5  # density of a matrix below which a sparse product is the faster
#: of a layer and one input: values given, sums over weights; and values that a kernel meets
MOST_VALUES, MOST_PATCHES = 1 << 26, 1 << 28


@dataclass(frozen=True)
class LayerTrace:
    """What went into and came out of one layer for a batch of ``n`` inputs.

    ``inputs`` is ``[n, values_in]``; ``accumulators``, int64, is ``[n, outputs]``, of a convolution
    ``[n, outputs · height · width]``, the map before pooling; ``outputs``, int16, is
    ``[n, values_out]``; ``macs``, int64 ``[n]``, counts products of a kept weight and a non-zero
    activation, bias included. Maps are channel by channel, then row by row.
    """

    inputs: np.ndarray
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

        def ready(node: Node) -> Any:
            return _Layer(node.op) if isinstance(node.op, CompressedLayer) else node.op

        self._graph = model.graph.with_ops(ready)
        largest = 1
        for node, shape in zip(self._graph.nodes, model.graph.shapes()[1:], strict=True):
            values = math.prod(shape)
            if isinstance(node.op, _Layer):
                values = node.op.values
            else:
                _check_size(node, values)
            largest = max(largest, values)
        self._batch = max(1, min(self.BATCH, maps.VALUES // largest))

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs, int16 ``[n, outputs]``, for inputs of the model's type, ``[n, inputs]``.

        Raises:
            ModelError: the wrong shape or type of inputs.
        """
        outputs = []
        for activations in self._batches(inputs):
            *_, (_, _, given) = self._graph.walk(activations, _run)
            outputs.append(given.T)
        return np.concatenate(outputs)

    def activations(self, inputs: np.ndarray) -> list[np.ndarray]:
        """What each layer takes, ``[n, values_in]``: as `trace` has it, and no more."""
        batches = []
        last = self._graph.nodes[-1]
        for activations in self._batches(inputs):
            batches.append([])

            def apply(node: Node, *values: np.ndarray) -> np.ndarray:
                if isinstance(node.op, _Layer):
                    batches[-1].append(values[0].T)
                return values[0] if node is last else _run(node, *values)

            for _ in self._graph.walk(activations, apply):
                pass
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
                (value,) = values
                sums = layer.sums(value)
                accumulators, outputs = layer.every_row(sums), layer.outputs(sums)
                macs = layer.macs(value)
                batches[-1].append(LayerTrace(value.T, accumulators.T, outputs.T, macs))
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


def _check_size(node: Node, values: int) -> None:
    """Refuse an operator that a few bytes of a file make large."""
    window = getattr(node.op, "window", None)
    met = values * window.size if window else 0
    if values > MOST_VALUES or met > MOST_PATCHES:
        raise ModelError(
            f"node {node.name!r} has {values:,} outputs and windows that meet {met:,} values for "
            f"each input: the reference evaluates {MOST_VALUES:,} of the first and "
            f"{MOST_PATCHES:,} of the last at most"
        )


class _Layer:
    """A layer made ready to run; activations are ``[values, n]``.

    Only rows and columns with weights are here, the bias column apart. Products run in float64 and
    are exact: a weight and an activation are 2^15 at most and a row has 65535 of them at most, so
    that no partial sum, in whatever order, passes 2^46 of float64's 2^53.
    """

    def __init__(self, layer: CompressedLayer):
        conv = layer.convolution
        self._layer = layer
        self._pixels = math.prod(conv.map) if conv else 1
        column, values = layer.column_of, layer.values.astype(np.float64)
        self._rows, row = _present(layer.row_of, layer.outputs)
        bias = column == layer.inputs
        self._bias = np.zeros(len(self._rows))
        self._bias[row[bias]] = values[bias] * 2.0**layer.bias_exponent
        self._bias_macs = self._pixels * int(bias.sum())
        row, column, values = row[~bias], column[~bias], values[~bias]
        groups = conv.groups if conv else 1
        if groups > 1:
            column += self._rows[row] * groups // layer.outputs * layer.inputs
        # Columns are numbered across groups: together they make one matrix.
        self._columns, column = _present(column, groups * layer.inputs)
        self._counts = np.bincount(column, minlength=len(self._columns))
        shape = (len(self._rows), len(self._columns))
        self._weights = sparse.csr_array((values, (row, column)), shape=shape)
        if len(values) >= SPARSE * math.prod(shape):
            self._weights = self._weights.toarray()
        self._requantize = Requantizer(shift=layer.shift, activation=layer.activation)
        sums, met = (size * self._pixels for size in shape)
        if max(sums, layer.values_out) > MOST_VALUES or met > MOST_PATCHES:
            raise ModelError(
                f"layer {layer.name!r} has {layer.values_out:,} outputs, {sums:,} sums and kernels "
                f"that meet {met:,} values for each input: the reference evaluates "
                f"{MOST_VALUES:,} of the first two and {MOST_PATCHES:,} of the last at most"
            )
        #: the most values that it handles of an input
        self.values = max(1, sums, met, layer.values_in, layer.values_out)

    def run(self, activations: np.ndarray) -> np.ndarray:
        """int16 ``[values_out, n]``."""
        return self.outputs(self.sums(activations))

    def sums(self, activations: np.ndarray) -> np.ndarray:
        """The accumulators of the rows with weights, int64 ``[rows, height · width, n]``."""
        conv, count = self._layer.convolution, activations.shape[1]
        if conv is not None:
            activations = maps.patches(activations, conv, np.float64, self._columns)
        elif len(self._columns) < len(activations):
            activations = activations[self._columns]
        sums = self._weights @ activations
        sums += self._bias[:, None]
        return sums.astype(np.int64).reshape(len(self._rows), self._pixels, count)

    def every_row(self, rows: np.ndarray) -> np.ndarray:
        """``[rows, pixels, n]`` of the rows with weights as ``[outputs · pixels, n]``: the others
        are 0, and stay it."""
        if len(self._rows) < self._layer.outputs:
            some, rows = rows, np.zeros((self._layer.outputs, *rows.shape[1:]), rows.dtype)
            rows[self._rows] = some
        return rows.reshape(rows.shape[0] * rows.shape[1], rows.shape[2])

    def outputs(self, sums: np.ndarray) -> np.ndarray:
        """int16 ``[values_out, n]``, of what `sums` gives."""
        values, conv = self._requantize(sums), self._layer.convolution
        if conv is not None and (conv.pool, conv.pool_stride) != (1, 1):
            rows, _, count = values.shape
            pooled = maps.max_pool(values.reshape(rows, *conv.map, count), conv)
            values = pooled.reshape(rows, math.prod(conv.pooled), count)
        return self.every_row(values)

    def macs(self, activations: np.ndarray) -> np.ndarray:
        """int64 ``[n]``."""
        conv = self._layer.convolution
        if conv is None:
            active = self._counts @ (activations[self._columns] != 0)
        else:
            channels = maps.touched(conv, self._columns)[0]
            each = maps.reach(conv, self._columns, self._counts)
            shape = (conv.channels, conv.height * conv.width, activations.shape[1])
            met = activations.reshape(shape)[channels] != 0
            active = each.ravel() @ met.reshape(each.size, shape[2])
        return active + self._bias_macs


def _present(numbers: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Those of 0 … ``size - 1`` that are among `numbers`, ascending, and the place of each number
    among them; time in proportion to the numbers."""
    if size > 8 * len(numbers):
        return np.unique(numbers, return_inverse=True)
    there = np.zeros(size, bool)
    there[numbers] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[numbers]

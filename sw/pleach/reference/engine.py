"""The reference: a network run in integers, equal to the engine on every bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from pleach.errors import ModelError
from pleach.model import CompressedLayer, CompressedModel
from pleach.reference.maps import batch_size, max_pool, reach, weighted_sums
from pleach.reference.requantizer import Requantizer

SPARSE = 1 / 5  # density of a fully connected layer below which a sparse product is the faster


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
        self._layers = [_Layer(layer) for layer in model.layers]
        self._batch = batch_size(((x.outputs, x.convolution) for x in model.layers), self.BATCH)

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs, int16 ``[n, outputs]``, for inputs of the model's type, ``[n, inputs]``.

        Raises:
            ModelError: the wrong shape or type of inputs.
        """
        outputs = []
        for activations in self._batches(inputs):
            for layer in self._layers:
                activations = layer.outputs(layer.accumulators(activations))
            outputs.append(activations.T)
        return np.concatenate(outputs)

    def trace(self, inputs: np.ndarray) -> list[LayerTrace]:
        """Every layer's inputs, accumulators, outputs and MAC counts."""
        batches = []
        for activations in self._batches(inputs):
            batches.append([])
            for layer in self._layers:
                accumulators = layer.accumulators(activations)
                outputs = layer.outputs(accumulators)
                macs = layer.macs(activations)
                batches[-1].append(LayerTrace(activations.T, accumulators.T, outputs.T, macs))
                activations = outputs
        return [
            LayerTrace(*map(np.concatenate, zip(*(vars(t).values() for t in traces), strict=True)))
            for traces in zip(*batches, strict=True)
        ]

    def _batches(self, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """The inputs as ``[inputs, n]``, one batch at least."""
        dtype = self.model.input_type.dtype
        if inputs.ndim != 2 or inputs.shape[1] != self.model.inputs or inputs.dtype != dtype:
            raise ModelError(
                f"inputs are {inputs.dtype} of shape {inputs.shape}; "
                f"the model takes {dtype} of shape (n, {self.model.inputs})"
            )
        for start in range(0, max(len(inputs), 1), self._batch):
            yield inputs[start : start + self._batch].T


class _Layer:
    """A layer made ready to run; activations are ``[values, n]``.

    Products run in float64 and are exact: a weight and an activation are 2^15 at most and a row has
    65535 of them at most, so that no partial sum, in whatever order, passes 2^46 of float64's 2^53.
    """

    def __init__(self, layer: CompressedLayer):
        conv = layer.convolution
        entries = (layer.values.astype(np.float64), (layer.row_of, layer.column_of))
        weights = sparse.csr_array(entries, shape=(layer.outputs, layer.columns))
        dense = conv is not None or layer.density >= SPARSE
        counts = np.zeros((conv.groups if conv else 1, layer.columns), np.int64)
        group = layer.row_of * len(counts) // layer.outputs
        np.add.at(counts, (group, layer.column_of), 1)
        self._layer = layer
        self._weights = (
            weights[:, : layer.inputs].toarray() if dense else weights[:, : layer.inputs]
        )
        self._bias = weights[:, layer.inputs :].sum(axis=1) * 2.0**layer.bias_exponent
        self._reach = reach(conv, counts[:, : layer.inputs]) if conv else counts[0, : layer.inputs]
        pixels = math.prod(conv.map) if conv else 1
        self._sums = pixels * layer.outputs
        self._bias_macs = pixels * int(counts[:, layer.inputs :].sum())
        self._requantize = Requantizer(shift=layer.shift, activation=layer.activation)

    def accumulators(self, activations: np.ndarray) -> np.ndarray:
        """int64 ``[outputs, n]``, of a convolution ``[outputs · height · width, n]``."""
        sums = weighted_sums(self._weights, activations, self._layer.convolution)
        sums += self._bias[:, None]
        return sums.astype(np.int64).reshape(self._sums, activations.shape[1])

    def outputs(self, accumulators: np.ndarray) -> np.ndarray:
        """int16 ``[values_out, n]``."""
        values, conv = self._requantize(accumulators), self._layer.convolution
        if conv is None or (conv.pool == 1 and conv.pool_stride == 1):
            return values
        maps = values.reshape(self._layer.outputs, *conv.map, -1)
        return max_pool(maps, conv).reshape(self._layer.values_out, -1)

    def macs(self, activations: np.ndarray) -> np.ndarray:
        """int64 ``[n]``."""
        return self._reach @ (activations != 0) + self._bias_macs

"""The reference: a network run in integers, equal to the engine on every bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from pleach.errors import ModelError
from pleach.model import CompressedLayer, CompressedModel
from pleach.reference.requantizer import Requantizer


@dataclass(frozen=True)
class LayerTrace:
    """What went into and came out of one layer for a batch of ``n`` inputs.

    ``inputs`` is ``[n, inputs]``; ``accumulators``, int64, and ``outputs``, int16, are
    ``[n, outputs]``; ``macs``, int64 ``[n]``, counts products of a kept weight and a non-zero
    activation, bias included.
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

    #: inputs evaluated at a time, to bound memory
    BATCH = 1000

    def __init__(self, model: CompressedModel):
        self.model = model
        self._weights = [_matrix(layer) for layer in model.layers]

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs, int16 ``[n, outputs]``, for inputs of the model's type, ``[n, inputs]``.

        Raises:
            ModelError: the wrong shape or type of inputs.
        """
        inputs = self._checked(inputs)
        batches = [inputs[i : i + self.BATCH] for i in range(0, len(inputs), self.BATCH)]
        outputs = [list(self._layers(batch))[-1].outputs for batch in batches]
        return np.concatenate(outputs) if outputs else np.zeros((0, self.model.outputs), np.int16)

    def trace(self, inputs: np.ndarray) -> list[LayerTrace]:
        """Every layer's inputs, accumulators, outputs and MAC counts."""
        return list(self._layers(self._checked(inputs)))

    def _checked(self, inputs: np.ndarray) -> np.ndarray:
        dtype = self.model.input_type.dtype
        if inputs.ndim != 2 or inputs.shape[1] != self.model.inputs or inputs.dtype != dtype:
            raise ModelError(
                f"inputs are {inputs.dtype} of shape {inputs.shape}; "
                f"the model takes {dtype} of shape (n, {self.model.inputs})"
            )
        return inputs

    def _layers(self, inputs: np.ndarray) -> Iterator[LayerTrace]:
        activations = inputs
        for layer, weights in zip(self.model.layers, self._weights, strict=True):
            columns = np.empty((layer.columns, len(activations)), np.int64)
            columns[: layer.inputs] = activations.T
            if layer.bias:
                columns[-1] = 1 << layer.bias_exponent
            accumulators = (weights @ columns).T
            requantize = Requantizer(shift=layer.shift, activation=layer.activation)
            outputs = requantize(accumulators)
            macs = np.bincount(layer.column_of, minlength=layer.columns) @ (columns != 0)
            yield LayerTrace(activations, accumulators, outputs, macs)
            activations = outputs


def _matrix(layer: CompressedLayer) -> sparse.csr_array:
    """Integer weights, int64, ``(outputs, columns)``; a kept weight of value 0 stays an entry."""
    return sparse.csr_array(
        (layer.values.astype(np.int64), (layer.row_of, layer.column_of)),
        shape=(layer.outputs, layer.columns),
    )


def wrong_percent(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of outputs, ``[n, classes]``, whose largest is not the label's, in per cent.

    Ties go to the lower class.

    >>> wrong_percent(np.array([[0, 1], [1, 0]]), np.array([1, 1]))
    50.0
    """
    return float(100 * np.mean(outputs.argmax(axis=1) != labels))

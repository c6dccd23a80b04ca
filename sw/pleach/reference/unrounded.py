"""What a network would give if nothing were rounded: where its integers lose, and how much."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from pleach.arrays import as_array
from pleach.model import CompressedLayer, CompressedModel, Node, Shape
from pleach.numbers import INT16_MAX, INT16_MIN
from pleach.reference import maps
from pleach.reference.run import Reference


@dataclass(frozen=True)
class NodeError:
    """How far the integers of a layer or a pooling are from numbers that are not rounded.

    All but `saturated` and `fraction` are what the integers stand for, over all values of all
    inputs.

    Args:
        name: of the node.
        fraction: bits of its outputs behind the point.
        rms: root of the mean square of what it gives.
        error: of its outputs against a network in which nothing was rounded.
        own: against the same node on the very integers that it took: what came in here.
        largest: of the errors `error` is made of, the largest.
        saturated: share of its outputs at the ends of int16 that would lie beyond.
    """

    name: str
    fraction: int
    rms: float
    error: float
    own: float
    largest: float
    saturated: float


def errors(model: CompressedModel, inputs: np.ndarray) -> list[NodeError]:
    """The error of each layer and pooling, and how much of it is its own.

    Args:
        inputs: integers, ``[n, inputs]``.

    Raises:
        ModelError: as `Reference`.

    >>> from pleach.model import Activation
    >>> layer = CompressedLayer("fc", inputs=1, outputs=1, bias=False, positions=[0], codes=[0],
    ...     codebook=[3], shift=1, activation=Activation.NONE, bias_exponent=0, output_fraction=0)
    >>> (found,) = errors(CompressedModel((layer,)), np.array([[1]], np.uint8))
    >>> found.error, found.own  # 1.5 is 2
    (0.5, 0.5)
    """
    inputs = as_array(inputs)
    graph, shapes = model.graph, model.graph.shapes()
    fixed = [inputs, *Reference(model).nodes(inputs)]
    exact = [inputs.astype(np.float64)]
    fractions = graph.fractions(model.input_fraction)
    found = []
    for number, node in enumerate(graph.nodes, start=1):
        taken = [shapes[source] for source in node.sources]
        exact.append(_run(node, taken, [exact[source] for source in node.sources]))
        alone = _run(node, taken, [fixed[source].astype(np.float64) for source in node.sources])
        given = fixed[number].astype(np.float64)
        unit = 2.0 ** -fractions[number]
        beyond = ((given == INT16_MAX) & (alone > INT16_MAX)) | (
            (given == INT16_MIN) & (alone < INT16_MIN)
        )
        found.append(
            NodeError(
                name=node.name,
                fraction=fractions[number],
                rms=_rms(given) * unit,
                error=_rms(given - exact[number]) * unit,
                own=_rms(given - alone) * unit,
                largest=float(np.abs(given - exact[number]).max(initial=0.0)) * unit,
                saturated=float(beyond.mean()) if beyond.size else 0.0,
            )
        )
    return found


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def _run(node: Node, shapes: list[Shape], values: list[np.ndarray]) -> np.ndarray:
    """A node without rounding and saturation, float64 ``[n, values]``, in its outputs' units."""
    op, count = node.op, len(values[0])
    if not isinstance(op, CompressedLayer):
        found = maps.pooled(values[0].T, op.window, largest=op.shift is None)
        return found.reshape(-1, count).T / 2.0 ** (op.shift or 0)
    conv, pixels = op.convolution, math.prod(op.convolution.map) if op.convolution else 1
    # Only columns with a weight: what a file claims costs nothing.
    chosen, column = np.unique(op.column_of, return_inverse=True)
    kernel = chosen[chosen < op.inputs]
    skip = chosen[(chosen >= op.inputs) & (chosen < op.columns - op.bias)] - op.inputs
    taken = values[0].T
    met = [taken[kernel] if conv is None else maps.patches(taken, conv, np.float64, kernel)]
    if op.skip is not None:
        met.append(maps.skipped(values[1].T, shapes[1], op.skip, conv)[skip])
    if op.bias and len(chosen) and chosen[-1] == op.columns - 1:
        met.append(np.full((1, pixels * count), 2.0**op.bias_exponent))
    places = (op.row_of, column)
    weights = csr_matrix((op.values.astype(np.float64), places), shape=(op.outputs, len(chosen)))
    sums = weights @ np.concatenate(met)
    if op.scales is not None:
        sums *= op.scales[:, None]
    sums /= 2.0**op.shift
    low, high = op.activation.low, op.activation.high
    if op.activation.sign and low is not None and high is not None:
        sums = np.where(sums >= 0, float(high), float(low))
    elif low is not None or high is not None:
        sums = np.clip(sums, low, high)
    sums = sums.reshape(op.outputs, -1, count)
    if conv is not None and conv.pool > 1:
        laid = np.moveaxis(sums.reshape(op.outputs, *conv.map, count), 0, 2)
        pooled = maps.max_pool(laid, conv)
        return pooled.reshape(-1, count).T
    return sums.swapaxes(0, 1).reshape(-1, count).T

"""What the engine's work costs in energy: accesses to its memories and operations, counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleach.engine.config import EngineConfig
from pleach.engine.pipeline import block_bits, entry_bits
from pleach.engine.plan import geometry
from pleach.model import CompressedLayer, CompressedModel
from pleach.reference import Reference


@dataclass(frozen=True)
class Costs:
    """Picojoules of an operation in 45 nm (Horowitz 2014, figure 1.1.9; EIE, table 1).

    Args:
        bit: read or written, of a memory of some KB: 5 pJ for 32 bits.
        multiply: of two 16-bit integers, a quarter of 32 bits' 3.1 pJ.
        add: of 32-bit integers.
    """

    bit: float = 5 / 32
    multiply: float = 3.1 / 4
    add: float = 0.1

    def of_entry(self, config: EngineConfig) -> float:
        """One weight met by one activation: its entry and codebook value are read, its accumulator
        is read and written, with a multiplication and an addition between them."""
        bits = entry_bits(config) + 16 + 2 * config.accumulator_bits
        return bits * self.bit + self.multiply + self.add

    def of_column(self, config: EngineConfig) -> float:
        """One activation that is not zero: the PEs of its group read where its column is."""
        return config.row_pes * block_bits(config) * self.bit


def energies(
    model: CompressedModel, config: EngineConfig, inputs: np.ndarray, costs: Costs | None = None
) -> np.ndarray:
    """Picojoules of each layer, ``[layers]``, the mean over inputs.

    Counted are the weights that meet an activation which is not zero, and the activations that are
    broadcast: each once for every window that it is in, and a one for the bias of each window.

    Args:
        inputs: of the model's type, ``[n, inputs]``.
    """
    costs, shapes, found = costs or Costs(), model.graph.shapes(), []
    nodes = [node for node in model.graph.nodes if isinstance(node.op, CompressedLayer)]
    for node, trace in zip(nodes, Reference(model).trace(inputs), strict=True):
        columns = _broadcasts(node.op, trace.inputs)
        if node.op.skip is not None:
            channels, height, width = shapes[node.sources[1]]
            maps = trace.skips.reshape(-1, height, width, channels)
            down, right = node.op.skip.stride
            columns = columns + np.count_nonzero(maps[:, ::down, ::right], axis=(1, 2, 3))
        cost = trace.macs * costs.of_entry(config) + columns * costs.of_column(config)
        found.append(float(cost.mean()))
    return np.array(found)


def _broadcasts(layer: CompressedLayer, values: np.ndarray) -> np.ndarray:
    """The activations that are broadcast for a layer, bias included, ``[n]``."""
    shape = geometry(layer)
    height, width = shape.map
    (down, right), (top, left) = shape.stride, (shape.top, shape.left)
    below = max(0, down * (height - 1) + shape.kernel[0] - top - shape.height)
    beside = max(0, right * (width - 1) + shape.kernel[1] - left - shape.width)
    maps = values.reshape(-1, shape.height, shape.width, shape.channels)
    active = np.pad((maps != 0).sum(3), ((0, 0), (top, below), (left, beside)))
    total = np.full(len(values), height * width * layer.bias)
    for y in range(shape.kernel[0]):
        for x in range(shape.kernel[1]):
            seen = active[:, y : y + down * height : down, x : x + right * width : right]
            total += seen[:, :height, :width].sum(axis=(1, 2))
    return total

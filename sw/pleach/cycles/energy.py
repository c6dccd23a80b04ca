"""What the engine's work costs in energy: accesses to its memories and operations, counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pleach.engine.config import EngineConfig
from pleach.engine.pipeline import block_bits, entry_bits
from pleach.model import CompressedModel


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
    model: CompressedModel,
    config: EngineConfig,
    activations: Sequence[np.ndarray],
    costs: Costs | None = None,
) -> np.ndarray:
    """Picojoules of each layer, ``[layers]``, the mean over inputs.

    Args:
        activations: the inputs of each layer, ``[n, inputs]``; fully connected layers.
    """
    costs = costs or Costs()
    found = []
    for layer, values in zip(model.layers, activations, strict=True):
        per_column = np.bincount(layer.column_of, minlength=layer.columns)
        active = np.concatenate([values != 0, np.ones((len(values), 1), bool)], axis=1)
        entries = active[:, : len(per_column)] @ per_column
        columns = active[:, : len(per_column)].sum(axis=1)
        cost = entries * costs.of_entry(config) + columns * costs.of_column(config)
        found.append(float(cost.mean()))
    return np.array(found)

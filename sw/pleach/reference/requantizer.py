"""Requantisation: the shift, saturation and activation function after a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleach.model import Activation
from pleach.model.ops import requantise
from pleach.numbers import INT16_MIN


@dataclass(frozen=True, kw_only=True)
class Requantizer:
    """Accumulators to int16 activations (docs/numerics.md, "One layer").

    Rounds to nearest with ties towards plus infinity, saturates, then applies the activation.

    >>> half = Requantizer(shift=1, activation=Activation.NONE)
    >>> half(np.array([-5, 5, 3, 1 << 20])).tolist()
    [-2, 3, 2, 32767]
    """

    shift: int
    activation: Activation

    def __call__(self, accumulators: np.ndarray) -> np.ndarray:
        """int64 accumulators of any shape to int16 of the same shape."""
        low = 0 if self.activation == Activation.RELU else INT16_MIN
        return requantise(accumulators, self.shift, low)

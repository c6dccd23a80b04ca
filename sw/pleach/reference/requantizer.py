"""Requantisation: scale, shift, saturation and function after a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleach.model import Activation
from pleach.numbers import INT16_MAX, INT16_MIN


@dataclass(frozen=True, kw_only=True)
class Requantizer:
    """Accumulators to int16 activations (docs/numerics.md, "One layer").

    Rounds to nearest with ties towards plus infinity, saturates, then applies the function.

    >>> half = Requantizer(shift=1)
    >>> half(np.array([-5, 5, 3, 1 << 20])).tolist()
    [-2, 3, 2, 32767]
    """

    shift: int
    activation: Activation = Activation.NONE

    def __call__(self, accumulators: np.ndarray, scales: np.ndarray | None = None) -> np.ndarray:
        """int64 accumulators of any shape to int16 of the same shape.

        ``scales``, where the layer has them, is of a shape that numpy lays over the accumulators'.
        """
        sums = np.asarray(accumulators, np.int64)
        if scales is not None:
            sums = sums * scales.astype(np.int64)
        rounded = (sums + (1 << self.shift >> 1)) >> self.shift
        return self.activation(np.clip(rounded, INT16_MIN, INT16_MAX).astype(np.int16))

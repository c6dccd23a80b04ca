"""The sum of squares (Han 2015, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from pleach.compression.checks import check_number
from pleach.compression.regularisers import Regulariser, regulariser


@regulariser("weight_decay")
@dataclass(frozen=True, kw_only=True)
class WeightDecay(Regulariser):
    """Makes large weights smaller. The optimiser adds its gradient itself.

    Use it against overfitting, with 1e-5 to 1e-3; Han et al. prune best with it.

    Args:
        strength: the gradient for a weight of 1.
    """

    strength: float

    def __post_init__(self):
        check_number(self, "strength", 0, 1)

    @property
    def decay(self) -> float:
        return self.strength

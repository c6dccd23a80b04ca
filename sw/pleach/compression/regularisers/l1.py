"""The sum of magnitudes (Han 2015, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pleach.compression.checks import check_number
from pleach.compression.regularisers import Regulariser, regulariser


@regulariser("l1")
@dataclass(frozen=True, kw_only=True)
class L1(Regulariser):
    """Makes weights small, and many of them nearly zero.

    Use it before or while pruning by magnitude, with a strength of 1e-6 to 1e-4: more weights
    end near zero.

    Args:
        strength: the loss for a weight of magnitude 1.
    """

    strength: float

    def __post_init__(self):
        check_number(self, "strength", 0, 1)

    def penalty(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> Tensor:
        total = parameters[0].new_zeros(())
        for parameter in parameters:
            total = total + parameter.abs().sum()
        return self.strength * total

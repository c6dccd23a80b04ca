"""−1, 0 and 1 (Alemdar et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from pleach.compression.activations import LowBit, activation
from pleach.model import Activation


@activation("ternary")
@dataclass(frozen=True, kw_only=True)
class Ternary(LowBit):
    """−1, 0 or 1, whichever is nearest. The paper has two thresholds for each neuron;
    here they are ±1/2 of the sum times the row's scale, moved by its bias.

    Use it where activations are to have one or two bits and many of them zero, which the engine
    skips.
    """

    source = "Alemdar et al. 2017, arXiv:1609.00222"

    @property
    def function(self) -> Activation:
        return Activation(-1.0, 1.0, step=1.0)

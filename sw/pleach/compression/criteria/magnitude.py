"""The magnitude of a weight (Han 2015, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pleach.compression.criteria import Criterion, Observations, PrunableLayer, criterion


@criterion("magnitude")
@dataclass(frozen=True, kw_only=True)
class Magnitude(Criterion):
    """What is small is pruned first.

    Use it first: it needs nothing, and with long retraining little is better.
    """

    source = "Han et al. 2015, arXiv:1506.02626, section 3"

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        return {part: tensor.abs() for part, tensor in layer.tensors.items()}

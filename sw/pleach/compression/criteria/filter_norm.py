"""The norm of a filter (Li 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pleach.compression.checks import check_integer
from pleach.compression.criteria import Criterion, Observations, PrunableLayer, criterion


@criterion("filter_norm")
@dataclass(frozen=True, kw_only=True)
class FilterNorm(Criterion):
    """The sum of the magnitudes of a filter's weights, ``‖F‖₁``, without its bias (section 3.1).

    Use it to make a network narrower with no data at all. How much of each layer, the paper reads
    off its sensitivity (section 3.2): `pleach.compression.sensitivity` with a stage of this
    criterion, and what its ``least`` says in ``layers``.

    Args:
        order: of the norm, 1 or 2.
    """

    order: int = 1

    source = "Li et al. 2017, arXiv:1608.08710, sections 3.1 and 3.2"
    granularities = ("channel",)

    def __post_init__(self):
        check_integer(self, "order", 1, 2)

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        return layer.by_row(layer.tensors["weight"].flatten(1).norm(self.order, dim=1))

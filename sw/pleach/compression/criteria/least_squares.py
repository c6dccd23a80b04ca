"""What a layer's outputs lose with a weight, and a local fit of the others (Yang 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pleach.compression.checks import check_integer, check_number
from pleach.compression.criteria import Criterion, Observations, Observe, PrunableLayer, criterion
from pleach.compression.surgery import damped, effective, moments, parts_of_rows, refitted, rows_of
from pleach.numbers import SIZE_MAX


@criterion("least_squares")
@dataclass(frozen=True, kw_only=True)
class LeastSquares(Criterion):
    """The mean square of what a weight adds to its row's outputs, ``w²·E[x²]``: removed first is
    what the outputs miss least, which is the order in which Yang et al. put back what the magnitude
    took by mistake. Then the weights that are left of each row are fitted to the
    outputs as they were, in closed form (section 4).

    Use it with ``scope = "energy"``: the two together are energy-aware pruning. With any other
    scope it costs more than magnitude and needs less retraining.

    Args:
        samples: training inputs that the moments are found on.
        block: columns that are fitted together; 0 takes them all.
        damping: share of the mean square of the inputs that is added to them all.
    """

    samples: int = 1024
    block: int = 0
    damping: float = 1e-4

    source = "Yang et al. 2017, arXiv:1611.05128, section 4"
    needs = frozenset({Observe.SAMPLES})

    def __post_init__(self):
        check_integer(self, "samples", 1, 1 << 30)
        check_integer(self, "block", 0, SIZE_MAX)
        check_number(self, "damping", 0, 1)

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        rows = rows_of(layer, effective(layer)).double()
        squares = self._moments(layer, seen).diagonal(dim1=1, dim2=2)
        scores = parts_of_rows(layer, rows.square() * squares[:, None])
        return {part: score.to(layer.tensors[part].dtype) for part, score in scores.items()}

    def survivors(
        self, layer: PrunableLayer, kept: Mapping[str, Tensor], seen: Observations
    ) -> dict[str, Tensor]:
        return refitted(layer, dict(kept), self._moments(layer, seen), self.block)

    def _moments(self, layer: PrunableLayer, seen: Observations) -> Tensor:
        key = ("moments", layer.name, self.samples)
        return damped(seen.once(key, lambda: moments(layer, seen, self.samples)), self.damping)

"""What the loss would lose with a weight, to first order (Molchanov et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pleach.compression.criteria import (
    Batch,
    Criterion,
    Observations,
    Observe,
    PrunableLayer,
    criterion,
)


@criterion("taylor")
@dataclass(frozen=True, kw_only=True)
class Taylor(Criterion):
    """The mean of ``(w·g)²`` over the steps since the last pruning (equation 8 there).

    It works with any optimiser and, with granularity ``channel``, ranks filters as the paper does.

    Use it as ``saliency``, where the optimiser is not Adam; it looks at the last steps only.
    """

    source = "Molchanov et al. 2019, arXiv:1906.10771, equation 8"
    needs = frozenset({Observe.GRADIENTS})

    def observe(self, layer: PrunableLayer, batch: Batch) -> dict[str, Tensor]:
        tensors = layer.tensors
        return {part: (tensors[part] * g).square() for part, g in batch.gradients.items()}

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor] | None:
        found = seen.mean(layer)
        return found if found.keys() == layer.tensors.keys() else None

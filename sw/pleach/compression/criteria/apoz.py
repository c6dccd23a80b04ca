"""How seldom a neuron is zero (Hu et al. 2016, Network Trimming)."""

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


@criterion("apoz")
@dataclass(frozen=True, kw_only=True)
class ActiveShare(Criterion):
    """One less the average percentage of zeros of what a neuron or channel gives (equation 1
    there), over the steps since the last pruning; for the granularity ``channel``.

    Use it where many neurons are seldom active, as in wide fully connected layers with ReLU.
    """

    source = "Hu et al. 2016, arXiv:1607.03250, equation 1"
    needs = frozenset({Observe.ACTIVATIONS})
    granularities = ("channel",)

    def observe(self, layer: PrunableLayer, batch: Batch) -> dict[str, Tensor]:
        if batch.outputs is None:  # the layer has not run
            return {}
        outputs = batch.outputs.transpose(0, 1).flatten(1)
        return {"active": (outputs != 0).to(outputs.dtype).mean(1)}

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor] | None:
        active = seen.mean(layer).get("active")
        if active is None:
            return None
        return layer.by_row(active)

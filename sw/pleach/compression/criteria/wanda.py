"""The magnitude of a weight times the norm of what it takes (Sun 2023, Wanda)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.checks import check_integer
from pleach.compression.criteria import Criterion, Observations, Observe, PrunableLayer, criterion


@criterion("wanda")
@dataclass(frozen=True, kw_only=True)
class Wanda(Criterion):
    """``|w|·‖x‖₂`` over training inputs, compared with the other weights of the same row alone:
    each neuron or filter keeps the same share of its weights. Biases stay.

    Use it to prune at once without retraining, or with little: it is nearly as cheap as magnitude,
    and inputs that are mostly zero or small take their weights along.

    Args:
        samples: training inputs that it looks at; the paper takes 128.
    """

    samples: int = 128

    source = "Sun et al. 2023, arXiv:2306.11695, equation 1 and section 3"
    needs = frozenset({Observe.SAMPLES})
    granularities = ("element",)

    def __post_init__(self):
        check_integer(self, "samples", 1, 1 << 30)

    def scores(self, layer: PrunableLayer, seen: Observations) -> dict[str, Tensor]:
        weight = layer.tensors["weight"]
        rows = weight.flatten(1).abs()
        norms = seen.once(("wanda", layer.name, self.samples), lambda: self._norms(layer, seen))
        own = rows * norms.to(rows).repeat_interleave(len(rows) // len(norms), 0)
        rank = torch.argsort(own, dim=1, stable=True).argsort(1) + 1
        scores = {"weight": (rank / rows.shape[1] * (own > 0)).view_as(weight)}
        if "bias" in layer.tensors:
            scores["bias"] = torch.full_like(layer.tensors["bias"], 2.0)
        return scores

    def _norms(self, layer: PrunableLayer, seen: Observations) -> Tensor:
        """Of what each column takes, ``(groups, columns)``."""
        squares = [
            layer.columns(look.inputs).square().sum((0, 3))
            for look in seen.look(layer, self.samples)
        ]
        return torch.stack(squares).sum(0).sqrt()

"""Layers by what their weights cost the engine (Yang 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pleach.compression.allocation import Allocation, Candidates, Progress, allocation, uncut
from pleach.compression.observe import PrunableLayer
from pleach.compression.stage import PruningStage
from pleach.errors import ConfigError


@allocation("energy")
@dataclass(frozen=True, kw_only=True)
class Energy(Allocation):
    """One share of the energy for the whole network: the layers that take most of it lose most.

    A weight costs the engine what `pleach.cycles.energy.Costs.of_entry` says, each time that it
    meets an activation that is not zero: once for an input in a fully connected layer, at each
    position of the map in a convolution. Kept are the weights, or groups, with the largest share of
    their layer's scores for their energy. The paper goes through the layers from the one that takes
    most energy on, and prunes each as far as the error allows (section 4).

    Use it for convolutional networks that are to run fast or from a battery: there a few weights of
    the first layers take most of the energy. With the criterion ``least_squares`` it is
    energy-aware pruning.
    """

    source = "Yang et al. 2017, arXiv:1611.05128, section 4"
    measures = True

    def keep(
        self, layers: Sequence[Candidates], progress: Progress
    ) -> list[tuple[Tensor, ...] | None]:
        if any(layer.scores is None for layer in layers):
            return [None] * len(layers)
        values, costs = [], []
        for layer in layers:
            uses = layer.uses or 1.0
            sizes = layer.sizes or tuple(map(torch.ones_like, layer.ranked))
            whole = sum(float((s * n).sum()) for s, n in zip(layer.ranked, sizes, strict=True))
            scale = max(whole, 1e-30) * max(uses, 1e-9)
            values += [(score / scale).double().flatten() for score in layer.ranked]
            costs += [size.double().flatten() * uses for size in sizes]
        budget = progress.density(layers[0].target) * sum(
            layer.total * (layer.uses or 1.0) for layer in layers
        )
        order = torch.cat(values).argsort(descending=True, stable=True)
        spent = torch.cat(costs)[order].cumsum(0)
        kept = torch.zeros_like(order, dtype=torch.bool)
        kept[order[spent <= budget * (1 + 1e-9)]] = True
        parts = iter(kept.split([len(value) for value in values]))
        return uncut(
            layers, [tuple(next(parts).view_as(s) for s in layer.ranked) for layer in layers]
        )

    def check(self, stage: PruningStage) -> None:
        if stage.layers:
            raise ConfigError("PruneConfig.scope = 'energy' takes one density, no layers")

    def check_layers(self, layers: Sequence[PrunableLayer]) -> None:
        for layer in layers:
            layer.positions  # noqa: B018 - refuses a map of unknown size

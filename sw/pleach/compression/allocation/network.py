"""One density for the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pleach.compression.allocation import (
    Allocation,
    Candidates,
    Progress,
    allocation,
    largest,
    uncut,
)
from pleach.compression.stage import PruningStage
from pleach.errors import ConfigError


@allocation("network")
@dataclass(frozen=True, kw_only=True)
class Network(Allocation):
    """All layers are ranked together: the criterion says how much of it each one gets. Of whole
    channels and the like each layer keeps one at least.

    Use it with a criterion whose scores say the same in every layer: ``saliency``, ``obd``,
    ``taylor``, ``slimming``.
    """

    source = "LeCun et al. 1990, section 3; Li et al. 2017, arXiv:1608.08710, section 3.3"

    def keep(
        self, layers: Sequence[Candidates], progress: Progress
    ) -> list[tuple[Tensor, ...] | None]:
        if any(layer.scores is None for layer in layers):
            return [None] * len(layers)
        return uncut(layers, largest(layers, progress.density(layers[0].target)))

    def check(self, stage: PruningStage) -> None:
        if stage.layers or stage.quality is not None:
            raise ConfigError(
                "PruneConfig.scope = 'network' takes one density, no layers and no quality"
            )

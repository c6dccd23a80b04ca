"""The same share of a layer for each PE (ESE, Han 2017, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pleach.compression.allocation import Allocation, Candidates, Progress, allocation, largest
from pleach.compression.checks import check_integer
from pleach.compression.stage import PruningStage
from pleach.errors import ConfigError
from pleach.numbers import PES_MAX


@allocation("balance")
@dataclass(frozen=True, kw_only=True)
class Balance(Allocation):
    """A density for each layer, and the same for the rows of each PE.

    Use it where the fullest PE decides the cycles.

    Args:
        pes: of a column group; row ``r`` counts to PE ``r % pes``.
    """

    pes: int

    source = "ESE, Han et al. 2017, arXiv:1612.00694, section 4.2"

    def __post_init__(self):
        check_integer(self, "pes", 1, PES_MAX)

    def keep(
        self, layers: Sequence[Candidates], progress: Progress
    ) -> list[tuple[Tensor, ...] | None]:
        return [
            None
            if layer.scores is None
            else largest([layer], progress.density(layer.target), self.pes)[0]
            for layer in layers
        ]

    def check(self, stage: PruningStage) -> None:
        if stage.granularity.kind != "element":
            raise ConfigError("PruneConfig.balance goes with the granularity element")

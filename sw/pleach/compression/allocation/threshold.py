"""A threshold in standard deviations (Han 2015, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pleach.compression.allocation import Allocation, Candidates, Progress, allocation
from pleach.compression.checks import check_number
from pleach.compression.stage import PruningStage
from pleach.errors import ConfigError


@allocation("threshold")
@dataclass(frozen=True, kw_only=True)
class Threshold(Allocation):
    """What is below so many standard deviations of a layer's weights before pruning is pruned.

    Use it for Han et al.'s own experiments, with their thresholds for each layer.

    Args:
        quality: of them; ``layers`` may give others, the density is not used.
    """

    quality: float

    source = "Han et al. 2015, arXiv:1506.02626, section 3.1"
    most = 100

    def __post_init__(self):
        check_number(self, "quality", 0, self.most)

    def target(self, density: float) -> float:
        return self.quality

    def check(self, stage: PruningStage) -> None:
        if stage.criterion.kind != "magnitude":
            raise ConfigError(
                "PruneConfig.quality is in deviations of the weights: it needs criterion "
                f"magnitude, not {stage.criterion.kind}"
            )

    def keep(
        self, layers: Sequence[Candidates], progress: Progress
    ) -> list[tuple[Tensor, ...] | None]:
        kept: list[tuple[Tensor, ...] | None] = []
        for layer in layers:
            if layer.scores is None:
                kept.append(None)
                continue
            share = layer.target * (1 - progress.remaining)
            kept.append(
                tuple(
                    score >= share * deviation * (_hysteresis(held) if layer.splice else 1.0)
                    for score, deviation, held in zip(
                        layer.scores, layer.deviations, layer.held, strict=True
                    )
                )
            )
        return kept


def _hysteresis(held: Tensor) -> Tensor:
    """A spliced weight leaves a tenth below the threshold and comes back a tenth above it, so that
    none flickers (Guo et al. 2016, equation 3: its two thresholds)."""
    return 1.1 - 0.2 * held

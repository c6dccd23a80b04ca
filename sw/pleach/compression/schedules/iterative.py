"""Rounds of pruning and retraining (Han 2015)."""

from __future__ import annotations

from dataclasses import dataclass

from pleach.compression.checks import check_integer
from pleach.compression.schedules import Schedule, schedule


@schedule("iterative")
@dataclass(frozen=True, kw_only=True)
class Iterative(Schedule):
    """So many rounds along the ramp, each of the same share, the first at its start: between two of
    them the network is retrained (figure 4 and section 3.4).

    Use it where a pruning is dear, as one by ``obs`` or ``genetic`` is; ``cubic`` prunes a little
    all the time, and loses less at the same number of epochs.

    Args:
        rounds: of them.
    """

    rounds: int = 4

    source = "Han et al. 2015, arXiv:1506.02626, section 3.4"

    def __post_init__(self):
        check_integer(self, "rounds", 1, 10_000)

    def remaining(self, progress: float) -> float:
        done = min(int(progress * self.rounds + 1e-9) + 1, self.rounds) if progress else 0
        return 1 - done / self.rounds

"""All at once (LeCun 1990; Li 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from pleach.compression.schedules import Schedule, schedule


@schedule("one_shot")
@dataclass(frozen=True, kw_only=True)
class OneShot(Schedule):
    """The target at the first pruning of the ramp; the retraining is after it.

    Use it to compare criteria by themselves: with a gradual schedule retraining hides most of what
    is between them. With ``ramp = 0`` the network is pruned before the first epoch, with a ramp
    after ``every`` epochs, which criteria need that look at the training.
    """

    source = "Li et al. 2017, arXiv:1608.08710, section 3.4, prune once and retrain"

    def remaining(self, progress: float) -> float:
        return 0.0 if progress else 1.0

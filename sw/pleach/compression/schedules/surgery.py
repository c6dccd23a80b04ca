"""Dynamic network surgery: what was pruned may come back (Guo 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from pleach.compression.checks import check_number
from pleach.compression.schedules import Schedule, schedule


@schedule("surgery")
@dataclass(frozen=True, kw_only=True)
class Surgery(Schedule):
    """``(1 − t)^power``, with splicing: what is masked goes on learning behind its mask, with the
    gradient that it would have without one, and comes back where it has become important
    (equations 2 and 3). With a threshold two values keep weights from flickering: a tenth below it
    they go, a tenth above it they return. It sets ``prune.splice``.

    Use it where weights are pruned fast, or by a criterion that errs at first: a wrong choice is
    mended while the ramp lasts. Prune often (``every`` of a small part of an epoch).

    Args:
        power: 1 falls evenly, 3 fast at first.
    """

    power: float = 3.0

    source = "Guo et al. 2016, arXiv:1608.04493, equations 2 and 3"
    splices = True

    def __post_init__(self):
        check_number(self, "power", 0.1, 10)

    def remaining(self, progress: float) -> float:
        return (1 - progress) ** self.power

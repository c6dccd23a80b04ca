"""Gradual pruning (Zhu and Gupta 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from pleach.compression.schedules import Schedule, schedule


@schedule("cubic")
@dataclass(frozen=True, kw_only=True)
class Cubic(Schedule):
    """``(1 − t)³`` (equation 1 there): fast while there is much that nobody misses.

    Use it always, unless there is a reason for another: most weights go while the network can still
    make up for them.
    """

    source = "Zhu and Gupta 2017, arXiv:1710.01878, equation 1"

    def remaining(self, progress: float) -> float:
        return (1 - progress) ** 3

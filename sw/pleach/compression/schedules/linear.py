"""The same share in every step."""

from __future__ import annotations

from dataclasses import dataclass

from pleach.compression.schedules import Schedule, schedule


@schedule("linear")
@dataclass(frozen=True, kw_only=True)
class Linear(Schedule):
    """``1 − t``.

    Use it where ``cubic`` prunes too much at first: with a criterion that has to see some training
    before it is any good, or a short ramp.
    """

    source = "Zhu and Gupta 2017, arXiv:1710.01878, equation 1 with the exponent 1"

    def remaining(self, progress: float) -> float:
        return 1 - progress

"""How fast a density falls: each schedule is a file here or a class of a user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pleach.compression.kinds import Kinds

__all__ = ["SCHEDULES", "Schedule", "schedule"]


class Schedule(ABC):
    """The way from the density at the start to the target.

    Attributes:
        kind: the name in settings.
        source: the paper that it is from, with its equation, section or table.
        splices: whether what was pruned may come back while the ramp lasts.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = ""
    splices: ClassVar[bool] = False

    @abstractmethod
    def remaining(self, progress: float) -> float:
        """Share of the way that is left, 1 at the start and 0 at the end of the ramp, where
        `progress` is 0 and 1."""


SCHEDULES = Kinds(Schedule, __name__)
schedule = SCHEDULES.register

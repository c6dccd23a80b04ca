"""The engine's cycles, without the engine: equal to the RTL's."""

from pleach.cycles.model import BREAKDOWN, CycleModel

__all__ = ["BREAKDOWN", "CycleModel"]

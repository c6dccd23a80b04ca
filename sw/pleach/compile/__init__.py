"""From a network in real numbers to integers that suit the engine. No torch here."""

from pleach.compile.balance import balanced
from pleach.compile.calibrate import calibrate
from pleach.compile.order import ordered
from pleach.compile.real import RealLayer

__all__ = ["RealLayer", "balanced", "calibrate", "ordered"]

"""The bit-exact numpy model of the engine."""

from pleach.reference.requantizer import Requantizer
from pleach.reference.run import LayerTrace, Reference, Taken

__all__ = ["LayerTrace", "Reference", "Requantizer", "Taken"]

"""The bit-exact numpy model of the engine, and what software and gateware share about it."""

from pleach.reference.config import EngineConfig
from pleach.reference.engine import LayerTrace, Reference, wrong_percent
from pleach.reference.requantizer import Requantizer

__all__ = ["EngineConfig", "LayerTrace", "Reference", "Requantizer", "wrong_percent"]

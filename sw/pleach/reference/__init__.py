"""The bit-exact numpy model of the engine, and what software and gateware share about it."""

from pleach.reference.config import EngineConfig
from pleach.reference.engine import LayerTrace, Reference
from pleach.reference.requantizer import Requantizer

__all__ = ["EngineConfig", "LayerTrace", "Reference", "Requantizer"]

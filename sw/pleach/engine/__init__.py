"""What software and gateware share about the engine: words, parameters, protocol."""

from pleach.engine.config import EngineConfig

__all__ = ["EngineConfig"]

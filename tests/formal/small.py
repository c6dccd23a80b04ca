"""Engines as small as a proof wants them."""

from __future__ import annotations

from pleach.engine import EngineConfig


def small(**values: int) -> EngineConfig:
    """An engine of the least capacities; what is given may be below what an engine may have."""
    least = {
        "pes": 1, "lanes": 1, "layers": 2, "columns": 4, "entries": 4, "codebook": 2,
        "accumulators": 4, "accumulator_bits": 24, "queue_depth": 8, "outputs": 1, "vectors": 2,
        "ram_latency": 1, "neighbours": 4,
    }  # fmt: skip
    unchecked = {
        name: values.pop(name)
        for name in ("accumulator_bits", "queue_depth", "neighbours")
        if name in values
    }
    config = EngineConfig(**least | values)
    for name, value in unchecked.items():
        object.__setattr__(config, name, value)
    return config

"""The engine's parameters, shared by the reference, the compiler and the gateware."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pleach.errors import CapacityError, ConfigError
from pleach.model import CompressedModel


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What an engine can hold; docs/engine.md has the table.

    >>> EngineConfig(pes=4).lanes
    4
    >>> EngineConfig(pes=12)
    Traceback (most recent call last):
    pleach.errors.ConfigError: PE count must be a power of two from 1 to 64, not 12
    """

    pes: int = 16
    layers: int = 4
    columns: int = 2048
    entries: int = 2048
    codebook: int = 128
    accumulators: int = 32
    accumulator_bits: int = 32
    queue_depth: int = 16

    def __post_init__(self):
        if not 1 <= self.pes <= 64 or self.pes & (self.pes - 1):
            raise ConfigError(f"PE count must be a power of two from 1 to 64, not {self.pes}")
        for name, low, high in (
            ("layers", 1, 64),
            ("columns", 2, 65536),
            ("entries", 2, 1 << 20),
            ("codebook", 2, 16384),
            ("accumulators", 2, 4096),
            ("accumulator_bits", 24, 48),
            ("queue_depth", 8, 256),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} must be {low} to {high}, not {value}")
        for name in ("columns", "entries", "codebook", "accumulators", "queue_depth"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ConfigError(f"{name} must be a power of two, not {value}")

    @property
    def lanes(self) -> int:
        """Rows drained and requantised a cycle."""
        return min(4, self.pes)

    def local_rows(self, rows: int) -> int:
        """Rows of a layer that fall to the fullest PE."""
        return -(-rows // self.pes)

    def needs(self, model: CompressedModel) -> dict[str, int]:
        """What `model` takes of each capacity on this many PEs."""
        local = [self.local_rows(layer.outputs) for layer in model.layers]
        per_pe = np.zeros(self.pes, np.int64)
        for layer in model.layers:
            per_pe += np.bincount(layer.row_of % self.pes, minlength=self.pes)
        return {
            "layers": len(model.layers),
            "columns": sum(layer.columns for layer in model.layers),
            "accumulators": max(a + b for a, b in zip(local, [*local[1:], 0], strict=True)),
            "entries": int(per_pe.max()),
            "codebook": sum(len(layer.codebook) for layer in model.layers),
            "accumulator_bits": max(model.accumulator_bits()),
        }

    def check(self, model: CompressedModel) -> None:
        """Refuse a model that does not fit.

        Raises:
            CapacityError: with every capacity that is short, the need and what there is.
        """
        short = [
            f"{name} {need} of {getattr(self, name)}"
            for name, need in self.needs(model).items()
            if need > getattr(self, name)
        ]
        if short:
            raise CapacityError(
                f"the model does not fit an engine of {self.pes} PEs: {', '.join(short)}; "
                "build it with larger capacities or more PEs"
            )

    def grown(self, model: CompressedModel) -> EngineConfig:
        """The same engine, with each capacity that `model` does not fit as large as it needs."""
        sizes = {}
        for name, need in self.needs(model).items():
            power = name not in ("layers", "accumulator_bits")
            least = 1 << (need - 1).bit_length() if power and need else need
            sizes[name] = max(getattr(self, name), least)
        return replace(self, **sizes)

"""The engine's parameters, shared by the reference, the compiler and the gateware."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pleach.errors import CapacityError, ConfigError
from pleach.model import CompressedLayer, CompressedModel

_POWERS_OF_TWO = (
    "groups", "lanes", "columns", "block", "entries",
    "codebook", "accumulators", "queue_depth", "outputs", "vectors",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What an engine is made of and can hold; docs/engine.md has the table.

    >>> EngineConfig(pes=64, groups=4).row_pes
    16
    >>> EngineConfig(pes=12)
    Traceback (most recent call last):
    pleach.errors.ConfigError: PE count must be a power of two from 1 to 64, not 12
    """

    pes: int = 16
    groups: int = 1
    lanes: int = 4
    layers: int = 4
    columns: int = 2048
    block: int = 1
    entries: int = 2048
    codebook: int = 128
    accumulators: int = 32
    accumulator_bits: int = 32
    queue_depth: int = 16
    outputs: int = 64
    vectors: int = 16
    ram_latency: int = 2
    serial_loader: bool = False

    def __post_init__(self):
        if not 1 <= self.pes <= 64 or self.pes & (self.pes - 1):
            raise ConfigError(f"PE count must be a power of two from 1 to 64, not {self.pes}")
        if not 1 <= self.groups <= min(8, self.pes):
            raise ConfigError(f"groups must be 1 to 8 and no more than PEs, not {self.groups}")
        # No more rows can be drained a cycle than there are PEs that hold them.
        object.__setattr__(self, "lanes", min(self.lanes, self.row_pes))
        for name, low, high in (
            ("lanes", 1, 64),
            ("groups", 1, self.vector),
            ("block", 1, 16),
            ("outputs", 1, 65536),
            ("layers", 1, 64),
            ("columns", 2 * self.block, 65536),
            ("entries", 2, 1 << 20),
            ("codebook", 2, 16384),
            ("accumulators", 2, 4096),
            ("accumulator_bits", 24, 48),
            ("queue_depth", 8, 256),
            ("vectors", 1, 256),
            ("ram_latency", 1, 2),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} must be {low} to {high}, not {value}")
        for name in _POWERS_OF_TWO:
            value = getattr(self, name)
            if value & (value - 1):
                raise ConfigError(f"{name} must be a power of two, not {value}")

    @property
    def row_pes(self) -> int:
        """PEs among which the rows of a layer are dealt out."""
        return self.pes // self.groups

    @property
    def vector(self) -> int:
        """Activations side by side on their way to non-zero detection: a word of inputs or a
        drain's rows, whichever are more."""
        return max(4, self.lanes)

    @property
    def most_rows(self) -> int:
        """Rows of a layer, at most."""
        return min(65535, self.row_pes * self.accumulators)

    @property
    def most_columns(self) -> int:
        """Columns of a layer, its bias column included, at most."""
        return min(65535, self.groups * self.columns)

    def local_rows(self, rows: int) -> int:
        """Rows of a layer that fall to the fullest PE."""
        return -(-rows // self.row_pes)

    def local_columns(self, columns: int) -> int:
        """Columns that a layer of `columns` takes of each group's, whole blocks of them."""
        return -(-columns // (self.groups * self.block)) * self.block

    def pe_of(self, layer: CompressedLayer) -> np.ndarray:
        """The PE that holds each of a layer's weights, ``[kept]``: row `r` and column `c` belong to
        PE ``(c % groups) * row_pes + r % row_pes``."""
        return (layer.column_of % self.groups) * self.row_pes + layer.row_of % self.row_pes

    def needs(self, model: CompressedModel) -> dict[str, int]:
        """What `model` takes of each capacity on this many PEs."""
        local = [self.local_rows(layer.outputs) for layer in model.layers]
        per_pe = np.zeros(self.pes, np.int64)
        for layer in model.layers:
            per_pe += np.bincount(self.pe_of(layer), minlength=self.pes)
        return {
            "layers": len(model.layers),
            "columns": sum(self.local_columns(layer.columns) for layer in model.layers),
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
            power = name in _POWERS_OF_TWO
            least = 1 << (need - 1).bit_length() if power and need else need
            sizes[name] = max(getattr(self, name), least)
        return replace(self, **sizes)

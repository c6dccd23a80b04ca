"""The engine's parameters, shared by the reference, the compiler and the gateware."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace

import numpy as np

from pleach.errors import CapacityError, ConfigError
from pleach.model import CompressedLayer, CompressedModel
from pleach.numbers import (
    ACCUMULATOR_BITS_MAX,
    ACCUMULATOR_BITS_MIN,
    PE_GROUPS_MAX,
    PES_MAX,
    SIZE_MAX,
    UINT8_PER_WORD,
)

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
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "serial_loader":
                if not isinstance(value, bool):
                    raise ConfigError(f"serial_loader must be true or false, not {value!r}")
            elif isinstance(value, bool) or not hasattr(value, "__index__"):
                raise ConfigError(f"{field.name} must be a whole number, not {value!r}")
        if not 1 <= self.pes <= PES_MAX or self.pes & (self.pes - 1):
            raise ConfigError(
                f"PE count must be a power of two from 1 to {PES_MAX}, not {self.pes}"
            )
        if not 1 <= self.groups <= min(PE_GROUPS_MAX, self.pes):
            raise ConfigError(
                f"groups must be 1 to {PE_GROUPS_MAX} and no more than PEs, not {self.groups}"
            )
        for name, (low, high) in self._bounds().items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} must be {low} to {high}, not {value}")
        for name in _POWERS_OF_TWO:
            value = getattr(self, name)
            if value & (value - 1):
                raise ConfigError(
                    f"{name} must be a power of two, not {value}: "
                    f"{1 << value.bit_length()} is the next"
                )

    def _bounds(self) -> dict[str, tuple[int, int]]:
        return {
            "lanes": (1, PES_MAX),
            "groups": (1, self.vector),
            "block": (1, 16),
            "outputs": (1, 65536),
            "layers": (1, 64),
            "columns": (2 * self.block, 65536),
            "entries": (2, 1 << 20),
            "codebook": (2, 16384),
            "accumulators": (2, 4096),
            "accumulator_bits": (ACCUMULATOR_BITS_MIN, ACCUMULATOR_BITS_MAX),
            "queue_depth": (8, 256),
            "vectors": (1, 256),
            "ram_latency": (1, 2),
        }

    @property
    def row_pes(self) -> int:
        """PEs among which the rows of a layer are dealt out."""
        return self.pes // self.groups

    @property
    def drained(self) -> int:
        """Rows drained a cycle: `lanes`, but no more than there are PEs that hold them."""
        return min(self.lanes, self.row_pes)

    @property
    def vector(self) -> int:
        """Activations side by side on their way to non-zero detection: a word of inputs or a
        drain's rows, whichever are more."""
        return max(UINT8_PER_WORD, self.drained)

    @property
    def most_rows(self) -> int:
        """Rows of a layer, at most."""
        return min(SIZE_MAX, self.row_pes * self.accumulators)

    @property
    def most_columns(self) -> int:
        """Columns of a layer, its bias column included, at most."""
        return min(SIZE_MAX, self.groups * self.columns)

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
        """What `model` takes of each capacity on this many PEs; there may be no such engine."""
        local = [self.local_rows(layer.outputs) for layer in model.layers]
        per_pe = np.zeros(self.pes, np.int64)
        for layer in model.layers:
            per_pe += np.bincount(self.pe_of(layer), minlength=self.pes)
        claims = (layer.claimed_bits for layer in model.layers)
        return {
            "layers": len(model.layers),
            "columns": sum(self.local_columns(layer.columns) for layer in model.layers),
            "accumulators": max(a + b for a, b in zip(local, [*local[1:], 0], strict=True)),
            "entries": int(per_pe.max()),
            "codebook": sum(len(layer.codebook) for layer in model.layers),
            "accumulator_bits": max(*model.accumulator_bits(), *claims),
        }

    def check(self, model: CompressedModel) -> None:
        """Refuse a model that does not fit, as the engine does.

        Raises:
            CapacityError: with every capacity that is short, the need, what there is and the value
                to give.
        """
        self._refuse(self._short(model))

    def grown(self, model: CompressedModel, fixed: Collection[str] = ()) -> EngineConfig:
        """The same engine, with each capacity that `model` does not fit as large as it needs.

        Args:
            fixed: capacities that stay as they are.

        Raises:
            CapacityError: one that is fixed is short, or no engine has as much as `model` needs.
        """
        short, bounds = self._short(model), self._bounds()
        self._refuse(
            {
                name: needs
                for name, needs in short.items()
                if name in fixed or needs[1] > bounds[name][1]
            }
        )
        return replace(self, **{name: least for name, (_, least) in short.items()})

    def _short(self, model: CompressedModel) -> dict[str, tuple[int, int]]:
        """Of each capacity that `model` does not fit, what it needs and the least that holds it."""
        short = {}
        for name, need in self.needs(model).items():
            if need > getattr(self, name):
                power = name in _POWERS_OF_TWO
                short[name] = need, 1 << (need - 1).bit_length() if power else need
        return short

    def _refuse(self, short: dict[str, tuple[int, int]]) -> None:
        """Say what is short of what, and what to give."""
        if not short:
            return
        bounds, advice = self._bounds(), []
        give = [f"{name}={least}" for name, (_, least) in short.items() if least <= bounds[name][1]]
        most = [f"{bounds[name][1]} {name}" for name in short if short[name][1] > bounds[name][1]]
        if give:
            advice.append(f"give {' '.join(give)}")
        if most:
            advice.append(f"no engine has more than {', '.join(most)}")
        if set(short) & {"accumulators", "entries"} and self.pes < PES_MAX:
            advice.append("more PEs need less")
        lacks = [f"{name} {need} of {getattr(self, name)}" for name, (need, _) in short.items()]
        raise CapacityError(
            f"the model does not fit an engine of {self.pes} PEs: {', '.join(lacks)}: "
            f"{'; '.join(advice)}"
        )

"""The engine's parameters, shared by the reference, the compiler and the gateware."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from pleach.errors import CapacityError, ConfigError
from pleach.model import CompressedLayer, CompressedModel
from pleach.numbers import (
    ACCUMULATOR_BITS_MAX,
    ACCUMULATOR_BITS_MIN,
    CODEBOOK_MAX,
    PE_GROUPS_MAX,
    PES_MAX,
    SIZE_MAX,
    UINT8_PER_WORD,
)


class Parameter(NamedTuple):
    """What a field of `EngineConfig` may be, and what it means."""

    low: int
    high: int
    meaning: str
    power_of_two: bool = True


#: of each field of `EngineConfig`, in their order
PARAMETERS = {
    "pes": Parameter(1, PES_MAX, "processing elements"),
    "groups": Parameter(
        1, PE_GROUPS_MAX,
        "groups of PEs, and broadcasts a cycle; no more than PEs, nor without `maps` than a vector "
        "has lanes",
    ),
    "lanes": Parameter(
        1, PES_MAX,
        "rows drained and requantised a cycle; a group of fewer PEs drains as many as those",
    ),
    "layers": Parameter(1, 128, "layers that it can hold", power_of_two=False),
    "columns": Parameter(
        2, 1 << 16,
        "columns that a group can hold, all layers together, bias columns included; a layer takes "
        "whole blocks, and there are two at least",
    ),
    "block": Parameter(1, 16, "neighbouring columns that share a word of pointers"),
    "entries": Parameter(2, 1 << 20, "weights that a PE can hold, all layers together"),
    "codebook": Parameter(2, 1 << 14, "codebook values that it can hold, all layers together"),
    "accumulators": Parameter(
        2, 1 << 12,
        "rows that a PE can hold for two neighbouring layers together, `⌈rows/row_pes⌉` each",
    ),
    "accumulator_bits": Parameter(
        ACCUMULATOR_BITS_MIN, ACCUMULATOR_BITS_MAX, "width of an accumulator", power_of_two=False
    ),
    "queue_depth": Parameter(
        8, 256, "columns that can wait in a PE; from 16 on it takes one a cycle"
    ),
    "outputs": Parameter(
        1, 1 << 16,
        "outputs that can wait for the host, so that a wide drain need not; the drain's own way "
        "asks for some vectors in any case",
    ),
    "vectors": Parameter(
        1, 256, "vectors of activations that can wait in front of each non-zero detection"
    ),
    "ram_latency": Parameter(
        1, 2,
        "2 where block RAMs have an output register, for the clock; 1 without it, for fewer "
        "flip-flops and earlier results",
        power_of_two=False,
    ),
    "serial_loader": Parameter(
        0, 1, "the loader works bit by bit: less logic, more cycles", power_of_two=False
    ),
    "maps": Parameter(
        0, 1 << 20,
        "values that the map memory can hold; 0: no map memory, and no convolutions",
    ),
    "neighbours": Parameter(4, 16, "neighbouring values of a map that are read in a cycle"),
    "entry_rows": Parameter(
        0, 1 << 12,
        "rows of a layer that the entries of a PE can name; 0: as many as `accumulators`; with "
        "`maps` only",
    ),
    "codes": Parameter(
        0, 256,
        "values of a layer's codebook that entries can name; 0: as many as `codebook`, up to 256; "
        "with `maps` only",
    ),
    "scales": Parameter(
        0, 1 << 12,
        "rows of a PE whose scales it can hold, of all layers that have some; 0: no layer with "
        "scales runs; with `maps` only",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What an engine is made of and can hold; `PARAMETERS` and docs/engine.md say what each is.

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
    maps: int = 0
    neighbours: int = 8
    entry_rows: int = 0
    codes: int = 0
    scales: int = 0

    def __post_init__(self):
        for name in PARAMETERS:
            value = getattr(self, name)
            if name == "serial_loader":
                if not isinstance(value, bool):
                    raise ConfigError(f"serial_loader must be true or false, not {value!r}")
            elif isinstance(value, bool) or not hasattr(value, "__index__"):
                raise ConfigError(f"{name} must be a whole number, not {value!r}")
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
        for name, parameter in PARAMETERS.items():
            value = getattr(self, name)
            if parameter.power_of_two and value & (value - 1):
                raise ConfigError(
                    f"{name} must be a power of two, not {value}: "
                    f"{1 << value.bit_length()} is the next"
                )
        for name in ("entry_rows", "codes", "scales"):
            if getattr(self, name) and not self.maps:
                raise ConfigError(f"{name} is for an engine with a map memory: give maps, too")
        if 0 < self.maps < 2 * self.neighbours:
            raise ConfigError(
                f"maps must be 0 or at least twice neighbours ({self.neighbours}), not {self.maps}"
            )

    def _bounds(self) -> dict[str, tuple[int, int]]:
        """Of each parameter; that of two depends on others."""
        bounds = {name: (each.low, each.high) for name, each in PARAMETERS.items()}
        if not self.maps:
            bounds["groups"] = 1, self.vector
        bounds["columns"] = 2 * self.block, PARAMETERS["columns"].high
        return bounds

    @property
    def row_pes(self) -> int:
        """PEs among which the rows of a layer are dealt out."""
        return self.pes // self.groups

    @property
    def drained(self) -> int:
        """Rows drained a cycle: `lanes`, but no more than there are PEs that hold them; with a map
        memory each group drains as many, but no more than are written in a cycle."""
        return min(self.lanes, self.row_pes, self.neighbours if self.maps else self.row_pes)

    @property
    def vector(self) -> int:
        """Activations side by side on their way to non-zero detection: a word of inputs or a
        drain's rows, whichever are more; with a map memory, what it reads in a cycle."""
        return self.neighbours if self.maps else max(UINT8_PER_WORD, self.drained)

    @property
    def named_rows(self) -> int:
        """Rows of a layer that the entries of a PE can name."""
        return min(self.entry_rows or self.accumulators, self.accumulators)

    @property
    def named_codes(self) -> int:
        """Values of a layer's codebook that entries can name."""
        return min(self.codes or CODEBOOK_MAX, CODEBOOK_MAX, self.codebook)

    @property
    def most_rows(self) -> int:
        """Rows of a layer, at most."""
        holding = self.pes if self.maps else self.row_pes
        return min(SIZE_MAX, holding * self.named_rows)

    @property
    def most_columns(self) -> int:
        """Columns of a layer, its bias column included, at most."""
        return min(SIZE_MAX, self.columns if self.maps else self.groups * self.columns)

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
                power = PARAMETERS[name].power_of_two
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

"""Engines for a model with what they take of a chip, by estimate, and the boards that hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pleach.compile.explore import pareto, sweep
from pleach.engine import EngineConfig
from pleach.engine.plan import check
from pleach.errors import CapacityError, ConfigError, ModelError
from pleach.files import new_figure, write_figure
from pleach.model import CompressedModel
from pleach.reference import Taken
from pleach_hw.boards import Board, board, boards
from pleach_hw.build.estimate import FAMILY, estimate


def own_engines(model: CompressedModel) -> list[str]:
    """The boards whose own engine holds and runs the model."""
    found = []
    for each in boards():
        with suppress(CapacityError, ModelError):
            check(model, None, each.engine)
            found.append(each.name)
    return found


@dataclass(frozen=True)
class Fit:
    """What an engine takes of a chip, by estimate, and the boards that have it, the smallest first.

    ``estimate`` counts resources by the names of `Board`.
    """

    estimate: dict[str, int]
    boards: tuple[str, ...]

    @classmethod
    def of(cls, config: EngineConfig, chips: Sequence[Board] | None = None) -> Fit:
        """
        Args:
            chips: that it may be for; by default of all boards.
        """
        need = estimate(config)
        chips = boards() if chips is None else chips
        return cls(need, tuple(chip.name for chip in chips if chip.holds(**need)))


@dataclass(frozen=True)
class Candidate:
    """An engine measured on a model.

    Args:
        engine: its parameters.
        latency_cycles: from the first input to the last output, mean of the inputs.
        compute_cycles: of all layers together, mean of the inputs.
        memory_bits: of PE memory filled, for each weight kept.
        fit: what it takes of a chip.
        pareto: whether no other one is as good in latency, memory and LUT4 and better in one.
    """

    engine: EngineConfig
    latency_cycles: float
    compute_cycles: float
    memory_bits: float
    fit: Fit
    pareto: bool = False

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "engine": asdict(self.engine),
            "latency_cycles": self.latency_cycles,
            "compute_cycles": self.compute_cycles,
            "memory_bits": self.memory_bits,
            **asdict(self.fit),
            "pareto": self.pareto,
        }


def chips_for(names: Sequence[str] | None = None) -> list[Board]:
    """The boards of those names whose engines can be estimated; by default all that can.

    Raises:
        ConfigError: there is no such board, or it has another chip than the estimate is for.
    """
    if names is None:
        return [chip for chip in boards() if chip.family == FAMILY]
    chips = [board(name) for name in names]
    for chip in chips:
        if chip.family != FAMILY:
            raise ConfigError(
                f"what an engine takes is estimated for ECP5, and {chip.name} has an "
                f"{chip.device}: use pleach synth --board {chip.name}"
            )
    return chips


def candidates(
    model: CompressedModel,
    taken: Sequence[Taken],
    configs: Sequence[EngineConfig],
    chips: Sequence[Board],
    *,
    fitting: bool = False,
    scheduler: str | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Candidate]:
    """The engines measured, in their order.

    Args:
        taken: by each layer, `Reference.taken`.
        chips: that they may be for.
        fitting: only those that one of the chips holds.
        scheduler: a dask scheduler's address, whose workers measure them.
        progress: called with the number of engines measured.

    Raises:
        ConfigError: there are none.
    """
    if not configs:
        raise ConfigError(
            "there is no such engine: more groups than PEs or lanes, or more than 8; with a map "
            "memory there may be fewer lanes than those of a group"
        )
    measured = sweep(model, taken, configs, scheduler=scheduler, progress=progress)
    found = [
        Candidate(
            config, cycles["latency_cycles"], cycles["compute_cycles"], cycles["memory_bits"], fit
        )
        for config, cycles in zip(configs, measured, strict=True)
        if (fit := Fit.of(config, chips)).boards or not fitting
    ]
    if not found:
        names = ",".join(chip.name for chip in chips)
        raise ConfigError(f"none of the {len(configs)} engines fits {names}: sweep smaller ones")
    costs = [(each.latency_cycles, each.memory_bits, each.fit.estimate["lut4"]) for each in found]
    best = pareto(np.array(costs).reshape(-1, 3))
    return [replace(each, pareto=listed) for each, listed in zip(found, best.tolist(), strict=True)]


def fastest(found: Sequence[Candidate]) -> Candidate:
    """The engine of fewest cycles that a board holds, or, where none does, of fewest cycles."""
    return min(
        found,
        key=lambda one: (not one.fit.boards, one.latency_cycles, one.fit.estimate["lut4"]),
    )


def plot(found: Sequence[Candidate], path: Path) -> None:
    """Draw cycles over LUT4, a point an engine, into a .png, .svg or .pdf file.

    Raises:
        NotInstalledError: matplotlib is not.
    """
    figure = new_figure(figsize=(7, 5))
    axes = figure.add_subplot(xscale="log", yscale="log")
    for listed, colour in ((False, "0.75"), (True, "C0")):
        chosen = [each for each in found if each.pareto is listed]
        x = [each.fit.estimate["lut4"] for each in chosen]
        axes.plot(x, [each.latency_cycles for each in chosen], ".", color=colour)
    axes.set_xlabel("LUT4, estimated")
    axes.set_ylabel("cycles an image")
    axes.grid(alpha=0.3, which="both")
    write_figure(figure, path)

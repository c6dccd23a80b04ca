"""One trial, as a worker does it: it reads and writes no file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from torch import nn

from pleach.compile.explore import measure
from pleach.compression import CompressConfig, compress
from pleach.engine.plan import base_engine, fitted
from pleach.errors import PleachError, PleachWarning
from pleach.format import dumps
from pleach.model import CompressedModel
from pleach.reference import Reference
from pleach.report import Stage


@dataclass(frozen=True, eq=False)
class Problem:
    """What all trials of a search have.

    Args:
        network: trained.
        inputs, labels: to retrain on.
        held: inputs and labels that choose.
        loss: as `pleach.compress` takes it.
        pes: of the engine whose cycles are counted; None counts none.
        counted: inputs of those held out that it counts them for.
    """

    network: nn.Module
    inputs: np.ndarray
    labels: np.ndarray
    held: tuple[np.ndarray, np.ndarray]
    loss: str | None = None
    pes: int | None = None
    counted: int = 10


@dataclass(frozen=True)
class Attempt:
    """What became of a trial.

    Args:
        figures: by the names of `pleach.search.space.FIGURES`; empty of one that was refused.
        file: the bitstream.
        refused: why there is none.
    """

    figures: dict[str, float]
    file: bytes = b""
    refused: str | None = None


def attempt(problem: Problem, config: CompressConfig) -> Attempt:
    """Compress, and measure what comes out on the inputs held out."""
    stages: list[Stage] = []
    try:
        with warnings.catch_warnings():  # what a trial loses is its error
            warnings.simplefilter("ignore", PleachWarning)
            small = compress(
                problem.network, problem.inputs, problem.labels, config, loss=problem.loss,
                validation=problem.held, report=stages.append,
            )  # fmt: skip
        file = dumps(small)
        figures = {"bytes": float(len(file)), "error": float(stages[-1].error or 0.0)}
        if problem.pes is not None:
            figures["cycles"] = _cycles(small, problem.held[0][: problem.counted], problem.pes)
    except PleachError as error:
        return Attempt({}, refused=str(error).partition("; what was trained")[0])
    return Attempt(figures, file)


def _cycles(model: CompressedModel, inputs: np.ndarray, pes: int) -> float:
    """From the first input to the last output, mean of the inputs."""
    config = fitted(model, base_engine(model, pes))
    return measure(model, Reference(model).taken(model.quantise(inputs)), config)["latency_cycles"]

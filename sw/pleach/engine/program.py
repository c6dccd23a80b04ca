"""The program that the control unit runs: what a network's layers are to the engine."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from enum import IntEnum

import numpy as np

from pleach.engine.config import EngineConfig
from pleach.model import Activation, CompressedModel


class Source(IntEnum):
    """Where the activations of a pass come from."""

    INPUTS = 0  #: the words of the RUN packet
    DRAINED = 1  #: the rows of the pass before


class Sink(IntEnum):
    """Where the rows of a pass go."""

    NEXT = 0  #: to the pass after
    OUTPUTS = 1  #: into the answer


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One run through the array: columns broadcast, accumulated, and their rows drained.

    The control unit goes by these fields alone; `pleach_hw.layouts.pass_layout` has their widths.

    Args:
        source: of the activations.
        inputs: activations, one for each column; the first belongs to column 0 of the pass.
        bias: whether a column of biases comes behind them, which is broadcast first.
        bias_exponent: the bias column's activation is ``2**bias_exponent``.
        column_base: its first column among those that each group holds.
        codebook_base: its first value in the codebook.
        parity: the end of the accumulators at which its rows begin; the pass that is drained
            meanwhile has the other one.
        rows: rows drained.
        shift: right shift of the requantisation.
        relu: whether negative rows become 0.
        sink: of the rows.
        last: whether the program ends with it.
    """

    source: Source
    inputs: int
    bias: bool
    bias_exponent: int
    column_base: int
    codebook_base: int
    parity: int
    rows: int
    shift: int
    relu: bool
    sink: Sink
    last: bool


#: a pass as an element of an array: each field an int64
PASS = np.dtype([(field.name, np.int64) for field in fields(Pass)])


@dataclass(frozen=True)
class Program:
    """The passes that compute a network, in the order in which they run.

    Args:
        passes: one or more; the last one, and no other, says that it is.
    """

    passes: tuple[Pass, ...]

    def table(self) -> np.ndarray:
        """The passes as an array of type `PASS`, for compiled code."""
        return np.array([astuple(each) for each in self.passes], PASS)


def lower(model: CompressedModel, config: EngineConfig) -> Program:
    """The program that LOAD makes of a network on this engine: a pass for each layer.

    Raises:
        ModelError: a network that the engine does not run.
        CapacityError: one that this engine does not hold.

    >>> from pleach.model import Activation, CompressedLayer
    >>> layer = CompressedLayer("fc1", inputs=2, outputs=1, bias=True, positions=[0, 2],
    ...     codes=[1, 0], codebook=[-3, 5], shift=1, activation=Activation.NONE,
    ...     bias_exponent=2, output_fraction=8)
    >>> (only,) = lower(CompressedModel((layer,)), EngineConfig()).passes
    >>> only.source.name, only.inputs, only.rows, only.sink.name, only.last
    ('INPUTS', 2, 1, 'OUTPUTS', True)
    """
    model.check_runs()
    config.check(model)
    passes = []
    column_base = codebook_base = 0
    for number, layer in enumerate(model.layers):
        last = number + 1 == len(model.layers)
        passes.append(
            Pass(
                source=Source.DRAINED if number else Source.INPUTS,
                inputs=layer.inputs,
                bias=layer.bias,
                bias_exponent=layer.bias_exponent,
                column_base=column_base,
                # Behind a codebook that is full begins only what has no weights: at 0.
                codebook_base=codebook_base % config.codebook,
                parity=number % 2,
                rows=layer.outputs,
                shift=layer.shift,
                relu=layer.activation == Activation.RELU,
                sink=Sink.OUTPUTS if last else Sink.NEXT,
                last=last,
            )
        )
        column_base += config.local_columns(layer.columns)
        codebook_base += len(layer.codebook)
    return Program(tuple(passes))

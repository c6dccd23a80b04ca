"""What stands between the layers with weights.

Of a network in real numbers: sums, concatenations, clamps, means and largest values of windows.
`pleach.compile.calibrate` makes layers and poolings of them; those of a compressed network are
`Pool` alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from pleach.errors import ModelError
from pleach.model.checks import check_integers
from pleach.model.window import Shape, Window
from pleach.numbers import INT16_MIN, POOL_SHIFT_MAX


class Op(Protocol):
    """What a node of a network computes."""

    def out_shape(self, *inputs: Shape) -> Shape:
        """The shape that it gives for inputs of these shapes.

        Raises:
            ModelError: they do not fit.
        """


@dataclass(frozen=True)
class Add:
    """The sum of its inputs, of one size each."""

    def out_shape(self, *inputs: Shape) -> Shape:
        sizes = [math.prod(shape) for shape in inputs]
        if len(set(sizes)) != 1:
            raise ModelError(f"adds {' and '.join(map(str, sizes))} values: sizes must be one")
        return max(inputs, key=len)


@dataclass(frozen=True)
class Concat:
    """Its inputs one after the other: the channels of maps of one height and width, or values."""

    def out_shape(self, *inputs: Shape) -> Shape:
        if len({shape[1:] for shape in inputs}) == 1 and len(inputs[0]) == 3:
            return (sum(shape[0] for shape in inputs), *inputs[0][1:])
        return (sum(map(math.prod, inputs)),)


@dataclass(frozen=True)
class AveragePool:
    """The mean of each window; padding counts as zeros."""

    window: Window

    def out_shape(self, *inputs: Shape) -> Shape:
        return self.window.out_shape(*inputs)


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each window; padding is less than any."""

    window: Window

    def out_shape(self, *inputs: Shape) -> Shape:
        return self.window.out_shape(*inputs)


@dataclass(frozen=True)
class Clip:
    """Values kept from `low` to `high`: ReLU, ReLU6, hardtanh and any clamp.

    Args:
        low, high: infinite where there is no bound.
    """

    low: float
    high: float

    def __post_init__(self):
        if not self.low <= self.high:
            raise ModelError(f"a clamp from {self.low} to {self.high} lets nothing pass")

    def out_shape(self, *inputs: Shape) -> Shape:
        if len(inputs) != 1:
            raise ModelError(f"takes one input, not {len(inputs)}")
        return inputs[0]


@dataclass(frozen=True)
class Pool:
    """A pooling of a compressed network: the POOL of docs/bitstream.md.

    Args:
        window: over the map.
        shift: right shift of a window's sum, 0 to 16; None where it is its largest value.

    Raises:
        ModelError: a value out of range.

    >>> Pool(Window(1, 2, 2, kernel_height=2, kernel_width=2), shift=2).out_magnitude(255)
    255
    """

    window: Window
    shift: int | None = None

    def __post_init__(self):
        if self.shift is not None:
            check_integers(self, "pooling", shift=(0, POOL_SHIFT_MAX))

    def out_shape(self, *inputs: Shape) -> Shape:
        return self.window.out_shape(*inputs)

    def out_fraction(self, *inputs: int) -> int:
        return inputs[0]

    def out_magnitude(self, *inputs: int) -> int:
        """The largest magnitude that it can give for inputs of this one."""
        if self.shift is None:
            return inputs[0]
        most = (self.window.size * inputs[0] + (1 << self.shift >> 1)) >> self.shift
        return min(-INT16_MIN, most)

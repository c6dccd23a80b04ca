"""What stands between the layers with weights: sums, concatenations, pooling and clamps.

An operator is a frozen dataclass that computes real numbers and fixed-point ones with one `run`.
Activations are ``[values, n]``, `n` network inputs side by side; a map is a run of values, channel
by channel, each row by row (docs/numerics.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from pleach.errors import ModelError
from pleach.model.checks import check_integers
from pleach.numbers import (
    ACCUMULATOR_BITS_MAX,
    FRACTIONS,
    INT16,
    INT16_MAX,
    INT16_MIN,
    KERNEL_MAX,
    LIFT_MAX,
    PADDING_MAX,
    SHIFT_MAX,
    SIZE_MAX,
)

#: of one input's values: ``(features,)`` or ``(channels, height, width)``
Shape: TypeAlias = tuple[int, ...]

_ACCUMULATOR_MAX = (1 << ACCUMULATOR_BITS_MAX - 1) - 1


class Op(Protocol):
    """What a node of a network computes."""

    def out_shape(self, *inputs: Shape) -> Shape:
        """The shape that it gives for inputs of these shapes.

        Raises:
            ModelError: they do not fit.
        """

    def out_fraction(self, *inputs: int) -> int:
        """The fraction bits that it gives for inputs of these.

        Raises:
            ModelError: they are not those that it was made for.
        """

    def out_magnitude(self, *inputs: int) -> int:
        """The largest magnitude that it can give for inputs of these largest magnitudes."""


def requantise(
    accumulators: np.ndarray, shift: int, low: int = INT16_MIN, high: int = INT16_MAX
) -> np.ndarray:
    """int64 accumulators, shifted right and clipped, as int16: to nearest, ties towards plus
    infinity.

    >>> requantise(np.array([-5, 5, 3, 1 << 20]), 1).tolist()
    [-2, 3, 2, 32767]
    """
    half = 1 << shift >> 1
    rounded = (np.asarray(accumulators, np.int64) + half) >> shift
    return np.clip(rounded, low, high).astype(np.int16)


@dataclass(frozen=True)
class Rescale:
    """How an operator's inputs come to one fraction and its outputs to theirs.

    Args:
        lifts: left shift of each input, 0 to 31: what brings it to the common fraction.
        shift: right shift of the result, 0 to 47, with rounding and saturation as after a layer.
        output_fraction: fraction bits of the outputs, -128 to 127.

    Raises:
        ModelError: a value out of range.
    """

    lifts: tuple[int, ...]
    shift: int
    output_fraction: int

    def __post_init__(self):
        object.__setattr__(self, "lifts", tuple(self.lifts))
        check_integers(self, "an operator", shift=(0, SHIFT_MAX), output_fraction=FRACTIONS)
        if not all(0 <= lift <= LIFT_MAX for lift in self.lifts):
            raise ModelError(f"an operator: lifts {self.lifts} must be 0 to {LIFT_MAX}")

    def check(self, inputs: tuple[int, ...], gain: int = 0) -> int:
        """The fraction of the outputs, where inputs of these fractions meet at one.

        Args:
            gain: fraction bits that the operator adds itself.
        """
        met = {fraction + lift for fraction, lift in zip(inputs, self.lifts, strict=False)}
        if len(inputs) != len(self.lifts) or met != {self.output_fraction + self.shift - gain}:
            raise ModelError(
                f"inputs of the fractions {', '.join(map(str, inputs))} lifted by "
                f"{', '.join(map(str, self.lifts))} do not make one of {self.output_fraction} "
                f"with a shift of {self.shift}"
            )
        return self.output_fraction

    def lifted(self, values: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        """int64, at the common fraction."""
        return [
            value.astype(np.int64) << lift for value, lift in zip(values, self.lifts, strict=True)
        ]


@dataclass(frozen=True)
class Window:
    """The windows of a pooling over a map; sizes round down, as torch's do.

    Args:
        channels, height, width: of the input map, 1 to 65535 each.
        kernel_height, kernel_width: of a window, 1 to 255.
        stride_height, stride_width: 1 to 255.
        padding: on every side, 0 to 15, at most half the kernel.

    Raises:
        ModelError: a value out of range, or a map smaller than a window.

    >>> Window(channels=2, height=5, width=5, kernel_height=2, kernel_width=2).map
    (2, 2)
    """

    channels: int
    height: int
    width: int
    kernel_height: int
    kernel_width: int
    stride_height: int = 0
    stride_width: int = 0
    padding: int = 0

    def __post_init__(self):
        for side in ("height", "width"):  # as torch: windows lie side by side
            if getattr(self, f"stride_{side}") == 0:
                object.__setattr__(self, f"stride_{side}", getattr(self, f"kernel_{side}"))
        sizes = dict.fromkeys(("channels", "height", "width"), (1, SIZE_MAX))
        kernels = ("kernel_height", "kernel_width", "stride_height", "stride_width")
        sizes |= dict.fromkeys(kernels, (1, KERNEL_MAX))
        check_integers(self, "pooling", padding=(0, PADDING_MAX), **sizes)
        if 2 * self.padding > min(self.kernel_height, self.kernel_width):
            raise ModelError(f"pooling: padding {self.padding} is more than half its window")
        if min(self.map) < 1:
            raise ModelError(
                f"pooling: a map of {self.height} × {self.width} is smaller than its window"
            )

    @property
    def size(self) -> int:
        """Values of a window."""
        return self.kernel_height * self.kernel_width

    @property
    def map(self) -> tuple[int, int]:
        """Height and width of the output map."""
        return (
            (self.height + 2 * self.padding - self.kernel_height) // self.stride_height + 1,
            (self.width + 2 * self.padding - self.kernel_width) // self.stride_width + 1,
        )

    def out_shape(self, shape: Shape) -> Shape:
        """``(channels, *map)``.

        Raises:
            ModelError: the input has another number of values.
        """
        if math.prod(shape) != self.channels * self.height * self.width:
            raise ModelError(
                f"takes {self.channels} × {self.height} × {self.width} values, what comes before "
                f"gives {' × '.join(map(str, shape))}"
            )
        return (self.channels, *self.map)

    def __call__(self, values: np.ndarray, outside: float) -> Iterator[np.ndarray]:
        """Each place of the windows in turn, ``[channels, *map, n]``; `outside` is the padding."""
        maps = values.reshape(self.channels, self.height, self.width, -1)
        if self.padding:
            sides = (self.padding, self.padding)
            maps = np.pad(maps, ((0, 0), sides, sides, (0, 0)), constant_values=outside)
        height, width = self.map
        for y, x in np.ndindex(self.kernel_height, self.kernel_width):
            rows = slice(y, y + self.stride_height * (height - 1) + 1, self.stride_height)
            columns = slice(x, x + self.stride_width * (width - 1) + 1, self.stride_width)
            yield maps[:, rows, columns]


@dataclass(frozen=True)
class Add:
    """The sum of its inputs, of one size each.

    >>> Add(Rescale(lifts=(0, 2), shift=3, output_fraction=5)).run(np.array([[9]]), np.array([[1]]))
    array([[2]], dtype=int16)
    """

    rescale: Rescale | None = None

    def out_shape(self, *inputs: Shape) -> Shape:
        sizes = [math.prod(shape) for shape in inputs]
        if len(set(sizes)) != 1:
            raise ModelError(f"adds {' and '.join(map(str, sizes))} values: sizes must be one")
        return max(inputs, key=len)

    def out_fraction(self, *inputs: int) -> int:
        rescale = _fixed(self.rescale)
        fraction = rescale.check(inputs)
        if sum(-INT16_MIN << lift for lift in rescale.lifts) > _ACCUMULATOR_MAX:
            raise ModelError(f"its sums do not fit {ACCUMULATOR_BITS_MAX} bits")
        return fraction

    def out_magnitude(self, *inputs: int) -> int:
        return -INT16_MIN

    def run(self, *values: np.ndarray) -> np.ndarray:
        if self.rescale is None:
            return sum(values[1:], values[0])
        return requantise(sum(self.rescale.lifted(values)), self.rescale.shift)


@dataclass(frozen=True)
class Concat:
    """Its inputs one after the other: the channels of maps of one height and width, or values.

    >>> Concat().run(np.zeros((1, 1)), np.ones((2, 1))).ravel().tolist()
    [0.0, 1.0, 1.0]
    """

    rescale: Rescale | None = None

    def out_shape(self, *inputs: Shape) -> Shape:
        if len({shape[1:] for shape in inputs}) == 1 and len(inputs[0]) == 3:
            return (sum(shape[0] for shape in inputs), *inputs[0][1:])
        return (sum(map(math.prod, inputs)),)

    def out_fraction(self, *inputs: int) -> int:
        return _fixed(self.rescale).check(inputs)

    def out_magnitude(self, *inputs: int) -> int:
        return -INT16_MIN

    def run(self, *values: np.ndarray) -> np.ndarray:
        if self.rescale is None:
            return np.concatenate(values)
        return requantise(np.concatenate(self.rescale.lifted(values)), self.rescale.shift)


@dataclass(frozen=True)
class AveragePool:
    """The mean of each window; padding counts as zeros.

    In fixed point the sum is multiplied by `factor` and shifted right.

    >>> window = Window(channels=1, height=1, width=3, kernel_height=1, kernel_width=3)
    >>> AveragePool(window).factor, AveragePool(window).gain
    (21845, 16)
    >>> pool = AveragePool(window, Rescale(lifts=(0,), shift=14, output_fraction=2))
    >>> pool.run(np.array([[1], [2], [2]])).tolist()  # 5/3 is 6.67 quarters
    [[7]]
    """

    window: Window
    rescale: Rescale | None = None

    @property
    def gain(self) -> int:
        """Fraction bits of `factor`: the most with which it fits int16."""
        size = self.window.size
        gain = (INT16_MAX * size).bit_length() - 1
        return gain if _rounded(gain, size) <= INT16_MAX else gain - 1

    @property
    def factor(self) -> int:
        """``2^gain / size``, rounded: the integer that stands for one through a window's size."""
        return _rounded(self.gain, self.window.size)

    def out_shape(self, *inputs: Shape) -> Shape:
        return self.window.out_shape(_only(inputs))

    def out_fraction(self, *inputs: int) -> int:
        rescale = _fixed(self.rescale)
        fraction = rescale.check(inputs, self.gain)
        if (-INT16_MIN << rescale.lifts[0]) * self.window.size * self.factor > _ACCUMULATOR_MAX:
            raise ModelError(f"its sums do not fit {ACCUMULATOR_BITS_MAX} bits")
        return fraction

    def out_magnitude(self, *inputs: int) -> int:
        return -INT16_MIN

    def run(self, *values: np.ndarray) -> np.ndarray:
        (value,) = values if self.rescale is None else self.rescale.lifted(values)
        places = self.window(value, 0)
        sums = next(places).copy()
        for place in places:
            sums += place
        if self.rescale is None:
            return (sums / self.window.size).reshape(-1, value.shape[1]).astype(value.dtype)
        means = requantise(sums * self.factor, self.rescale.shift)
        return means.reshape(-1, value.shape[1])


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each window; padding is less than any."""

    window: Window

    def out_shape(self, *inputs: Shape) -> Shape:
        return self.window.out_shape(_only(inputs))

    def out_fraction(self, *inputs: int) -> int:
        return _only(inputs)

    def out_magnitude(self, *inputs: int) -> int:
        return _only(inputs)

    def run(self, *values: np.ndarray) -> np.ndarray:
        (value,) = values
        least = -np.inf if value.dtype.kind == "f" else np.iinfo(value.dtype).min
        places = self.window(value, least)
        largest = next(places).copy()
        for place in places:
            np.maximum(largest, place, out=largest)
        return largest.reshape(-1, value.shape[1])


@dataclass(frozen=True)
class Clip:
    """Values kept from `low` to `high`: ReLU, ReLU6, hardtanh and any clamp.

    Args:
        low, high: of a real network any numbers, infinite where there is no bound; of a compressed
            one int16, at the fraction of what it takes.

    >>> Clip(0, 6).run(np.array([[-1.0, 3.0, 7.0]])).tolist()
    [[0.0, 3.0, 6.0]]
    """

    low: float
    high: float

    def __post_init__(self):
        if not self.low <= self.high:
            raise ModelError(f"a clamp from {self.low} to {self.high} lets nothing pass")

    def out_shape(self, *inputs: Shape) -> Shape:
        return _only(inputs)

    def out_fraction(self, *inputs: int) -> int:
        for bound in (self.low, self.high):
            if not isinstance(bound, int) or not INT16_MIN <= bound <= INT16_MAX:
                raise ModelError(f"a bound of {bound!r}: must be an integer of {INT16}")
        return _only(inputs)

    def out_magnitude(self, *inputs: int) -> int:
        return int(min(_only(inputs), max(abs(self.low), abs(self.high))))

    def run(self, *values: np.ndarray) -> np.ndarray:
        (value,) = values
        if value.dtype.kind == "f":
            return np.clip(value, self.low, self.high)
        return np.clip(value.astype(np.int16), self.low, self.high).astype(np.int16)


def _rounded(gain: int, size: int) -> int:
    """``2^gain / size`` to nearest, ties up."""
    return ((1 << gain) + size // 2) // size


def _only(inputs: tuple) -> object:
    if len(inputs) != 1:
        raise ModelError(f"takes one input, not {len(inputs)}")
    return inputs[0]


def _fixed(rescale: Rescale | None) -> Rescale:
    if rescale is None:
        raise ModelError("is of real numbers: pleach.compile.calibrate makes it an integer one")
    return rescale

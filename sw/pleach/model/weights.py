"""The layers with weights of a compressed network, and the formats of its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import numpy as np

from pleach.errors import ModelError
from pleach.model.checks import check_integers, integers
from pleach.model.window import Shape, check_window, reached, several
from pleach.numbers import (
    CLAIMED_BITS_MAX,
    CODEBOOK_MAX,
    EXPONENT_MAX,
    FRACTIONS,
    INT16,
    INT16_MAX,
    INT16_MIN,
    INT16_PER_WORD,
    POOL_MAX,
    SCALE_FRACTION,
    SHIFT_MAX,
    SIZE_MAX,
    UINT8_MAX,
    UINT8_PER_WORD,
)
from pleach.text import encodable

#: elements of matrices written out with their zeros: so many at most, and for each weight kept
DENSE, DENSE_EACH = 1 << 24, 1 << 16
_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Activation:
    """The function of a layer: none, ReLU, a clip to other bounds, steps, or a sign.

    Args:
        low, high: the bounds; None where there is none. Of a compressed layer int16, at the
            fraction of its outputs.
        sign: `high` where the value is not negative and `low` where it is, nothing between.
        step: of a layer in real numbers, whole multiples of it are given, half-way the one above;
            0: any number. Of a compressed layer it is the fraction's.

    Raises:
        ModelError: bounds that let nothing pass or are no multiple of the step, or a sign without
            two values.

    >>> Activation.RELU(np.array([-3, 5])).tolist(), Activation(-1, 4)(np.array([-3, 5])).tolist()
    ([0, 5], [-1, 4])
    """

    low: float | None = None
    high: float | None = None
    sign: bool = False
    step: float = 0.0

    NONE: ClassVar[Activation]
    RELU: ClassVar[Activation]

    def __post_init__(self):
        if self.sign and (self.low is None or self.high is None):
            raise ModelError("a sign function has two values, low and high")
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise ModelError(f"a clip from {self.low} to {self.high} lets nothing pass")
        for bound in (self.low, self.high) if self.step else ():
            if bound is not None and abs(bound / self.step - round(bound / self.step)) > 1e-9:
                raise ModelError(f"a bound of {bound} is no multiple of the step {self.step}")

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if self.sign and self.low is not None and self.high is not None:
            return np.where(values >= 0, self.high, self.low).astype(values.dtype)
        if self == Activation.NONE:
            return values
        if self.step:
            values = (np.floor(values / self.step + 0.5) * self.step).astype(values.dtype)
        return np.clip(values, self.low, self.high).astype(values.dtype)

    @property
    def unit(self) -> float:
        """Of a layer in real numbers: what all that it gives is a whole multiple of; 0: nothing."""
        if self.sign and self.high and self.low in (0, -self.high):
            return abs(self.high)
        return 0.0 if self.sign else self.step

    @property
    def bounds(self) -> tuple[int, int]:
        """Of a compressed layer: the least and the largest output."""
        low = INT16_MIN if self.low is None else self.low
        return int(low), int(INT16_MAX if self.high is None else self.high)

    @property
    def magnitude(self) -> int:
        """Largest magnitude that an int16 output after it can have."""
        return max(map(abs, self.bounds))

    @property
    def said(self) -> str:
        """For people; nothing where there is no function."""
        if self == Activation.NONE:
            return ""
        if self == Activation.RELU:
            return "ReLU"
        low, high = ("" if bound is None else f"{bound:g}" for bound in (self.low, self.high))
        steps = f" in steps of {self.step:g}" if self.step else ""
        return f"{'sign' if self.sign else 'clip'} {low}…{high}{steps}"

    def integer(self, where: str) -> Activation:
        """The same with int16 bounds, and none where it is int16's own.

        Raises:
            ModelError: another bound, or steps; names the layer.
        """
        if self.step:
            raise ModelError(f"{where}: a compressed layer's steps are those of its fraction")
        for bound in (self.low, self.high):
            if bound is not None and (bound != int(bound) or not INT16_MIN <= bound <= INT16_MAX):
                raise ModelError(f"{where}: a bound of {bound!r} must be an integer of {INT16}")
        low, high = self.bounds
        if self.sign:
            return Activation(low, high, True)
        return Activation(None if low == INT16_MIN else low, None if high == INT16_MAX else high)


Activation.NONE, Activation.RELU = Activation(), Activation(0)


class InputType(IntEnum):
    """The number format of the network's inputs, as coded in the file."""

    UINT8 = 0
    INT16 = 1

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8 if self is InputType.UINT8 else np.int16)

    @property
    def magnitude(self) -> int:
        """Largest magnitude that the format can hold."""
        return UINT8_MAX if self is InputType.UINT8 else -INT16_MIN

    @property
    def per_word(self) -> int:
        """Inputs in a 32-bit word of a RUN packet."""
        return UINT8_PER_WORD if self is InputType.UINT8 else INT16_PER_WORD


@dataclass(frozen=True)
class Convolution:
    """How a layer's weight matrix is laid over a map; max pooling follows its function.

    A map is pixel by pixel, a pixel's channels side by side. Row ``r`` of the matrix is output
    channel ``r``; column ``(y · kernel_width + x) · channels + c`` is the weight of channel ``c``
    at ``(y, x)`` of the kernel. Sizes round down, as torch's do.

    Args:
        channels, height, width: of the input map, 1 to 65535 each.
        kernel_height, kernel_width: 1 to 255.
        stride: of the kernel, (height, width), 1 to 255; a number is both.
        padding: zeros, (top, left, bottom, right), 0 to 255; a number is all four.
        groups: the channels in and out fall into that many groups, 1 to 65535.
        pool: side of the max pooling window, 1 to 15; 1 pools nothing.
        pool_stride: 1 to 15, by default `pool`; a compressed layer has no other.

    Raises:
        ModelError: a value out of range, or a map smaller than the kernel or the window.

    >>> conv = Convolution(channels=1, height=28, width=28, kernel_height=5, kernel_width=5, pool=2)
    >>> conv.columns, conv.map, conv.pooled
    (25, (24, 24), (12, 12))
    """

    channels: int
    height: int
    width: int
    kernel_height: int
    kernel_width: int
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0, 0, 0)
    groups: int = 1
    pool: int = 1
    pool_stride: int = 0

    def __post_init__(self):
        if self.pool_stride == 0:
            object.__setattr__(self, "pool_stride", self.pool)
        check_window(self, "convolution")
        check_integers(
            self, "convolution", groups=(1, SIZE_MAX), pool=(1, POOL_MAX), pool_stride=(1, POOL_MAX)
        )
        if self.channels % self.groups:
            raise ModelError(f"convolution: {self.channels} channels in {self.groups} groups")
        if min(self.map) < 1 or min(self.pooled) < 1:
            raise ModelError(
                f"convolution: a map of {self.height} × {self.width} is smaller than its kernel or "
                "its pooling window"
            )

    @property
    def inputs(self) -> int:
        """Values in the input map."""
        return self.channels * self.height * self.width

    @property
    def shape(self) -> Shape:
        """Of the input map, ``(channels, height, width)``."""
        return (self.channels, self.height, self.width)

    @property
    def columns(self) -> int:
        """Columns of the kernel, over all channels."""
        return self.channels * self.kernel_height * self.kernel_width

    @property
    def map(self) -> tuple[int, int]:
        """Height and width of the output map before pooling."""
        return reached(self)

    @property
    def pooled(self) -> tuple[int, int]:
        """Height and width of the output map."""
        height, width = self.map
        return (
            (height - self.pool) // self.pool_stride + 1,
            (width - self.pool) // self.pool_stride + 1,
        )


@dataclass(frozen=True)
class Skip:
    """A second map that a layer takes, whose channels are further columns of its matrix.

    Args:
        channels: of the map; of a fully connected layer all its values. 1 to 65535.
        stride: of its pixels, (height, width), 1 to 255: that of output pixel ``(i, j)`` is
            ``(i · height, j · width)``; a number is both.

    Raises:
        ModelError: a value out of range.
    """

    channels: int
    stride: tuple[int, ...] = (1, 1)

    def __post_init__(self):
        check_integers(self, "a skip", channels=(1, SIZE_MAX))
        several(self, "a skip", "stride", 2, 1)


@dataclass(frozen=True, eq=False, repr=False)
class CompressedLayer:
    """A pruned, weight-shared, fixed-point layer, fully connected or convolutional.

    The weight matrix has ``outputs`` rows; its columns are those of the inputs, then those of the
    skip, then the bias. Positions number its elements column-major, each column with the rows that
    it can have weights in (docs/bitstream.md): `column_of` and `row_of` say where an entry is.
    Of a convolutional layer, ``outputs`` are channels and ``inputs`` are `Convolution.columns`.

    Args:
        name: qualified name in the network it came from, text that UTF-8 can write.
        inputs, outputs: its shape, 1 to 65535.
        bias: whether there is a bias column.
        positions: int64, strictly increasing, the positions of the weights kept.
        codes: uint8, the codebook index of each of them.
        codebook: int16, 0 to 256 values.
        shift: right shift of the requantisation, 0 to 47.
        activation: function after it.
        bias_exponent: the bias column's activation is ``2**bias_exponent``, 0 to 14.
        output_fraction: fraction bits of the outputs, -128 to 127.
        convolution: how the matrix is laid over feature maps; None where it is fully connected.
        skip: what else it takes; None where it takes one source alone.
        scales: int16, one for each row, of fraction 14: what its sums are multiplied by. None where
            they are not.
        claimed_bits: the accumulator width that the file claims where that is more than the layer
            needs, up to 63: an engine goes by it. 0 otherwise. Writing leaves it out.

    Raises:
        ModelError: a value of another kind or out of range; the message names the layer and says
            which.
    """

    name: str
    inputs: int
    outputs: int
    bias: bool
    positions: np.ndarray
    codes: np.ndarray
    codebook: np.ndarray
    shift: int
    activation: Activation
    bias_exponent: int
    output_fraction: int
    convolution: Convolution | None = None
    skip: Skip | None = None
    scales: np.ndarray | None = None
    claimed_bits: int = 0

    def __repr__(self) -> str:
        return (
            f"CompressedLayer({self.name!r}, {self.outputs}×{self.columns}, {self.kept:,} of "
            f"{self.size:,} weights, {len(self.codebook)} values)"
        )

    def __post_init__(self):
        if not isinstance(self.name, str) or not encodable(self.name):
            raise ModelError(f"layer {self.name!r}: a name is text that UTF-8 can write")
        where = f"layer {self.name!r}"
        for name, dtype, low, high in (
            ("positions", np.int64, 0, SIZE_MAX**2 - 1),
            ("codes", np.uint8, 0, CODEBOOK_MAX - 1),
            ("codebook", np.int16, *INT16),
        ):
            array = integers(getattr(self, name), f"{where}: {name}", dtype, low, high)
            object.__setattr__(self, name, array)
        if not isinstance(self.bias, bool | np.bool_):
            raise ModelError(f"{where}: bias is {self.bias!r}, must be True or False")
        object.__setattr__(self, "bias", bool(self.bias))
        if not isinstance(self.activation, Activation):
            raise ModelError(f"{where}: {self.activation!r} is no Activation")
        object.__setattr__(self, "activation", self.activation.integer(where))
        check_integers(
            self,
            where,
            inputs=(1, SIZE_MAX),
            outputs=(1, SIZE_MAX),
            shift=(0, SHIFT_MAX),
            bias_exponent=(0, EXPONENT_MAX),
            output_fraction=FRACTIONS,
            claimed_bits=(0, CLAIMED_BITS_MAX),
        )
        if not isinstance(self.convolution, Convolution | None):
            raise ModelError(f"{where}: {self.convolution!r} is no Convolution")
        if not isinstance(self.skip, Skip | None):
            raise ModelError(f"{where}: {self.skip!r} is no Skip")
        if self.columns > SIZE_MAX:
            raise ModelError(f"{where}: columns is {self.columns}, must be 1 to {SIZE_MAX}")
        self._check_geometry(where)
        if self.scales is not None:
            scales = integers(self.scales, f"{where}: scales", np.int16, *INT16)
            if len(scales) != self.outputs:
                raise ModelError(f"{where}: {len(scales)} scales for {self.outputs} rows")
            # Without weights there is nothing to scale, and the file has no scales then.
            object.__setattr__(self, "scales", scales if self.kept else None)
        if self.positions.shape != self.codes.shape or self.positions.ndim != 1:
            raise ModelError(
                f"layer {self.name!r}: {self.positions.shape} positions for "
                f"{self.codes.shape} codes"
            )
        if self.codebook.ndim != 1 or len(self.codebook) > CODEBOOK_MAX:
            raise ModelError(f"layer {self.name!r}: a codebook has at most {CODEBOOK_MAX} values")
        if self.kept:
            if self.positions[-1] >= self.places:
                raise ModelError(f"layer {self.name!r}: a position is outside the layer")
            if np.any(np.diff(self.positions) <= 0):
                raise ModelError(f"layer {self.name!r}: positions must increase strictly")
            if int(self.codes.max()) >= len(self.codebook):
                raise ModelError(
                    f"layer {self.name!r}: code {self.codes.max()} in a codebook of "
                    f"{len(self.codebook)}"
                )

    def _check_geometry(self, where: str) -> None:
        conv = self.convolution
        if conv is None:
            if self.skip is not None and self.skip.stride != (1, 1):
                raise ModelError(f"{where}: the skip of a fully connected layer has no strides")
            return
        if self.inputs != conv.columns:
            raise ModelError(f"{where}: {self.inputs} columns, its kernel has {conv.columns}")
        if self.outputs % conv.groups:
            raise ModelError(f"{where}: {self.outputs} output channels in {conv.groups} groups")
        if conv.pool_stride != conv.pool:
            raise ModelError(
                f"{where}: pooling windows of side {conv.pool} with a stride of {conv.pool_stride} "
                "are a Pool behind the layer"
            )

    @property
    def columns(self) -> int:
        """Of the matrix: inputs, skip and bias."""
        return self.inputs + (self.skip.channels if self.skip else 0) + self.bias

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the torch weight: ``(outputs, inputs)`` or ``(outputs, channels / groups,
        kernel_height, kernel_width)``."""
        conv = self.convolution
        if conv is None:
            return (self.outputs, self.inputs)
        channels = conv.channels // conv.groups
        return (self.outputs, channels, conv.kernel_height, conv.kernel_width)

    @property
    def groups(self) -> int:
        return self.convolution.groups if self.convolution else 1

    @property
    def values_in(self) -> int:
        """Activations that the layer takes, of its skip apart."""
        return self.inputs if self.convolution is None else self.convolution.inputs

    @property
    def values_out(self) -> int:
        """Activations that it gives, pooled."""
        return math.prod(self.shape_out)

    @property
    def shape_out(self) -> Shape:
        """``(outputs,)``, or ``(outputs, height, width)``, pooled."""
        return (self.outputs, *(self.convolution.pooled if self.convolution else ()))

    def out_shape(self, *inputs: Shape) -> Shape:
        """`shape_out`.

        Raises:
            ModelError: a source of another shape, or a skip that has not a pixel for each output.
        """
        if len(inputs) != 1 + (self.skip is not None):
            raise ModelError(f"takes {1 + (self.skip is not None)} sources, not {len(inputs)}")
        conv = self.convolution
        if conv is not None and len(inputs[0]) == 3 and inputs[0] != conv.shape:
            raise ModelError(
                f"takes a map of {_sizes(conv.shape)}, what comes before gives {_sizes(inputs[0])}"
            )
        if self.skip is not None:
            self._check_skip(self.skip, inputs[1])
        return self.shape_out

    def _check_skip(self, skip: Skip, shape: Shape) -> None:
        conv = self.convolution
        if conv is None:
            if math.prod(shape) != skip.channels:
                raise ModelError(f"its skip has {skip.channels} values, not {math.prod(shape)}")
            return
        channels, *sides = shape if len(shape) == 3 else (math.prod(shape), 1, 1)
        fits = all(
            (count - 1) * step < side
            for count, step, side in zip(conv.map, skip.stride, sides, strict=True)
        )
        if channels != skip.channels or not fits:
            raise ModelError(
                f"its skip takes every {_sizes(skip.stride)} of {skip.channels} channels for a map "
                f"of {_sizes(conv.map)}, not {_sizes(shape)}"
            )

    def out_fraction(self, *inputs: int) -> int:
        """Fraction bits of the outputs."""
        return self.output_fraction

    @property
    def product_fraction(self) -> int:
        """Fraction bits of its sums, before a scale."""
        scaled = SCALE_FRACTION * (self.scales is not None)
        return self.shift + self.output_fraction - scaled

    def out_magnitude(self, *inputs: int) -> int:
        """Largest magnitude that an output can have."""
        return self.activation.magnitude

    @property
    def size(self) -> int:
        """Weights and biases of the dense layer, those of its skip apart."""
        return (self.inputs // self.groups + self.bias) * self.outputs

    @property
    def places(self) -> int:
        """Positions: weights that it can have."""
        return self._kernel + (self.columns - self.inputs) * self.outputs

    @property
    def kept(self) -> int:
        return len(self.positions)

    @property
    def density(self) -> float:
        return self.kept / self.places

    @property
    def _kernel(self) -> int:
        """Positions of the inputs' columns."""
        return self.inputs * (self.outputs // self.groups)

    @property
    def column_of(self) -> np.ndarray:
        """int64, the column of each weight kept."""
        return self._placed()[0]

    @property
    def row_of(self) -> np.ndarray:
        """int64, the row of each weight kept."""
        return self._placed()[1]

    def _placed(self) -> tuple[np.ndarray, np.ndarray]:
        conv, rows = self.convolution, self.outputs // self.groups
        if conv is None or rows == self.outputs:  # whatever the column, it has every row
            return np.divmod(self.positions, rows)
        count = int(np.searchsorted(self.positions, self._kernel))
        column, row = np.divmod(self.positions[:count], rows)
        row += group_of(column, conv) * rows
        others, other_row = np.divmod(self.positions[count:] - self._kernel, self.outputs)
        return np.concatenate([column, others + self.inputs]), np.concatenate([row, other_row])

    @property
    def column_starts(self) -> np.ndarray:
        """int64 ``[columns + 1]``, the position at which each column begins, and the end."""
        rows = self.outputs // self.groups
        others = np.arange(self.columns - self.inputs + 1) * self.outputs
        return np.concatenate([np.arange(self.inputs) * rows, self._kernel + others])

    def position_of(self, column: np.ndarray, row: np.ndarray) -> np.ndarray:
        """int64, the positions of these columns and rows."""
        rows = self.outputs // self.groups
        behind = self._kernel + (column - self.inputs) * self.outputs + row
        return np.where(column < self.inputs, column * rows + row % rows, behind)

    @property
    def values(self) -> np.ndarray:
        """int16, the codebook value of each weight kept."""
        return self.codebook[self.codes]

    def dense(self) -> np.ndarray:
        """The integer weight matrix, int16, ``(outputs, columns)``.

        Raises:
            ModelError: hardly a weight is kept and the matrix is huge.
        """
        check_dense([self])
        out = np.zeros((self.outputs, self.columns), np.int16)
        column, row = self._placed()
        out[row, column] = self.values
        return out

    def __eq__(self, other):
        if not isinstance(other, CompressedLayer):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, f), getattr(other, f)) for f in self.__dataclass_fields__
        )


def group_of(column: np.ndarray, convolution: Convolution) -> np.ndarray:
    """The group of channels that columns of a kernel belong to."""
    return column % convolution.channels * convolution.groups // convolution.channels


def accumulator_bits(layer: CompressedLayer, magnitude: int, skip: int = 0) -> int:
    """Least accumulator width, in bits, that no order of accumulation overflows.

    ``magnitude`` is the largest magnitude of an input, ``skip`` that of what its skip takes. Sum
    over a row of weight magnitude times activation magnitude must not pass ``2**(bits - 1) - 1``.
    """
    # As float64: exact, as no row passes 2^46. Some entries at a time, that stay in the cache.
    magnitudes = np.abs(layer.codebook.astype(np.float64))
    worst = np.zeros(layer.outputs)
    columns, rows = layer._placed()
    bias = layer.columns - 1 if layer.bias else -1
    for start in range(0, layer.kept, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        column = columns[part]
        activation = np.where(column < layer.inputs, float(magnitude), float(skip))
        activation[column == bias] = 2.0**layer.bias_exponent
        worst += np.bincount(rows[part], magnitudes[layer.codes[part]] * activation, layer.outputs)
    return int(worst.max()).bit_length() + 1


def check_dense(layers: Sequence[CompressedLayer]) -> None:
    """Matrices that a few bytes of a file claim are not written out."""
    size = sum(layer.columns * layer.outputs for layer in layers)
    kept = sum(layer.kept for layer in layers)
    if size > DENSE + DENSE_EACH * kept:
        largest = max(layers, key=lambda layer: layer.columns * layer.outputs)
        raise ModelError(
            f"layer {largest.name!r} is a matrix of {largest.outputs} × {largest.columns}: "
            f"{size:,} elements for {kept:,} weights kept are not written out"
        )


def _sizes(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))

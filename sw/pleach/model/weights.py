"""The layers with weights of a compressed network, and the formats of its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from pleach.errors import ModelError
from pleach.model.checks import check_integers, coded, integers
from pleach.numbers import (
    CLAIMED_BITS_MAX,
    CODEBOOK_MAX,
    EXPONENT_MAX,
    FRACTIONS,
    GROUPS_MAX,
    INT16,
    INT16_MAX,
    INT16_MIN,
    INT16_PER_WORD,
    KERNEL_MAX,
    PADDING_MAX,
    POOL_MAX,
    SHIFT_MAX,
    SIZE_MAX,
    STRIDE_MAX,
    UINT8_MAX,
    UINT8_PER_WORD,
)
from pleach.text import encodable

#: elements of matrices written out with their zeros: so many at most, and for each weight kept
DENSE, DENSE_EACH = 1 << 24, 1 << 16
_AT_ONCE = 1 << 18


class Activation(IntEnum):
    """The activation function of a layer, as coded in the file."""

    NONE = 0
    RELU = 1

    @property
    def magnitude(self) -> int:
        """Largest magnitude that an int16 output after it can have."""
        return INT16_MAX if self is Activation.RELU else -INT16_MIN


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
    """How a layer's weight matrix is laid over feature maps; max pooling follows its activation.

    A map is channel-major, ``channels × height × width``. Row ``r`` of the matrix is output channel
    ``r``; column ``(c · kernel_height + y) · kernel_width + x`` is the weight of channel ``c`` of
    the row's group at ``(y, x)`` of the kernel. So a torch weight ``(outputs, channels / groups,
    kernel_height, kernel_width)`` is the matrix, flattened. Sizes round down, as torch's do.

    Args:
        channels, height, width: of the input map, 1 to 65535 each.
        kernel_height, kernel_width: 1 to 255.
        stride: of the kernel both ways, 1 to 15.
        padding: zeros on every side, 0 to 15.
        groups: the channels in and out fall into that many groups, 1 to 255.
        pool: side of the max pooling window, 1 to 15; 1 pools nothing.
        pool_stride: 1 to 15.

    Raises:
        ModelError: a value out of range, or a map smaller than the kernel or the window.

    >>> conv = Convolution(channels=1, height=28, width=28, kernel_height=5, kernel_width=5, pool=2,
    ...     pool_stride=2)
    >>> conv.columns, conv.map, conv.pooled
    (25, (24, 24), (12, 12))
    """

    channels: int
    height: int
    width: int
    kernel_height: int
    kernel_width: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    pool: int = 1
    pool_stride: int = 1

    def __post_init__(self):
        check_integers(
            self,
            "convolution",
            channels=(1, SIZE_MAX),
            height=(1, SIZE_MAX),
            width=(1, SIZE_MAX),
            kernel_height=(1, KERNEL_MAX),
            kernel_width=(1, KERNEL_MAX),
            stride=(1, STRIDE_MAX),
            padding=(0, PADDING_MAX),
            groups=(1, GROUPS_MAX),
            pool=(1, POOL_MAX),
            pool_stride=(1, POOL_MAX),
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
    def columns(self) -> int:
        """Columns of the weight matrix, the bias column apart."""
        return self.channels // self.groups * self.kernel_height * self.kernel_width

    @property
    def map(self) -> tuple[int, int]:
        """Height and width of the output map before pooling."""
        return (
            (self.height + 2 * self.padding - self.kernel_height) // self.stride + 1,
            (self.width + 2 * self.padding - self.kernel_width) // self.stride + 1,
        )

    @property
    def pooled(self) -> tuple[int, int]:
        """Height and width of the output map."""
        height, width = self.map
        return (
            (height - self.pool) // self.pool_stride + 1,
            (width - self.pool) // self.pool_stride + 1,
        )


@dataclass(frozen=True, eq=False)
class CompressedLayer:
    """A pruned, weight-shared, fixed-point layer, fully connected or convolutional.

    The weight matrix has ``outputs`` rows and ``columns = inputs + bias`` columns; the last column
    is the bias. Position ``column * outputs + row`` numbers its elements column-major. Of a
    convolutional layer, ``outputs`` are channels and ``inputs`` are `Convolution.columns`.

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
    claimed_bits: int = 0

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
        object.__setattr__(self, "activation", coded(Activation, self.activation, where))
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
        if self.columns > SIZE_MAX:
            raise ModelError(f"{where}: columns is {self.columns}, must be 1 to {SIZE_MAX}")
        if not isinstance(self.convolution, Convolution | None):
            raise ModelError(f"{where}: {self.convolution!r} is no Convolution")
        if self.convolution is not None:
            if self.inputs != self.convolution.columns:
                raise ModelError(
                    f"layer {self.name!r}: {self.inputs} columns, its kernel has "
                    f"{self.convolution.columns}"
                )
            if self.outputs % self.convolution.groups:
                raise ModelError(
                    f"layer {self.name!r}: {self.outputs} output channels in "
                    f"{self.convolution.groups} groups"
                )
        if self.positions.shape != self.codes.shape or self.positions.ndim != 1:
            raise ModelError(
                f"layer {self.name!r}: {self.positions.shape} positions for "
                f"{self.codes.shape} codes"
            )
        if self.codebook.ndim != 1 or len(self.codebook) > CODEBOOK_MAX:
            raise ModelError(f"layer {self.name!r}: a codebook has at most {CODEBOOK_MAX} values")
        if self.kept:
            if self.positions[-1] >= self.size:
                raise ModelError(f"layer {self.name!r}: a position is outside the layer")
            if np.any(np.diff(self.positions) <= 0):
                raise ModelError(f"layer {self.name!r}: positions must increase strictly")
            if int(self.codes.max()) >= len(self.codebook):
                raise ModelError(
                    f"layer {self.name!r}: code {self.codes.max()} in a codebook of "
                    f"{len(self.codebook)}"
                )

    @property
    def columns(self) -> int:
        return self.inputs + self.bias

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
    def values_in(self) -> int:
        """Activations that the layer takes."""
        return self.inputs if self.convolution is None else self.convolution.inputs

    @property
    def values_out(self) -> int:
        """Activations that it gives, pooled."""
        if self.convolution is None:
            return self.outputs
        height, width = self.convolution.pooled
        return self.outputs * height * width

    def out_shape(self, *inputs: tuple[int, ...]) -> tuple[int, ...]:
        """``(outputs,)``, or ``(outputs, height, width)``, pooled."""
        if self.convolution is None:
            return (self.outputs,)
        return (self.outputs, *self.convolution.pooled)

    def out_fraction(self, *inputs: int) -> int:
        """Fraction bits of the outputs."""
        return self.output_fraction

    def out_magnitude(self, *inputs: int) -> int:
        """Largest magnitude that an output can have."""
        return self.activation.magnitude

    @property
    def size(self) -> int:
        """Weights and biases of the dense layer."""
        return self.columns * self.outputs

    @property
    def kept(self) -> int:
        return len(self.positions)

    @property
    def density(self) -> float:
        return self.kept / self.size

    @property
    def column_of(self) -> np.ndarray:
        return self.positions // self.outputs

    @property
    def row_of(self) -> np.ndarray:
        return self.positions % self.outputs

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
        out = np.zeros((self.columns, self.outputs), np.int16)
        out.ravel()[self.positions] = self.values
        return out.T

    def __eq__(self, other):
        if not isinstance(other, CompressedLayer):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, f), getattr(other, f)) for f in self.__dataclass_fields__
        )


def accumulator_bits(layer: CompressedLayer, magnitude: int) -> int:
    """Least accumulator width, in bits, that no order of accumulation overflows.

    ``magnitude`` is the largest magnitude of an input. Sum over a row of weight magnitude times
    activation magnitude must not pass ``2**(bits - 1) - 1``.
    """
    # As float64: exact, as no row passes 2^46. Some entries at a time, that stay in the cache.
    magnitudes = np.abs(layer.codebook.astype(np.float64))
    worst = np.zeros(layer.outputs)
    for start in range(0, layer.kept, _AT_ONCE):
        column, row = np.divmod(layer.positions[start : start + _AT_ONCE], layer.outputs)
        activation = np.where(column == layer.inputs, 2.0**layer.bias_exponent, magnitude)
        products = magnitudes[layer.codes[start : start + _AT_ONCE]] * activation
        worst += np.bincount(row, products, layer.outputs)
    return int(worst.max()).bit_length() + 1


def check_dense(layers: Sequence[CompressedLayer]) -> None:
    """Matrices that a few bytes of a file claim are not written out."""
    size, kept = (sum(getattr(layer, of) for layer in layers) for of in ("size", "kept"))
    if size > DENSE + DENSE_EACH * kept:
        largest = max(layers, key=lambda layer: layer.size)
        raise ModelError(
            f"layer {largest.name!r} is a matrix of {largest.outputs} × {largest.columns}: "
            f"{size:,} elements for {kept:,} weights kept are not written out"
        )

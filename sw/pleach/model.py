"""The compressed network: integers and codebooks, nothing else.

Everything upstream (training, pruning, sharing) ends in a `CompressedModel`; everything downstream
(file, reference, engine) starts from one and is exact.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from pleach.arrays import as_array
from pleach.errors import DataError, ModelError
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
    LAYERS_MAX,
    ORIGINAL_MAX,
    PADDING_MAX,
    POOL_MAX,
    SHIFT_MAX,
    SIZE_MAX,
    STRIDE_MAX,
    UINT8_MAX,
    UINT8_PER_WORD,
)
from pleach.text import encodable, printable

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
        _check_integers(
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
            array = _integers(getattr(self, name), f"{where}: {name}", dtype, low, high)
            object.__setattr__(self, name, array)
        if not isinstance(self.bias, bool | np.bool_):
            raise ModelError(f"{where}: bias is {self.bias!r}, must be True or False")
        object.__setattr__(self, "bias", bool(self.bias))
        object.__setattr__(self, "activation", _coded(Activation, self.activation, where))
        _check_integers(
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
        _check_dense([self])
        out = np.zeros((self.columns, self.outputs), np.int16)
        out.ravel()[self.positions] = self.values
        return out.T

    def __eq__(self, other):
        if not isinstance(other, CompressedLayer):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, f), getattr(other, f)) for f in self.__dataclass_fields__
        )


@dataclass(frozen=True)
class CompressedModel:
    """A network of compressed layers and the format of its inputs.

    Args:
        layers: in the order in which the network runs, 1 to 255; each takes as many values as the
            one before gives.
        input_type: uint8 or int16.
        input_fraction: fraction bits of the inputs, -128 to 127.
        original: weights and biases of the network that was compressed, where neurons were removed
            since; 0 where the layers have them all.
        output_exponents: one for each row of the last layer, where the outputs have fractions of
            their own: that of row ``r`` is ``output_fraction + output_exponents[r]``, -128 to 127.

    Raises:
        ModelError: no layer, too many, shapes that do not chain, or a value out of range.
    """

    layers: tuple[CompressedLayer, ...]
    input_type: InputType = InputType.UINT8
    input_fraction: int = 8
    original: int = 0
    output_exponents: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, CompressedLayer):
                raise ModelError(f"layers[{index}] is a {type(layer).__name__}, no CompressedLayer")
        object.__setattr__(self, "input_type", _coded(InputType, self.input_type, "the model"))
        _check_integers(self, "the model", input_fraction=FRACTIONS, original=(0, ORIGINAL_MAX))
        if not 1 <= len(self.layers) <= LAYERS_MAX:
            raise ModelError(f"a model has 1 to {LAYERS_MAX} layers, not {len(self.layers)}")
        present = sum(layer.size for layer in self.layers)
        if self.original and self.original < present:
            raise ModelError(
                f"{present} weights and biases are more than the original's {self.original}"
            )
        for before, after in zip(self.layers, self.layers[1:], strict=False):
            if after.values_in != before.values_out:
                raise ModelError(
                    f"layer {after.name!r} takes {after.values_in} inputs, "
                    f"layer {before.name!r} before it gives {before.values_out}"
                )
        last = self.layers[-1]
        low, high = (limit - last.output_fraction for limit in FRACTIONS)
        where = "output_exponents"
        exponents = _integers(self.output_exponents, where, np.int64, low, high)
        if len(exponents) not in (0, last.outputs):
            raise ModelError(
                f"{len(exponents)} {where} for the {last.outputs} rows of the last layer"
            )
        object.__setattr__(self, "output_exponents", tuple(exponents.tolist()))

    @property
    def inputs(self) -> int:
        return self.layers[0].values_in

    @property
    def outputs(self) -> int:
        return self.layers[-1].values_out

    @property
    def dense_bytes(self) -> int:
        """Bytes of the original network as float32, biases included where it had them."""
        return 4 * (self.original or sum(layer.size for layer in self.layers))

    @property
    def line(self) -> str:
        """What network it is, on one line."""
        return network_line(self.inputs, self.layers)

    def input_fractions(self) -> list[int]:
        """Fraction bits of each layer's inputs."""
        return [self.input_fraction, *(layer.output_fraction for layer in self.layers[:-1])]

    def weight_fractions(self) -> list[int]:
        """Fraction bits of each layer's codebook."""
        return [
            layer.shift + layer.output_fraction - fraction
            for layer, fraction in zip(self.layers, self.input_fractions(), strict=True)
        ]

    @property
    def output_fractions(self) -> list[int]:
        """Fraction bits of the outputs, one for each row of the last layer: of a convolution, for
        each output channel."""
        last = self.layers[-1]
        exponents = self.output_exponents or (0,) * last.outputs
        return [last.output_fraction + exponent for exponent in exponents]

    def quantise(self, inputs: np.ndarray) -> np.ndarray:
        """Inputs, ``(n, …)``, in the model's input format, ``(n, inputs)``.

        uint8 stay as they are where the model takes uint8; floats are rounded to the input
        fraction and saturated where it takes int16. A tensor is taken as the array that it holds.

        Raises:
            ModelError: floats for a network with uint8 inputs, or the reverse; another width.
            DataError: a value that is not finite; says which.
        """
        inputs = as_array(inputs)
        if inputs.ndim < 1 or math.prod(inputs.shape[1:]) != self.inputs:
            raise ModelError(
                f"inputs of shape {inputs.shape} for a network that takes (n, {self.inputs})"
            )
        inputs = inputs.reshape(len(inputs), self.inputs)
        if self.input_type is InputType.UINT8 and inputs.dtype == np.uint8:
            return inputs
        if self.input_type is InputType.INT16 and np.issubdtype(inputs.dtype, np.floating):
            if not np.isfinite(inputs).all():
                row, column = np.argwhere(~np.isfinite(inputs))[0]
                raise DataError(
                    f"inputs: value {column} of row {row} is {inputs[row, column]}, not finite"
                )
            with np.errstate(over="ignore"):  # saturated
                scaled = np.rint(np.ldexp(inputs.astype(np.float64), self.input_fraction))
            return np.clip(scaled, *INT16).astype(np.int16)
        takes = "uint8" if self.input_type is InputType.UINT8 else "float"
        raise ModelError(
            f"{inputs.dtype} inputs for a network that takes {takes} ones, as what it was "
            "calibrated on"
        )

    def dequantise(self, outputs: np.ndarray) -> np.ndarray:
        """The real numbers that outputs, int16 ``(n, outputs)``, stand for: float64, exact.

        Raises:
            ModelError: another shape, or no integers.
        """
        outputs = as_array(outputs)
        if outputs.dtype.kind not in "iu" or outputs.ndim != 2 or outputs.shape[1] != self.outputs:
            raise ModelError(
                f"outputs are {outputs.dtype} of shape {outputs.shape}; "
                f"the model gives int16 of shape (n, {self.outputs})"
            )
        rows = outputs.astype(np.float64).reshape(len(outputs), self.layers[-1].outputs, -1)
        fractions = np.array(self.output_fractions)[:, None]
        return np.ldexp(rows, -fractions).reshape(outputs.shape)

    def weights(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Weights and biases of each layer in real numbers, float64, exact, zero where pruned.

        Weights have torch's shape, ``(outputs, inputs)`` or ``(outputs, channels / groups,
        kernel_height, kernel_width)``, biases ``(outputs,)``; None where there are none.

        Raises:
            ModelError: hardly a weight is kept and the matrices are huge.
        """
        _check_dense(self.layers)
        found = []
        for index, fraction in enumerate(self.input_fractions()):
            layer = self.layers[index]
            sums = np.full((layer.outputs, 1), layer.shift + layer.output_fraction)
            if index == len(self.layers) - 1 and self.output_exponents:
                sums += np.array(self.output_exponents)[:, None]
            matrix, bias = layer.dense().astype(np.float64), None
            if layer.bias:
                bias = np.ldexp(matrix[:, -1], layer.bias_exponent - sums[:, 0])
            weights = np.ldexp(matrix[:, : layer.inputs], fraction - sums)
            found.append((weights.reshape(layer.shape), bias))
        return found

    def magnitudes(self) -> list[int]:
        """Largest input magnitude that each layer's input format can hold (docs/numerics.md)."""
        return [
            self.input_type.magnitude,
            *(layer.activation.magnitude for layer in self.layers[:-1]),
        ]

    def accumulator_bits(self) -> list[int]:
        """The accumulator width each layer needs, proved for any order (docs/numerics.md)."""
        return [
            accumulator_bits(layer, magnitude)
            for layer, magnitude in zip(self.layers, self.magnitudes(), strict=True)
        ]

    def check_runs(self) -> None:
        """Refuse what the engine can load and not run.

        Raises:
            ModelError: a convolution; names the layer.
        """
        for layer in self.layers:
            if layer.convolution is not None:
                raise ModelError(
                    f"layer {layer.name!r} is a convolution: the engine runs fully connected "
                    "layers only; the reference runs both (pleach evaluate)"
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


def _check_dense(layers: Sequence[CompressedLayer]) -> None:
    """Matrices that a few bytes of a file claim are not written out."""
    size, kept = (sum(getattr(layer, of) for layer in layers) for of in ("size", "kept"))
    if size > DENSE + DENSE_EACH * kept:
        largest = max(layers, key=lambda layer: layer.size)
        raise ModelError(
            f"layer {largest.name!r} is a matrix of {largest.outputs} × {largest.columns}: "
            f"{size:,} elements for {kept:,} weights kept are not written out"
        )


def network_line(inputs: int, layers: Sequence[Any]) -> str:
    """A network on one line: its inputs, then each layer with what follows it.

    Args:
        inputs: values that it takes; a convolution that comes first says its map itself.
        layers: `CompressedLayer` or `pleach.models.Layer`.

    >>> layer = CompressedLayer("fc1", 4, 3, True, [0], [0], [5], 1, Activation.RELU, 0, 0)
    >>> network_line(4, [layer])
    '4 → fc1 3 ReLU'
    """
    first = layers[0].convolution if layers else None
    parts = [f"{first.channels}×{first.height}×{first.width}" if first else str(inputs)]
    for layer in layers:
        conv, text = layer.convolution, f"{printable(layer.name)} {layer.outputs}"
        if conv is not None:
            text += f"×{conv.kernel_height}×{conv.kernel_width}"
            for name, usual in (("stride", 1), ("padding", 0), ("groups", 1)):
                if getattr(conv, name) != usual:
                    text += f" {name} {getattr(conv, name)}"
        if layer.activation == Activation.RELU:
            text += " ReLU"
        if conv is not None and (conv.pool, conv.pool_stride) != (1, 1):
            text += f", pool {conv.pool}"
            if conv.pool_stride != conv.pool:
                text += f" stride {conv.pool_stride}"
        parts.append(text)
    return " → ".join(parts)


def _check_integers(owner: Any, where: str, **ranges: tuple[int, int]) -> None:
    """Fields of a dataclass that are whole numbers of a range, as int.

    Raises:
        ModelError: one is not.
    """
    for name, (low, high) in ranges.items():
        value = getattr(owner, name)
        try:
            whole = operator.index(value)
        except TypeError:
            raise ModelError(
                f"{where}: {name} is {value!r}, must be a whole number from {low} to {high}"
            ) from None
        if not low <= whole <= high:
            raise ModelError(f"{where}: {name} is {whole}, must be {low} to {high}")
        object.__setattr__(owner, name, whole)


def _integers(values: Any, where: str, dtype: type, low: int, high: int) -> np.ndarray:
    """A row of whole numbers of a range as a contiguous array of that type.

    Raises:
        ModelError: another kind or shape, or one out of range; says which.
    """
    array = as_array(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ModelError(
            f"{where} is {array.dtype} of shape {array.shape}, must be a row of whole numbers"
        )
    if array.size and not (low <= int(array.min()) and int(array.max()) <= high):
        index = int(np.flatnonzero((array < low) | (array > high))[0])
        raise ModelError(f"{where}[{index}] is {array[index]}, must be {low} to {high}")
    return np.ascontiguousarray(array, dtype=dtype)


def _coded(kind: type[IntEnum], value: Any, where: str) -> Any:
    """A member of an enumeration, of itself or of its code."""
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(f"{member.name} ({member.value})" for member in kind)
        raise ModelError(f"{where}: {value!r} is no {kind.__name__}, there are {known}") from None

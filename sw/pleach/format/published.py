"""The layout in which Deep Compression's AlexNet was published: before Huffman coding, float32
codebooks, 4-bit gaps (docs/bitstream.md, "The published layout")."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pleach.errors import ConfigError, FormatError, ModelError
from pleach.format.gaps import from_relative_index, relative_index
from pleach.model import CompressedModel

GAP_BITS = 4
BITS = (4, 8)  # of a code


@dataclass(frozen=True)
class LayerShape:
    """What the layout leaves out and its reader has to know.

    Args:
        name: of the layer.
        shape: of its weights, ``(outputs, inputs)`` or ``(outputs, channels / groups,
            kernel_height, kernel_width)``.
        bits: of a code, 4 or 8; None: 8 for convolutions and 4 for fully connected layers.

    Raises:
        ConfigError: a shape of no layer, or bits other than these.
    """

    name: str
    shape: tuple[int, ...]
    bits: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(self.shape))
        whole = all(isinstance(size, int | np.integer) for size in self.shape)
        if not whole or len(self.shape) not in (2, 4) or min(self.shape) < 1:
            raise ConfigError(
                f"layer {self.name!r}: weights have the shape (outputs, inputs) or (outputs, "
                f"channels, kernel height, kernel width), not {self.shape}"
            )
        if self.bits is None:
            object.__setattr__(self, "bits", 8 if len(self.shape) == 4 else 4)
        if self.bits not in BITS:
            raise ConfigError(f"layer {self.name!r}: codes have 4 or 8 bits, not {self.bits}")

    @classmethod
    def parse(cls, text: str) -> LayerShape:
        """From ``name:shape`` or ``name:shape:bits``.

        >>> LayerShape.parse("conv2:256x48x5x5")
        LayerShape(name='conv2', shape=(256, 48, 5, 5), bits=8)
        >>> str(LayerShape.parse("fc6:4096x9216"))
        'fc6:4096x9216:4'
        """
        match = re.fullmatch(r"\s*([^:,]+):(\d{1,9}(?:x\d{1,9})*)(?::(\d))?\s*", text)
        if not match:
            raise ConfigError(
                "a layer is given as name:shape or name:shape:bits, for instance fc6:4096x9216:4, "
                f"not {text!r}"
            )
        name, shape, bits = match.groups()
        return cls(name, tuple(map(int, shape.split("x"))), bits and int(bits))

    def __str__(self):
        return f"{self.name}:{'x'.join(map(str, self.shape))}:{self.bits}"

    @property
    def size(self) -> int:
        """Weights."""
        return math.prod(self.shape)


#: Caffe's AlexNet: 60,954,656 weights
ALEXNET = tuple(
    map(
        LayerShape.parse,
        ("conv1:96x3x11x11", "conv2:256x48x5x5", "conv3:384x256x3x3", "conv4:384x192x3x3",
         "conv5:256x192x3x3", "fc6:4096x9216", "fc7:4096x4096", "fc8:1000x4096"),
    )
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PublishedLayer:
    """A pruned and shared layer in real numbers.

    Args:
        shape: its name, shape and code width.
        codes: uint8 of that shape, the codebook index of each weight, 0 where it was pruned.
        codebook: float32, ``(2**bits,)``; the first value is 0.
        bias: float32, ``(outputs,)``.
    """

    shape: LayerShape
    codes: np.ndarray
    codebook: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(
        cls, name: str, weights: np.ndarray, bias: np.ndarray | None, bits: int | None = None
    ) -> PublishedLayer:
        """A layer from its weights, zero where pruned; without a bias it gets one of zeros.

        Args:
            bits: of a code; None: 4 where they do for a fully connected layer, otherwise 8.

        Raises:
            ModelError: more distinct weights than codes, or one that is not finite.

        >>> layer = PublishedLayer.of("fc1", np.array([[0, 0.5], [-1, 0.5]]), None)
        >>> layer.codes.tolist(), layer.codebook[:4].tolist(), layer.shape.bits
        ([[0, 2], [1, 2]], [0.0, -1.0, 0.5, 0.0], 4)
        """
        weights = np.ascontiguousarray(weights, np.float32)
        kept = np.flatnonzero(weights)
        values, codes = np.unique(weights.ravel()[kept], return_inverse=True)
        if bits is None:
            bits = 4 if weights.ndim == 2 and len(values) < 16 else 8
        shape = LayerShape(name, weights.shape, bits)
        if len(values) >= 1 << shape.bits:
            raise ModelError(
                f"layer {name!r} has {len(values)} distinct weights, codes of {shape.bits} bits "
                f"hold {(1 << shape.bits) - 1} and zero: share its weights first (share_)"
            )
        bias = np.zeros(shape.shape[0]) if bias is None else np.asarray(bias)
        if bias.shape != shape.shape[:1]:
            raise ModelError(f"layer {name!r}: {bias.shape} biases for {shape.shape[0]} outputs")
        if not np.isfinite(values).all() or not np.isfinite(bias).all():
            raise ModelError(f"layer {name!r}: a weight or bias is not finite")
        dense = np.zeros(shape.size, np.uint8)
        dense[kept] = codes + 1
        codebook = np.zeros(1 << shape.bits, np.float32)
        codebook[1 : 1 + len(values)] = values
        return cls(shape, dense.reshape(shape.shape), codebook, bias.astype(np.float32))

    @property
    def weights(self) -> np.ndarray:
        """float32, of the layer's shape."""
        return self.codebook[self.codes]


def published_layers(model: CompressedModel) -> list[PublishedLayer]:
    """The layers of a bitstream in real numbers: what its integers stand for, exactly where the
    scale is one that float32 has.

    Raises:
        ModelError: a layer of more than 255 distinct weights, or see `CompressedModel.weights`.
    """
    return [
        PublishedLayer.of(layer.name, weights, bias)
        for layer, (weights, bias) in zip(model.layers, model.weights(), strict=True)
    ]


def write_published(layers: Sequence[PublishedLayer]) -> bytes:
    """The file of these layers.

    Counts are made even by one more filler wherever a layer has a zero to put it on, since the
    decoder that was published with the layout reads no odd ones.
    """
    counts, bodies = [], []
    for layer in layers:
        runs, codes = _even(*relative_index(layer.codes.ravel(), GAP_BITS), layer.shape.size)
        counts.append(len(runs))
        bodies += [
            layer.codebook.astype("<f4").tobytes(),
            layer.bias.astype("<f4").tobytes(),
            _pack(codes, layer.shape.bits),
            _pack(runs, GAP_BITS),
        ]
    return np.array(counts, "<u4").tobytes() + b"".join(bodies)


def read_published(data: bytes, shapes: Sequence[LayerShape]) -> list[PublishedLayer]:
    """The layers of such a file, which has to be told their shapes.

    Memory stays in proportion to ``len(data)`` and to the shapes, whatever the counts claim.

    Raises:
        FormatError: a file that is damaged or holds layers of other shapes; says at which byte.

    >>> layer = PublishedLayer.of("fc1", np.array([[0, 0, 1, 2] + [0] * 18 + [3]]), None)
    >>> data = write_published([layer])
    >>> len(data), data[-4:].hex(), data[:4].hex()  # 4 + 64 + 4 + 2 + 2; codes 1 2 0 3, gaps
    (76, '2130022f', '04000000')
    >>> read_published(data, [layer.shape])[0].weights.nonzero()[1].tolist()
    [2, 3, 22]
    """
    at = 4 * len(shapes)
    if len(data) < at:
        raise FormatError(f"{len(data)} bytes are less than the counts of {len(shapes)} layers", 0)
    counts = np.frombuffer(data, "<u4", len(shapes)).tolist()
    layers = []
    for index, (shape, count) in enumerate(zip(shapes, counts, strict=True)):
        if count > shape.size:
            raise FormatError(
                f"layer {shape.name!r} has {count} entries for {shape.size} weights: damaged, or "
                "another shape",
                4 * index,
            )
        outputs, colors = shape.shape[0], 1 << shape.bits
        starts = np.cumsum(
            [at, 4 * colors, 4 * outputs, -(-count * shape.bits // 8), -(-count * GAP_BITS // 8)]
        ).tolist()
        if starts[-1] > len(data):
            raise FormatError(
                f"layer {shape.name!r} of {count} entries reaches past the end, byte {len(data)}: "
                "truncated, or another shape",
                at,
            )
        codebook = np.frombuffer(data, "<f4", colors, at).astype(np.float32)
        bias = np.frombuffer(data, "<f4", outputs, starts[1]).astype(np.float32)
        if codebook[0] or not np.isfinite(codebook).all() or not np.isfinite(bias).all():
            raise FormatError(
                f"layer {shape.name!r}: a codebook begins with 0 and holds finite values, as the "
                "biases do: damaged, or another shape",
                at,
            )
        codes = _unpack(data[starts[2] : starts[3]], count, shape, shape.bits, starts[2])
        runs = _unpack(data[starts[3] : starts[4]], count, shape, GAP_BITS, starts[3])
        if count + int(runs.sum(dtype=np.int64)) > shape.size:
            raise FormatError(
                f"layer {shape.name!r}: an entry past its {shape.size} weights", starts[3]
            )
        dense = from_relative_index(runs, codes, shape.size).reshape(shape.shape)
        layers.append(PublishedLayer(shape, dense, codebook, bias))
        at = starts[4]
    if at != len(data):
        raise FormatError(f"{len(data) - at} bytes after the last layer; are all shapes given?", at)
    return layers


def _even(runs: np.ndarray, codes: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One filler more where the count is odd and a zero is left.

    >>> _even(np.array([0], np.uint8), np.array([7], np.uint8), 2)
    (array([0, 0], dtype=uint8), array([7, 0], dtype=uint8))
    >>> _even(np.array([2], np.uint8), np.array([7], np.uint8), 3)
    (array([1, 0], dtype=uint8), array([0, 7], dtype=uint8))
    """
    if len(runs) % 2 == 0:
        return runs, codes
    if len(runs) + runs.sum(dtype=np.int64) < size:
        return np.append(runs, np.uint8(0)), np.append(codes, np.uint8(0))
    gaps = np.flatnonzero(runs)
    if not len(gaps):
        return runs, codes
    # The filler stands on the zero right before the entry.
    entry = gaps[-1]
    runs = np.insert(runs, entry + 1, 0)
    runs[entry] -= 1
    return runs, np.insert(codes, entry, 0)


def _pack(values: np.ndarray, bits: int) -> bytes:
    """Values of 4 or 8 bits, two of 4 in a byte, the first in the low half."""
    if bits == 8:
        return values.tobytes()
    values = np.pad(values, (0, len(values) % 2))
    return (values[0::2] | values[1::2] << 4).tobytes()


def _unpack(data: bytes, count: int, shape: LayerShape, bits: int, offset: int) -> np.ndarray:
    """The inverse; ``offset`` is the data's in the file."""
    packed = np.frombuffer(data, np.uint8)
    if bits == 8:
        return packed
    values = np.stack([packed & 15, packed >> 4], axis=1).ravel()
    if values[count:].any():
        raise FormatError(
            f"layer {shape.name!r}: the half byte after an odd count is not 0",
            offset + len(packed) - 1,
        )
    return values[:count]

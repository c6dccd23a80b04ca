"""What a bitstream takes, layer by layer, in the columns of Deep Compression's tables, and what it
would take at least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleach.format import LayerSizes
from pleach.model import CompressedLayer, CompressedModel

#: width of a relative index in the paper's tables of LeNet and VGG-16
PAPER_INDEX_BITS = 5


@dataclass(frozen=True)
class LayerReport:
    """A layer's row (Deep Compression, tables 4 to 6). Biases count as weights.

    ``weight_bits`` and ``index_bits`` are means per kept weight as coded in the file; ``bytes`` is
    the layer's section. ``rate`` is that in per cent of the dense float32 layer; the figures named
    ``fixed_`` are those before Huffman coding, codes and indexes of fixed width with the paper's
    filler zeros. ``shape`` is that of the torch weight: ``(outputs, inputs)`` or ``(outputs,
    channels / groups, kernel_height, kernel_width)``. ``bound_bytes`` is the layer's part of
    `entropy_bound`.
    """

    name: str
    shape: tuple[int, ...]
    kept: int
    density: float
    codebook_size: int
    weight_bits: float
    index_bits: float
    bytes: int
    rate: float
    fixed_weight_bits: int
    fixed_index_bits: int
    fixed_rate: float
    bound_bytes: float


def layer_reports(model: CompressedModel, sizes: list[LayerSizes]) -> list[LayerReport]:
    """A row for each layer of a file as `pleach.format.parse` gives it."""
    return [_row(layer, size) for layer, size in zip(model.layers, sizes, strict=True)]


def entropy_bound(model: CompressedModel) -> float:
    """Bytes that no code of single symbols can undercut for these layers and codebooks.

    The empirical zero-order entropy of each layer's codes and of its gaps, each number of positions
    between two kept weights one symbol however large, column-major; and 16 bits for each value of
    the codebooks. Headers, tables and what the symbols say about each other are left out.

    >>> from pleach.model import Activation
    >>> layer = CompressedLayer("fc1", inputs=4, outputs=2, bias=False, positions=[0, 2, 4, 6],
    ...     codes=[0, 1, 0, 1], codebook=[-3, 5], shift=0, activation=Activation.NONE,
    ...     bias_exponent=0, output_fraction=0)
    >>> round(8 * entropy_bound(CompressedModel((layer,))), 2)  # 4 · 1 + 4 · 0.81 + 2 · 16
    39.25
    """
    return sum(_bound(layer) for layer in model.layers)


def _bound(layer: CompressedLayer) -> float:
    gaps = np.diff(layer.positions, prepend=-1)
    bits = _entropy_bits(layer.codes) + _entropy_bits(gaps) + 16 * len(layer.codebook)
    return bits / 8


def _entropy_bits(symbols: np.ndarray) -> float:
    """Bits of all of `symbols` at their own zero-order entropy."""
    _, counts = np.unique(symbols, return_counts=True)
    return float(counts @ np.log2(len(symbols) / counts))


def _row(layer: CompressedLayer, size: LayerSizes) -> LayerReport:
    dense_bits = 32 * layer.size
    kept = max(layer.kept, 1)
    code_bits = max(1, (max(len(layer.codebook), 1) - 1).bit_length())
    # A filler for each whole run of as many zeros as an index has values.
    zeros = np.diff(layer.positions, prepend=-1) - 1
    entries = layer.kept + int((zeros >> PAPER_INDEX_BITS).sum())
    fixed_bits = entries * (code_bits + PAPER_INDEX_BITS) + 32 * len(layer.codebook)
    return LayerReport(
        name=layer.name,
        shape=layer.shape,
        kept=layer.kept,
        density=layer.density,
        codebook_size=len(layer.codebook),
        weight_bits=size.code_bits / kept,
        index_bits=size.gap_bits / kept,
        bytes=size.bytes,
        rate=100 * 8 * size.bytes / dense_bits,
        fixed_weight_bits=code_bits,
        fixed_index_bits=PAPER_INDEX_BITS,
        fixed_rate=100 * fixed_bits / dense_bits,
        bound_bytes=_bound(layer),
    )

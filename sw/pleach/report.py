"""What a bitstream takes, layer by layer, in the columns of Deep Compression's tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleach.format import LayerSizes
from pleach.format.gaps import relative_index
from pleach.model import CompressedLayer, CompressedModel

#: width of a relative index in the paper's fully connected layers (Deep Compression, section 2)
PAPER_INDEX_BITS = 5


@dataclass(frozen=True)
class LayerReport:
    """A layer's row (Deep Compression, tables 4 to 6). Biases count as weights.

    ``weight_bits`` and ``index_bits`` are means per kept weight as coded in the file; ``bytes`` is
    the layer's section. ``rate`` is that in per cent of the dense float32 layer; the figures named
    ``fixed_`` are those before Huffman coding, codes and indexes of fixed width with the paper's
    filler zeros.
    """

    name: str
    shape: tuple[int, int]
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


def layer_reports(model: CompressedModel, sizes: list[LayerSizes]) -> list[LayerReport]:
    """A row for each layer of a file as `pleach.format.parse` gives it."""
    return [_row(layer, size) for layer, size in zip(model.layers, sizes, strict=True)]


def _row(layer: CompressedLayer, size: LayerSizes) -> LayerReport:
    dense_bits = 32 * layer.size
    kept = max(layer.kept, 1)
    code_bits = max(1, (max(len(layer.codebook), 1) - 1).bit_length())
    mask = np.zeros(layer.size, np.uint8)
    mask[layer.positions] = 1
    entries = len(relative_index(mask, PAPER_INDEX_BITS)[0])
    fixed_bits = entries * (code_bits + PAPER_INDEX_BITS) + 32 * len(layer.codebook)
    return LayerReport(
        name=layer.name,
        shape=(layer.outputs, layer.inputs),
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
    )

"""The order of hidden neurons that makes the file smallest. Numpy only: no torch here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage

from pleach.format import gaps, interleave
from pleach.model import CompressedLayer, CompressedModel

MOST_ROWS = 8192  # to be clustered: the distances take 4 bytes a pair
MOST_TURNED = 1024  # for the best turning of the branches, cubic in time


def ordered(model: CompressedModel) -> CompressedModel:
    """The same network with its hidden neurons and channels in the order that codes best.

    Rows of a layer are columns of the one after it, so their order is free; its function stays the
    same, and so do inputs and outputs. Rows with survivors in the same columns come together, which
    makes the zero runs of a column-major mask fewer and longer. The new order is taken where it
    saves bits.

    Channels of convolutions in groups, or before them, keep their places, and so does what anything
    else than one other layer takes.
    """
    layers = list(model.layers)
    for index, after in model.neighbours():
        pair = layers[index], layers[after]
        if any(layer.convolution and layer.convolution.groups > 1 for layer in pair):
            continue
        new = moved(*pair, clustered(_mask(pair[0])))
        if sum(map(position_bits, new)) < sum(map(position_bits, pair)):
            layers[index], layers[after] = new
    return replace(model, layers=tuple(layers))


def position_bits(layer: CompressedLayer) -> float:
    """Bits of the zero runs at the entropy of their classes, extra bits included."""
    if not layer.kept:
        return 0.0
    counts = interleave.count(layer.positions)
    present = counts[counts > 0]
    entropy = -(present * np.log2(present / present.sum())).sum()
    return float(entropy + counts @ gaps.EXTRA_BITS)


def clustered(mask: np.ndarray) -> np.ndarray:
    """An order of the rows of a mask, bool ``(rows, columns)``, that brings like rows together.

    The leaves of an average-linkage tree by cosine distance, its branches turned so that
    neighbours are near (Bar-Joseph et al. 2001) where there are not too many; empty rows last.

    >>> rows = np.array([[1, 1, 0, 0], [0, 0, 1, 1]] * 4, bool)
    >>> rows[clustered(rows)][:4].sum(0).tolist() in ([4, 4, 0, 0], [0, 0, 4, 4])
    True
    """
    counts = mask.sum(1)
    full = np.flatnonzero(counts)
    if not 3 <= len(full) <= MOST_ROWS:
        return np.argsort(-counts, kind="stable")
    ones = mask[full].astype(np.float32)
    ones /= np.sqrt(counts[full, None])
    distance = np.maximum(1 - ones @ ones.T, 0)
    tree = linkage(
        distance[np.triu_indices(len(full), 1)],
        "average",
        optimal_ordering=len(full) <= MOST_TURNED,
    )
    return np.concatenate([full[leaves_list(tree)], np.flatnonzero(counts == 0)])


def _mask(layer: CompressedLayer) -> np.ndarray:
    mask = np.zeros((layer.outputs, layer.columns), bool)
    mask[layer.row_of, layer.column_of] = True
    return mask


def moved(
    layer: CompressedLayer, after: CompressedLayer, order: np.ndarray
) -> tuple[CompressedLayer, CompressedLayer]:
    """Row ``order[i]`` becomes row ``i``, and so do the columns that it feeds."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    feeds = np.arange(after.columns)
    # Channels are innermost: every so many columns one and the same row feeds one.
    feeds[: after.inputs] += np.tile(place - np.arange(len(order)), after.inputs // len(order))
    if layer.scales is not None:
        layer = replace(layer, scales=layer.scales[order])
    return (
        placed(layer, layer.column_of, place[layer.row_of]),
        placed(after, feeds[after.column_of], after.row_of),
    )


def placed(layer: CompressedLayer, columns: np.ndarray, rows: np.ndarray) -> CompressedLayer:
    positions = layer.position_of(columns, rows)
    order = np.argsort(positions)
    return replace(layer, positions=positions[order], codes=layer.codes[order])

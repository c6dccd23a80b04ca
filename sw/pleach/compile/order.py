"""The order of hidden neurons that makes the file smallest. Numpy only: no torch here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage

from pleach.format import gaps, interleave
from pleach.model import CompressedLayer, CompressedModel, Pool

MOST_ROWS = 8192  # to be clustered: the distances take 4 bytes a pair
MOST_TURNED = 1024  # for the best turning of the branches, cubic in time


def ordered(model: CompressedModel) -> CompressedModel:
    """The same network with its hidden neurons and channels in the order that codes best.

    Rows of a layer are columns of those after it, so their order is free; its function stays the
    same, and so do inputs and outputs. Rows with survivors in the same columns come together, which
    makes the zero runs of a column-major mask fewer and longer. The new order is taken where it
    saves bits.
    """
    for hidden in free(model):
        whole = [n for n in hidden.rows if model.layers[n].groups == 1]
        if not whole:
            continue
        masks = [_mask(model.layers[number]) for number in whole]
        tried = reordered(model, hidden, clustered(np.concatenate(masks, axis=1)))
        before, after = (
            sum(position_bits(each.layers[number]) for number in hidden.layers)
            for each in (model, tried)
        )
        if after < before:
            model = tried
    return model


@dataclass(frozen=True)
class Hidden:
    """Channels whose order is free, where all layers that give or take them follow.

    Args:
        count: of the channels, or neurons.
        rows: places in `CompressedModel.layers` of the layers that give them.
        columns: of those that take them as their source.
        skips: of those that take them as their skip.
    """

    count: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    skips: tuple[int, ...]

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers in which they are."""
        return tuple(sorted({*self.rows, *self.columns, *self.skips}))


def free(model: CompressedModel, *, outputs: bool = False) -> list[Hidden]:
    """The channels of a network whose order is free, in running order.

    Poolings and convolutions with a group for each channel leave channels as they are: those before
    and behind them are the same. Those of convolutions in other groups have their places, and so
    do a network's inputs, and outputs.

    Args:
        outputs: whether the order of the network's outputs is free, too.
    """
    nodes, shapes = model.graph.nodes, model.graph.shapes()
    same = list(range(len(shapes)))  # of each map an earlier one with the same channels, or itself
    fixed = {0} if outputs else {0, len(nodes)}
    for number, node in enumerate(nodes, start=1):
        op, source = node.op, node.sources[0]
        conv = getattr(op, "convolution", None)
        if isinstance(op, Pool):
            same[number] = same[source]
        elif conv is not None and conv.groups > 1:
            if conv.groups == conv.channels == op.outputs:
                same[number] = same[source]
            else:
                fixed |= {source, number}
        if conv is not None and conv.channels != shapes[source][0]:
            fixed.add(source)  # a row that is seen as a map
    fixed = {same[number] for number in fixed}
    # Of each layer the number of what it gives, of its source, and of its skip or the input.
    met = [
        (number, *node.sources, 0)[:3]
        for number, node in enumerate(nodes, start=1)
        if isinstance(node.op, CompressedLayer)
    ]
    return [
        Hidden(
            shapes[first][0],
            *(
                tuple(place for place, each in enumerate(met) if same[each[what]] == first)
                for what in range(3)
            ),
        )
        for first in sorted(set(same) - fixed)
    ]


def reordered(model: CompressedModel, hidden: Hidden, order: np.ndarray) -> CompressedModel:
    """The same network with channel ``order[i]`` in place ``i``, in all layers that have it."""
    layers, place = list(model.layers), np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    for number in hidden.layers:
        layer = layers[number]
        column, row = layer.column_of, layer.row_of
        moves = np.arange(layer.columns)
        # Channels are innermost: every so many columns one and the same channel feeds one.
        parts = [slice(0, layer.inputs)] * (number in hidden.columns)
        if number in hidden.skips:
            parts.append(slice(layer.inputs, layer.columns - layer.bias))
        for part in parts:
            count = len(moves[part])
            moves[part] += np.tile(place - np.arange(len(order)), count // len(order))
        if number in hidden.rows:
            row = place[row]
            if layer.scales is not None:
                layer = replace(layer, scales=layer.scales[order])
        layers[number] = placed(layer, moves[column], row)
    exponents = model.output_exponents
    if exponents and len(layers) - 1 in hidden.rows:
        exponents = tuple(exponents[channel] for channel in order)
    return replace(model, layers=tuple(layers), output_exponents=exponents)


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


def placed(layer: CompressedLayer, columns: np.ndarray, rows: np.ndarray) -> CompressedLayer:
    positions = layer.position_of(columns, rows)
    order = np.argsort(positions)
    return replace(layer, positions=positions[order], codes=layer.codes[order])

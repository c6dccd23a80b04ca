"""Networks by their shapes, with weights and activations at seeded places.

ResNet-8 and DS-CNN are those of MLPerf Tiny (image classification and keyword spotting, Banbury et
al., NeurIPS Datasets and Benchmarks 2021). No figure here is that benchmark's: the data sets are
not, and the weights are at random places.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pleach.model import (
    Activation,
    CompressedLayer,
    CompressedModel,
    Convolution,
    Graph,
    InputType,
    Node,
    Pool,
    Skip,
    Window,
)

#: spread of the densities of rows and channels, of a log-normal distribution
SPREAD = 0.3


@dataclass
class Seeded:
    """A network that is built node by node.

    Args:
        shape: of its input.
        seed: of the places of weights and activations.
        active: share of activations that are not zero, inputs excepted.
        own: PEs of a team, among which the rows of a layer are dealt out by their weights.
    """

    shape: tuple[int, int, int]
    seed: int
    active: float
    own: int
    nodes: list[Node] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.shapes.append(self.shape)

    def _weights(self, rows: int, channels: int, places: int, density: float) -> np.ndarray:
        """Which weights are kept, ``[rows, places, channels]``: some rows and channels have more
        of them than others."""
        spread = self.rng.lognormal(0, SPREAD, (rows, 1, 1))
        chance = spread * self.rng.lognormal(0, SPREAD, (1, 1, channels))
        for _ in range(8):
            chance = np.minimum(chance * density / chance.mean(), 1)
        return self.rng.random((rows, places, channels)) < chance

    def add(
        self, name, rows, kernel=(1, 1), stride=(1, 1), padding=(0, 0, 0, 0), *, density,
        source=None, groups=1, pool=1, skip=None, skip_stride=(1, 1), skip_density=None,
    ):  # fmt: skip
        """A convolution, and the number of its node; a skip without a density is a residual sum."""
        source = len(self.nodes) if source is None else source
        channels, height, width = self.shapes[source]
        geometry = Convolution(
            channels, height, width, *kernel, stride=stride, padding=padding, groups=groups,
            pool=pool,
        )  # fmt: skip
        places = kernel[0] * kernel[1]
        kept = np.zeros((rows, places, channels), bool)
        if groups == rows:  # depthwise
            own = np.arange(rows)
            kept[own, :, own] = self._weights(rows, 1, places, density)[:, :, 0]
        else:
            for group in range(groups):
                few, taken = (
                    slice(group * n // groups, (group + 1) * n // groups) for n in (rows, channels)
                )
                kept[few, :, taken] = self._weights(
                    rows // groups, channels // groups, places, density
                )
        matrix = kept.reshape(rows, -1)
        more = None
        if skip is not None:
            taken = self.shapes[skip][0]
            more = Skip(taken, stride=skip_stride)
            if skip_density is None:
                extra = np.eye(rows, taken, dtype=bool)
            else:
                extra = self._weights(rows, taken, 1, skip_density)[:, 0]
            matrix = np.concatenate([matrix, extra], axis=1)
        bias = np.ones((rows, 1), bool)
        matrix = np.concatenate([matrix, bias], axis=1)
        each = rows // groups  # a row stays in its group; a depthwise one where it was
        order = [
            at + _dealt(matrix[at : at + each].sum(axis=1), self.own) for at in range(0, rows, each)
        ]
        matrix = matrix[np.concatenate(order)]
        column, row = np.nonzero(matrix.T)
        layer = _layer(name, geometry, rows, more, column, row, self.rng)
        sources = (source,) if skip is None else (source, skip)
        self.nodes.append(Node(name, layer, sources))
        self.shapes.append((rows, *geometry.pooled))
        return len(self.nodes)

    def average(self, name):
        """A mean over the whole map."""
        channels, height, width = self.shapes[-1]
        window = Window(channels, height, width, kernel_height=height, kernel_width=width)
        self.nodes.append(Node(name, Pool(window, shift=6), (len(self.nodes),)))
        self.shapes.append((channels, 1, 1))
        return len(self.nodes)

    def model(self, input_type: InputType = InputType.INT16) -> CompressedModel:
        """The network."""
        return CompressedModel.of(
            Graph(tuple(self.nodes), self.shape), input_type=input_type, input_fraction=8
        )

    def taken(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Which values of source and skip each layer finds not to be zero, bool ``[1, values]``."""
        maps = [np.ones((1, int(np.prod(self.shape))), bool)]
        for shape in self.shapes[1:]:
            maps.append(self._active(shape))
        none = np.zeros((1, 0), bool)
        return [
            (maps[node.sources[0]], maps[node.sources[1]] if node.sources[1:] else none)
            for node in self.nodes
            if isinstance(node.op, CompressedLayer)
        ]

    def _active(self, shape: tuple[int, ...]) -> np.ndarray:
        """A map whose channels are active more and less, and neighbours alike."""
        channels, height, width = shape
        rough = self.rng.standard_normal((-(-height // 4), -(-width // 4), channels))
        smooth = rough.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
        level = 0.6 * smooth + 0.8 * self.rng.standard_normal((height, width, channels))
        level += 0.5 * self.rng.standard_normal(channels)
        return (level > np.quantile(level, 1 - self.active)).reshape(1, -1)


def _dealt(work: np.ndarray, own: int) -> np.ndarray:
    """An order of rows in which `own` PEs, to which they are dealt in turn, have nearly the same
    work: the most first, each to the PE that has the least and still takes one."""
    places = [-(-(len(work) - pe) // own) for pe in range(own)]
    rows: list[list[int]] = [[] for _ in range(own)]
    load = np.zeros(own)
    for row in np.argsort(-work, kind="stable").tolist():
        pe = min((p for p in range(own) if len(rows[p]) < places[p]), key=lambda p: load[p])
        rows[pe].append(row)
        load[pe] += work[row]
    return np.array([rows[n % own][n // own] for n in range(len(work))])


def _layer(name, geometry, rows, skip, column, row, rng) -> CompressedLayer:
    """A layer of a codebook of sixteen values, of which none is zero."""
    shared = {
        "inputs": geometry.columns, "outputs": rows, "bias": True, "shift": 8,
        "activation": Activation.RELU, "bias_exponent": 8, "output_fraction": 8,
        "convolution": geometry, "skip": skip, "codebook": [v for v in range(-8, 9) if v],
    }  # fmt: skip
    shape = CompressedLayer(name, positions=[], codes=[], **(shared | {"codebook": []}))
    positions = np.sort(shape.position_of(column, row))
    return CompressedLayer(
        name, positions=positions, codes=rng.integers(0, 16, len(positions)), **shared
    )


def lenet_5(own: int, seed: int = 3) -> Seeded:
    """LeNet-5 of 20-50-500-10, with the densities of Deep Compression's table 3."""
    net = Seeded((1, 28, 28), seed, 1.0, own)
    net.add("conv1", 20, (5, 5), density=0.66, pool=2)
    net.add("conv2", 50, (5, 5), density=0.12, pool=2)
    net.add("fc1", 500, (4, 4), density=0.08)
    net.add("fc2", 10, density=0.19)
    return net


def resnet8(own: int, density: float = 0.35, active: float = 0.55, seed: int = 3) -> Seeded:
    """ResNet-8 on images of 32 × 32."""
    net = Seeded((3, 32, 32), seed, active, own)
    same, at = (1, 1, 1, 1), 0
    at = net.add("conv1", 16, (3, 3), padding=same, density=0.8)
    for stage, rows in enumerate((16, 32, 64), start=1):
        down = (2, 2) if stage > 1 else (1, 1)
        # Padding as for the same size: of a stride of 2 over an even map, below and to the right.
        padding = (0, 0, 1, 1) if stage > 1 else same
        first = net.add(
            f"stage{stage}.conv1", rows, (3, 3), down, padding, density=density, source=at
        )
        at = net.add(
            f"stage{stage}.conv2", rows, (3, 3), padding=same, density=density, source=first,
            skip=at, skip_stride=down, skip_density=density if stage > 1 else None,
        )  # fmt: skip
    net.average("mean")
    net.add("fc", 10, density=density)
    return net


def ds_cnn(own: int, density: float = 0.3, active: float = 0.55, seed: int = 3) -> Seeded:
    """DS-CNN on spectrograms of 49 × 10."""
    net = Seeded((1, 49, 10), seed, active, own)
    net.add("conv1", 64, (10, 4), (2, 2), (4, 1, 5, 1), density=0.6)
    for block in range(1, 5):
        net.add(f"dw{block}", 64, (3, 3), padding=(1, 1, 1, 1), density=0.8, groups=64)
        net.add(f"pw{block}", 64, density=density)
    net.average("mean")
    net.add("fc", 12, density=density)
    return net

"""Which values weights share: each quantiser is a file here or a class of a user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pleach.compression.kinds import Kinds
from pleach.compression.regularisers import Regulariser
from pleach.models import Put

__all__ = [
    "QUANTISERS",
    "Fit",
    "Matrix",
    "Projection",
    "Quantiser",
    "Regulariser",
    "Through",
    "at_levels",
    "nearest_power",
    "quantiser",
]


class Quantiser(ABC):
    """The codebook of a layer, and which of its values a weight gets.

    Attributes:
        kind: the name in settings.
        source: the paper that it is from, with its equation, section or table.
        trained: whether the values move while the shared network is fine-tuned. Where they do not,
            only ``reassign`` changes anything.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = ""
    trained: ClassVar[bool] = True

    @abstractmethod
    def codebook(self, values: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
        """The values that are shared, rising, float64, at most `clusters`.

        Args:
            values: the weights and biases that are not zero, or those of one part, float64, one
                axis, finite; there may be none.
            clusters: 1 to 256.
            seed: of anything random.
        """

    def codes(self, values: np.ndarray, codebook: np.ndarray) -> np.ndarray:
        """The index in `codebook` of what each of `values` becomes, int64: the nearest, half-way
        the lower one."""
        return np.searchsorted((codebook[:-1] + codebook[1:]) / 2, values)

    def project(self, values: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
        """What `values` become."""
        codebook = self.codebook(values, clusters, seed=seed)
        return codebook[self.codes(values, codebook)]


@dataclass(frozen=True, eq=False)
class Matrix:
    """The weights of a layer.

    Args:
        weight: ``(rows, columns)``, zero where it was pruned.
        kept: bool, the same shape, False where it was pruned.
        moments: the mean of ``x xᵀ`` over the layer's inputs, ``(columns, columns)``; None where
            the quantiser does not ask for it.
    """

    weight: Tensor
    kept: Tensor
    moments: Tensor | None = None

    @classmethod
    def of(cls, weight: Tensor) -> Matrix:
        """Of weights, ``(rows, …)``, of which zeros were pruned."""
        weight = weight.flatten(1)
        return cls(weight, weight != 0)

    def row_mean(self, values: Tensor, chosen: Tensor | None = None) -> Tensor:
        """The mean of each row over those kept, or those of them `chosen`, ``(rows, 1)``; 0 of
        none."""
        chosen = self.kept if chosen is None else chosen & self.kept
        return (values * chosen).sum(1, keepdim=True) / chosen.sum(1, keepdim=True).clamp(min=1)

    def mean(self, values: Tensor, chosen: Tensor | None = None) -> Tensor:
        """The same over the whole layer, ``(1, 1)``."""
        chosen = self.kept if chosen is None else chosen & self.kept
        return ((values * chosen).sum() / chosen.sum().clamp(min=1)).reshape(1, 1)


@dataclass(frozen=True, eq=False)
class Fit:
    """What the weights of a layer become.

    Args:
        values: the set, ``(n,)``, rising, at most 256 beside zero.
        codes: int64, ``(rows, columns)``, which of them each weight is.
        scales: ``(rows,)``, what each row is multiplied by; None of 1.
    """

    values: Tensor
    codes: Tensor
    scales: Tensor | None = None

    @property
    def tensor(self) -> Tensor:
        """``(rows, columns)``."""
        found = self.values[self.codes]
        return found if self.scales is None else found * self.scales[:, None]


class Through(nn.Module):
    """How a layer is trained through its projection: the weights that are learned stay real numbers
    behind what they become. Derive from it for other gradients, or for steps.

    Args:
        projection: of the weights.
        seed: of anything random.
    """

    projection: Any

    def __init__(self, projection: Projection, seed: int = 0):
        super().__init__()
        self.projection, self.seed = projection, seed

    def forward(self, matrix: Matrix) -> Tensor:
        """What the layer computes with, ``(rows, columns)``: the projection, whose gradient the
        weights get as it is."""
        with torch.no_grad():
            put = self.fit(matrix).tensor
        return Put.apply(matrix.weight, put)

    def fit(self, matrix: Matrix) -> Fit:
        """What the layer has in the end."""
        return self.projection.fit(matrix)

    def before_step(self, matrix: Matrix, done: float) -> Tensor | None:
        """The weights as the next step of training is to find them; None as they are.

        Args:
            done: share of the training.
        """
        return None


class Projection(Quantiser):
    """A set that the weights of a layer are put on as a whole: each becomes one of a few values
    times a scale of its row, or of the layer.

    The same projection serves training, where weights learn behind it, ADMM, and the file. Biases
    keep values of their own, as many as ``clusters`` leaves them.

    Attributes:
        looks: whether `Matrix.moments` is wanted.
    """

    trained = False
    looks: ClassVar[bool] = False

    @property
    @abstractmethod
    def size(self) -> int:
        """Values of the set beside zero, at most."""

    @abstractmethod
    def fit(self, matrix: Matrix) -> Fit:
        """The weights on the set; what was pruned may become anything, it stays zero."""

    def through(self, matrix: Matrix, seed: int) -> Through:
        """How a layer of these weights is trained."""
        return Through(self, seed)

    @property
    def penalties(self) -> tuple[Regulariser, ...]:
        """What training is held to besides, for it."""
        return ()

    def codebook(self, values: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
        """The values that a row of those weights gets."""
        if not len(values):
            return np.zeros(0)
        fit = self.fit(Matrix.of(torch.from_numpy(values)[None]))
        scale = 1.0 if fit.scales is None else float(fit.scales[0])
        return np.unique(fit.values.double().numpy() * scale)


def at_levels(scaled: Tensor, levels: Tensor) -> Tensor:
    """The index of the level, rising, that is nearest to each number; half-way the upper one.

    >>> at_levels(torch.tensor([-0.9, 0.5, 0.2]), torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0, 2, 1]
    """
    return torch.bucketize(scaled, (levels[1:] + levels[:-1]) / 2, right=True)


def nearest_power(magnitude: Tensor) -> Tensor:
    """The power of two whose exponent is nearest, AP2; 0 of 0.

    >>> nearest_power(torch.tensor([0.75, 1.4, 1.5, 0.0])).tolist()
    [1.0, 1.0, 2.0, 0.0]
    """
    exponent = magnitude.clamp(min=1e-30).log2().round()
    return torch.where(magnitude > 0, 2.0**exponent, magnitude)


QUANTISERS = Kinds(Quantiser, __name__)
quantiser = QUANTISERS.register

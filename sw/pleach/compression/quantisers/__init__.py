"""Which values weights share: each quantiser is a file here or a class of a user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from pleach.compression.kinds import Kinds

__all__ = ["QUANTISERS", "Quantiser", "quantiser"]


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


QUANTISERS = Kinds(Quantiser, __name__)
quantiser = QUANTISERS.register

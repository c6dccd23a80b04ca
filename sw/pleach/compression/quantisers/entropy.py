"""k-means that pays for the bits of its codes (Choi 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleach.compression.checks import check_number
from pleach.compression.quantisers import Quantiser, quantiser
from pleach.compression.quantisers.kmeans import kmeans

ROUNDS = 100


@quantiser("entropy")
@dataclass(frozen=True, kw_only=True)
class EntropyConstrained(Quantiser):
    """Values and codes of the least mean square plus `price` for each bit that the codes take when
    they are Huffman-coded, by their entropy; values that nobody pays for are left out.

    Use it in the place of ``kmeans`` where the codes are most of the file, with more clusters than
    k-means would get: it uses the outer ones seldom.

    Args:
        price: of a bit, as a share of the values' mean square; 0 is k-means.
    """

    source = "Choi et al. 2017, arXiv:1612.01543, section 4, algorithm 1"

    price: float = 0.02

    def __post_init__(self):
        check_number(self, "price", 0, 10)

    def codebook(self, values: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
        found, codes = kmeans(values, clusters, seed=seed)
        for _ in range(ROUNDS if self.price and len(values) else 0):
            before, codes = codes, self._again(values, found, codes)
            if np.array_equal(before, codes):
                break
            _, codes = np.unique(codes, return_inverse=True)
            found = np.bincount(codes, values) / np.bincount(codes)
        return found[np.unique(self.codes(values, found))]

    def codes(self, values: np.ndarray, codebook: np.ndarray) -> np.ndarray:
        """Of the least square and price, with the bits that codes so frequent have."""
        codes = super().codes(values, codebook)
        for _ in range(ROUNDS if self.price and len(values) else 0):
            before, codes = codes, self._again(values, codebook, codes)
            if np.array_equal(before, codes):
                break
        return codes

    def _again(self, values: np.ndarray, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """The cheapest codes, with the bits of those that `values` have."""
        counts = np.bincount(codes, minlength=len(codebook))
        there = np.flatnonzero(counts)
        bits = np.log2(len(values) / counts[there])
        price = self.price * float(np.mean(values**2))
        return there[cheapest(values, codebook[there], price * bits)]


def cheapest(values: np.ndarray, centroids: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """The index of the centroid with the least ``(value − centroid)² + cost`` for each value.

    Args:
        centroids: rising.
        cost: of each of them.

    >>> cheapest(np.array([0.0, 0.4, 0.6, 1.0]), np.array([0.0, 1.0]), np.array([0.0, 0.5]))
    array([0, 0, 0, 1])
    """
    kept, limits = [0], []  # those that are the cheapest anywhere, and where the next one begins
    for index in range(1, len(centroids)):
        while True:
            step = centroids[index] - centroids[kept[-1]]
            middle = (centroids[index] + centroids[kept[-1]]) / 2
            limit = middle + (cost[index] - cost[kept[-1]]) / (2 * step)
            if not limits or limit > limits[-1]:
                break
            kept.pop()
            limits.pop()
        kept.append(index)
        limits.append(limit)
    return np.array(kept)[np.searchsorted(limits, values)]

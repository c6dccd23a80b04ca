"""One-dimensional k-means (Deep Compression, equation 2).

In one dimension clusters are intervals: with the values sorted and their prefix sums known, a
step of Lloyd's algorithm is a search for the midpoints between centroids, whatever the count of
values. What is left is a sort, a sum and a pass that assigns the values: three passes over them.

An empty cluster is a value of the codebook that nobody has: one weight far out is enough to leave
most of them empty where they start even over the range. Splitting the worst cluster comes nearer to
the least sum of squares than giving an empty one the point farthest from its centroid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleach.compiled import njit
from pleach.compression.checks import check_choice
from pleach.compression.quantisers import Quantiser, quantiser
from pleach.errors import ConfigError, DataError

BINS = 4096
INITIALISATIONS = ("linear", "density", "random", "optimal")


@quantiser("kmeans")
@dataclass(frozen=True, kw_only=True)
class KMeans(Quantiser):
    """The centroids of k-means.

    Use it always, unless products should be shifts or weights should have one or two bits: for
    as many values no other set is nearer to the weights.

    Args:
        initialisation: ``linear``, ``density``, ``random`` or ``optimal``, as in `kmeans`.
    """

    source = "Han et al. 2016 (Deep Compression), arXiv:1510.00149, equations 2 and 3"

    initialisation: str = "linear"

    def __post_init__(self):
        check_choice(self, "initialisation", INITIALISATIONS)

    def codebook(self, values: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
        return kmeans(values, clusters, initialisation=self.initialisation, seed=seed)[0]

    def codes(self, values: np.ndarray, codebook: np.ndarray) -> np.ndarray:
        return nearest(np.ascontiguousarray(values), codebook)


def kmeans(
    values: np.ndarray,
    clusters: int,
    *,
    initialisation: str = "linear",
    seed: int = 0,
    iterations: int = 300,
) -> tuple[np.ndarray, np.ndarray]:
    """Centroids, rising, float64, and the index of each value's centroid, int64.

    Args:
        values: finite reals, any shape.
        clusters: so many centroids, fewer only where there are fewer distinct values. In the place
            of a cluster that is empty, the one with the largest sum of squares is split at its
            mean.
        initialisation: ``linear`` (even over the range), ``density`` (even over the distribution
            function), ``random`` (values drawn at random): Deep Compression, section 3.2; or
            ``optimal`` (the exact minimum for a histogram of 4096 bins, by dynamic programming).
        seed: of ``random``.
        iterations: Lloyd steps at most.

    Raises:
        ConfigError: no cluster, or no such initialisation.
        DataError: a value that is not finite, or a range that float64 cannot hold.

    A value half-way between two centroids belongs to the lower one.

    >>> kmeans(np.array([1, 9, 2, 8]), 2)
    (array([1.5, 8.5]), array([0, 1, 0, 1]))
    """
    if clusters < 1:
        raise ConfigError(f"k-means needs at least one cluster, not {clusters}")
    values = np.asarray(values)
    # Sorted as they come: half the bytes of float32 take half the time.
    ordered = np.sort(values, axis=None).astype(np.float64, copy=False)
    if not len(ordered):
        return np.zeros(0), np.zeros(values.shape, np.int64)
    if not np.isfinite(ordered[-1] - ordered[0]):
        raise DataError("k-means over values that are not finite")
    sums = np.zeros(len(ordered) + 1)
    np.cumsum(ordered, out=sums[1:])
    centroids = _initial(ordered, sums, clusters, initialisation, seed)
    edges, step = None, 0
    while step < iterations:
        found = _edges(ordered, centroids)
        found = found[np.r_[True, np.diff(found) > 0]]  # without the empty clusters
        centroids = np.diff(sums[found]) / np.diff(found)
        if len(centroids) < clusters and (worst := _worst(ordered, sums, found, centroids)) >= 0:
            centroids = _split(ordered, sums, found, centroids, worst)
            edges = None
            continue
        if edges is not None and np.array_equal(found, edges):
            break
        edges, step = found, step + 1
    centroids = centroids[np.diff(_edges(ordered, centroids)) > 0]
    return centroids, _nearest(values, centroids, ordered[0], ordered[-1])


def nearest(values: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The index of the centroid nearest to each value, int64; half-way the lower one.

    Args:
        values: finite reals, contiguous, any shape.
        centroids: rising, float64.

    >>> nearest(np.array([0.0, 5.0, 9.0]), np.array([1.0, 9.0]))
    array([0, 0, 1])
    """
    if not values.size:
        return np.zeros(values.shape, np.int64)
    low, high = min(values.min(), centroids[0]), max(values.max(), centroids[-1])
    return _nearest(values, centroids, low, high)


def _nearest(values, centroids, low, high) -> np.ndarray:
    """The same of values and centroids from `low` to `high`."""
    low, high = np.float64(low), np.float64(high)
    scale = BINS / max(high - low, np.finfo(np.float64).tiny * BINS)
    codes = np.empty(values.shape, np.int64)
    _assign(values.reshape(-1), _midpoints(centroids), low, scale, BINS, codes.reshape(-1))
    return codes


def _midpoints(centroids: np.ndarray) -> np.ndarray:
    return (centroids[:-1] + centroids[1:]) / 2


def _edges(ordered: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Cluster ``i`` is ``ordered[edges[i]:edges[i + 1]]``."""
    inner = np.searchsorted(ordered, _midpoints(centroids), side="right")
    return np.concatenate(([0], inner, [len(ordered)]))


def _worst(ordered, sums, edges, centroids) -> int:
    """The cluster with the largest sum of squares among those of more than one value, or -1."""
    first, last = edges[:-1], edges[1:]
    several = ordered[first] < ordered[last - 1]
    if not several.any():
        return -1
    middle = sums[-1] / len(ordered)  # centred, so that the differences lose little
    squares = np.add.reduceat((ordered - middle) ** 2, first)
    squares -= (centroids - middle) ** 2 * (last - first)
    return int(np.where(several, squares, -np.inf).argmax())


def _split(ordered, sums, edges, centroids, cluster) -> np.ndarray:
    """The centroids with the means of what lies below and above that one in its place."""
    first, last = edges[cluster], edges[cluster + 1]
    cut = np.searchsorted(ordered[first:last], centroids[cluster], side="right") + first
    ends = np.array([first, min(max(cut, first + 1), last - 1), last])
    halves = np.diff(sums[ends]) / np.diff(ends)
    return np.concatenate((centroids[:cluster], halves, centroids[cluster + 1 :]))


@njit()
def _assign(values, midpoints, low, scale, bins, codes):  # pragma: no cover - compiled
    """Into ``codes``: how many of the rising midpoints lie below each value.

    A value's bin, ``(value - low) * scale`` rounded down, is 0 to `bins` and never falls as values
    rise. So the midpoints of lower bins lie below it, and only those of its own bin are compared.
    """
    padded = np.full(len(midpoints) + 1, np.inf)
    padded[:-1] = midpoints
    below = np.zeros(bins + 2, np.int64)
    for midpoint in midpoints:
        below[np.int64((midpoint - low) * scale) + 1] += 1
    below = np.cumsum(below)
    for i in range(len(values)):
        value = np.float64(values[i])
        code = below[np.int64((value - low) * scale)]
        while value > padded[code]:
            code += 1
        codes[i] = code


def _initial(ordered, sums, clusters, how, seed) -> np.ndarray:
    """Rising initial centroids, at most `clusters`, none twice."""
    if how == "linear":
        return np.unique(np.linspace(ordered[0], ordered[-1], clusters))
    if how == "density":
        middle = (np.arange(clusters) + 0.5) / clusters
        return np.unique(ordered[(middle * len(ordered)).astype(np.int64)])
    if how == "random":
        distinct = ordered[np.diff(ordered, prepend=-np.inf) > 0]
        drawn = np.random.default_rng(seed).permutation(len(distinct))[:clusters]
        return np.sort(distinct[drawn])
    if how == "optimal":
        return _optimal(ordered, sums, clusters)
    raise ConfigError(
        f"k-means initialisation must be linear, density, random or optimal, not {how!r}"
    )


def _optimal(ordered: np.ndarray, sums: np.ndarray, clusters: int) -> np.ndarray:
    """Centroids of the least sum of squares among clusterings that split no histogram bin."""
    distinct = ordered[np.diff(ordered, prepend=-np.inf) > 0]
    if len(distinct) <= clusters:
        return distinct
    if len(ordered) <= BINS:
        edges = np.arange(len(ordered) + 1)
    else:
        bins = np.linspace(ordered[0], ordered[-1], BINS + 1)[1:-1]
        edges = np.concatenate(([0], np.searchsorted(ordered, bins), [len(ordered)]))
        edges = np.unique(edges)
    # Centred, so that the difference of two squares below loses nothing.
    middle = sums[-1] / len(ordered)
    counts = edges.astype(np.float64)
    totals = sums[edges] - middle * edges
    ends = _partition(counts, totals, min(clusters, len(edges) - 1))
    cuts = edges[ends]
    return np.unique(np.diff(sums[cuts]) / np.diff(cuts))


@njit()
def _partition(counts, totals, clusters):  # pragma: no cover - compiled
    """Ends of the optimal clusters, ``clusters + 1`` indexes into the prefix sums.

    The sum of squares within a cluster is that of its values, the same for every clustering, less
    ``total² / count``: so that alone is maximised. The best last cut moves to the right with the
    end (the cost is concave Monge), which halves the search at each level: n log n a cluster.
    """
    n = len(counts) - 1
    best = np.full(n + 1, -np.inf)
    best[0] = 0.0
    cuts = np.zeros((clusters + 1, n + 1), np.int32)
    stack = np.empty((64, 4), np.int64)
    for k in range(1, clusters + 1):
        following = np.full(n + 1, -np.inf)
        stack[0] = (k, n, k - 1, n - 1)
        depth = 1
        while depth:
            depth -= 1
            low, high, first, last = stack[depth]
            if low > high:
                continue
            middle = (low + high) // 2
            cut, score = first, -np.inf
            for j in range(max(first, k - 1), min(last, middle - 1) + 1):
                total = totals[middle] - totals[j]
                value = best[j] + total * total / (counts[middle] - counts[j])
                if value > score:
                    cut, score = j, value
            following[middle] = score
            cuts[k, middle] = cut
            stack[depth] = (low, middle - 1, first, cut)
            stack[depth + 1] = (middle + 1, high, cut, last)
            depth += 2
        best = following
    ends = np.zeros(clusters + 1, np.int64)
    ends[clusters] = n
    for k in range(clusters, 0, -1):
        ends[k - 1] = cuts[k, ends[k]]
    return ends

"""One-dimensional k-means against brute force."""

import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.compression import kmeans
from pleach.compression.quantisers.entropy import EntropyConstrained, cheapest
from pleach.errors import ConfigError

ALL = ("linear", "density", "random", "optimal")


def squares(values, centroids, codes) -> float:
    return float(np.sum((values - centroids[codes]) ** 2))


def best_squares(values, clusters) -> float:
    """Least sum of squares over all partitions of the sorted values into intervals."""
    values = np.sort(values)
    least = np.inf
    for cuts in combinations(range(1, len(values)), min(clusters, len(values)) - 1):
        parts = np.split(values, cuts)
        least = min(least, sum(float(np.sum((p - p.mean()) ** 2)) for p in parts))
    return least


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=9),
    st.integers(1, 4),
    st.sampled_from(ALL),
)
def test_small_sets(integers, clusters, initialisation):
    values = np.array(integers) / 8
    centroids, codes = kmeans(values, clusters, initialisation=initialisation)
    assert 1 <= len(centroids) <= clusters
    assert np.all(np.diff(centroids) > 0)
    assert set(codes) == set(range(len(centroids)))
    # Lloyd's fixed point: nearest centroid, ties to the lower; centroid the mean of its members.
    distances = np.abs(values[:, None] - centroids)
    assert np.allclose(distances[np.arange(len(values)), codes], distances.min(axis=1))
    for code, centroid in enumerate(centroids):
        assert np.isclose(values[codes == code].mean(), centroid)
    if initialisation == "optimal":
        assert np.isclose(squares(values, centroids, codes), best_squares(values, clusters))


def test_optimal_is_better_than_linear_on_a_weight_distribution():
    values = np.random.default_rng(3).laplace(size=50_000).astype(np.float32)
    found = {how: squares(values, *kmeans(values, 32, initialisation=how)) for how in ALL}
    assert min(found.values()) == found["optimal"]
    assert found["linear"] > 1.01 * found["optimal"]


def test_histogram_costs_little():
    # Twice as many distinct values as bins, against the exact programme on every value.
    values = np.random.default_rng(4).normal(size=8192)
    by_bins = squares(values, *kmeans(values, 8, initialisation="optimal"))

    module = sys.modules["pleach.compression.quantisers.kmeans"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BINS", len(values))
        exact = squares(values, *kmeans(values, 8, initialisation="optimal"))
    assert exact <= by_bins <= 1.0005 * exact


def test_random_follows_its_seed():
    values = np.random.default_rng(5).normal(size=500)
    first, again, other = (
        kmeans(values, 8, initialisation="random", seed=seed, iterations=1)[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_edges():
    assert kmeans(np.array([2.0, 2.0]), 4)[0].tolist() == [2.0]
    centroids, codes = kmeans(np.zeros(0), 4)
    assert len(centroids) == 0 and len(codes) == 0
    tie = kmeans(np.array([0.0, 1.0, 2.0, 0.0, 2.0]), 2, iterations=0)
    assert tie[0].tolist() == [0.0, 2.0] and tie[1].tolist() == [0, 0, 1, 0, 1]
    with pytest.raises(ConfigError, match="one cluster, not 0"):
        kmeans(np.zeros(3), 0)
    with pytest.raises(ConfigError, match="optimal, not 'best'"):
        kmeans(np.zeros(3), 2, initialisation="best")


@pytest.mark.parametrize("initialisation", ALL)
def test_an_outlier_wastes_no_centroid(initialisation):
    values = np.r_[np.linspace(-1, 1, 99), 500]
    centroids, codes = kmeans(values, 16, initialisation=initialisation)
    assert len(centroids) == len(set(codes)) == 16
    best = squares(values, *kmeans(values, 16, initialisation="optimal"))
    assert squares(values, centroids, codes) < 1.5 * best


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([-500.0, -1.0, -0.5, 0.0, 0.1, 0.2, 0.3, 0.35, 7.0]), min_size=1),
    st.integers(1, 9),
    st.sampled_from(ALL),
)
def test_as_many_centroids_as_there_can_be(values, clusters, initialisation):
    centroids, codes = kmeans(np.array(values), clusters, initialisation=initialisation)
    assert len(centroids) == len(set(codes)) == min(clusters, len(set(values)))


def test_a_value_half_way_goes_to_the_lower_centroid_in_every_step():
    """1 is half-way between the first centroids, 0 and 2; the means of the next step tell."""
    centroids, codes = kmeans(np.array([0.0, 1.0, 2.0]), 2)
    assert centroids.tolist() == [0.5, 2.0] and codes.tolist() == [0, 0, 1]


def test_values_that_pay_for_their_bits():
    """Against brute force, and against k-means at the price of both."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        values, cost = rng.normal(size=50), rng.exponential(size=7)
        centroids = np.sort(rng.normal(size=7))
        every = (values[:, None] - centroids) ** 2 + cost
        assert np.array_equal(cheapest(values, centroids, cost), every.argmin(1))

    values = rng.laplace(size=1000)

    def paid(rule):
        codebook = rule.codebook(values, 16, seed=0)
        codes = rule.codes(values, codebook)
        share = np.bincount(codes, minlength=len(codebook)) / len(values)
        assert (share > 0).all() and (np.diff(codebook) > 0).all()
        bits = -(share * np.log2(share)).sum()
        return np.mean((codebook[codes] - values) ** 2), bits

    (square, bits), (least, most) = (
        paid(EntropyConstrained(price=0.1)),
        paid(EntropyConstrained(price=0)),
    )
    price = 0.1 * np.mean(values**2)
    assert square + price * bits < least + price * most and bits < most - 0.2
    assert np.array_equal(
        EntropyConstrained(price=0).codebook(values, 16, seed=0), kmeans(values, 16)[0]
    )
    assert len(EntropyConstrained().codebook(np.zeros(0), 4, seed=0)) == 0

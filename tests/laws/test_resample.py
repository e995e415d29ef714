"""The cluster bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from lrscale.laws.resample import bootstrap_interval, cluster_weights


@pytest.mark.parametrize("options", [{}, {"bayesian": False}, {"spread": 1.3}])
def test_points_of_a_cluster_are_drawn_together(options):
    clusters = ["run 1", "run 2", "run 1", "run 3"]
    weights = cluster_weights(clusters, 400, np.random.default_rng(0), **options)
    assert weights.shape == (400, 4)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    # Each resample distributes the weight of three clusters.
    np.testing.assert_allclose(weights[:, 1:].sum(axis=1), 3.0)


def test_counts_are_whole_and_bayesian_weights_leave_no_cluster_out():
    rng = np.random.default_rng(0)
    counts = cluster_weights(range(5), 500, rng, bayesian=False)
    assert np.all(counts == np.round(counts)) and (counts == 0).any()
    assert (cluster_weights(range(5), 500, rng) > 0).all()


@pytest.mark.parametrize("spread", [0.8, 1.0, 1.5])
def test_spread_is_the_standard_deviation_in_units_of_the_bootstraps(spread):
    y = np.random.default_rng(1).standard_normal(12)
    weights = cluster_weights(range(12), 40_000, np.random.default_rng(2), spread=spread)
    means = (weights @ y) / weights.sum(axis=1)
    assert means.std() == pytest.approx(spread * y.std() / np.sqrt(12), rel=0.02)


def test_a_seed_repeats_the_weights():
    first, second = (cluster_weights(range(4), 10, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("clusters", [5, 12])
def test_the_interval_of_a_mean_covers_with_few_clusters(clusters):
    rng = np.random.default_rng(3)
    studies, corrected, plain = 400, 0, 0
    for _ in range(studies):
        y = rng.standard_normal(clusters)
        weights = cluster_weights(range(clusters), 400, rng, bayesian=False)
        draws = weights @ y / clusters
        own = bootstrap_interval(float(y.mean()), draws, 0.95, clusters - 1, clusters=clusters)
        corrected += own.contains(0.0)
        lo, hi = np.quantile(draws, [0.025, 0.975])
        plain += bool(lo <= 0 <= hi)
    assert corrected >= binom.ppf(1e-3, studies, 0.93)
    assert plain < corrected


def test_the_interval_is_open_without_degrees_of_freedom_or_draws():
    draws = np.random.default_rng(0).standard_normal(100)
    assert not bootstrap_interval(0.0, draws, 0.95, 0).bounded
    draws[:20] = np.nan
    assert not bootstrap_interval(0.0, draws, 0.95, 5).bounded


def test_the_interval_holds_the_estimate_though_all_draws_lie_beside_it():
    own = bootstrap_interval(0.0, np.linspace(1, 2, 100), 0.9, 8)
    assert own.lo == 0.0 and own.hi > 1.9

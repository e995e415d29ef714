"""Draws of the parameters of a loss law against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import linregress, t

from lrscale.laws.scale.loss import CHINCHILLA, POWER_DECAY
from lrscale.laws.scale.loss_draws import draw
from lrscale.laws.varpro import solve

PUBLISHED = np.array([1.817, 482.01, 0.3478, 2085.43, 0.3658])


def ends(law, x, loss, clusters, delta=np.inf, resamples=4000):
    found = solve(law, x, loss, delta=delta)
    rng = np.random.default_rng(0)
    draws = draw(law, x, loss, clusters, found, residual="log", confidence=0.95, resamples=resamples, rng=rng)
    assert draws.shape == (resamples, law.n_parameters)
    return np.quantile(draws, [0.025, 0.975], axis=0, method="weibull")


@pytest.mark.parametrize("n", [5, 12])
def test_a_line_in_logarithms_gets_students_interval(n):
    x = np.geomspace(1.0, 1e4, n)
    loss = 3 * x**-0.3 * np.exp(0.02 * np.random.default_rng(n).standard_normal(n))
    exact = linregress(np.log(x), np.log(loss))
    half = t.ppf(0.975, n - 2) * exact.stderr
    lo, hi = ends(POWER_DECAY, {"size": x}, loss, range(n))[:, 1]
    assert lo == pytest.approx(-exact.slope - half, abs=0.04 * half)
    assert hi == pytest.approx(-exact.slope + half, abs=0.04 * half)


def test_seeds_of_a_cell_count_as_one_observation_of_its_departure():
    rng = np.random.default_rng(1)
    size = np.geomspace(1.0, 1e4, 8)
    departure = 0.02 * rng.standard_normal(8)
    cell = np.repeat(np.arange(8), 5)
    loss = 3 * size[cell] ** -0.3 * np.exp(departure[cell] + 0.002 * rng.standard_normal(40))
    means = np.exp(np.bincount(cell, weights=np.log(loss)) / 5)
    exact = linregress(np.log(size), np.log(means))
    lo, hi = ends(POWER_DECAY, {"size": size[cell]}, loss, cell.tolist())[:, 1]
    assert hi - lo == pytest.approx(2 * t.ppf(0.975, 6) * exact.stderr, rel=0.05)


def test_unequal_numbers_of_seeds_without_departures_weigh_by_their_number():
    rng = np.random.default_rng(2)
    size, count = np.geomspace(1.0, 1e4, 40), rng.integers(1, 9, 40)
    cell = np.repeat(np.arange(40), count)
    loss = 3 * size[cell] ** -0.3 * np.exp(0.02 * rng.standard_normal(cell.size))
    exact = linregress(np.log(size[cell]), np.log(loss))
    lo, hi = ends(POWER_DECAY, {"size": size[cell]}, loss, cell.tolist())[:, 1]
    # The noise of 40 means is known to 11 %.
    assert hi - lo == pytest.approx(2 * t.ppf(0.975, 38) * exact.stderr, rel=0.3)


def test_a_threshold_far_below_the_noise_widens_by_what_it_costs():
    rng = np.random.default_rng(3)
    x = np.geomspace(1.0, 1e4, 300)
    loss = 3 * x**-0.3 * np.exp(0.02 * rng.standard_normal(300))
    squares = np.diff(ends(POWER_DECAY, {"size": x}, loss, range(300))[:, 1])[0]
    least_absolute = np.diff(ends(POWER_DECAY, {"size": x}, loss, range(300), delta=1e-5)[:, 1])[0]
    # Least absolute residuals are as good as 2 / pi of normal observations.
    assert least_absolute / squares == pytest.approx(np.sqrt(np.pi / 2), rel=0.15)


def test_exact_losses_leave_no_spread():
    x = {"params": np.repeat([5e7, 4e8, 4e9], 3), "tokens": np.tile([1e9, 1e10, 1e11], 3)}
    lo, hi = ends(CHINCHILLA, x, CHINCHILLA.predict(PUBLISHED, x), range(9), delta=1e-3, resamples=128)
    np.testing.assert_allclose(hi, lo, rtol=1e-3)


def test_runs_with_curves_are_drawn_whole():
    rng = np.random.default_rng(4)
    params, tokens = (axis.ravel() for axis in np.meshgrid(np.geomspace(5e7, 4e9, 10), np.geomspace(1e9, 1.5e11, 10)))
    run = np.unique(params, return_inverse=True)[1]
    x = {"params": params, "tokens": tokens}
    loss = CHINCHILLA.predict(PUBLISHED, x) * np.exp(0.005 * rng.standard_normal(10)[run])
    whole = np.diff(ends(CHINCHILLA, x, loss, run.tolist(), resamples=400)[:, 2])[0]
    apart = np.diff(ends(CHINCHILLA, x, loss, range(100), resamples=400)[:, 2])[0]
    assert whole > 1.5 * apart

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import digamma

from lrscale.laws import fit_lr_slice
from lrscale.laws.optimal_lr.shared_noise import posteriors_together, prior_df

from ..simulated import grid


def noisy(rng, noise, best=1e-2):
    lr = grid(7, math.log(best))
    return fit_lr_slice(lr, 3 + 0.05 * np.log(lr / best) ** 2 + noise * rng.standard_normal(7), resamples=100)


def spread(own):
    low, high = own.vertex_quantile(np.array([0.16, 0.84]))
    return float(high - low) / 2


def test_the_degrees_of_freedom_behind_many_variances_are_found():
    # Scaled inverse chi-squared variances with 8 degrees of freedom, each estimated with 4.
    rng = np.random.default_rng(0)
    true = 8 / rng.chisquare(8, 20_000)
    found = prior_df(true * rng.chisquare(4, 20_000) / 4, np.full(20_000, 4.0))
    # The log-variance estimator has a relative standard error of about 3 % here.
    assert found == pytest.approx(8, rel=0.12)


def test_variances_no_more_spread_than_chance_come_from_one_noise():
    # Medians of the estimate's distribution: no spread at all.
    assert prior_df(np.full(4, math.exp(digamma(1.5))), np.full(4, 3.0)) == 1e4
    assert prior_df(np.array([1.0]), np.array([3.0])) == 0.0


def test_slices_of_one_noise_lend_it_to_each_other():
    # An unlucky slice thinks its noise small, and its interval is too narrow alone; together all have much the same.
    rng = np.random.default_rng(1)
    ratios, alone = [], []
    for _ in range(6):
        slices = [noisy(rng, 0.01) for _ in range(5)]
        located = [own for own in slices if own.ok]
        together = [spread(own) for own in posteriors_together(slices) if own is not None]
        own = [float(np.diff(np.percentile(one.vertex_draws, [16, 84]))[0]) / 2 for one in located]
        ratios.append(float(np.std(np.log(together))))
        alone.append(float(np.std(np.log(own))))
    assert np.mean(ratios) < 0.8 * np.mean(alone)


def test_a_slice_much_noisier_than_the_others_borrows_nothing():
    rng = np.random.default_rng(2)
    slices = [noisy(rng, 1e-4) for _ in range(3)] + [noisy(rng, 0.02)]
    assert slices[3].ok
    low, high = np.percentile(slices[3].vertex_draws, [16, 84])
    last = posteriors_together(slices)[3]
    assert last is not None
    assert spread(last) > 0.8 * float(high - low) / 2


def test_a_censored_slice_has_no_posterior():
    rng = np.random.default_rng(3)
    lr = grid(7)
    falling = fit_lr_slice(lr, -np.log(lr) + 0.01 * rng.standard_normal(7))
    assert posteriors_together([noisy(rng, 0.005), falling])[1] is None

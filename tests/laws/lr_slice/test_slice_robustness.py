"""Sweeps as they come: crashes, wild runs, unequal seeds, noise that grows near divergence."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.stats import binom

from lrscale.laws import fit_lr_slice
from lrscale.laws.noise import noise_floor

from ..simulated import grid, study

STUDIES = 60


def diverged_at_random(lr, loss, seed, rng):
    loss = loss.copy()
    loss[rng.random(loss.size) < 0.1] = np.nan
    return lr, loss, seed


def one_wild_run(lr, loss, seed, rng):
    loss = loss.copy()
    loss[rng.integers(loss.size)] += rng.choice([-1, 1]) * 0.5
    return lr, loss, seed


def unequal_seeds(lr, loss, seed, rng):
    keep = (seed == 0) | (rng.random(loss.size) < 0.6)
    return lr[keep], loss[keep], seed[keep]


def noise_near_divergence(lr, loss, seed, rng):
    top = lr >= np.sort(np.unique(lr))[-2]
    return lr, loss + np.where(top, 0.06 * np.abs(rng.standard_normal(loss.size)), 0.0), seed


@pytest.mark.parametrize("mishap", [diverged_at_random, one_wild_run, unequal_seeds, noise_near_divergence])
def test_the_interval_stays_honest(mishap):
    rng = np.random.default_rng(31)
    covered = total = 0
    for _ in range(STUDIES):
        lr, loss, seed, best = study("cubic skew", rng, lrs=7, seeds=3, noise=0.01, curvature=0.05)
        lr, loss, seed = mishap(lr, loss, seed, rng)
        fit = fit_lr_slice(lr, loss, seed=seed, resamples=100)
        if fit.interval is not None:
            total += 1
            covered += fit.interval.contains(best)
    assert total > 0.9 * STUDIES
    # An interval with 91 % coverage falls below this count once in a thousand runs.
    assert covered >= binom.ppf(1e-3, total, 0.91)


def test_the_lowest_of_ten_noisy_runs_is_too_low_by_one_and_a_half_sd_and_the_fit_is_not():
    # E[min of 10 standard normals] = -1.5388 (Harter 1961, "Expected values of normal order statistics").
    rng = np.random.default_rng(32)
    sd, lowest, fitted, covered = 0.01, [], [], 0
    lr = grid(10, ratio=1.15)
    for _ in range(120):
        # So flat that the ten runs differ by little but their noise.
        loss = 3 + 0.004 * np.log(lr) ** 2 + sd * rng.standard_normal(10)
        lowest.append((loss.min() - 3) / sd)
        wide = grid(10)
        fit = fit_lr_slice(wide, 3 + 0.05 * np.log(wide) ** 2 + sd * rng.standard_normal(10), resamples=200)
        assert fit.ok
        fitted.append((fit.min_loss - 3) / sd)
        covered += fit.min_loss_interval.contains(3.0)
    assert np.mean(lowest) == pytest.approx(-1.54, abs=0.25)
    assert abs(np.mean(fitted)) < 0.35
    # With one seed the level rests on few runs near the minimum: 90 to 96 % covered in simulations.
    assert covered >= binom.ppf(1e-3, 120, 0.90)


def test_noise_that_grows_with_the_lr_is_noticed():
    rng = np.random.default_rng(33)
    # The optimum lies at the second LR, so that the loss rises towards divergence.
    lr, seed = np.tile(grid(7, centre=3.5 * np.log(2)), 6), np.repeat(np.arange(6), 7)
    u = np.log(lr / 2)
    loss = 3 + 0.05 * u**2 + np.where(u > 2.5, 0.1, 0.002) * rng.standard_normal(lr.size)
    floor = noise_floor(lr, loss, seed=seed)
    sds = [sd for _, sd, _ in floor.sd_at]
    assert min(sds[-2:]) > 3 * max(sds[:4])
    assert floor.heteroscedastic


def test_a_thousand_resamples_take_less_than_two_seconds():
    rng = np.random.default_rng(34)
    lr, loss, seed, _ = study("wall", rng, lrs=10, seeds=5, noise=0.01, curvature=0.05)
    start = time.process_time()
    fit = fit_lr_slice(lr, loss, seed=seed, resamples=1000)
    assert time.process_time() - start < 2
    assert len(fit.vertex_draws) == 1000
    assert math.isfinite(fit.interval.hi)

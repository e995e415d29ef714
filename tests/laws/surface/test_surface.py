from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import binom

from lrscale.errors import LrscaleError
from lrscale.laws import FitStatus, fit_lr_slice
from lrscale.laws.lr_slice.basin import basin
from lrscale.laws.surface.surface import fit_lr_surface
from lrscale.laws.surface.surface_fit import LRSurfaceFit

BATCHES = (16.0, 64.0, 256.0, 1024.0, 4096.0)


def power(batch):
    return 1e-3 * np.asarray(batch) ** 0.6


def saturating(batch):
    return 0.02 / (1 + 256 / np.asarray(batch))


def thin(best, rng, *, noise=0.0, seeds=1, lrs=3, batches=BATCHES, curvature=0.1, shift=1.0):
    """Return columns of runs: `lrs` LRs at ratio 4 around a centre within `shift` doublings of the best LR."""
    rows = []
    for size in batches:
        centre = math.log(float(best(size))) + rng.uniform(-shift, shift) * math.log(2)
        for seed in range(seeds):
            level = 3 - 0.1 * math.log(size) + 2 * noise * rng.standard_normal()
            for x in centre + math.log(4) * (np.arange(lrs) - (lrs - 1) / 2):
                u = x - math.log(float(best(size)))
                value = level + curvature * basin(np.array(u), 0.5, 1.0) + noise * rng.standard_normal()
                rows.append((math.exp(x), size, float(value), seed))
    lr, batch, loss, seed_of = (np.array(column) for column in zip(*rows, strict=True))
    return lr, batch, loss, seed_of


@pytest.mark.parametrize("best", [power, saturating])
def test_noiseless_thin_slices_give_the_best_lrs_to_1e_4(best):
    lr, batch, loss, _ = thin(best, np.random.default_rng(0))
    fit = fit_lr_surface(lr, batch, loss)
    assert fit.status is FitStatus.OK
    np.testing.assert_allclose(fit.best_lrs, best(BATCHES), rtol=1e-4)
    assert fit.curvature == pytest.approx(0.1, rel=1e-2)
    assert fit.exponents == (0.5, 1.0)


def test_slices_too_thin_to_be_fitted_alone_give_an_answer_together():
    lr, batch, loss, _ = thin(saturating, np.random.default_rng(1), noise=0.005)
    for size in BATCHES:
        assert fit_lr_slice(lr[batch == size], loss[batch == size]).status is FitStatus.TOO_FEW_POINTS
    fit = fit_lr_surface(lr, batch, loss)
    assert fit.status is FitStatus.OK
    assert fit.law == "saturating"
    for size, interval in zip(BATCHES, fit.intervals, strict=True):
        assert interval.hi / interval.lo < 2
        assert interval.lo / 1.2 < saturating(size) < 1.2 * interval.hi


def test_two_lrs_at_each_batch_size_can_be_enough():
    lr, batch, loss, _ = thin(
        power, np.random.default_rng(2), noise=0.002, lrs=2, batches=(16, 32, 64, 128, 256, 512, 1024, 2048)
    )
    fit = fit_lr_surface(lr, batch, loss)
    assert fit.status is FitStatus.OK
    _, lo, hi = fit.predict([64, 1024])
    assert np.all((lo < power([64, 1024])) & (power([64, 1024]) < hi))


@pytest.mark.slow
@pytest.mark.parametrize("best", [power, saturating])
@pytest.mark.parametrize("seeds", [1, 2])
def test_the_interval_covers_the_true_optimum(best, seeds):
    rng = np.random.default_rng(3)
    covered = total = 0
    for _ in range(40):
        lr, batch, loss, seed = thin(best, rng, noise=0.009, seeds=seeds)
        fit = fit_lr_surface(lr, batch, loss, seed=seed, resamples=300)
        if fit.ok:
            total += 1
            size = BATCHES[rng.integers(5)]
            _, lo, hi = fit.predict([size])
            covered += bool(lo[0] <= best(size) <= hi[0])
    assert total >= 38
    # At 90 % coverage fewer are covered once in a thousand times.
    assert covered >= binom.ppf(1e-3, total, 0.9)


@pytest.mark.parametrize(("sign", "status"), [(-1, FitStatus.CENSORED_HIGH), (1, FitStatus.CENSORED_LOW)])
def test_no_rise_on_one_side_at_any_batch_size_is_censored(sign, status):
    rng = np.random.default_rng(4)
    batch = np.repeat(BATCHES, 4)
    lr = np.tile([1e-3, 2e-3, 4e-3, 8e-3], 5)
    fit = fit_lr_surface(lr, batch, 3 + 0.1 * sign * np.log(lr) + 0.001 * rng.standard_normal(20))
    assert fit.status is status
    assert fit.best_lrs == (None,) * 5
    for interval in fit.intervals:
        if sign < 0:
            assert interval.hi is None
            assert interval.lo <= 8e-3
        else:
            assert interval.lo is None
            assert interval.hi >= 1e-3


def test_a_curvature_of_each_batch_size_its_own_is_noticed():
    rng = np.random.default_rng(5)
    parts = [
        thin(power, rng, noise=0.002, seeds=2, lrs=5, batches=(size,), curvature=curvature, shift=0.3)
        for size, curvature in zip(BATCHES, (0.3, 0.02, 0.3, 0.02, 0.3), strict=True)
    ]
    lr, batch, loss, seed = (np.concatenate(column) for column in zip(*parts, strict=True))
    fit = fit_lr_surface(lr, batch, loss, seed=seed)
    assert fit.status is FitStatus.POOR_FIT
    assert fit.shared_curvature_p < 1e-3
    shared = fit_lr_surface(*thin(power, rng, noise=0.002, seeds=2, lrs=5)[:3])
    assert shared.shared_curvature_p > 1e-3


def test_pure_noise_has_no_best_lr():
    rng = np.random.default_rng(6)
    batch, lr = np.repeat(BATCHES, 3), np.tile([1e-3, 4e-3, 1.6e-2], 5)
    named = sum(fit_lr_surface(lr, batch, rng.standard_normal(15), resamples=100).ok for _ in range(6))
    assert named <= 2


def test_units_change_the_answer_only_by_themselves():
    lr, batch, loss, seed = thin(saturating, np.random.default_rng(7), noise=0.005)
    one = fit_lr_surface(lr, batch, loss, seed=seed)
    two = fit_lr_surface(1e3 * lr, 2048 * batch, 50 * loss - 7, seed=seed)
    assert (two.status, two.law) == (one.status, one.law)
    np.testing.assert_allclose(two.best_lrs, 1e3 * np.array(one.best_lrs), rtol=1e-3)
    np.testing.assert_allclose(two.predict([2048 * 100.0]), 1e3 * np.array(one.predict([100.0])), rtol=1e-2)
    assert two.curvature == pytest.approx(50 * one.curvature, rel=1e-2)


def test_diverged_runs_bound_the_optimum_from_above():
    lr, batch, loss, seed = thin(power, np.random.default_rng(8), noise=0.004, lrs=4)
    loss[lr > 2.5 * power(batch)] = np.nan
    fit = fit_lr_surface(lr, batch, loss, seed=seed)
    assert fit.n_diverged == int(np.isnan(loss).sum()) > 0
    for interval, bound in zip(fit.intervals, fit.diverged_above, strict=True):
        if interval is not None and interval.hi is not None and bound is not None:
            assert interval.hi <= 1.01 * bound


@pytest.mark.parametrize(
    ("lr", "batch", "loss", "status"),
    [
        ([1e-3, 2e-3], [16, 16], [None, None], FitStatus.ALL_DIVERGED),
        ([1e-3], [16], [2.0], FitStatus.TOO_FEW_POINTS),
        ([1e-3, 2e-3, 4e-3] * 2, [16] * 6, [2.0, 1.9, 2.0, 2.1, 1.9, 2.0], FitStatus.TOO_FEW_POINTS),
        ([1e-3, 2e-3] * 2, [16, 16, 64, 64], [2.0, 1.9, 2.0, 2.1], FitStatus.TOO_FEW_POINTS),
    ],
)
def test_runs_that_cannot_answer_say_so(lr, batch, loss, status):
    fit = fit_lr_surface(lr, batch, loss)
    assert fit.status is status
    assert fit.reason.endswith(".")
    assert LRSurfaceFit.from_dict(json.loads(json.dumps(fit.to_dict(), allow_nan=False))) == fit
    assert fit.summary()
    with pytest.raises(LrscaleError, match="no law was fitted"):
        fit.predict([64])


def test_wild_outliers_are_found_and_lose_their_influence():
    # One wild run at each of three batch sizes: 0.1 off, twenty times the noise.
    lr, batch, loss, seed = thin(power, np.random.default_rng(10), noise=0.005, seeds=2, lrs=5)
    wild = loss.copy()
    wild[[2, 17, 33]] += (0.1, -0.1, 0.1)
    clean, fit = (fit_lr_surface(lr, batch, own, seed=seed, resamples=200) for own in (loss, wild))
    assert clean.ok and fit.ok
    assert clean.outliers == ()
    assert fit.outliers == (2, 17, 33)
    for size, interval, best in zip(fit.batch_sizes, fit.intervals, clean.best_lrs, strict=True):
        assert interval.contains(power(size))
        assert interval.contains(best)
    assert "rows 2, 17, 33" in fit.summary()


@pytest.mark.slow
def test_one_wild_run_leaves_the_interval_of_a_thin_surface_honest():
    # Three LRs cannot always tell which run is wrong; then the interval is wider.
    rng = np.random.default_rng(11)
    hits = told = 0
    for _ in range(20):
        lr, batch, loss, seed = thin(power, rng, noise=0.005, seeds=2)
        loss[rng.integers(loss.size)] += rng.choice([-0.1, 0.1])
        fit = fit_lr_surface(lr, batch, loss, seed=seed, resamples=200)
        told += fit.ok
        hits += fit.ok and fit.intervals[2].contains(power(256))
    # At 95 % each, fewer than 85 % of 20 are covered with a probability of 0.3 %.
    assert hits >= 0.8 * told
    assert told >= 10


def test_a_surface_written_before_outliers_were_named_is_still_read():
    fit = fit_lr_surface(*thin(power, np.random.default_rng(9), noise=0.005)[:3], resamples=100)
    data = {name: value for name, value in fit.to_dict().items() if name != "outliers"}
    assert LRSurfaceFit.from_dict(data) == fit


def test_a_fit_repeats_and_survives_json_exactly():
    lr, batch, loss, seed = thin(saturating, np.random.default_rng(9), noise=0.005)
    fit = fit_lr_surface(lr, batch, loss, seed=seed)
    assert fit_lr_surface(lr, batch, loss, seed=seed) == fit
    again = LRSurfaceFit.from_dict(json.loads(json.dumps(fit.to_dict(), allow_nan=False)))
    assert again == fit
    np.testing.assert_array_equal(again.predict([100]), fit.predict([100]))
    assert "saturating" in fit.summary()
    assert fit.inside(100)
    assert not fit.inside(1e6)


@pytest.mark.parametrize(
    ("batch", "match"),
    [([16] * 4, "batch_size has shape"), ([16, 16, -1, 4, 4], "row 2"), ([16, np.nan, 1, 4, 4], "row 1")],
)
def test_misuse_names_the_row(batch, match):
    with pytest.raises(LrscaleError, match=match):
        fit_lr_surface([1e-3] * 5, batch, [1.0] * 5)

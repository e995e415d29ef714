"""Coverage of the interval of the best LR on small designs; benchmarks/coverage.py prints the whole table."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from lrscale.laws import fit_lr_slice

from ..simulated import study

STUDIES = 80


@pytest.mark.parametrize(
    ("shape", "design"),
    [
        ("own model", {"lrs": 5, "seeds": 1, "noise": 0.009, "curvature": 0.05}),
        ("cubic skew", {"lrs": 6, "seeds": 2, "noise": 0.03, "curvature": 0.05}),
        ("wall", {"lrs": 8, "seeds": 1, "noise": 0.003, "curvature": 0.02}),
        ("parabola", {"lrs": 7, "seeds": 1, "noise": 0.009, "curvature": 0.02}),
    ],
)
def test_the_interval_covers_the_true_optimum(shape, design):
    rng = np.random.default_rng(20)
    covered = total = 0
    for _ in range(STUDIES):
        lr, loss, seed, best = study(shape, rng, **design)
        fit = fit_lr_slice(lr, loss, seed=seed, resamples=100)
        if fit.interval is not None:
            total += 1
            covered += fit.interval.contains(best)
    assert total > 0.9 * STUDIES
    # An interval with 92 % coverage falls below this count once in a thousand runs.
    assert covered >= binom.ppf(1e-3, total, 0.92)


@pytest.mark.parametrize("lrs", [5, 7])
def test_the_noise_of_a_single_seed_is_not_read_too_low_from_a_flexible_curve(lrs):
    rng = np.random.default_rng(22)
    shares = []
    for _ in range(60):
        lr, loss, seed, _ = study("own model", rng, lrs=lrs, seeds=1, noise=0.009, curvature=0.03)
        fit = fit_lr_slice(lr, loss, seed=seed, resamples=100)
        if fit.noise_sd is not None:
            shares.append(fit.noise_sd / 0.009)
    # Counting only level, curvature and vertex as fitted gave 0.61 and 0.74.
    assert 0.85 < np.sqrt(np.mean(np.square(shares))) < 1.3


def test_ignoring_seed_blocks_would_cost_precision():
    rng = np.random.default_rng(21)
    widths = []
    for _ in range(10):
        lr, loss, seed, _ = study("parabola", rng, lrs=7, seeds=3, noise=0.02, curvature=0.05)
        with_blocks, without = fit_lr_slice(lr, loss, seed=seed), fit_lr_slice(lr, loss)
        if with_blocks.ok and without.ok:
            widths.append(
                np.log(without.interval.hi / without.interval.lo)
                / np.log(with_blocks.interval.hi / with_blocks.interval.lo)
            )
    assert np.median(widths) > 1.3

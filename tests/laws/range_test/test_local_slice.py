"""Runs far from the lowest do not pull the best LR, and the interval counts what their curve would have said."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from lrscale.laws.base import FitStatus
from lrscale.laws.range_test.confirmation import FixedRun
from lrscale.laws.range_test.local_slice import NEAR_REACH, LocalSlice, fit_local_slice

START = 5.545
BEST = 2.0**-9
LATTICE = [2.0**power for power in range(-12, -2)]
# Validation losses of the built-in byte-gpt after 100 steps, over six initialisations. Above the best LR they rise
# within a doubling and then level out.
MEASURED = PchipInterpolator(np.log(LATTICE), [3.502, 2.972, 2.744, 2.692, 2.883, 2.973, 2.984, 3.051, 3.147, 3.163])


def measured(lr: float) -> float:
    return float(MEASURED(math.log(lr)))


def parabola(lr: float) -> float:
    return 2.5 + 0.1 * math.log(lr / BEST) ** 2


def runs_of(loss: Callable[[float], float], noise: float, rng: np.random.Generator) -> list[FixedRun]:
    runs = []
    for place, lr in enumerate(LATTICE):
        for seed in range(2 if 2 <= place <= 4 else 1):
            end = loss(lr) + noise * rng.standard_normal()
            runs.append(FixedRun(lr=lr, seed=seed, loss=end, gain=START - end))
    return runs


def local(runs: list[FixedRun]) -> LocalSlice:
    return fit_local_slice(runs, tolerance=1e-3, confidence=0.95)


def test_losses_that_level_out_above_the_best_lr_do_not_pull_it() -> None:
    rng = np.random.default_rng(0)
    near, far, covered = [], [], []
    for _ in range(25):
        found = local(runs_of(measured, 0.03, rng))
        assert found.lr is not None
        assert found.interval is not None
        assert found.wide.vertex is not None
        near.append(measured(found.lr) - measured(BEST))
        far.append(measured(math.exp(found.wide.vertex)) - measured(BEST))
        covered.append(found.interval.contains(BEST))
    # Less than half the noise of one run; a curve through all runs costs more than that noise.
    assert np.mean(near) < 0.015
    assert np.mean(far) > 0.03
    # 21 of 25 or fewer have a probability of 3 % at 95 %.
    assert sum(covered) >= 22


def test_the_interval_grows_by_what_noise_does_not_explain_of_a_wide_curve() -> None:
    rng = np.random.default_rng(1)
    alike = [local(runs_of(parabola, 0.01, rng)).model_error for _ in range(20)]
    apart = [local(runs_of(measured, 0.01, rng)) for _ in range(20)]
    # Where the form holds the difference is within its noise in two of three, and small in the others.
    assert np.median(alike) < 0.02
    assert np.median([found.model_error for found in apart]) > 5 * np.median(alike)
    for found in apart:
        assert found.interval is not None
        assert found.interval.lo is not None
        assert found.interval.hi is not None
        assert found.lr is not None
        if found.model_error > 0:
            assert min(found.lr / found.interval.lo, found.interval.hi / found.lr) >= math.exp(1.9 * found.model_error)
            assert "the whole basin" in found.reason


def test_the_curve_is_fitted_within_three_doublings_and_two_lrs_on_each_side() -> None:
    found = local(runs_of(measured, 1e-3, np.random.default_rng(2)))
    assert found.lr is not None
    inside = sorted({lr for lr, loss in zip(found.fit.lr, found.fit.loss, strict=True) if loss is not None})
    assert max(inside) / found.lr < 1.3 * math.exp(NEAR_REACH)
    assert found.lr / min(inside) < 1.3 * math.exp(NEAR_REACH)
    assert sum(lr < found.lr for lr in inside) >= 2
    assert sum(lr > found.lr for lr in inside) >= 2
    # A far LR is beyond the local curve: the wide one says what it costs.
    cost = found.regret(LATTICE[-1])
    assert cost is not None
    assert cost[0] == pytest.approx(0.47, abs=0.2)


def three_lrs(noise: float) -> list[FixedRun]:
    """Runs at three LRs, too few for a curve; the middle one is lower by 0.1."""
    rng = np.random.default_rng(3)
    return [
        FixedRun(lr=lr, seed=seed, loss=level + noise * rng.standard_normal())
        for lr, level in ((1e-3, 2.6), (2e-3, 2.5), (4e-3, 2.6))
        for seed in range(3)
    ]


def test_runs_that_bracket_the_lowest_name_it_where_no_curve_can() -> None:
    found = local(three_lrs(0.005))
    assert found.fit.status is FitStatus.TOO_FEW_POINTS
    assert found.status is FitStatus.OK
    assert found.lr == 2e-3
    assert found.interval is not None
    assert (found.interval.lo, found.interval.hi) == (1e-3, 4e-3)
    assert "bracket it" in found.reason


def test_a_bracket_within_the_noise_names_nothing() -> None:
    found = local(three_lrs(0.2))
    assert found.status is FitStatus.TOO_FEW_POINTS
    assert found.lr is None


def test_a_lowest_of_pure_noise_is_seldom_named() -> None:
    rng = np.random.default_rng(4)
    named = sum(local(runs_of(lambda lr: 2.5, 0.1, rng)).lr is not None for _ in range(60))
    # A chance of 5 % each is exceeded by 8 of 60 with a probability of 1 %.
    assert named <= 7


def test_divergence_is_the_upper_side_of_a_bracket() -> None:
    runs = [run for run in three_lrs(0.005) if run.lr < 4e-3]
    runs += [FixedRun(lr=8e-3, seed=0, loss=None)]
    found = local(runs)
    assert found.lr is None or found.lr < 8e-3
    assert found.interval is not None
    assert found.interval.hi == 8e-3

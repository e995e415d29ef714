"""Whether runs differ by noise or by what the basins do not fit, and what is expected of settings under noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from lrscale.study.planner import Space
from lrscale.study.planner.noise import UnderNoise
from lrscale.study.planner.planner import MEMBERS
from lrscale.study.planner.prior import BasinBank, Belief

LATTICE = Space.lattice((1e-4, 1e-1), (16, 32, 64, 128, 256))
SURFACES = BasinBank(LATTICE, np.random.default_rng(0), MEMBERS, Belief()).surfaces(LATTICE.logs)


def quartic(away: np.ndarray, off: np.ndarray) -> np.ndarray:
    """No member of the bank: walls of the fourth power about a flat bottom, turned by the batch size."""
    turned = away - 0.3 * off
    return 0.02 * turned**2 + 0.004 * turned**4 + 0.02 * off**2


def bowl(away: np.ndarray, off: np.ndarray) -> np.ndarray:
    return 0.03 * away**2 + 0.015 * off**2


def runs(
    surface: Callable[[np.ndarray, np.ndarray], np.ndarray], noise: float, seed: int, count: int = 12
) -> UnderNoise:
    """Return what runs near the minimum say, as a search has them."""
    rng = np.random.default_rng(seed)
    away = LATTICE.logs - np.log([rng.uniform(1e-3, 8e-3), rng.choice([32.0, 64.0, 128.0])])
    table = surface(away[:, 0], away[:, 1])
    near = np.exp(-table / 0.05)
    rows = rng.choice(len(table), count, replace=False, p=near / near.sum())
    told = table[rows] + noise * rng.standard_normal(count)
    return UnderNoise(SURFACES, LATTICE.logs, rows, told - told.min(), np.zeros(count))


@pytest.mark.parametrize("surface", [bowl, quartic])
def test_noise_matters_where_it_is_as_large_as_the_basin_and_not_where_there_is_none(
    surface: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> None:
    without = [runs(surface, 0.0, seed).matters for seed in range(20)]
    under = [runs(surface, 0.045, seed).matters for seed in range(20)]
    assert np.mean(without) <= 0.05
    assert np.mean(under) >= 0.6


def test_the_unit_of_the_loss_changes_nothing_but_the_unit_of_what_is_expected() -> None:
    rng = np.random.default_rng(3)
    rows, excess = rng.choice(len(LATTICE.points), 9), rng.random(9)
    excess -= excess.min()
    sds = np.array([0, 0, 0.3, 0, 0, 0.1, 0, 0, 0])
    one, thousand = (UnderNoise(SURFACES, LATTICE.logs, rows, unit * excess, unit * sds) for unit in (1.0, 1000.0))
    assert one.share == pytest.approx(thousand.share, rel=1e-9)
    assert np.allclose(1000 * one.mean, thousand.mean)
    assert np.allclose(one.gain(rows), thousand.gain(rows))


def test_replicates_of_one_setting_count_by_their_mean() -> None:
    row = LATTICE.nearest(3e-3, 64)
    elsewhere = [LATTICE.nearest(lr, batch) for lr, batch in ((3e-4, 64), (3e-2, 64), (3e-3, 16), (3e-3, 256))]
    rows = np.array([*elsewhere, *[row] * 8])
    spread = 0.1 * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    excess = np.array([0.9, 1.1, 0.4, 0.5, *(0.1 + spread)])
    answer = UnderNoise(SURFACES, LATTICE.logs, rows, excess, np.zeros(len(rows)))
    assert math.isclose(answer.mean[row], 0.1, abs_tol=0.1 / math.sqrt(8))


def test_an_estimate_counts_as_measured_where_it_is_sure_and_not_at_all_where_it_is_not() -> None:
    rng = np.random.default_rng(5)
    rows = rng.choice(len(LATTICE.points), 10, replace=False)
    away = LATTICE.logs[rows] - np.log([3e-3, 64])
    excess = bowl(away[:, 0], away[:, 1]) + 0.03 * rng.standard_normal(10)
    excess -= excess.min()
    estimated = np.arange(10) == int(np.argsort(excess)[5])
    wrong = np.where(estimated, excess + 0.1, excess)

    def mean(told: np.ndarray, sds: np.ndarray) -> np.ndarray:
        return UnderNoise(SURFACES, LATTICE.logs, rows, told, sds).mean

    left = ~estimated
    without = UnderNoise(SURFACES, LATTICE.logs, rows[left], excess[left], np.zeros(9)).mean
    moved = np.array([np.abs(mean(wrong, sd * estimated) - without).max() for sd in (0.0, 1e-6, 0.1, 1e5)])
    assert moved[1] == pytest.approx(moved[0], rel=1e-3)
    assert moved[2] < moved[1] / 2
    assert moved[3] < moved[1] / 10


def test_how_far_above_the_others_a_run_lies_changes_nothing() -> None:
    # Behind a wall of divergence a loss may be any number, and says nothing of the basin.
    rng = np.random.default_rng(4)
    near = np.flatnonzero(np.abs(LATTICE.logs[:, 0] - math.log(3e-3)) < 1.5)
    rows = np.append(rng.choice(near, 8, replace=False), int(np.argmax(LATTICE.logs[:, 0])))
    away = LATTICE.logs[rows] - np.log([3e-3, 64.0])
    told = bowl(away[:, 0], away[:, 1]) + 0.01 * rng.standard_normal(len(rows))

    def with_wall(height: float) -> UnderNoise:
        losses = np.append(told[:-1], told[:-1].max() + height)
        return UnderNoise(SURFACES, LATTICE.logs, rows, losses - losses.min(), np.zeros(len(rows)))

    low, high = with_wall(2.0), with_wall(4000.0)
    assert low.share == high.share
    assert np.array_equal(low.mean, high.mean)
    # It still counts as far: without it less is expected there.
    without = UnderNoise(SURFACES, LATTICE.logs, rows[:-1], told[:-1] - told[:-1].min(), np.zeros(8))
    assert low.mean[rows[-1]] > 1.2 * without.mean[rows[-1]]

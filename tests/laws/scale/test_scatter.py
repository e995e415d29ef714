"""Draws of a law and of the scatter about it, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from lrscale.laws.scale.optimum_law import PowerOptimum
from lrscale.laws.scale.scatter import scattered
from lrscale.laws.scale.tobit import Cells

LAW = PowerOptimum(("params",))


def cells(n, within, rng, sd):
    x = np.linspace(-1.5, 1.5, n)[:, None]
    y = 0.5 - 0.7 * x[:, 0] + sd * rng.standard_normal(n)
    return Cells(x=x, y=y, variance=np.full(n, within), side=np.zeros(n, dtype=np.int_))


def drawn(own, clusters=None, resamples=4000):
    labels = range(own.y.size) if clusters is None else clusters
    start = np.array([0.5, -0.7])
    return scattered(LAW, own, list(labels), start, resamples=resamples, rng=np.random.default_rng(0))


@pytest.mark.parametrize("within", [0.0, 0.3**2, 2.0**2])
@pytest.mark.parametrize("n", [4, 6, 20])
def test_equal_cells_get_students_t_whatever_their_variance_is_said_to_be(n, within):
    own = cells(n, within, np.random.default_rng(n), 0.3)
    design = np.column_stack([np.ones(n), own.x])
    best, rss = np.linalg.lstsq(design, own.y, rcond=None)[:2]
    se = np.sqrt(rss[0] / (n - 2) * np.linalg.inv(design.T @ design)[1, 1])
    lo, hi = np.percentile(drawn(own).draws[:, 1], [2.5, 97.5])
    half = student.ppf(0.975, n - 2) * se
    np.testing.assert_allclose([lo, hi], [best[1] - half, best[1] + half], atol=0.08 * half)


def test_cells_of_one_cluster_do_not_count_as_cells_of_their_own():
    rng = np.random.default_rng(1)
    own = cells(8, 0.0, rng, 0.3)
    again = np.repeat(np.arange(8), 6)
    copies = Cells(
        x=own.x[again],
        y=own.y[again] + 1e-2 * rng.standard_normal(48),
        variance=np.zeros(48),
        side=np.zeros(48, dtype=np.int_),
    )
    once, shared, apart = drawn(own), drawn(copies, again), drawn(copies)
    width = [np.ptp(np.percentile(one.draws[:, 1], [2.5, 97.5])) for one in (once, shared, apart)]
    assert width[1] == pytest.approx(width[0], rel=0.1)
    assert width[2] < 0.5 * width[0]


def test_the_scatter_of_a_new_cell_is_what_the_variances_leave():
    own = cells(400, 0.3**2, np.random.default_rng(2), 0.5)
    assert drawn(own).scatter == pytest.approx(0.4, abs=0.05)

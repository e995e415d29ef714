"""What is averaged of all that fits the runs."""

from __future__ import annotations

import math

import numpy as np

from lrscale.study.planner import Space
from lrscale.study.planner.hypothesis import NARROW
from lrscale.study.planner.posterior import AVERAGED, Candidates, thinned
from lrscale.study.planner.prior import BasinBank, Belief

LATTICE = Space.lattice((1e-4, 1e-1), (16, 64, 256))


def candidates(runs: int, noise: float) -> Candidates:
    rng = np.random.default_rng(1)
    rows = rng.choice(len(LATTICE.points), runs, replace=False)
    away = LATTICE.logs[rows] - np.log([3e-3, 64])
    losses = 0.05 * away[:, 0] ** 2 + 0.01 * away[:, 1] ** 2 + noise * rng.standard_normal(runs)
    bank = BasinBank(LATTICE, np.random.default_rng(0), 3000, Belief())
    return Candidates(
        bank.surfaces(LATTICE.logs), LATTICE.logs, rows, losses - losses.min(), np.zeros(len(rows)), NARROW
    )


def test_a_thinned_sample_has_the_mean_of_all_weights() -> None:
    rng = np.random.default_rng(0)
    misses = []
    for _ in range(200):
        log_weights, values = 2 * rng.standard_normal(5000), rng.standard_normal(5000)
        weights = np.exp(log_weights) / np.exp(log_weights).sum()
        places, kept = thinned(log_weights, 300)
        assert len(set(places.tolist())) == len(places) == 300
        assert math.isclose(kept.sum(), 1)
        misses.append(kept @ values[places] - weights @ values)
    # The heaviest 300 have two thirds of the weight; the rest, drawn, leaves a standard deviation of 0.034.
    assert abs(np.mean(misses)) < 4 * np.std(misses) / math.sqrt(len(misses))
    assert np.std(misses) < 0.04


def test_few_weights_are_all_kept() -> None:
    places, weights = thinned(np.log([0.2, 0.5, 0.3]), 300)
    assert places.tolist() == [1, 2, 0]
    assert np.allclose(weights, [0.5, 0.3, 0.2], atol=1e-5)


def test_the_whole_has_the_noise_of_all_that_fits_of_which_the_likeliest_have_less_than_half() -> None:
    every = candidates(6, noise=0.05)
    weights = np.exp(every.log_evidence - every.log_evidence.max())
    weights /= weights.sum()
    sigma = float(weights @ np.array([one.sigma for one, _ in every.fits])[every.owner])
    assert abs(every.whole().sigma / sigma - 1) < 0.2
    assert every.leading().sigma < 0.5 * sigma
    assert np.sort(weights)[-AVERAGED:].sum() < 0.5

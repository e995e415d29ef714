from __future__ import annotations

import json

import numpy as np
import pytest

from lrscale.laws import Interval, noise_floor


def test_a_common_shift_of_a_seed_is_not_noise():
    rng = np.random.default_rng(0)
    lr, seed = np.tile([1.0, 2.0, 4.0, 8.0, 16.0], 6), np.repeat(np.arange(6), 5)
    loss = np.log(lr) + 2.0 * rng.standard_normal(6)[seed] + 0.1 * rng.standard_normal(30)
    with_seeds, without = noise_floor(lr, loss, seed=seed), noise_floor(lr, loss)
    assert with_seeds.df == 20
    assert with_seeds.sd == pytest.approx(0.1, rel=0.4)
    assert without.df == 25
    assert without.sd > 0.5
    assert with_seeds.block_sd == pytest.approx(2.0, rel=0.7)


def test_the_variance_estimate_is_unbiased_for_unequal_seeds():
    rng = np.random.default_rng(1)
    lr = np.array([1.0, 1, 1, 2, 2, 4, 4, 4, 8])
    seed = [0, 1, 2, 0, 1, 0, 1, 2, 0]
    variances = [noise_floor(lr, rng.standard_normal(9), seed=seed).sd ** 2 for _ in range(400)]
    assert np.mean(variances) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 3 / 400))


def test_diverged_runs_are_left_out():
    floor = noise_floor([1, 1, 1, 2, 2], [1.0, 1.2, None, 3.0, np.inf])
    assert floor.df == 1
    assert floor.sd == pytest.approx(0.2 / np.sqrt(2))


def test_noise_that_grows_with_the_loss_is_noticed():
    rng = np.random.default_rng(2)
    lr = np.repeat(2.0 ** np.arange(8), 6)
    loss = lr / 50 + lr / 100 * rng.standard_normal(48)
    assert noise_floor(lr, loss).heteroscedastic
    assert not noise_floor(lr, lr / 50 + rng.standard_normal(48)).heteroscedastic


@pytest.mark.parametrize("loss", [[1.0, 2.0], [None, None]])
def test_without_replicates_the_noise_is_unknown(loss):
    floor = noise_floor([1.0, 2.0], loss)
    assert (floor.sd, floor.df) == (None, 0)
    assert json.dumps(floor.to_dict(), allow_nan=False)


def test_intervals_read_as_people_say_them():
    assert Interval(1.6e-3, 2.8e-3, 0.95).text() == "95 % 0.0016 to 0.0028"
    assert Interval(None, 2.0, 0.9).text() == "90 % below 2"
    assert Interval(2.0, None, 0.95).text() == "95 % above 2"
    assert Interval(None, None, 0.95).text() == "95 % unbounded"
    assert not Interval(1.0, 2.0, 0.95).contains(2.1)
    assert Interval(1.0, 2.0, 0.95).bounded

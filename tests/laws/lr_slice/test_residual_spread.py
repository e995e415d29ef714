"""What the residuals of a slice should have as standard deviation, and lack of fit against replicates."""

from __future__ import annotations

import numpy as np
import pytest

from lrscale.laws import fit_lr_slice
from lrscale.laws.lr_slice.residual_spread import residual_spread
from lrscale.laws.lr_slice.slice_fit import LRSliceFit

LRS = np.geomspace(1 / 6, 6, 6)


def fit(rng: np.random.Generator, *, seeds: int = 3, noise: float = 0.004, kink: float = 0.0) -> LRSliceFit:
    lr, seed = np.repeat(LRS, seeds), np.tile(np.arange(seeds), LRS.size)
    loss = 1 + 0.5 * (lr**-0.5 + lr / 2 - 1.5) + kink * np.abs(np.log(lr))
    loss += 0.02 * rng.standard_normal(seeds)[seed] + noise * rng.standard_normal(lr.size)
    return fit_lr_slice(lr, loss, seed=seed, resamples=100)


def test_the_spread_about_a_line_is_that_of_its_leverage() -> None:
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    found = residual_spread(np.eye(5), np.eye(5), np.column_stack([np.ones(5), x]))
    # Leverage of a line through centred points: 1 / n + x^2 / sum of squares.
    assert found == pytest.approx(np.sqrt(1 - (0.2 + x**2 / 10)))


def test_a_run_of_reduced_weight_keeps_its_noise_and_pulls_less() -> None:
    # Mean of two runs, the second with a quarter of the weight: residuals 0.2 (a - b) and 0.8 (b - a).
    found = residual_spread(np.eye(2), np.diag([1.0, 4.0]), np.ones((2, 1)))
    assert found == pytest.approx(np.sqrt(2) * np.array([0.2, 0.8]))


def test_columns_that_depend_on_each_other_change_nothing() -> None:
    one = np.column_stack([np.ones(4), np.arange(4.0)])
    both = np.column_stack([one, one.sum(axis=1)])
    assert residual_spread(np.eye(4), np.eye(4), both) == pytest.approx(residual_spread(np.eye(4), np.eye(4), one))


def test_residuals_of_a_right_curve_have_the_spread_that_the_fit_expects() -> None:
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(40):
        own = fit(rng)
        squares.append(np.mean((np.array(own.residual, float) / np.array(own.residual_sd, float)) ** 2))
    # Each is the ratio of a mean square of 13 degrees of freedom to one of 10, which overlap. The exponents, which the
    # expectation leaves out, take at most two of the 13.
    error = np.std(squares, ddof=1) / np.sqrt(len(squares))
    assert 11 / 13 - 2 * error < np.mean(squares) < 10 / 8 + 2 * error


def test_noise_of_replicates_comes_with_the_lack_of_fit_of_its_lrs() -> None:
    own = fit(np.random.default_rng(1))
    # 10 degrees of freedom of three replicates at six LRs; 6 LR means about a level, a vertex and a curvature.
    assert (own.noise_source, own.misfit_df, own.noise_df) == ("replicates", (3.0, 10.0), 10.0)
    assert own.misfit is not None and own.misfit < 3


def test_a_kink_shows_as_lack_of_fit() -> None:
    own = fit(np.random.default_rng(2), kink=0.3)
    # 99 % of F with 3 and 10 degrees of freedom are below 6.55.
    assert own.misfit is not None and own.misfit > 6.55


def test_one_seed_leaves_noise_and_misfit_together() -> None:
    own = fit(np.random.default_rng(3), seeds=1)
    assert (own.noise_source, own.misfit, own.misfit_df) == ("residuals", None, None)


def test_a_fit_of_an_earlier_version_is_read_without_them() -> None:
    kept = fit(np.random.default_rng(1)).to_dict()
    assert LRSliceFit.from_dict(kept).to_dict() == kept
    for name in ("residual_sd", "noise_source", "misfit", "misfit_df"):
        del kept[name]
    old = LRSliceFit.from_dict(kept)
    assert (old.residual_sd, old.misfit_df) == ((), None)

"""The power of the best LR in a number: its interval holds the truth, and two slices give their ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws import LRSliceFit, fit_lr_slice
from lrscale.laws.optimal_lr.factor_law import FactorLaw, fit_factor_law, move_of_optimum

WIDTHS = (64, 128, 256)


def slice_at(best: float, rng: np.random.Generator, noise: float = 0.01, seeds: int = 3) -> LRSliceFit:
    lr = np.repeat(best * 2.0 ** np.arange(-3, 4), seeds)
    x = lr / best
    loss = 1 + 0.3 * (x**-0.5 + x / 2 - 1.5) + noise * rng.standard_normal(lr.size)
    return fit_lr_slice(lr, loss, seed=list(range(seeds)) * 7)


@pytest.mark.parametrize("power", [-1.5, -1.0, 0.0, 0.5, 2.5])
def test_the_power_lies_in_its_interval(power: float) -> None:
    rng = np.random.default_rng(1)
    law = fit_factor_law(WIDTHS, [slice_at(0.01 * (width / 64) ** power, rng) for width in WIDTHS])
    assert law.exponent == pytest.approx(power, abs=0.1)
    assert law.interval is not None and law.interval.contains(power)
    assert law.levels == 3
    assert FactorLaw.from_dict(law.to_dict()) == law


def test_two_slices_give_the_ratio_of_their_optima() -> None:
    rng = np.random.default_rng(2)
    law = fit_factor_law([64, 256], [slice_at(0.01, rng), slice_at(0.0025, rng)])
    assert law.exponent == pytest.approx(-1, abs=0.1)
    assert law.interval is not None and law.interval.contains(-1)
    assert law.reason == "the ratio of two optima"


@pytest.mark.slow
def test_the_ratio_of_two_optima_covers_the_truth() -> None:
    rng = np.random.default_rng(3)
    count = 200
    covered = 0
    for _ in range(count):
        law = fit_factor_law([64, 256], [slice_at(best, rng, noise=0.03) for best in (0.01, 0.0025)])
        covered += law.interval is not None and law.interval.contains(-1)
    assert covered / count > 0.95 - 3 * math.sqrt(0.95 * 0.05 / count)


def test_draws_of_slices_of_one_design_are_not_paired() -> None:
    rng = np.random.default_rng(4)
    slices = [slice_at(0.01, rng, noise=0.05), slice_at(0.01, rng, noise=0.05)]
    spreads = [float(np.std(fit.vertex_draws)) for fit in slices]
    # Draws in the same order of their quantiles would all but cancel.
    assert float(np.std(move_of_optimum(*slices))) == pytest.approx(math.hypot(*spreads), rel=0.1)


def test_slices_without_an_optimum_inside_tell_nothing() -> None:
    lr = [1e-3, 2e-3, 4e-3]
    falling = fit_lr_slice(lr, [3.0, 2.0, 1.0])
    law = fit_factor_law([1, 2], [falling, falling])
    assert law.exponent is None and law.interval is None
    assert law.reason.startswith("0 of 2 slices")


def test_a_value_that_is_not_positive_is_refused() -> None:
    with pytest.raises(LrscaleError, match="not a positive number"):
        fit_factor_law([0, 1], [slice_at(0.01, np.random.default_rng(0))] * 2)

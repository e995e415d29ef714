from __future__ import annotations

import numpy as np
import pytest

from lrscale.laws import OPTIMAL_LR_LAWS, fit_lr_slice, fit_optimal_lr
from lrscale.laws.optimal_lr.law_posterior import law_posterior, parameter_interval

BATCH = np.array([16.0, 64.0, 256.0, 1024.0, 4096.0])


def posterior_of(name, y, sd, draws=4000):
    law = OPTIMAL_LR_LAWS[name]
    return law, law_posterior(
        law,
        BATCH,
        lambda x: -0.5 * np.sum((x - y) ** 2 / sd**2, axis=1, keepdims=True),
        lambda log_shape: (y - log_shape).mean(axis=1),
        4.0,
        draws=draws,
        rng=np.random.default_rng(0),
        fraction=0.147,
    )


@pytest.mark.parametrize("sd", [0.3, 0.01])
def test_the_power_law_has_the_posterior_of_a_straight_line(sd):
    y = np.log(1e-3 * BATCH**0.6) + sd * np.array([0.5, -1.0, 0.3, 0.8, -0.4])
    _, own = posterior_of("power", y, sd)
    x = np.log(BATCH) - np.log(BATCH).mean()
    slope, se = float(x @ y / (x @ x)), sd / float(np.sqrt(x @ x))
    assert own.params[:, 1].mean() == pytest.approx(slope, abs=0.05 * se)
    assert own.params[:, 1].std() == pytest.approx(se, rel=0.05)
    at_the_middle = np.log(own.params[:, 0]) + own.params[:, 1] * np.log(BATCH).mean()
    assert at_the_middle.mean() == pytest.approx(y.mean(), abs=0.05 * sd)
    assert at_the_middle.std() == pytest.approx(sd / np.sqrt(5), rel=0.05)


def test_a_knee_beyond_the_data_has_an_open_end():
    law, own = posterior_of("saturating", np.log(1e-4 * BATCH), 0.1)
    interval = parameter_interval(law, own, 1, 0.95)
    assert own.high_open
    assert interval.hi is None
    assert interval.lo > 4096
    assert parameter_interval(law, own, 0, 0.95).hi is None


def test_the_law_that_made_the_data_has_more_evidence_than_one_that_bends():
    straight = np.log(1e-3 * BATCH**0.5)
    assert (
        posterior_of("power", straight, 0.05)[1].log_evidence
        > posterior_of("saturating", straight, 0.05)[1].log_evidence + 5
    )


def test_a_likelihood_of_zero_everywhere_has_no_posterior():
    law = OPTIMAL_LR_LAWS["power"]
    nothing = law_posterior(
        law,
        BATCH,
        lambda x: np.full((len(x), 1), -np.inf),
        lambda log_shape: np.zeros(len(log_shape)),
        1.0,
        draws=10,
        rng=np.random.default_rng(0),
        fraction=0.1,
    )
    assert nothing is None


@pytest.mark.parametrize("power", [-0.5, -0.21, 0.0, 0.37, 1.0, 1.43])
@pytest.mark.parametrize("spacing", [2, 4, 16])
def test_a_peak_between_the_cells_of_the_first_grid_is_found(power: float, spacing: int) -> None:
    batch = np.array([64 * spacing**place for place in range(4)])
    slices = []
    for size in batch:
        optimum = 0.01 * float(size / 64) ** power
        lr = [optimum * factor for factor in (0.25, 0.5, 1, 2, 4)]
        slices.append(fit_lr_slice(lr, [one / optimum + optimum / one for one in lr]))
    (row,) = (one for one in fit_optimal_lr(batch, slices).table if one.law == "power")
    _, exponent, interval = row.parameters[1]
    assert exponent == pytest.approx(power, abs=0.005)
    assert interval.contains(power)
    assert interval.lo is not None
    assert interval.hi is not None
    assert interval.hi - interval.lo < 0.02


def test_a_peak_at_the_end_of_the_search_is_open_there() -> None:
    batch = np.array([64, 256, 1024, 4096])
    slices = []
    for size in batch:
        optimum = 0.64 / float(size)
        lr = [optimum * factor for factor in (0.25, 0.5, 1, 2, 4)]
        slices.append(fit_lr_slice(lr, [one / optimum + optimum / one for one in lr]))
    (row,) = (one for one in fit_optimal_lr(batch, slices).table if one.law == "power")
    _, exponent, interval = row.parameters[1]
    assert exponent == pytest.approx(-1, abs=0.003)
    assert interval.lo is None
    assert interval.hi == pytest.approx(-1, abs=0.01)

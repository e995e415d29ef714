"""Fits of the loss against model size and tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus
from lrscale.laws.scale import compute_optimal, fit_loss_scaling
from lrscale.laws.scale.loss import CHINCHILLA, POWER_OFFSET
from lrscale.laws.separable_fit import LawFit

# Besiroglu et al. (arXiv:2404.10102, 2024), table 1: the re-fit of Hoffmann et al.'s points.
PUBLISHED = np.array([1.817, 482.01, 0.3478, 2085.43, 0.3658])
PUBLISHED_SE = {"alpha": 0.015, "beta": 0.021, "E": 0.03}


def grid(sizes=4, tokens=5):
    axes = np.geomspace(5e7, 4e9, sizes), np.geomspace(1e9, 1.5e11, tokens)
    return tuple(axis.ravel() for axis in np.meshgrid(*axes))


def surface(params, tokens):
    return CHINCHILLA.predict(PUBLISHED, {"params": params, "tokens": tokens})


def test_noiseless_losses_return_the_parameters():
    params, tokens = grid()
    fit = fit_loss_scaling(params, tokens, surface(params, tokens), resamples=100)
    assert fit.ok and fit.law == "chinchilla"
    np.testing.assert_allclose([one.value for one in fit.estimates], PUBLISHED, rtol=1e-4)
    assert fit.holdout.rms_error < 1e-6 and fit.group_error < 1e-6


@pytest.mark.parametrize("noise", [0.003, 0.01])
def test_the_published_surface_is_recovered_within_its_published_errors(noise):
    # 240 runs of 1e18 to 3e21 floating-point operations and five outliers, as in the re-fit's data.
    rng = np.random.default_rng(4)
    params = np.exp(rng.uniform(np.log(5e7), np.log(1.2e10), 240))
    tokens = np.exp(rng.uniform(np.log(1e18), np.log(3e21), 240)) / (6 * params)
    loss = surface(params, tokens) * np.exp(noise * rng.standard_normal(240))
    loss[:5] *= 1.2
    fit = fit_loss_scaling(params, tokens, loss, resamples=200, holdout=False)
    for name, error in PUBLISHED_SE.items():
        one = fit.estimate(name)
        truth = PUBLISHED[[parameter.name for parameter in CHINCHILLA.parameters].index(name)]
        assert abs(one.value - truth) < 2 * error
        assert one.interval.contains(truth)
    assert fit.estimate("a").interval.contains(0.3658 / (0.3478 + 0.3658))


@pytest.mark.parametrize(("size", "data", "level"), [(1e-9, 1e-12, 1.0), (1.0, 1.0, 1 / np.log(2)), (1e3, 7.0, 40.0)])
def test_rescaled_units_change_the_answer_by_that_constant(size, data, level):
    params, tokens = grid()
    loss = surface(params, tokens) * np.exp(0.004 * np.random.default_rng(5).standard_normal(params.size))
    plain = fit_loss_scaling(params, tokens, loss, resamples=100, holdout=False)
    other = fit_loss_scaling(size * params, data * tokens, level * loss, resamples=100, holdout=False)
    for name, factor in (("alpha", 1.0), ("beta", 1.0), ("a", 1.0), ("E", level), ("loss_10x", level)):
        first, second = plain.estimate(name), other.estimate(name)
        assert second.value == pytest.approx(factor * first.value, rel=1e-5)
        assert second.interval.lo == pytest.approx(factor * first.interval.lo, rel=2e-3)
        assert second.interval.hi == pytest.approx(factor * first.interval.hi, rel=2e-3)


def test_a_fixed_ratio_of_tokens_to_params_leaves_one_variable():
    params = np.geomspace(1e7, 1e10, 12)
    loss = POWER_OFFSET.predict([1.8, 300.0, 0.33], {"size": params})
    fit = fit_loss_scaling(params, 20 * params, loss, resamples=100)
    assert fit.ok and fit.law == "power_offset"
    assert "always near 20" in fit.reason and "cannot be told apart" in fit.reason
    assert fit.estimate("alpha").value == pytest.approx(0.33, rel=1e-4)
    assert fit.estimate("a").value is None
    with pytest.raises(LrscaleError, match="need a fitted chinchilla"):
        compute_optimal(fit, 1e21)


@pytest.mark.parametrize("fixed", ["params", "tokens"])
def test_one_value_of_a_variable_leaves_the_other(fixed):
    size = np.geomspace(1e7, 1e10, 12)
    loss = POWER_OFFSET.predict([1.8, 300.0, 0.33], {"size": size})
    columns = {"params": size, "tokens": size, fixed: np.full(12, 5e9)}
    fit = fit_loss_scaling(**columns, loss=loss, resamples=100)
    assert fit.law == "power_offset" and f"{fixed} has one value (5e+09)" in fit.reason.replace(fixed.title(), fixed)
    assert fit.estimate("alpha").value == pytest.approx(0.33, rel=1e-4)


def test_a_floor_that_cannot_be_told_is_withheld_and_the_extrapolation_is_given():
    params, tokens = grid()
    rng = np.random.default_rng(6)
    loss = (40 / params**0.15 + 400 / tokens**0.25) * np.exp(0.01 * rng.standard_normal(params.size))
    fit = fit_loss_scaling(params, tokens, loss, resamples=200)
    assert fit.status is FitStatus.NOT_IDENTIFIABLE
    assert fit.estimate("E").value is None and fit.estimate("E").interval.lo is None
    assert "cannot be told from 0" in fit.reason and "loss at ten times the largest" in fit.reason
    truth = 40 / (10 * params.max()) ** 0.15 + 400 / (10 * tokens.max()) ** 0.25
    assert fit.estimate("loss_10x").interval.contains(truth)
    value, lo, hi = fit.predict({"params": [1e8], "tokens": [1e10]})
    assert lo[0] < value[0] < hi[0]


def test_the_simpler_forms_are_named_as_runner_up():
    params, tokens = grid()
    noise = np.exp(0.004 * np.random.default_rng(7).standard_normal(params.size))
    fit = fit_loss_scaling(params, tokens, surface(params, tokens) * noise, resamples=100)
    assert fit.runner_up == "power_sum" and fit.aicc_difference > 2
    flat = (1.8 + 300 / params**0.33) * noise
    fit = fit_loss_scaling(params, tokens, flat, resamples=100)
    assert fit.runner_up == "power_offset in params" and fit.aicc_difference < 0


def test_both_estimators_stand_in_the_notes():
    params, tokens = grid()
    loss = surface(params, tokens) * np.exp(0.01 * np.random.default_rng(8).standard_normal(params.size))
    huber = fit_loss_scaling(params, tokens, loss, resamples=100)
    squares = fit_loss_scaling(params, tokens, loss, resamples=100, estimator="least_squares")
    note = next(note for note in huber.notes if "least squares" in note)
    assert f"alpha {huber.estimate('alpha').value:.3f}" in note
    assert f"alpha {squares.estimate('alpha').value:.3f}" in note
    assert huber.residual_kind == "log" and squares.residual_kind == "linear"


def test_the_largest_cells_left_out_are_predicted():
    params, tokens = grid(5, 6)
    rng = np.random.default_rng(9)
    loss = surface(params, tokens) * np.exp(0.004 * rng.standard_normal(params.size))
    fit = fit_loss_scaling(params, tokens, loss, resamples=100)
    assert fit.holdout.n >= 1 and fit.holdout.rms_error < 0.02 and fit.holdout.inside == 1.0
    largest = params * tokens > (params * tokens).max() / 2
    off = fit_loss_scaling(params, tokens, np.where(largest, 1.15 * loss, loss), resamples=100)
    assert off.holdout.mean_error == pytest.approx(np.log(1.15), abs=0.03) and off.holdout.inside == 0.0


def test_diverged_runs_are_left_out_and_counted():
    params, tokens = grid()
    loss = surface(params, tokens)
    loss[3], loss[7] = np.nan, np.inf
    fit = fit_loss_scaling(params, tokens, loss, resamples=100)
    assert fit.ok and fit.n_points == 18 and "2 runs without a finite loss" in fit.notes[0]
    assert fit_loss_scaling(params, tokens, [None] * 20).status is FitStatus.ALL_DIVERGED


@pytest.mark.parametrize(
    ("params", "tokens", "status", "words"),
    [
        ([1e8, 1e9], [1e10, 1e11], FitStatus.TOO_FEW_POINTS, "2 cells"),
        ([1e8] * 9, [1e10] * 9, FitStatus.TOO_FEW_POINTS, "1 cells"),
        ([1e8, 1e9] * 6, list(np.repeat(np.geomspace(1e9, 1e11, 6), 2)), FitStatus.NOT_IDENTIFIABLE, "2 distinct"),
    ],
)
def test_data_that_do_not_answer_get_a_status(params, tokens, status, words):
    loss = 2 + 1e3 / np.array(params) ** 0.4 + 1e3 / np.array(tokens) ** 0.4
    fit = fit_loss_scaling(params, tokens, loss)
    assert fit.status is status and words in fit.reason
    assert LawFit.from_dict(json.loads(json.dumps(fit.to_dict()))) == fit


def test_equal_losses_determine_nothing():
    params, tokens = grid()
    assert fit_loss_scaling(params, tokens, np.full(20, 3.0)).status is FitStatus.NOT_IDENTIFIABLE


def test_a_fit_repeats_itself_and_survives_json():
    params, tokens = grid()
    loss = surface(params, tokens) * np.exp(0.004 * np.random.default_rng(10).standard_normal(params.size))
    first, second = (fit_loss_scaling(params, tokens, loss, resamples=100, random_seed=3) for _ in range(2))
    assert first == second
    assert LawFit.from_dict(json.loads(json.dumps(first.to_dict()))) == first


def test_wrong_arguments_are_named():
    params, tokens = grid()
    loss = surface(params, tokens)
    with pytest.raises(LrscaleError, match=r"row 2: loss -1\.0 is not positive"):
        fit_loss_scaling(params, tokens, np.where(np.arange(20) == 2, -1.0, loss))
    with pytest.raises(LrscaleError, match="row 4: params 0"):
        fit_loss_scaling(np.where(np.arange(20) == 4, 0.0, params), tokens, loss)
    with pytest.raises(LrscaleError, match="19 losses for 20 runs"):
        fit_loss_scaling(params, tokens, loss[:-1])
    with pytest.raises(LrscaleError, match="3 clusters for 20"):
        fit_loss_scaling(params, tokens, loss, cluster=[1, 2, 3])
    with pytest.raises(LrscaleError, match="unknown estimator 'ridge'"):
        fit_loss_scaling(params, tokens, loss, estimator="ridge")
    with pytest.raises(LrscaleError, match="delta -1"):
        fit_loss_scaling(params, tokens, loss, delta=-1.0)


def test_the_compute_optimum_is_the_lowest_loss_of_the_budget():
    params, tokens = grid()
    fit = fit_loss_scaling(params, tokens, surface(params, tokens), resamples=100)
    best = compute_optimal(fit, 1e22)
    assert 6 * best.params.value * best.tokens.value == pytest.approx(1e22)
    sizes = np.geomspace(0.1, 10, 401) * best.params.value
    losses = surface(sizes, 1e22 / 6 / sizes)
    assert best.loss.value == pytest.approx(losses.min(), rel=1e-6)
    assert sizes[losses.argmin()] == pytest.approx(best.params.value, rel=0.02)
    double = compute_optimal(fit, 2e22).params.value / best.params.value
    assert double == pytest.approx(2 ** fit.estimate("a").value, rel=1e-6)
    assert type(best).from_dict(json.loads(json.dumps(best.to_dict()))) == best
    with pytest.raises(LrscaleError, match="compute -1"):
        compute_optimal(fit, -1.0)

"""Fits of the best LR and the best batch size against scale."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import binom

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus
from lrscale.laws.scale import OptimumFit, fit_optimum_scaling

PARAMS = np.repeat([1e8, 4e8, 1.6e9], 3)
TOKENS = np.tile([1e10, 4e10, 1.6e11], 3)
EXACT = 2e-3 * (PARAMS / 4e8) ** -0.7 * (TOKENS / 4e10) ** -0.3
SCALE = {"params": PARAMS, "tokens": TOKENS}
BATCHED = np.array(list(itertools.product((1e8, 3e8, 1e9, 3e9), (1e10, 4e10, 1.6e11), 2.0 ** np.arange(5, 11)))).T
CURVED = {"params": BATCHED[0], "tokens": BATCHED[1], "batch": BATCHED[2]}


def saturating(params, tokens, batch):
    knee = 200 * (tokens / 4e10) ** 0.7
    return 2e-3 * (params / 4e8) ** -0.7 * (tokens / 4e10) ** 0.25 / (1 + knee / batch) ** 1.3


def test_noiseless_optima_return_the_exponents():
    fit = fit_optimum_scaling(EXACT, SCALE, batch=256)
    assert fit.ok and fit.law == "power"
    assert fit.estimate("e_params").value == pytest.approx(-0.7, abs=1e-6)
    assert fit.estimate("e_tokens").value == pytest.approx(-0.3, abs=1e-6)
    assert fit.estimate("factor").value == pytest.approx(2e-3 * 4e8**0.7 * 4e10**0.3, rel=1e-4)
    value, lo, hi = fit.predict({"params": [1.6e10], "tokens": [1.6e12]})
    assert value[0] == pytest.approx(2e-3 * 40**-0.7 * 40**-0.3, rel=1e-4) and lo[0] < value[0] < hi[0]


def test_noiseless_optima_that_saturate_return_the_knee():
    fit = fit_optimum_scaling(saturating(**CURVED), CURVED, resamples=100)
    assert fit.ok and fit.law == "saturating" and fit.runner_up == "power" and fit.aicc_difference > 100
    for name, value in (("e_params", -0.7), ("e_tokens", 0.25), ("alpha", 1.3), ("knee_exponent", 0.7)):
        assert fit.estimate(name).value == pytest.approx(value, rel=1e-4)
    knee = 200 * (fit.centre["tokens"] / 4e10) ** 0.7
    assert fit.estimate("knee").value == pytest.approx(knee, rel=1e-4)
    far = {"params": np.array([1e10]), "tokens": np.array([1e12]), "batch": np.array([4096.0])}
    np.testing.assert_allclose(fit.predict(far)[0], saturating(**far), rtol=1e-4)
    assert fit.group_error < 1e-4 < fit.runner_up_group_error


def test_a_power_of_the_batch_keeps_the_simpler_law():
    rng = np.random.default_rng(0)
    lr = 1e-3 * (CURVED["params"] / 4e8) ** -0.7 * (CURVED["batch"] / 100) ** 0.5
    fit = fit_optimum_scaling(lr * np.exp(0.05 * rng.standard_normal(lr.size)), CURVED, resamples=200)
    assert fit.law == "power" and fit.runner_up == "saturating"
    assert fit.estimate("e_batch").interval.contains(0.5)
    assert fit.estimate("e_tokens").interval.contains(0.0)


@pytest.mark.parametrize(("lr", "params", "tokens"), [(1e3, 1e-9, 1.0), (1.0, 1.0, 1e-6), (0.5, 1e3, 2048.0)])
def test_rescaled_units_change_the_answer_by_that_constant(lr, params, tokens):
    noise = np.exp(0.1 * np.random.default_rng(1).standard_normal(9))
    plain = fit_optimum_scaling(EXACT * noise, SCALE, batch=256)
    scaled = {"params": params * PARAMS, "tokens": tokens * TOKENS}
    other = fit_optimum_scaling(lr * EXACT * noise, scaled, batch=0.1)
    for name, factor in (("e_params", 1.0), ("e_tokens", 1.0), ("c", lr)):
        first, second = plain.estimate(name), other.estimate(name)
        assert second.value == pytest.approx(factor * first.value, rel=1e-6)
        assert second.interval.lo == pytest.approx(factor * first.interval.lo, rel=1e-6)
    np.testing.assert_allclose(
        np.array(other.predict({"params": params * PARAMS, "tokens": tokens * TOKENS})),
        lr * np.array(plain.predict(SCALE)),
        rtol=1e-6,
    )


def test_a_rescaled_batch_moves_the_knee_only():
    noise = np.exp(0.05 * np.random.default_rng(2).standard_normal(72))
    plain = fit_optimum_scaling(saturating(**CURVED) * noise, CURVED, resamples=100, holdout=False)
    tokens = {**CURVED, "batch": 2048 * CURVED["batch"]}
    other = fit_optimum_scaling(saturating(**CURVED) * noise, tokens, resamples=100, holdout=False)
    assert other.estimate("knee").value == pytest.approx(2048 * plain.estimate("knee").value, rel=1e-4)
    assert other.estimate("e_tokens").value == pytest.approx(plain.estimate("e_tokens").value, rel=1e-4)


def test_an_lr_is_never_fitted_against_the_horizon_without_the_batch():
    unknown = fit_optimum_scaling(EXACT, SCALE)
    assert unknown.status is FitStatus.NOT_IDENTIFIABLE and "batch size of each optimum is not given" in unknown.reason
    moving = fit_optimum_scaling(EXACT, SCALE, batch=64 * (TOKENS / 1e10) ** 0.5)
    assert moving.status is FitStatus.NOT_IDENTIFIABLE and moving.estimates == ()
    assert "follows tokens^0.50 (correlation 1.00)" in moving.reason
    both = fit_optimum_scaling(EXACT, {**SCALE, "batch": 64 * (TOKENS / 1e10) ** 0.5})
    assert {name for name, _ in both.refused} == {"tokens", "batch"}
    path = fit_optimum_scaling(EXACT, SCALE, batch=64 * (TOKENS / 1e10) ** 0.5, along_best_batch=True)
    assert path.ok and "along the best batch size" in path.notes[0]


def test_leaving_the_batch_out_would_turn_the_sign():
    # The best batch grows as tokens^0.57 (Li et al., arXiv:2503.04715): at fixed batch the best LR falls with the
    # horizon, along the best batch it rises.
    grid = np.array(list(itertools.product((1e8, 4e8, 1.6e9), (1e10, 4e10, 1.6e11), (0.25, 0.5, 1.0, 2.0, 4.0)))).T
    batch = 1e5 * (grid[1] / 1e10) ** 0.57 * grid[2]
    lr = 1e-3 * (grid[1] / 1e10) ** -0.25 * (batch / 1e5) ** 0.7
    variables = {"params": grid[0], "tokens": grid[1], "batch": batch}
    whole = fit_optimum_scaling(lr, variables, resamples=100)
    assert whole.estimate("e_tokens").value == pytest.approx(-0.25, abs=1e-4)
    best = grid[2] == 1.0
    path = fit_optimum_scaling(lr[best], {"params": grid[0][best], "tokens": grid[1][best]}, along_best_batch=True)
    assert path.estimate("e_tokens").value == pytest.approx(-0.25 + 0.57 * 0.7, abs=1e-4)


def test_exponents_that_the_design_cannot_separate_are_refused_by_name():
    params = np.geomspace(1e8, 1e10, 8)
    lr = 1e-3 * (params / 1e9) ** -0.5
    fit = fit_optimum_scaling(lr, {"params": params, "tokens": 20 * params, "width": np.full(8, 3.0)}, batch=64)
    assert fit.status is FitStatus.NOT_IDENTIFIABLE
    assert {name for name, _ in fit.refused} == {"params", "tokens", "width"}
    with pytest.raises(LrscaleError, match=r"no exponent of tokens: tokens follows params\^1\.00"):
        fit.estimate("e_tokens")
    assert fit.estimate("params_with_tokens").value == pytest.approx(-0.5, abs=1e-6)
    on, off = fit.predict({"params": [1e11, 1e11], "tokens": [2e12, 1e13], "width": [3.0, 3.0]})[0]
    assert on == pytest.approx(1e-4, rel=1e-3) and np.isnan(off)
    _, lo, hi = fit.predict({"params": [1e11], "tokens": [2e12], "width": [5.0]})
    assert lo[0] == 0 and np.isinf(hi[0])


def test_variances_are_variances_and_not_weights():
    # scipy's curve_fit takes standard deviations; 1 / variance in their place turns the weights around.
    rng = np.random.default_rng(3)
    x = np.linspace(-2, 2, 12)
    sd = np.where(np.arange(12) >= 9, 1.5, 0.05)
    y = -0.5 * x + sd * rng.standard_normal(12)
    y[9:] += 2.0
    fit = fit_optimum_scaling(np.exp(y), {"params": np.exp(x)}, variance=sd**2)

    def line(x, a, b):
        return a + b * x

    right = curve_fit(line, x, y, sigma=sd)[0][1]
    inverted = curve_fit(line, x, y, sigma=1 / sd**2)[0][1]
    assert fit.estimate("e_params").value == pytest.approx(right, abs=0.03)
    assert abs(inverted - right) > 0.5
    assert fit.estimate("e_params").interval.contains(-0.5) and not fit.estimate("e_params").interval.contains(inverted)


def test_dropped_censored_cells_would_bend_the_exponent():
    rng = np.random.default_rng(4)
    params = np.geomspace(1e8, 1e10, 14)
    errors = {"kept": [], "dropped": [], "taken as observed": []}
    for _ in range(25):
        y = -0.6 * np.log(params / 1e9) + 0.3 * rng.standard_normal(14)
        top = 0.6
        side = (y > top).astype(int)
        seen = np.minimum(y, top)
        options = {"variance": np.full(14, 0.3**2), "holdout": False, "resamples": 100}
        kept = fit_optimum_scaling(np.exp(seen), {"params": params}, censored=side, **options)
        flat = fit_optimum_scaling(np.exp(seen), {"params": params}, **options)
        options["variance"] = options["variance"][side == 0]
        dropped = fit_optimum_scaling(np.exp(seen[side == 0]), {"params": params[side == 0]}, **options)
        for name, fit in (("kept", kept), ("dropped", dropped), ("taken as observed", flat)):
            errors[name].append(fit.estimate("e_params").value + 0.6)
    assert abs(np.mean(errors["kept"])) < 0.04
    assert np.mean(errors["dropped"]) > 0.05 and np.mean(errors["taken as observed"]) > 0.1


def test_the_largest_cells_left_out_are_predicted():
    noise = np.exp(0.05 * np.random.default_rng(5).standard_normal(9))
    fit = fit_optimum_scaling(EXACT * noise, SCALE, batch=256, variance=np.full(9, 0.05**2))
    assert fit.holdout.what == "the largest params x tokens" and fit.holdout.n == 1
    assert fit.holdout.rms_error < 0.3 and fit.holdout.inside == 1.0


@pytest.mark.parametrize(
    ("keep", "status", "words"),
    [(slice(0, 3), FitStatus.TOO_FEW_POINTS, "3 observed"), (slice(0, 1), FitStatus.NOT_IDENTIFIABLE, "No variable")],
)
def test_too_few_cells_get_a_status(keep, status, words):
    fit = fit_optimum_scaling(EXACT[keep], {name: own[keep] for name, own in SCALE.items()}, batch=256)
    if keep == slice(0, 3):
        # Three cells of one model size: the exponent of params is refused, that of tokens has no spare cell.
        assert fit.status is FitStatus.OK and {name for name, _ in fit.refused} == {"params"}
        return
    assert fit.status is status and words in fit.reason
    with pytest.raises(LrscaleError, match="no law was fitted"):
        fit.predict(SCALE)


def test_all_censored_cells_get_a_status():
    fit = fit_optimum_scaling(EXACT, SCALE, batch=256, censored=np.ones(9))
    assert fit.status in (FitStatus.TOO_FEW_POINTS, FitStatus.NOT_IDENTIFIABLE)
    assert fit.n_censored == 9


@pytest.mark.parametrize("curved", [False, True])
def test_a_fit_repeats_itself_and_survives_json(curved):
    data = (saturating(**CURVED), CURVED) if curved else (EXACT, SCALE)
    rng = np.random.default_rng(6)
    noisy = data[0] * np.exp(0.05 * rng.standard_normal(data[0].size))
    first, second = (fit_optimum_scaling(noisy, data[1], batch=256, resamples=100) for _ in range(2))
    assert first == second
    again = OptimumFit.from_dict(json.loads(json.dumps(first.to_dict())))
    assert again == first
    np.testing.assert_array_equal(again.predict(data[1]), first.predict(data[1]))
    assert "best LR against scale: ok" in first.summary()


def test_wrong_arguments_are_named():
    with pytest.raises(LrscaleError, match="row 1: optimum nan"):
        fit_optimum_scaling([1.0, np.nan], {"params": [1, 2]})
    with pytest.raises(LrscaleError, match="row 0: params -1"):
        fit_optimum_scaling([1.0, 2.0], {"params": [-1, 2]})
    with pytest.raises(LrscaleError, match=r"params has shape \(3,\) for 2 cells"):
        fit_optimum_scaling([1.0, 2.0], {"params": [1, 2, 3]})
    with pytest.raises(LrscaleError, match="0 for an observed"):
        fit_optimum_scaling([1.0, 2.0], {"params": [1, 2]}, censored=[0, 2])
    with pytest.raises(LrscaleError, match="row 1: variance -1"):
        fit_optimum_scaling([1.0, 2.0], {"params": [1, 2]}, variance=[0, -1])
    with pytest.raises(LrscaleError, match="no variables"):
        fit_optimum_scaling([1.0, 2.0], {})
    with pytest.raises(LrscaleError, match="cannot depend on the batch"):
        fit_optimum_scaling([1.0, 2.0], {"batch": [1, 2]}, quantity="batch")
    with pytest.raises(LrscaleError, match="unknown quantity 'loss'"):
        fit_optimum_scaling([1.0, 2.0], {"params": [1, 2]}, quantity="loss")
    fit = fit_optimum_scaling(EXACT, SCALE, batch=256, resamples=100)
    with pytest.raises(LrscaleError, match="needs params, tokens"):
        fit.predict({"params": [1.0]})
    with pytest.raises(LrscaleError, match="tokens must hold positive"):
        fit.predict({"params": [1.0], "tokens": [-1.0]})


@pytest.mark.parametrize("trouble", ["outliers", "missing cells", "unequal replicates"])
def test_intervals_stay_honest_with(trouble):
    rng = np.random.default_rng(7)
    studies, hits = 40, 0
    for _ in range(studies):
        kept = np.arange(9)
        if trouble == "missing cells":
            kept = np.delete(kept, rng.permutation(9)[:2])
        if trouble == "unequal replicates":
            kept = np.sort(np.concatenate([kept, rng.integers(0, 9, 5)]))
        n = kept.size
        own = 0.1 * rng.standard_normal(9)[kept]
        y = np.log(EXACT[kept]) + own + 0.08 * rng.standard_normal(n)
        if trouble == "outliers":
            y[rng.integers(n)] += rng.choice([-1, 1]) * rng.uniform(0.7, 1.5)
        variables = {name: column[kept] for name, column in SCALE.items()}
        options = {"variance": np.full(n, 0.08**2), "batch": 64, "holdout": False, "resamples": 200}
        fit = fit_optimum_scaling(np.exp(y), variables, **options)
        hits += fit.estimate("e_tokens").interval.contains(-0.3)
    # An interval with 93 % coverage falls below this count once in a thousand runs.
    assert hits >= binom.ppf(1e-3, studies, 0.93)

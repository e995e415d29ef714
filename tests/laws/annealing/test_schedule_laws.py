from __future__ import annotations

import numpy as np
import pytest

from lrscale.laws.annealing import SCHEDULE_LAWS, LRTrace, Tissue, fit_loss_curves

from .simulated import FORMULAS, PEAK, exact_curve, multi_power, rescaled, shape

NAMES = ("cosine", "constant", "drop", "wsd")


@pytest.fixture(scope="module")
def exact():
    return {law: [exact_curve(law, name) for name in NAMES] for law in FORMULAS}


@pytest.mark.parametrize("law", list(FORMULAS))
def test_noiseless_curves_return_their_parameters(law, exact):
    fit = fit_loss_curves(exact[law], law=law)
    assert fit.ok
    found = [one.value for one in fit.estimates]
    np.testing.assert_allclose(found, FORMULAS[law][1], rtol=1e-4)
    # The recursion and the double sum of the papers, step by step, against the closed forms.
    assert fit.residual_sd < 1e-6
    assert fit.held_out_rmse < 1e-5


@pytest.mark.parametrize("law", list(FORMULAS))
def test_the_law_that_made_the_curves_is_chosen(law, exact):
    fit = fit_loss_curves(exact[law])
    assert fit.law == law
    assert fit.runner_up != law
    assert fit.runner_up_rmse > 100 * fit.held_out_rmse


def test_compressing_long_histories_moves_the_loss_by_less_than_1e_4():
    lr = PEAK * shape("cosine", 20_000, 1000)
    step = np.array([2000.0, 7001.0, 15_013.0, 20_000.0])
    params = (2.8, 0.6, 0.45, 475.0, 0.58, 0.65, 2.1)
    law = SCHEDULE_LAWS["multi_power"]().bind([LRTrace.from_steps(lr)], [step])
    inner = np.array([[*params[:-1], np.log(params[-1])]])
    np.testing.assert_allclose(law.evaluate(inner, law.rows)[0], multi_power_fast(lr, 1000, step, params), atol=1e-4)


def multi_power_fast(lr, warmup, step, params):
    """The double sum with running sums; agrees with the plain one below."""
    level, progress, alpha, gain, beta, gamma, rate = params
    total = np.concatenate([[0.0], np.cumsum(lr)])
    losses = []
    for t in step.astype(int):
        k = np.arange(warmup, t)
        since = total[t] - total[k]
        fall = lr[k - 1] - lr[k]
        gained = np.sum(fall * (1 - (1 + rate * lr[k] ** -gamma * since) ** -beta))
        losses.append(level + progress * total[t] ** -alpha - gain * gained)
    return np.array(losses)


def test_the_running_sums_of_this_test_agree_with_the_published_double_sum():
    lr = PEAK * shape("wsd")
    step = np.array([500.0, 800.0, 900.0])
    params = FORMULAS["multi_power"][1]
    np.testing.assert_allclose(multi_power_fast(lr, 45, step, params), multi_power(lr, 45, step, params), rtol=1e-12)


def test_an_lr_of_zero_neither_breaks_nor_gains():
    lr = np.concatenate([np.ones(50), np.zeros(50)])
    for kind in SCHEDULE_LAWS.values():
        law = kind(step_unit=100).bind([LRTrace.from_steps(lr)], [np.array([40.0, 51.0, 100.0])])
        guesses = law.first_guesses(law.rows)
        assert np.isfinite(law.columns(guesses, law.rows)).all()


def test_a_full_drop_that_has_worked_counts_one_in_the_annealing_law():
    lr = np.concatenate([np.ones(500), np.full(100_000, 1e-12)])
    law = Tissue(step_unit=1000).bind([LRTrace.from_steps(lr)], [np.array([400.0, 90_000.0])])
    np.testing.assert_allclose(law.annealing(np.array([[0.5, np.log(0.1)]])), [[0.0, 1.0]], atol=1e-9)


@pytest.mark.parametrize(
    ("law", "units"),
    [
        ("tissue", {"loss": 7.0, "lr": 250.0}),
        ("tissue", {"steps": 16.0}),
        ("multi_power", {"loss": 7.0, "lr": 250.0, "steps": 16.0}),
    ],
)
def test_units_of_loss_lr_and_steps_change_the_answer_only_by_their_factor(law, units, exact):
    rng = np.random.default_rng(3)
    base = [rescaled(curve, loss=1 + 0.001 * rng.standard_normal()) for curve in exact[law][:3]]
    fit = fit_loss_curves(base, law=law)
    other = fit_loss_curves([rescaled(curve, **units) for curve in base], law=law)
    target = exact[law][3].trace
    again = other.predict(rescaled(exact[law][3], **units).trace)
    factor = units.get("loss", 1.0)
    # Both laws count in whole steps, of 1/900 of these runs.
    tolerance = 2e-3 if "steps" in units else 1e-6
    np.testing.assert_allclose(np.ravel(again), factor * np.ravel(fit.predict(target)), rtol=tolerance)
    assert other.estimate("alpha").value == pytest.approx(fit.estimate("alpha").value, rel=10 * tolerance)

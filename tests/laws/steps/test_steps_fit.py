from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.laws import FitStatus
from lrscale.laws.steps import StepsFit, fit_steps_to_target

from .published import BATCH, CRITICAL_20, REFERENCE, STEPS
from .simulated import FEWEST, KNEE, runs

SIZES = np.array([64, 128, 256, 512, 1024, 2048, 4096], dtype=np.float64)
NOISY = (300 + 3e5 / SIZES) * np.exp([0.03, -0.05, 0.02, 0.04, -0.03, -0.02, 0.01])


def value(fit: StepsFit, name: str) -> float:
    found = fit.estimate(name).value
    assert found is not None
    return found


def ends(fit: StepsFit, name: str) -> tuple[float | None, float | None]:
    interval = fit.estimate(name).interval
    assert interval is not None
    return interval.lo, interval.hi


@pytest.mark.parametrize(("model", "critical"), [("85M", 2191), ("151M", 3240), ("302M", 5433)])
def test_published_steps_give_the_published_critical_batch_sizes(model, critical):
    fit = fit_steps_to_target(BATCH, STEPS[model], reference_batch=REFERENCE, batch_unit="sequences")
    assert fit.ok
    # Published to the sequence; the critical batch size follows from (CBS - 1.2 * 256) / 0.2, to 2.5 sequences.
    assert value(fit, "critical_batch_20") == pytest.approx(CRITICAL_20[model], abs=0.6)
    assert value(fit, "critical_batch") == pytest.approx(critical, abs=3)
    # A standard error of 0.06 in ln was found by the delta method; t(7) makes 0.14 to either side of it.
    lo, hi = ends(fit, "critical_batch")
    assert lo < critical < hi
    assert math.log(hi / lo) == pytest.approx(0.28, abs=0.06)
    assert 0.03 < fit.law.residual_sd < 0.07
    assert 0.97 <= value(fit, "gamma") <= 1.08


@settings(max_examples=25, deadline=None)
@given(
    fewest=st.floats(1, 1e6),
    knee=st.floats(0.2, 5),
    first=st.floats(0.5, 1e6),
)
def test_steps_without_noise_give_the_law_back(fewest, knee, first):
    batch = first * 4.0 ** np.arange(6)
    critical = knee * first * 4**2.5
    fit = fit_steps_to_target(batch, fewest * (1 + critical / batch))
    assert fit.ok
    assert value(fit, "S_min") == pytest.approx(fewest, rel=1e-4)
    assert value(fit, "E_min") == pytest.approx(fewest * critical, rel=1e-4)
    assert value(fit, "critical_batch") == pytest.approx(critical, rel=1e-4)
    assert value(fit, "gamma") == pytest.approx(1, abs=2e-3)


def test_the_free_exponent_is_recovered_and_another_curve_is_called_a_poor_fit():
    fit = fit_steps_to_target(SIZES, 300 + 3e6 / SIZES**1.4)
    assert value(fit, "gamma") == pytest.approx(1.4, rel=2e-3)
    assert fit.status is FitStatus.POOR_FIT
    assert "batch^1.4" in fit.reason
    assert fit.law.runner_up == "steps_hyperbola_free"
    assert fit.law.aicc_difference < -10


def test_steps_that_fall_by_a_power_below_one_are_a_poor_fit_not_an_open_knee():
    fit = fit_steps_to_target(SIZES, NOISY / (300 + 3e5 / SIZES) * 1e5 / SIZES**0.6)
    assert fit.status is FitStatus.POOR_FIT
    assert ends(fit, "gamma")[1] < 0.9


@settings(max_examples=15, deadline=None)
@given(batch=st.floats(1e-3, 1e6), steps=st.floats(1e-2, 1e4))
def test_units_of_batch_and_steps_only_scale_the_answer(batch, steps):
    censored = [0, 0, 0, 0, 0, 0, 1]
    one = fit_steps_to_target(SIZES, NOISY, censored=censored, resamples=200)
    other = fit_steps_to_target(SIZES * batch, NOISY * steps, censored=censored, resamples=200)
    factors = {"S_min": steps, "E_min": steps * batch, "critical_batch": batch, "critical_batch_20": batch, "gamma": 1}
    assert other.status is one.status
    for name, factor in factors.items():
        assert value(other, name) == pytest.approx(value(one, name) * factor, rel=1e-4)
        for a, b in zip(ends(one, name), ends(other, name), strict=True):
            assert b == pytest.approx(a * factor, rel=1e-3)
    assert other.predict([300 * batch])[0] == pytest.approx(one.predict([300])[0] * steps, rel=1e-4)


def test_the_same_seed_gives_the_same_fit_and_another_only_moves_the_draws():
    one, again = fit_steps_to_target(SIZES, NOISY), fit_steps_to_target(SIZES, NOISY)
    other = fit_steps_to_target(SIZES, NOISY, random_seed=1)
    assert one == again
    assert other.law.draws != one.law.draws
    assert ends(other, "critical_batch") == ends(one, "critical_batch")


def test_both_definitions_and_the_trade_off_follow_from_the_law():
    fit = fit_steps_to_target(SIZES, NOISY)
    critical = value(fit, "critical_batch")
    assert critical == pytest.approx(value(fit, "E_min") / value(fit, "S_min"))
    assert value(fit, "critical_batch_20") == pytest.approx(0.2 * critical + 1.2 * 64)
    # There the steps are 20 % above a fall as 1 / batch from the reference.
    reference, there = fit.predict([64, value(fit, "critical_batch_20")])[0]
    assert there == pytest.approx(1.2 * reference * 64 / value(fit, "critical_batch_20"))
    assert [one.batch_size for one in fit.trade_offs] == SIZES.tolist()
    for one in fit.trade_offs:
        assert one.extra_steps.value * one.extra_examples.value == pytest.approx(1)
        assert one.steps.value == pytest.approx(value(fit, "S_min") * (1 + one.extra_steps.value))
        assert one.extra_steps.interval.lo < one.extra_steps.value < one.extra_steps.interval.hi


def test_data_on_one_side_of_the_knee_only_bound_it():
    rng = np.random.default_rng(3)
    left = runs(rng, place=np.geomspace(1e-3, 0.02, 6))
    fit = fit_steps_to_target(left.batch, left.steps)
    assert fit.status is FitStatus.CENSORED_HIGH
    lo, hi = ends(fit, "critical_batch")
    assert hi is None
    assert lo < KNEE
    assert fit.estimate("critical_batch").value is None
    assert ends(fit, "S_min")[0] is None
    assert value(fit, "E_min") == pytest.approx(FEWEST * KNEE, rel=0.2)
    assert fit.trade_offs[0].extra_examples.interval.lo is None

    right = runs(rng, place=np.geomspace(50, 1000, 6))
    fit = fit_steps_to_target(right.batch, right.steps)
    assert fit.status is FitStatus.CENSORED_LOW
    assert ends(fit, "critical_batch")[0] is None
    assert value(fit, "S_min") == pytest.approx(FEWEST, rel=0.1)
    value_at, lo_at, hi_at = fit.predict([50 * KNEE])
    assert lo_at[0] < value_at[0] < hi_at[0]


def test_three_noisy_batch_sizes_determine_nothing():
    fit = fit_steps_to_target([500, 1000, 2000], [2700, 2200, 1400])
    assert fit.status is FitStatus.NOT_IDENTIFIABLE
    assert ends(fit, "critical_batch") == (None, None)


def test_too_few_reached_runs_are_a_status():
    for batch, steps, censored in (
        ([], [], None),
        ([64, 64, 128], [100, 110, 60], None),
        ([64, 128, 256, 512], [100, 100, 100, 100], [1, 1, 1, 1]),
        ([64, 128, 256, 512], [100, 60, 100, 100], [0, 0, 1, 1]),
    ):
        fit = fit_steps_to_target(batch, steps, censored=censored)
        assert fit.status is FitStatus.TOO_FEW_POINTS
        assert StepsFit.from_dict(json.loads(json.dumps(fit.to_dict()))) == fit
        with pytest.raises(LrscaleError, match="not fitted"):
            fit.predict([64])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_sizes": [64, -1, 256]}, "row 1: batch size -1.0"),
        ({"steps": [5, 4, math.nan]}, "row 2: steps nan.*last step"),
        ({"steps": [5, 4]}, "shapes differ"),
        ({"censored": [0, 2, 0]}, "row 1: censored 2"),
        ({"censored": [0, 0, math.nan]}, "row 2: censored nan"),
        ({"seed": [0]}, "shapes differ"),
        ({"noise_sd": 0.0}, "noise_sd 0.0"),
        ({"reference_batch": -1.0}, "reference_batch -1.0"),
        ({"batch_unit": "bytes"}, "unknown batch_unit"),
        ({"confidence": 95}, "confidence 95"),
    ],
)
def test_wrong_arguments_are_named(change, words):
    with pytest.raises(LrscaleError, match=words):
        fit_steps_to_target(**{"batch_sizes": [64, 128, 256], "steps": [5, 4, 3], **change})


def test_a_fit_survives_json_and_prints_itself():
    fit = fit_steps_to_target(SIZES, NOISY, censored=[0, 0, 0, 0, 0, 0, 1], batch_unit="sequences")
    again = StepsFit.from_dict(json.loads(json.dumps(fit.to_dict())))
    assert again == fit
    assert again.predict([100])[0] == fit.predict([100])[0]
    text = fit.summary()
    for words in ("S_min", "E_min", "sequences", "critical_batch_20", "extra steps", "1 of 7 runs stopped short"):
        assert words in text


def test_a_stated_noise_narrows_the_interval_unless_the_residuals_contradict_it():
    free = fit_steps_to_target(SIZES, NOISY)
    stated = fit_steps_to_target(SIZES, NOISY, noise_sd=0.035)
    refused = fit_steps_to_target(SIZES, NOISY, noise_sd=0.001)
    width = {name: math.log(ends(fit, "critical_batch")[1] / ends(fit, "critical_batch")[0])
             for name, fit in (("free", free), ("stated", stated), ("refused", refused))}  # fmt: skip
    assert width["stated"] < width["free"]
    assert width["refused"] == pytest.approx(width["free"])
    assert any("contradict" in note for note in refused.law.notes)


def test_more_seeds_narrow_the_interval_and_what_seeds_share_widens_that_of_the_level():
    rng = np.random.default_rng(4)
    own = runs(rng, place=4.0 ** np.arange(-3, 3), seeds=3)
    seed = np.tile(np.arange(3), 6)
    shifted = own.steps * np.array([0.7, 1.0, 1.4])[seed]
    without, told = fit_steps_to_target(own.batch, shifted), fit_steps_to_target(own.batch, shifted, seed=seed.tolist())
    # A shift of every batch size alike says nothing about the knee.
    assert ends(told, "critical_batch") == ends(without, "critical_batch")
    assert value(told, "critical_batch") == pytest.approx(value(fit_steps_to_target(own.batch, own.steps),
                                                                "critical_batch"), rel=1e-6)  # fmt: skip
    ratio = [math.log(ends(fit, "S_min")[1] / ends(fit, "S_min")[0]) for fit in (without, told)]
    assert ratio[1] > 3 * ratio[0]


def test_a_missing_batch_size_and_a_wild_run_end_in_an_answer():
    wild = NOISY.copy()
    wild[2] *= 8
    for keep in (np.arange(7), np.array([0, 1, 2, 4, 5, 6])):
        fit = fit_steps_to_target(SIZES[keep], wild[keep])
        lo, hi = ends(fit, "critical_batch")
        assert (lo is None or lo < 1000) and (hi is None or hi > 1000)

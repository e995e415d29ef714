from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.laws import FitStatus
from lrscale.laws.steps import Crossing, steps_to_target

STEP = np.arange(1, 201) * 50.0
CURVE = 2 + 20 / np.sqrt(STEP)


def true_crossing(target: float) -> float:
    return float((20 / (target - 2)) ** 2)


@pytest.mark.parametrize("smoothing", ["kernel", "running_minimum"])
@pytest.mark.parametrize("target", [2.5, 2.3, 2.21])
def test_a_curve_without_noise_is_crossed_between_its_own_evaluations(smoothing, target):
    found = steps_to_target(STEP, CURVE, target, smoothing=smoothing)
    assert found.status is FitStatus.OK
    assert found.censored == 0
    assert found.lo <= true_crossing(target) <= found.hi
    assert found.hi - found.lo == 50
    assert found.step == pytest.approx(true_crossing(target), rel=2e-3)


def test_noise_does_not_make_the_smoothed_crossing_early_but_makes_the_running_minimum_early():
    rng = np.random.default_rng(0)
    gaps: dict[str, list[float]] = {"kernel": [], "running_minimum": []}
    for _ in range(40):
        noisy = CURVE + 0.02 * rng.normal(size=STEP.size)
        for name, own in gaps.items():
            own.append(math.log(steps_to_target(STEP, noisy, 2.3, smoothing=name).step / true_crossing(2.3)))
    # Expected: +0.01 and -0.16, with standard errors of 0.003 and 0.011.
    assert abs(np.mean(gaps["kernel"])) < 0.02
    assert np.mean(gaps["running_minimum"]) < -0.1


def test_the_stated_standard_error_is_that_of_repeated_curves():
    rng = np.random.default_rng(1)
    found = [steps_to_target(STEP, CURVE + 0.03 * rng.normal(size=STEP.size), 2.3) for _ in range(60)]
    spread = np.std([math.log(one.step) for one in found])
    assert np.mean([one.log_step_se for one in found]) == pytest.approx(spread, rel=0.35)


def test_one_early_dip_is_not_a_crossing():
    dipped = CURVE.copy()
    dipped[10] = 2.2
    assert steps_to_target(STEP, dipped, 2.3, smoothing="running_minimum").step < 600
    assert steps_to_target(STEP, dipped, 2.3).step == pytest.approx(true_crossing(2.3), rel=0.1)


def test_a_target_that_is_not_reached_is_a_lower_bound_at_the_last_step():
    found = steps_to_target(STEP, CURVE, 2.1)
    assert (found.status, found.step, found.lo, found.hi, found.censored) == (
        FitStatus.CENSORED_HIGH, 10000.0, 10000.0, None, 1
    )  # fmt: skip
    assert "2.2" in found.reason


def test_a_curve_that_starts_below_the_target_is_an_upper_bound_at_the_first_step():
    found = steps_to_target(STEP, CURVE, 6.0)
    assert (found.status, found.step, found.lo, found.hi, found.censored) == (
        FitStatus.CENSORED_LOW, 50.0, None, 50.0, -1
    )  # fmt: skip


def test_a_diverged_tail_is_left_out():
    broken = CURVE.copy()
    broken[100:] = np.nan
    late = steps_to_target(STEP, broken, 2.21)
    assert late.status is FitStatus.CENSORED_HIGH
    assert late.step == STEP[99]
    assert "not finite from step 5050" in late.reason
    assert steps_to_target(STEP, broken, 2.4).step == pytest.approx(true_crossing(2.4), rel=2e-3)


def test_a_rise_after_the_lowest_point_does_not_undo_a_crossing():
    risen = CURVE.copy()
    risen[120:] += np.linspace(0, 3, 80)
    assert steps_to_target(STEP, risen, 2.3).step == pytest.approx(true_crossing(2.3), rel=5e-3)


def test_curves_without_enough_points_say_so():
    few = steps_to_target([10, 20, 30], [3.0, 2.5, 2.0], 2.2)
    none = steps_to_target([10, 20], [math.nan, 2.0], 2.2)
    assert few.status is FitStatus.TOO_FEW_POINTS
    assert none.status is FitStatus.ALL_DIVERGED
    for found in (few, none):
        assert found.step is None
        with pytest.raises(LrscaleError, match="gives no bound"):
            _ = found.censored


@pytest.mark.parametrize(
    ("steps", "loss", "target", "options", "words"),
    [
        ([1, 2, 2, 3, 4], [3, 3, 3, 3, 3], 2.0, {}, "row 2: step 2.0"),
        ([0, 1, 2, 3, 4], [3, 3, 3, 3, 3], 2.0, {}, "row 0: step 0.0"),
        ([1, 2, 3], [3, 3], 2.0, {}, "shape"),
        ([1, 2, 3], [3, 3, 3], math.nan, {}, "target nan"),
        ([1, 2, 3], [3, 3, 3], 2.0, {"smoothing": "spline"}, "unknown smoothing"),
        ([1, 2, 3], [3, 3, 3], 2.0, {"width": -1.0}, "width -1.0"),
    ],
)
def test_wrong_arguments_are_named(steps, loss, target, options, words):
    with pytest.raises(LrscaleError, match=words):
        steps_to_target(steps, loss, target, **options)


def test_a_crossing_survives_json():
    for target in (2.3, 2.1, 6.0):
        found = steps_to_target(STEP, CURVE, target)
        assert Crossing.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_counting_steps_in_another_unit_scales_the_crossing(scale, seed):
    noisy = CURVE[::4] + 0.02 * np.random.default_rng(seed).normal(size=50)
    one = steps_to_target(STEP[::4], noisy, 2.3)
    other = steps_to_target(STEP[::4] * scale, noisy, 2.3)
    assert other.status is one.status
    if one.step is not None:
        assert other.step == pytest.approx(one.step * scale, rel=1e-6)


def test_ten_thousand_evaluations_take_no_longer_than_three_hundred():
    step = np.arange(1.0, 10001.0)
    noisy = 2 + 20 / np.sqrt(step) + 0.05 * np.random.default_rng(2).normal(size=step.size)
    assert steps_to_target(step, noisy, 2.3).step == pytest.approx(true_crossing(2.3), rel=0.06)

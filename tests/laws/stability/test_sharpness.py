"""The critical step and the course of margins where the answer is known in closed form."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.laws.stability import (
    SharpnessCourse,
    SharpnessPoint,
    SharpnessStatus,
    find_critical_step,
    sharpness_course,
)


@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e3))
def test_gradient_descent_on_a_quadratic_has_the_margin_two_over_lr_and_sharpness(lr: float, sharpness: float) -> None:
    # L = sharpness x^2 / 2 at x = 1, delta = lr sharpness: L(x - s delta) = L(x) at s = 2 / (lr sharpness).
    def excess(multiple: float) -> float:
        return sharpness / 2 * ((1 - multiple * lr * sharpness) ** 2 - 1)

    found = find_critical_step(excess, start=2 / (lr * sharpness) * 3, evaluations=8)
    assert found.status == "ok"
    assert found.value == pytest.approx(2 / (lr * sharpness), rel=1e-9)
    assert found.evaluations <= 5


@given(st.floats(0.02, 500), st.floats(0.1, 4))
def test_other_shapes_are_bracketed_within_the_forwards_that_are_allowed(critical: float, power: float) -> None:
    # Falls, then rises more or less steeply than a parabola.
    found = find_critical_step(lambda s: (s / critical) ** (1 + power) - s / critical, evaluations=9)
    assert found.status == "ok" and found.lo is not None and found.hi is not None and found.value is not None
    assert found.lo <= critical <= found.hi
    assert abs(math.log(found.value / critical)) < 0.25


def test_a_loss_that_blows_up_beyond_the_edge_is_bisected() -> None:
    found = find_critical_step(lambda s: -s if s < 5 else math.nan, evaluations=9)
    assert found.lo is not None and found.hi is not None
    assert found.lo < 5 <= found.hi < 2 * found.lo


def test_updates_that_always_or_never_raise_the_loss_give_a_bound() -> None:
    never = find_critical_step(lambda s: -s, evaluations=4)
    assert (never.status, never.value, never.lo, never.hi) == ("above", None, 64.0, None)
    always = find_critical_step(lambda s: s, evaluations=4)
    assert (always.status, always.value, always.lo, always.hi) == ("below", None, None, 1 / 64)


def test_differences_that_are_lost_in_rounding_are_no_descent() -> None:
    found = find_critical_step(lambda s: s if s > 0.01 else 0.0, evaluations=9)
    assert (found.status, found.value) == ("below", None)


def test_misuse_names_the_value() -> None:
    with pytest.raises(LrscaleError, match="start 0"):
        find_critical_step(lambda s: s, start=0.0)
    with pytest.raises(LrscaleError, match="evaluations is 1"):
        find_critical_step(lambda s: s, evaluations=1)


def ramp(noise: float = 0.0, sharpness: float = 2.5, seed: int = 0) -> list[SharpnessPoint]:
    lrs = np.geomspace(1e-3, 10, 30)
    factors = np.exp(noise * np.random.default_rng(seed).normal(size=30))
    return [
        SharpnessPoint(step=place + 1, lr=float(lr), margin=float(2 / (sharpness * lr) * factor))
        for place, (lr, factor) in enumerate(zip(lrs, factors, strict=True))
    ]


def test_the_edge_of_a_ramp_is_two_over_the_sharpness() -> None:
    found = sharpness_course(ramp())
    assert found.status is SharpnessStatus.CROSSED
    assert found.edge_lr == pytest.approx(0.8, rel=1e-9)
    assert found.smallest is not None and found.smallest.lr == 10.0
    assert found.points[3].sharpness == pytest.approx(2.5)


def test_one_noisy_measurement_does_not_make_an_edge() -> None:
    points = ramp()
    points[5] = SharpnessPoint(step=6, lr=points[5].lr, margin=0.5)
    assert sharpness_course(points).edge_lr == pytest.approx(0.8, rel=1e-9)
    edges = [sharpness_course(ramp(0.2, seed=seed)).edge_lr for seed in range(200)]
    assert all(edge is not None and abs(math.log(edge / 0.8)) < 0.8 for edge in edges)


def test_a_run_that_begins_beyond_the_edge_says_what_its_first_margin_says() -> None:
    found = sharpness_course(ramp()[-6:])
    assert (found.status, found.edge_step) == (SharpnessStatus.CROSSED, 25)
    assert found.edge_lr == pytest.approx(0.8, rel=1e-9)
    assert "below 1 from step 25 on" in found.reason


def test_updates_that_are_uphill_on_their_batch_are_counted_and_left_out() -> None:
    uphill = SharpnessPoint(step=99, lr=0.01, margin=1e-5, bound="below")
    found = sharpness_course([uphill, *ramp(), uphill, uphill])
    assert found.edge_lr == pytest.approx(0.8, rel=1e-9)
    assert found.smallest is not None and found.smallest.lr == 10.0
    assert (len(found.points), len(found.measured)) == (33, 30)
    assert found.reason.endswith("3 of 33 updates were uphill on their own batch and are left out")
    only = sharpness_course([uphill])
    assert (only.status, only.smallest) == (SharpnessStatus.NOT_MEASURED, None)


def test_an_edge_that_is_not_reached_is_said_with_the_largest_lr() -> None:
    found = sharpness_course(ramp()[:10])
    assert (found.status, found.edge_lr, found.edge_step) == (SharpnessStatus.NOT_REACHED, None, None)
    assert "not reached up to LR" in found.reason
    empty = sharpness_course([], missing="the parameters are of half precision")
    assert (empty.status, empty.reason) == (SharpnessStatus.NOT_MEASURED, "the parameters are of half precision")


@pytest.mark.parametrize("points", [[], ramp(), ramp()[:1]])
def test_a_course_is_read_back_equal(points: list[SharpnessPoint]) -> None:
    found = sharpness_course(points)
    assert SharpnessCourse.from_dict({**json.loads(json.dumps(found.to_dict(), allow_nan=False)), "more": 1}) == found

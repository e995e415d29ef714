"""Batch-size schedules against their definitions, and the steps that they make."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.batch_schedules import (
    BATCH_SCHEDULES,
    AbstractBatchSchedule,
    BatchCourse,
    Doubling,
    GrownLR,
    InsteadOfDecay,
    LinearRamp,
    Piecewise,
    batch_schedule_label,
    build_batch_schedule,
)
from lrscale.errors import LrscaleError
from lrscale.schedules import Constant, Cosine, MultiStep, Warmup

SETTINGS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "constant": st.fixed_dictionaries({"times": st.integers(1, 9), "lr_power": st.sampled_from([0.0, 0.5, 1.0])}),
    "doubling": st.fixed_dictionaries(
        {"every_fraction": st.floats(0.05, 1), "factor": st.integers(1, 4), "most": st.integers(1, 64)}
    ),
    "linear_ramp": st.fixed_dictionaries({"times": st.integers(1, 64), "ramp_fraction": st.floats(0.05, 1)}),
    "piecewise": st.fixed_dictionaries({"points": st.sampled_from([[[0, 1]], [[0, 2], [0.25, 3], [0.9, 16]]])}),
    "instead_of_decay": st.fixed_dictionaries({"power": st.floats(0.5, 3), "most": st.integers(1, 64)}),
}
MEMBERS = st.sampled_from(sorted(BATCH_SCHEDULES)).flatmap(
    lambda name: SETTINGS[name].map(lambda settings: build_batch_schedule(name, settings))
)


def test_every_member_has_settings_here() -> None:
    assert set(SETTINGS) == set(BATCH_SCHEDULES)


@given(schedule=MEMBERS, horizon=st.integers(1, 300), data=st.data())
def test_multiples_are_whole_and_at_least_one(
    schedule: AbstractBatchSchedule, horizon: int, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, horizon - 1))
    decay = data.draw(st.floats(0, 1))
    multiple = schedule.multiple(position, horizon, decay)
    assert isinstance(multiple, int)
    assert multiple >= 1
    assert schedule.lr_power >= 0


@given(schedule=MEMBERS, horizon=st.integers(1, 300), data=st.data())
def test_a_course_covers_every_base_step_once(
    schedule: AbstractBatchSchedule, horizon: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, horizon - 1))
    course = BatchCourse.of(schedule, Cosine(), horizon, start)
    assert (course.start, course.end) == (start, horizon)
    assert sum(course.multiples()) == horizon - start
    assert min(course.multiples()) >= 1
    assert course.largest == max(course.multiples())
    # Every step has the multiple that the schedule gives where it begins; the last ends at the horizon.
    for step in range(course.steps - 1):
        position = course.edges[step]
        factors = [Cosine().factor(at, horizon) for at in range(position + 1)]
        assert course.multiple(step) == schedule.multiple(position, horizon, factors[-1] / max(factors))


def test_doublings_lie_at_equal_distances_and_stop_at_the_bound() -> None:
    schedule = Doubling(every_fraction=0.1, most=16)
    assert [schedule.multiple(position, 100) for position in range(5, 100, 10)] == [1, 2, 4, 8, 16, 16, 16, 16, 16, 16]
    assert schedule.multiple(30, 100) == 8  # floating point has 30 / (0.1 x 100) just below 3 for some horizons


def test_the_ramp_is_linear_in_examples() -> None:
    schedule = LinearRamp(times=33, ramp_fraction=0.5)
    for position in range(0, 200, 7):
        assert schedule.multiple(position, 200) == math.floor(1 + 32 * min(1, position / 100) + 1e-9)


def test_given_multiples_hold_from_their_share_on() -> None:
    schedule = Piecewise(points=((0, 1), (0.3, 4)))
    assert [schedule.multiple(position, 10) for position in (0, 2, 3, 9)] == [1, 1, 4, 4]


@pytest.mark.parametrize(("power", "multiples"), [(1.0, [1, 5, 25]), (2.0, [1, 25, 625])])
def test_growing_instead_of_decaying_answers_each_decay_by_its_power(power: float, multiples: list[int]) -> None:
    # Smith et al. 2018, section 5.1: the learning rate falls by 5 at each milestone, or the batch grows by 5.
    decay = MultiStep(milestones=(0.3, 0.6), gamma=0.2)
    schedule = InsteadOfDecay(power=power, most=1000)
    factors = [decay.factor(position, 100) for position in (0, 30, 60)]
    assert [schedule.multiple(0, 100, factor) for factor in factors] == multiples


@given(power=st.floats(0.5, 3), most=st.integers(1, 64), horizon=st.integers(2, 200), warmup=st.integers(0, 20))
def test_the_noise_of_growing_is_that_of_decaying_at_every_step(
    power: float, most: int, horizon: int, warmup: int
) -> None:
    decaying = Warmup(steps=warmup, then=Cosine()) if warmup else Cosine()
    growing = InsteadOfDecay(power=power, most=most)
    course = BatchCourse.of(growing, decaying, horizon)
    grown = GrownLR(decaying, course, growing.lr_power)
    for step in range(course.steps):
        position = course.edges[step]
        noise = grown.factor(position, horizon) / course.multiple(step) ** (1 / power)
        assert noise == pytest.approx(decaying.factor(position, horizon), rel=1e-9)
        assert grown.factor(position, horizon) <= 1 + 1e-9
        if position < warmup:
            assert course.multiple(step) == 1


def test_a_plain_course_is_the_steps_themselves() -> None:
    course = BatchCourse.of(None, None, 10, 4)
    assert course.plain
    assert list(course.edges) == [4, 5, 6, 7, 8, 9, 10]
    assert [course.first_from(position) for position in (0, 4, 6, 10, 20)] == [0, 0, 2, 6, 6]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("doubling", {"factor": 1.5}, "whole number"),
        ("doubling", {"most": True}, "whole number"),
        ("linear_ramp", {"ramp_fraction": 0}, r"in \(0, 1\]"),
        ("piecewise", {"points": [[0.1, 2]]}, "rise from 0"),
        ("piecewise", {"points": 3}, "list of pairs"),
        ("instead_of_decay", {"power": 0}, "above 0"),
        ("constant", {"time": 2}, "no setting time"),
        ("doubles", {}, "did you mean doubling"),
    ],
)
def test_what_cannot_be_is_refused_with_the_rule(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LrscaleError, match=message):
        build_batch_schedule(name, settings)


def test_growing_needs_a_schedule_that_is_known() -> None:
    with pytest.raises(LrscaleError, match="not known before it runs"):
        BatchCourse.of(InsteadOfDecay(), None, 10)
    with pytest.raises(LrscaleError, match="cannot begin after 10"):
        BatchCourse.of(None, Constant(), 10, 10)
    assert batch_schedule_label("constant", {"times": 4}) == "constant (times=4)"

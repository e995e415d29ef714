from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.laws.annealing import LRTrace

from .simulated import shape


@given(st.lists(st.floats(0, 1), min_size=1, max_size=3000).filter(any))
def test_sums_of_lrs_at_the_knots_are_exact(lr):
    trace = LRTrace.from_steps(lr)
    total = np.concatenate([[0.0], np.cumsum(lr)])
    np.testing.assert_allclose(trace.area, total[trace.step.astype(int)], rtol=1e-12)
    assert trace.last_step == len(lr)
    assert trace.peak <= max(lr)


def test_a_long_history_is_compressed_and_keeps_both_sides_of_a_drop():
    lr = np.ones(72_000)
    lr[:2000] = np.arange(1, 2001) / 2000
    lr[40_123:] = 0.25
    trace = LRTrace.from_steps(lr)
    assert trace.step.size < 800
    assert {40_123.0, 40_124.0} <= set(trace.step)
    assert trace.drops.max() == 0.75
    np.testing.assert_allclose(trace.area_at([40_123, 72_000]), [np.sum(lr[:40_123]), np.sum(lr)], rtol=1e-12)


def test_logged_points_give_the_area_of_the_trapezoids_and_of_the_warmup_before_them():
    step = np.arange(2160, 24_001, 128)
    trace = LRTrace.from_points(step, np.full(step.size, 3e-4))
    # Half of the warm-up's rectangle.
    assert trace.area_at([2160.0])[0] == pytest.approx(0.5 * 2160 * 3e-4)
    assert trace.area_at([step[-1]])[0] == pytest.approx((0.5 * 2160 + step[-1] - 2160) * 3e-4)
    shorter = LRTrace.from_points(step, np.full(step.size, 3e-4), warmup_steps=1000)
    assert shorter.area_at([2160.0])[0] == pytest.approx((2160 - 500) * 3e-4)
    assert shorter.warmup_end == 1000
    none = LRTrace.from_points(step, np.full(step.size, 3e-4), warmup_steps=0)
    assert none.area_at([2160.0])[0] == pytest.approx(2160 * 3e-4)


def test_points_and_steps_of_one_schedule_agree():
    lr = 3e-4 * shape("cosine", 20_000, 1000)
    logged = np.arange(128, 20_001, 128)
    by_step, by_point = LRTrace.from_steps(lr), LRTrace.from_points(logged, lr[logged - 1])
    at = np.arange(1280, 19_000, 640)
    np.testing.assert_allclose(by_point.area_at(at), by_step.area_at(at), rtol=3e-3)
    assert by_step.same_as(by_point)


def test_a_warmup_rise_is_no_drop_but_a_later_rise_is_a_negative_one():
    lr = np.concatenate([np.arange(1, 11) / 10, np.full(20, 1.0), np.full(20, 0.2), np.full(20, 0.6)])
    trace = LRTrace.from_steps(lr)
    assert trace.warmup_end == 10
    np.testing.assert_allclose(trace.drops[trace.drops != 0], [0.8, -0.4])


@pytest.mark.parametrize(
    ("name", "abrupt"),
    [("constant", False), ("cosine", False), ("drop", True), ("deep drop", True), ("wsd", True)],
)
def test_a_cooldown_over_a_fifth_is_abrupt_and_a_cosine_is_not(name, abrupt):
    assert LRTrace.from_steps(shape(name)).drops_abruptly is abrupt
    lr = shape(name, 24_000, 1000)
    step = np.arange(1000, 24_001, 128)
    assert LRTrace.from_points(step, lr[step - 1]).drops_abruptly is abrupt


def test_linear_decay_and_a_slow_cooldown_are_not_abrupt():
    t = np.arange(1000)
    assert not LRTrace.from_steps(1 - t / 1000).drops_abruptly
    assert not LRTrace.from_steps(np.minimum(1, (1000 - t) / 500)).drops_abruptly


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LRTrace.from_steps([0.1, -0.1]), "row 1: LR -0.1"),
        (lambda: LRTrace.from_steps([0.1, 0.2, np.nan]), "row 2: LR nan"),
        (lambda: LRTrace.from_steps([np.inf]), "row 0: LR inf"),
        (lambda: LRTrace.from_steps([0.0, 0.0]), "all 2 LRs are 0"),
        (lambda: LRTrace.from_steps([]), "make no history"),
        (lambda: LRTrace.from_points([1, 3, 3], [1, 1, 1]), "row 2: step 3 after 3"),
        (lambda: LRTrace.from_points([-1, 3], [1, 1]), "row 0: step -1"),
        (lambda: LRTrace.from_points([1, 2, 3], [1, 1]), "3 steps and 2 LRs"),
        (lambda: LRTrace.from_points([10, 20], [1, 1], warmup_steps=11), "warmup_steps 11"),
        (lambda: LRTrace.from_points([0, 20], [1, 1], warmup_steps=5), "starts at step 0"),
    ],
)
def test_wrong_input_is_named_by_its_row(make, message):
    with pytest.raises(LrscaleError, match=message):
        make()

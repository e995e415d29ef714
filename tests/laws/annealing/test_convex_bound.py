from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.laws.annealing import ConvexBound, carried_base_lr, convex_bound


def wsd(steps: int, cooldown: float) -> np.ndarray:
    return np.minimum(1.0, (steps - np.arange(steps)) / (cooldown * steps))


def test_best_lrs_of_cooldowns_stand_as_published():
    # Schaipp et al. 2025, arXiv:2501.18965: cooldowns over the last 10, 20 and 40 %.
    best = [convex_bound(wsd(50_000, share)).best_base_lr for share in (0.1, 0.2, 0.4)]
    np.testing.assert_allclose(np.array(best) / best[0], [1, 1.12, 1.32], atol=0.006)


def test_best_lr_falls_with_the_root_of_the_horizon_as_published():
    # The authors' code for a cooldown of 20 %, distance and gradient norm 1, horizons of 1000 to 8000 steps.
    best = [convex_bound(wsd(steps, 0.2)).best_base_lr for steps in (1000, 2000, 4000, 8000)]
    np.testing.assert_allclose(best, [0.0162, 0.0115, 0.0081, 0.0057], atol=6e-5)


def test_linear_decay_beats_cosine_beats_a_short_cooldown_beats_constant():
    t = np.arange(4000) / 4000
    shapes = [1 - t, (1 + np.cos(np.pi * t)) / 2, wsd(4000, 0.2), wsd(4000, 0.1), np.ones(4000)]
    rates = [convex_bound(shape).rate for shape in shapes]
    assert rates == sorted(rates)


def test_the_bound_is_the_published_sum():
    rng = np.random.default_rng(0)
    lr, norm, distance = rng.uniform(0.1, 1, 40), rng.uniform(0.5, 2, 40), 3.0
    total = lr.sum()
    last = sum(
        lr[k] / lr[k + 1 :].sum() * np.sum(lr[k:] ** 2 * norm[k:] ** 2) / lr[k:].sum() for k in range(lr.size - 1)
    )
    expected = distance**2 / (2 * total) + np.sum(lr**2 * norm**2) / (2 * total) + last / 2
    found = convex_bound(lr, gradient_norm=norm, distance=distance)
    assert float(found.at(1.0)) == pytest.approx(expected, rel=1e-12)
    factors = np.geomspace(0.01, 100, 2001)
    assert found.rate <= found.at(factors).min()
    assert found.at(found.best_base_lr) == pytest.approx(found.rate)


@given(st.floats(1e-6, 1e6), st.floats(0.05, 1.0))
def test_the_unit_of_the_shape_cancels(unit, cooldown):
    shape = wsd(200, cooldown)
    one, other = convex_bound(shape), convex_bound(unit * shape)
    assert other.rate == pytest.approx(one.rate, rel=1e-9)
    assert unit * other.best_base_lr == pytest.approx(one.best_base_lr, rel=1e-9)


def test_steps_at_zero_after_the_end_are_left_out():
    shape = wsd(500, 0.2)
    longer = convex_bound(np.concatenate([shape, np.zeros(50)]))
    assert longer == convex_bound(shape)
    assert ConvexBound.from_dict(longer.to_dict()) == longer


def test_an_lr_is_carried_by_the_ratio_of_the_best_ones():
    assert carried_base_lr(1e-3, tuned=wsd(2000, 0.1), planned=wsd(2000, 0.1)) == pytest.approx(1e-3)
    assert carried_base_lr(1e-3, tuned=wsd(2000, 0.1), planned=wsd(2000, 0.4)) == pytest.approx(1.32e-3, rel=0.01)
    assert carried_base_lr(1e-3, tuned=wsd(2000, 0.2), planned=wsd(8000, 0.2)) == pytest.approx(5e-4, rel=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: convex_bound([1, -1]), "row 1: LR -1"),
        (lambda: convex_bound([np.nan]), "row 0: LR nan"),
        (lambda: convex_bound([0.0, 0.0]), "all 2 LRs are 0"),
        (lambda: convex_bound([]), "no steps"),
        (lambda: convex_bound([1, 1], gradient_norm=[1, 1, 1]), "gradient_norm"),
        (lambda: convex_bound([1, 1], gradient_norm=0), "gradient_norm"),
        (lambda: convex_bound([1, 1], distance=0), "distance 0"),
        (lambda: carried_base_lr(0, tuned=[1], planned=[1]), "best_base_lr 0"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(LrscaleError, match=message):
        make()

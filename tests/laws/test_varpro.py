"""Variable projection against other optimizers, and its bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit, least_squares, nnls

from lrscale.laws.base import Parameter
from lrscale.laws.non_negative import non_negative
from lrscale.laws.scale.loss import CHINCHILLA, POWER_OFFSET
from lrscale.laws.separable import AbstractSeparableLaw
from lrscale.laws.varpro import resolve, solve

TRUTH = np.array([2.0, 5.0, 0.5])
SIZE = {"size": np.geomspace(1.0, 1e4, 30)}


def noisy(seed=0, sd=0.01):
    rng = np.random.default_rng(seed)
    return POWER_OFFSET.predict(TRUTH, SIZE) * np.exp(sd * rng.standard_normal(30))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 4))
def test_amplitudes_equal_those_of_scipys_nnls(seed, k):
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((3, 12, k)) ** 2 + rng.standard_normal((3, 1, k))
    target, weight = rng.standard_normal((3, 12)), rng.uniform(0.2, 2.0, (3, 12))
    found = non_negative(columns, target * weight, weight)
    for i in range(3):
        root = np.sqrt(weight[i])
        expected = nnls(columns[i] * root[:, None], target[i] * root)[0]
        np.testing.assert_allclose(found[i], expected, atol=1e-7 * (1 + expected.max()))


def test_least_squares_agree_with_curve_fit():
    y = noisy()

    def curve(x, floor, amplitude, exponent):
        return floor + amplitude * x**-exponent

    expected = curve_fit(curve, SIZE["size"], y, p0=TRUTH)[0]
    found = solve(POWER_OFFSET, SIZE, y, residual="linear", delta=np.inf)
    np.testing.assert_allclose(found.params, expected, rtol=1e-5)


def test_log_huber_agrees_with_a_general_optimizer():
    y = noisy()
    y[[3, 20]] *= 1.3

    def gap(params):
        return (np.log(y) - np.log(POWER_OFFSET.predict(np.abs(params), SIZE))) / 0.01

    expected = least_squares(gap, TRUTH, loss="huber", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    found = solve(POWER_OFFSET, SIZE, y, delta=0.01)
    np.testing.assert_allclose(found.params, expected.x, rtol=1e-4)
    assert found.objective == pytest.approx(expected.cost * 1e-4, rel=1e-6)


def test_the_automatic_threshold_resists_an_outlier():
    y = noisy()
    clean = solve(POWER_OFFSET, SIZE, y)
    y[5] *= 3.0
    robust = solve(POWER_OFFSET, SIZE, y)
    fragile = solve(POWER_OFFSET, SIZE, y, delta=np.inf)
    assert abs(robust.params[2] - clean.params[2]) < 0.01
    assert abs(fragile.params[2] - clean.params[2]) > 0.03


def test_weights_act_as_multiplicities():
    y = noisy()
    counts = np.random.default_rng(2).integers(1, 4, 30)
    weighted = solve(POWER_OFFSET, SIZE, y, weight=counts.astype(float), delta=np.inf)
    repeated = solve(POWER_OFFSET, {"size": np.repeat(SIZE["size"], counts)}, np.repeat(y, counts), delta=np.inf)
    np.testing.assert_allclose(weighted.params, repeated.params, rtol=1e-6)


def test_resamples_equal_separate_solutions():
    y = noisy()
    found = solve(POWER_OFFSET, SIZE, y)
    weights = np.random.default_rng(3).standard_exponential((8, 30))
    many = resolve(POWER_OFFSET, SIZE, y, found.params, weight=weights, delta=found.delta)
    for row, weight in zip(many, weights, strict=True):
        alone = solve(POWER_OFFSET, SIZE, y, weight=weight, delta=found.delta)
        np.testing.assert_allclose(row, alone.params, rtol=2e-3)


def test_resamples_may_bring_their_own_values():
    y = np.stack([noisy(1), noisy(2)])
    found = solve(POWER_OFFSET, SIZE, y[0])
    many = resolve(POWER_OFFSET, SIZE, y, found.params, weight=np.ones((2, 30)))
    for row, own in zip(many, y, strict=True):
        np.testing.assert_allclose(row, solve(POWER_OFFSET, SIZE, own, delta=np.inf).params, rtol=1e-3)


def test_a_floor_that_the_data_deny_ends_at_its_bound():
    y = 5.0 / SIZE["size"] ** 0.5
    y = y * (1 - 0.02 * np.linspace(0, 1, 30))
    found = solve(POWER_OFFSET, SIZE, y)
    assert found.params[0] == 0.0 and found.at_bound == ("E",)


@dataclass(frozen=True)
class Line(AbstractSeparableLaw):
    """A law without shape."""

    name: ClassVar[str] = "line"
    formula: ClassVar[str] = "y = a + b x"
    parameters: ClassVar[tuple[Parameter, ...]] = tuple(
        Parameter(name=name, lower=0.0, upper=np.inf, unit="y", meaning="", linear=True) for name in "ab"
    )
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    def columns(self, shape, x):
        return np.broadcast_to(np.stack([np.ones_like(x["x"]), x["x"]], axis=1), (len(shape), x["x"].size, 2))

    def first_guesses(self, x):
        return np.empty((1, 0))


def test_a_law_without_shape_is_a_plain_regression():
    x = {"x": np.array([1.0, 2.0, 3.0, 4.0])}
    y = np.array([3.1, 4.9, 7.0, 9.1])
    found = solve(Line(), x, y, residual="linear", delta=np.inf)
    np.testing.assert_allclose(found.params, np.polyfit(x["x"], y, 1)[::-1], rtol=1e-9)
    many = resolve(Line(), x, y, found.params, weight=np.ones((3, 4)), residual="linear")
    np.testing.assert_allclose(many, np.repeat(found.params[None], 3, axis=0), rtol=1e-9)


def test_a_thousand_resamples_of_240_points_take_seconds():
    rng = np.random.default_rng(0)
    size, data = np.exp(rng.uniform(18, 23, 240)), np.exp(rng.uniform(20, 26, 240))
    x = {"params": size, "tokens": data}
    y = CHINCHILLA.predict([1.8, 480.0, 0.35, 2080.0, 0.37], x) * np.exp(0.005 * rng.standard_normal(240))
    found = solve(CHINCHILLA, x, y)
    weights = rng.standard_exponential((1000, 240))
    draws = resolve(CHINCHILLA, x, y, found.params, weight=weights, delta=found.delta)
    assert np.isfinite(draws).all()
    np.testing.assert_allclose(np.median(draws, axis=0), found.params, rtol=0.05)


def test_replicates_of_a_cell_count_as_its_weight():
    y = noisy()
    twice = np.repeat(np.arange(30), 2)
    size = {"size": SIZE["size"][twice]}
    start = solve(POWER_OFFSET, SIZE, y, delta=0.01).params
    one = resolve(POWER_OFFSET, SIZE, y, start, weight=np.full((1, 30), 2.0), delta=0.01)
    two = resolve(POWER_OFFSET, size, y[twice], start, weight=np.ones((1, 60)), delta=0.01)
    np.testing.assert_allclose(two, one, rtol=1e-6)
    mixed = np.random.default_rng(0).permutation(60)
    order = {"size": size["size"][mixed]}
    np.testing.assert_allclose(solve(POWER_OFFSET, order, y[twice][mixed], delta=0.01).params, start, rtol=1e-5)

"""Intervals of differences and ratios that are recovered from those of two estimates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm, t

from lrscale.errors import LrscaleError
from lrscale.laws.base import Interval
from lrscale.laws.recovered import recovered_difference, recovered_ratio


def test_of_two_normal_means_it_is_the_textbook_interval() -> None:
    z = norm.ppf(0.975)
    one, other = Interval(5 - 0.3 * z, 5 + 0.3 * z, 0.95), Interval(3 - 0.4 * z, 3 + 0.4 * z, 0.95)
    value, interval = recovered_difference(5.0, one, 3.0, other)
    assert value == 2.0
    assert interval.lo == pytest.approx(2 - 0.5 * z)
    assert interval.hi == pytest.approx(2 + 0.5 * z)


def test_the_other_way_round_it_is_the_negative() -> None:
    one, other = Interval(1.0, 9.0, 0.9), Interval(2.0, 3.5, 0.9)
    value, interval = recovered_difference(4.0, one, 3.0, other)
    back, reverse = recovered_difference(3.0, other, 4.0, one)
    assert (back, reverse.lo, reverse.hi) == (-value, -interval.hi, -interval.lo)


def test_an_open_end_opens_the_end_that_rests_on_it() -> None:
    value, interval = recovered_ratio(4.0, Interval(2.0, None, 0.95), 1.0, Interval(0.5, 2.0, 0.95))
    assert value == pytest.approx(4.0)
    assert interval.hi is None
    assert interval.lo == pytest.approx(4 * math.exp(-math.hypot(math.log(2), math.log(2))))


def test_two_confidences_are_refused_and_so_is_the_logarithm_of_nothing() -> None:
    with pytest.raises(LrscaleError, match="differ"):
        recovered_difference(1.0, Interval(0, 2, 0.95), 1.0, Interval(0, 2, 0.9))
    with pytest.raises(LrscaleError, match="logarithm"):
        recovered_ratio(0.0, Interval(0, 2, 0.95), 1.0, Interval(0, 2, 0.95))


@pytest.mark.parametrize("df", [4, 30])
def test_it_holds_the_true_ratio_of_log_normal_estimates_as_often_as_it_says(df: int) -> None:
    # Student's t intervals of the two logarithms; 4,000 pairs leave a standard error of 0.35 %.
    random = np.random.default_rng(5)
    held, n = 0, 4_000
    sds = np.array([0.3, 0.1])
    half = t.ppf(0.975, df)
    logs = random.normal(np.log([6.0, 2.0]), sds, (n, 2))
    errors = sds * np.sqrt(random.chisquare(df, (n, 2)) / df)
    for (a, b), (sa, sb) in zip(logs, errors, strict=True):
        intervals = [Interval(math.exp(x - half * s), math.exp(x + half * s), 0.95) for x, s in ((a, sa), (b, sb))]
        _, found = recovered_ratio(math.exp(a), intervals[0], math.exp(b), intervals[1])
        held += found.contains(3.0)
    assert 0.94 <= held / n <= 0.98

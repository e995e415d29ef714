"""The four suggestion rules agree with their published definitions on random curves, written here from the formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lrscale.laws import minimum_over_ten, slide, steepest, valley

curves = st.lists(st.integers(-50, 50), min_size=20, max_size=60).map(lambda losses: [loss / 8 for loss in losses])
"""Losses that are whole eighths: their differences are exact, and ties occur."""


def ramp(count: int) -> list[float]:
    return [1e-6 * 2.0 ** (index / 2) for index in range(count)]


@given(loss=curves)
def test_steepest_minimises_the_slope_by_log_lr(loss: list[float]) -> None:
    # On an exponential ramp the slope by log LR is the slope by index over a constant: central differences inside,
    # one-sided ones at the ends.
    last = len(loss) - 1
    rise = [loss[min(i + 1, last)] - loss[max(i - 1, 0)] for i in range(len(loss))]
    slope = [rise[i] / (2 if 0 < i < last else 1) for i in range(len(loss))]
    found = steepest(ramp(len(loss)), loss)
    if min(slope) >= 0:
        assert found is None
    else:
        assert found is not None
        at = ramp(len(loss)).index(found)
        # Logarithms of the LRs are rounded, so that a tie may go either way.
        assert math.isclose(slope[at], min(slope), rel_tol=1e-9)


@given(loss=curves)
def test_minimum_over_ten_is_a_tenth_of_the_lowest(loss: list[float]) -> None:
    assert minimum_over_ten(ramp(len(loss)), loss) == ramp(len(loss))[loss.index(min(loss))] / 10


@given(loss=st.lists(st.integers(0, 6), min_size=3, max_size=9))
@settings(max_examples=150, deadline=None)
def test_valley_is_half_way_into_the_longest_falling_subsequence(loss: list[int]) -> None:
    def falls(places: tuple[int, ...]) -> bool:
        return all(loss[a] > loss[b] for a, b in itertools.pairwise(places))

    # The longest strictly falling subsequence by brute force; of several, the one that ends first.
    length, end = 1, 0
    for size in range(2, len(loss) + 1):
        ends = [places[-1] for places in itertools.combinations(range(len(loss)), size) if falls(places)]
        if ends:
            length, end = size, min(ends)
    third = length / 3
    place = end - length + math.floor(third) + math.floor(third / 2)
    expected = None if length < 2 else ramp(len(loss))[max(place, 0)]
    assert valley(ramp(len(loss)), loss) == expected


@given(loss=curves, threshold=st.sampled_from([0.005, 0.3, 1.0]), interval=st.integers(1, 15))
def test_slide_stops_where_the_slopes_at_both_ends_of_its_interval_agree(
    loss: list[float], threshold: float, interval: int
) -> None:
    last = len(loss) - 1
    slope = [(loss[min(i + 1, last)] - loss[max(i - 1, 0)]) / (2 if 0 < i < last else 1) for i in range(len(loss))]
    lefts = range(last - interval, -1, -1)
    stop = next((left for left in lefts if abs(slope[left + interval] - slope[left]) <= threshold), -1)
    # The LR that is kept is the left end of the last interval whose slopes differ; the first interval if none does.
    kept = min(stop + 1, last - interval)
    assert slide(ramp(len(loss)), loss, interval=interval, threshold=threshold) == ramp(len(loss))[kept]


def test_the_steepest_point_moves_with_the_length_of_the_ramp_and_no_rule_is_a_law() -> None:
    # A loss that falls with the sum of the LRs so far: where it falls fastest is the same sum, so the LR there is
    # proportional to 1 / n.
    found = []
    for count in (50, 100, 200, 400):
        lr = np.geomspace(1e-5, 10, count)
        found.append(steepest(lr, 1 / (1 + np.cumsum(lr))))
    ratios = np.array(found[:-1]) / np.array(found[1:])
    np.testing.assert_allclose(ratios, 2, rtol=0.15)

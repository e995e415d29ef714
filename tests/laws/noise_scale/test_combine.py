"""One noise scale from several runs."""

from __future__ import annotations

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws.noise_scale import GradientSums, NoiseScale, combine_noise_scales, noise_scale

DIMENSION, COUNT, EXAMPLES = 20, 4, 8.0
SQUARE, TRACE = 1.0, 60.0


def run(rng: np.random.Generator, steps: int, square: float = SQUARE) -> NoiseScale:
    noise = rng.normal(0, np.sqrt(TRACE / DIMENSION / EXAMPLES), (steps, COUNT, DIMENSION))
    drawn = np.sqrt(square / DIMENSION) + noise
    return noise_scale(
        GradientSums(
            step=np.arange(steps),
            count=np.full(steps, COUNT),
            examples=np.full(steps, EXAMPLES),
            mean_square=np.sum(drawn**2, axis=2).mean(axis=1),
            square_mean=np.sum(drawn.mean(axis=1) ** 2, axis=1),
        )
    )


def test_the_interval_over_three_runs_covers_the_truth_and_is_narrower_than_that_of_one() -> None:
    rng = np.random.default_rng(0)
    covered, widths, ratios, studies = 0, [], [], 400
    for _ in range(studies):
        runs = [run(rng, steps) for steps in (60, 40, 80)]
        found = combine_noise_scales(runs)
        assert found.interval is not None and found.interval.lo is not None and found.interval.hi is not None
        covered += found.interval.contains(TRACE / SQUARE)
        ratios.append(found.squared_gradient)
        alone = runs[1].interval
        assert alone is not None and alone.lo is not None
        if alone.hi is not None:
            widths.append((found.interval.hi - found.interval.lo) / (alone.hi - alone.lo))
    # 95 % of 400 is 380; three standard deviations of a binomial are 13.
    assert 367 <= covered <= 393
    # A run of 40 of 180 steps: the square root of their share is 0.47.
    assert 0.35 < np.median(widths) < 0.55
    assert np.mean(ratios) == pytest.approx(SQUARE, abs=3 * np.std(ratios) / np.sqrt(studies))


def test_runs_count_by_their_steps_and_both_averages_are_divided_last() -> None:
    rng = np.random.default_rng(1)
    runs = [run(rng, 300, square=4.0), run(rng, 100, square=0.5)]
    found = combine_noise_scales(runs)
    squares, traces = zip(*((one.squared_gradient, one.noise_trace) for one in runs), strict=True)
    assert found.squared_gradient == pytest.approx((3 * squares[0] + squares[1]) / 4)
    assert found.value == pytest.approx((3 * traces[0] + traces[1]) / (3 * squares[0] + squares[1]))
    assert found.value < np.mean([one.value for one in runs])
    assert (found.steps, found.last_step, found.global_batch_size) == (400, 299, COUNT * EXAMPLES)
    dimensions = sorted(one.effective_dimension for one in runs)
    assert dimensions[0] <= found.effective_dimension <= dimensions[1]


def test_two_lower_bounds_may_make_a_number() -> None:
    rng = np.random.default_rng(2)
    runs = [run(rng, 24, square=0.25) for _ in range(12)]
    assert {one.status.value for one in runs[:4]} == {"lower_bound"}
    found = combine_noise_scales(runs)
    assert found.status.value == "ok"
    assert found.interval is not None and found.interval.contains(TRACE / 0.25)


def test_runs_without_numbers_are_left_out_and_nothing_is_made_of_nothing() -> None:
    rng = np.random.default_rng(3)
    short, long = run(rng, 5), run(rng, 50)
    assert combine_noise_scales([short, long]) is long
    assert combine_noise_scales([short, short]).status.value == "too_few_steps"
    with pytest.raises(LrscaleError, match="no noise scale"):
        combine_noise_scales([])
    with pytest.raises(LrscaleError, match="different confidence"):
        combine_noise_scales([long, NoiseScale.not_measured("why", confidence=0.9)])

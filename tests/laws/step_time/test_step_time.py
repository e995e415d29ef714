"""The time of a step: recovery, coverage, what the layouts leave open, and the statistics of step times."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws.step_time import (
    SeriesMean,
    StepTimeModel,
    StepTimeStatus,
    TimedLayout,
    fit_step_time,
    mean_of_replicates,
    mean_of_series,
    speed_knee,
)

TRUTH = StepTimeModel(
    compute_fixed=0.01, compute_per_example=1e-3, sync_fixed=0.03, sync_per_rank=0.002, gamma=2.0
)  # fmt: skip
GRID = [(batch, ranks) for batch in (4, 16, 64) for ranks in (1, 2, 4, 8)]


def timed(
    model: StepTimeModel, grid: list[tuple[int, int]], noise: float = 0.0, seed: int = 0, accumulate: int = 1
) -> list[TimedLayout]:
    rng = np.random.default_rng(seed)
    return [
        TimedLayout(
            per_device_batch_size=batch,
            ranks=ranks,
            accumulate=accumulate,
            seconds=model.seconds(batch, ranks, accumulate) * math.exp(noise * rng.standard_normal()),
        )
        for batch, ranks in grid
    ]


@pytest.mark.parametrize("gamma", [1.2, 2.0, 5.0])
@pytest.mark.parametrize("sync", [0.002, 0.03, 0.2])
def test_a_model_without_noise_is_recovered(gamma: float, sync: float) -> None:
    truth = dataclasses.replace(TRUTH, gamma=gamma, sync_fixed=sync)
    fit = fit_step_time(timed(truth, GRID), draws=20)
    assert fit.status is StepTimeStatus.OK
    for batch, ranks in ((32, 16), (256, 2), (1, 1)):
        found = fit.seconds(batch, ranks)
        assert found is not None
        assert found[0] == pytest.approx(truth.seconds(batch, ranks), rel=1e-4)
    if sync == 0.03:
        assert fit.model is not None
        for name in ("compute_fixed", "compute_per_example", "sync_fixed", "sync_per_rank", "gamma"):
            assert getattr(fit.model, name) == pytest.approx(getattr(truth, name), rel=1e-4), name


def test_accumulated_forwards_cost_computation_and_no_synchronisation() -> None:
    assert TRUTH.seconds(16, 2, 5) == pytest.approx(4 * 0.026 + TRUTH.seconds(16, 2))
    fit = fit_step_time(timed(TRUTH, [(4, 2), (16, 2), (64, 2)], accumulate=4) + timed(TRUTH, [(4, 2), (64, 2)]))
    # Forwards without a reduction stand in for a device alone.
    assert fit.status is StepTimeStatus.OK
    alone = fit.seconds(16, 1)
    assert alone is not None
    assert alone[0] == pytest.approx(0.026, rel=1e-3)


def coverage(studies: int, draws: int) -> dict[tuple[int, int], float]:
    rng = np.random.default_rng(1)
    hits: dict[tuple[int, int], int] = {}
    for study in range(studies):
        sync = float(np.exp(rng.uniform(-6, -3)))
        truth = StepTimeModel(
            compute_fixed=float(np.exp(rng.uniform(-6, -3))),
            compute_per_example=float(np.exp(rng.uniform(-9, -6))),
            sync_fixed=sync,
            sync_per_rank=sync * float(rng.uniform(0, 0.5)),
            gamma=float(rng.uniform(1, 4)),
        )
        fit = fit_step_time(timed(truth, GRID, noise=0.03, seed=study), draws=draws)
        for batch, ranks in ((32, 16), (256, 2), (16, 4), (64, 1)):
            found = fit.seconds(batch, ranks)
            assert found is not None
            place = (batch, ranks)
            hits[place] = hits.get(place, 0) + found[1].contains(truth.seconds(batch, ranks))
    return {place: count / studies for place, count in hits.items()}


def test_intervals_of_predicted_times_hold_the_truth_in_forty_studies() -> None:
    # A coverage of 95 % gives less than 85 % in 40 studies with a probability of 0.4 %, over four places 1.5 %.
    assert all(share >= 0.85 for share in coverage(40, draws=150).values())


@pytest.mark.slow
def test_intervals_of_predicted_times_hold_the_truth_in_five_hundred_studies() -> None:
    for place, share in coverage(500, draws=200).items():
        # Three binomial standard errors of 500 studies are 2.9 %.
        assert 0.921 <= share <= 0.98, place


def test_one_rank_says_nothing_of_synchronisation() -> None:
    fit = fit_step_time(timed(TRUTH, [(batch, 1) for batch in (4, 16, 64, 256)], noise=0.01))
    assert fit.status is StepTimeStatus.ONE_RANK
    assert fit.reason.endswith("with one rank alone the cost of synchronisation is not known")
    assert set(fit.unknown) == {"sync_fixed", "sync_per_rank", "gamma"}
    assert fit.seconds(64, 2) is None
    alone = fit.seconds(1024, 1)
    assert alone is not None
    assert alone[0] == pytest.approx(1.034, rel=0.05)


def test_two_ranks_do_not_tell_what_eight_cost() -> None:
    fit = fit_step_time(timed(TRUTH, [(batch, ranks) for batch in (4, 16, 64) for ranks in (1, 2)], noise=0.01))
    assert fit.status is StepTimeStatus.OK
    assert "sync_per_rank" in fit.unknown
    assert fit.seconds(32, 2) is not None
    assert fit.seconds(32, 8) is None
    assert not fit.can_predict(8)


def test_without_one_device_the_parts_cannot_be_told_apart() -> None:
    fit = fit_step_time(timed(TRUTH, [(batch, ranks) for batch in (4, 16, 64) for ranks in (2, 4)]))
    assert fit.status is StepTimeStatus.NOT_IDENTIFIABLE
    assert fit.model is None


@pytest.mark.parametrize("grid", [[], [(4, 1)], [(4, 1), (4, 1), (4, 1)], [(4, 1), (16, 1)], GRID[:4]])
def test_too_few_layouts_are_told(grid: list[tuple[int, int]]) -> None:
    fit = fit_step_time(timed(TRUTH, grid))
    assert fit.status is StepTimeStatus.TOO_FEW_LAYOUTS
    assert fit.seconds(4, 1) is None


def test_what_is_no_layout_is_refused() -> None:
    with pytest.raises(LrscaleError, match=r"a step of 0\.0 seconds"):
        TimedLayout(per_device_batch_size=4, ranks=1, seconds=0.0)
    with pytest.raises(LrscaleError, match="ranks must be at least 1"):
        TimedLayout(per_device_batch_size=4, ranks=0, seconds=1.0)


def test_the_error_of_a_mean_knows_that_neighbouring_steps_are_alike() -> None:
    rng = np.random.default_rng(0)
    hits = naive = 0
    for _ in range(800):
        shocks = rng.standard_normal(120)
        series = np.empty(120)
        series[0] = shocks[0]
        for step in range(1, 120):
            series[step] = 0.5 * series[step - 1] + math.sqrt(0.75) * shocks[step]
        seconds = 0.1 + 0.005 * series
        hits += mean_of_series(seconds).interval().contains(0.1)
        naive += abs(seconds.mean() - 0.1) < 1.98 * seconds.std(ddof=1) / math.sqrt(120)
    # Blocks of 5 steps of an AR(1) at 0.5 still understate the error by a tenth; independence by four tenths.
    assert hits / 800 >= 0.89
    assert naive / 800 <= 0.77


def test_few_steps_have_a_mean_and_no_error() -> None:
    mean = mean_of_series([0.1, 0.2, 0.3])
    assert (mean.value, mean.se) == (pytest.approx(0.2), None)
    assert not mean.interval().bounded


def test_repeats_that_differ_by_more_than_their_steps_say_decide_the_error() -> None:
    quiet = [SeriesMean(value=value, se=1e-4, degrees=8) for value in (0.10, 0.11, 0.15)]
    assert mean_of_replicates(quiet).se == pytest.approx(0.0264575 / math.sqrt(3), rel=1e-4)
    noisy = [SeriesMean(value=value, se=0.05, degrees=8) for value in (0.10, 0.10)]
    assert mean_of_replicates(noisy).se == pytest.approx(0.05 / math.sqrt(2))


def test_the_knee_of_a_known_curve_lies_where_the_closed_form_says() -> None:
    # Speed b / (a + c b) reaches 90 % of its value at 1024 from b = 81 on, with a / c = 10.
    steps = {2**k: SeriesMean(value=0.01 + 0.001 * 2**k, se=1e-6, degrees=9) for k in range(1, 11)}
    knee = speed_knee(steps)
    assert (knee.size, knee.lo, knee.hi, knee.at_edge) == (128, 128, 128, False)
    unsure = speed_knee({size: dataclasses.replace(step, se=0.05 * step.value) for size, step in steps.items()})
    assert unsure.lo is not None and unsure.hi is not None
    assert unsure.lo < 128 < unsure.hi


def test_a_speed_that_still_rises_has_its_knee_at_the_edge() -> None:
    knee = speed_knee({size: SeriesMean(value=1.0, se=None, degrees=0) for size in (4, 16, 64)})
    assert (knee.size, knee.at_edge, knee.lo) == (64, True, None)

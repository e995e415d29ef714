"""The minima of several slices: what is told apart, what is a tie, and how often either is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import pytest
from scipy.stats import binom, t

from lrscale.laws import MinimaComparison, compare_minima, fit_lr_slice
from lrscale.laws.student_sum import StudentSum
from lrscale.schedules import build_schedule

from .noisy_quadratic import Quadratic, compared
from .simulated import grid

STEPS = 60


def settings_of(offsets, rng, noise=0.01, seeds=3, block=0.03, labels=True):
    """Return fitted slices of settings with different best LRs; offsets are their true minima."""
    lr = np.tile(grid(7), seeds)
    seed = np.repeat(np.arange(seeds), 7)
    common = block * rng.standard_normal(seeds)
    fits = {}
    for name, offset in offsets.items():
        u = np.log(lr) - rng.uniform(-0.3, 0.3)
        loss = 2 + offset + 0.05 * (u**2 + 0.1 * u**3) + common[seed] + noise * rng.standard_normal(lr.size)
        fits[name] = fit_lr_slice(lr, loss, seed=seed if labels else None, resamples=200)
    return fits


@pytest.mark.parametrize("labels", [True, False])
def test_a_setting_that_is_better_by_many_sd_wins(labels):
    rng = np.random.default_rng(2)
    found = compare_minima(
        settings_of({"a": 0.1, "b": 0.0, "c": 0.12}, rng, block=0.0 if not labels else 0.03, labels=labels)
    )
    assert found.winner == "b"
    assert found.rows[0].name == "b"
    assert found.rows[0].standing == "best"
    assert all(row.standing == "worse" and row.gap.interval.lo > 0 for row in found.rows[1:])


def test_places_are_those_that_the_intervals_leave_open():
    rng = np.random.default_rng(3)
    found = compare_minima(settings_of({"a": 0.0, "b": 0.001, "c": 0.5, "d": 0.9}, rng, noise=0.002, seeds=4))
    assert {row.name: row.places for row in found.rows} == {"a": (1, 2), "b": (1, 2), "c": (3, 3), "d": (4, 4)}


def test_close_settings_tie_and_equivalent_ones_are_called_so():
    rng = np.random.default_rng(3)
    fits = settings_of({"a": 0.0, "b": 0.001, "c": 0.5}, rng, noise=0.002, seeds=6)
    found = compare_minima(fits, margin=0.05)
    assert found.winner is None
    assert set(found.tied) == {"a", "b"}
    assert found.rows[1].standing == "equivalent"
    assert found.rows[2].standing == "worse"


def test_no_winner_while_a_setting_is_not_located():
    rng = np.random.default_rng(4)
    fits = settings_of({"a": 0.0, "b": 0.5}, rng)
    lr = grid(7)
    fits["c"] = fit_lr_slice(lr, 1.0 - 0.1 * np.log(lr))
    found = compare_minima(fits)
    assert found.winner is None
    assert found.rows[-1].standing == "not comparable"
    assert "c is not comparable: censored_high" in found.reason


def test_a_comparison_survives_json_exactly():
    found = compare_minima(settings_of({"a": 0.0, "b": 0.01}, np.random.default_rng(5)), margin=0.02)
    assert MinimaComparison.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_nothing_comparable_is_an_answer():
    found = compare_minima({"a": fit_lr_slice([1e-3], [1.0])})
    assert (found.winner, found.tied, found.reason) == (None, (), "No setting has a located minimum.")


def factors(name):
    schedule = build_schedule(name, warmup_steps=STEPS // 20)
    return np.array([schedule.factor(step, STEPS) for step in range(STEPS)])


DESIGNS = ((2, 2, 0.1), (2, 2, 1.0), (2, 3, 0.3), (3, 2, 0.5), (4, 3, 0.1), (4, 3, 1.0), (6, 2, 0.3))
"""Schedules, seeds, and the share of the gradient noise that each schedule has to itself."""


def false_verdicts(seeds: Iterable[int]) -> tuple[int, int]:
    """Return in how many comparisons of one schedule with itself a winner was named, and any difference at all."""
    winners = differences = 0
    for seed in seeds:
        count, replicates, own = DESIGNS[seed % len(DESIGNS)]
        ties = [(str(number), factors("cosine")) for number in range(count)]
        found = compare_minima(
            compared(Quadratic(), ties, np.random.default_rng(seed), seeds=replicates, own_noise=own)
        )
        winners += found.winner is not None
        differences += any(row.standing == "worse" for row in found.rows)
    return winners, differences


def test_a_schedule_rarely_wins_against_itself():
    studies = 14
    winners, differences = false_verdicts(range(studies))
    # Above this count with probability 0.1 % if the rate is 5 %.
    assert winners <= differences <= binom.ppf(0.999, studies, 0.05)


@pytest.mark.slow
def test_a_schedule_wins_against_itself_in_at_most_1_of_20_of_500_comparisons():
    winners, differences = false_verdicts(range(500))
    assert winners <= differences <= 25


@pytest.mark.parametrize("block", range(2))
def test_schedules_are_ranked_as_their_expected_losses_in_closed_form(block):
    problem = Quadratic()
    schedules = [(name, factors(name)) for name in ("constant", "linear", "cosine", "wsd")]
    truth = {name: problem.best(own) for name, own in schedules}
    found = compare_minima(compared(problem, schedules, np.random.default_rng(block), seeds=3, own_noise=0.1))
    assert [row.name for row in found.rows] == sorted(truth, key=lambda name: truth[name][1])
    lowest = truth[found.rows[0].name][1]
    for row in found.rows[1:]:
        assert row.gap.interval.lo <= truth[row.name][1] - lowest <= row.gap.interval.hi
        assert row.best_lr == pytest.approx(truth[row.name][0], rel=0.25)
    # Peaks of 0.15 and 0.4: at either one LR the comparison would be one of the LRs.
    assert found.rows[-1].standing == "worse"


def test_at_one_common_lr_the_order_would_be_another():
    problem = Quadratic()
    fixed = {name: problem.expected(factors(name), 0.14) for name in ("constant", "linear", "cosine", "wsd")}
    assert min(fixed, key=lambda name: fixed[name]) == "wsd"


@pytest.mark.parametrize("scales", [(1.0, 0.0), (0.0, 1.0)])
def test_an_error_of_one_part_is_students(scales):
    error = StudentSum(scales, (3.0, 3.0))
    assert error.half_width(0.99) == pytest.approx(float(t.ppf(0.995, 3)))
    assert error.two_sided(2.0) == pytest.approx(2 * float(t.sf(2.0, 3)))


@pytest.mark.parametrize("dfs", [(1.0, 5.0), (2.0, 2.0), (4.0, 30.0)])
@pytest.mark.parametrize("ratio", [0.05, 0.5, 1.0])
def test_the_bound_of_a_sum_is_that_of_draws(dfs, ratio):
    rng = np.random.default_rng(0)
    draws = np.abs(rng.standard_t(dfs[0], 400_000) * ratio + rng.standard_t(dfs[1], 400_000))
    error = StudentSum((ratio, 1.0), dfs)
    bound = error.half_width(0.95)
    # 0.2 %: six standard errors of the share of so many draws.
    assert np.mean(draws > bound) == pytest.approx(0.05, abs=0.002)
    assert error.two_sided(bound) == pytest.approx(0.05, abs=1e-6)


def test_a_sum_without_scale_knows_exactly():
    assert (StudentSum((0.0, 0.0), (1.0, 1.0)).two_sided(0.0), StudentSum((0.0, 0.0), (1.0, 1.0)).two_sided(0.1)) == (
        1,
        0,
    )

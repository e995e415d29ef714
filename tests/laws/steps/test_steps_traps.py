"""Ways to read a critical batch size that look right and are wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lrscale.laws import FitStatus
from lrscale.laws.separable import SEPARABLE_LAWS
from lrscale.laws.steps import fit_steps_to_target, steps_to_target
from lrscale.laws.varpro import solve

from .published import BATCH, STEPS
from .simulated import KNEE, runs


def test_a_fit_of_raw_steps_is_wild_where_the_fit_of_their_logarithm_is_not():
    law = SEPARABLE_LAWS["steps_hyperbola"]
    x = law.read({"batch": BATCH})
    steps = np.array(STEPS["302M"], dtype=np.float64)
    fewest, least = solve(law, x, steps, residual="linear", delta=math.inf).params
    found = fit_steps_to_target(BATCH, steps).estimate("critical_batch")
    # Computed from the published table.
    assert least / fewest == pytest.approx(24286, rel=1e-3)
    assert found.value == pytest.approx(5433, rel=1e-3)
    assert not found.interval.contains(least / fewest)


def test_dropping_censored_runs_or_taking_them_as_reached_moves_the_critical_batch_size():
    rng = np.random.default_rng(5)
    gaps: dict[str, list[float]] = {"kept": [], "dropped": [], "taken": []}
    for _ in range(40):
        own = runs(rng, place=4.0 ** np.arange(-2, 2), seeds=4, noise=0.15, budget=0.95)
        reached = ~own.censored
        if np.unique(own.batch[reached]).size < 4:
            continue
        fits = {
            "kept": fit_steps_to_target(own.batch, own.steps, censored=own.censored, resamples=1),
            "dropped": fit_steps_to_target(own.batch[reached], own.steps[reached], resamples=1),
            "taken": fit_steps_to_target(own.batch, own.steps, resamples=1),
        }
        found = {name: fit.estimate("critical_batch").value for name, fit in fits.items()}
        if None not in found.values():
            for name, value in found.items():
                gaps[name].append(math.log(value / KNEE))
    error = np.std(gaps["kept"]) / math.sqrt(len(gaps["kept"]))
    assert abs(np.mean(gaps["kept"])) < 3 * error
    for wrong in ("dropped", "taken"):
        paired = np.array(gaps[wrong]) - np.array(gaps["kept"])
        assert np.mean(paired) > 0.1
        assert np.mean(paired) > 4 * np.std(paired) / math.sqrt(paired.size)


def test_censored_large_batches_bound_a_knee_that_the_rest_leaves_open():
    rng = np.random.default_rng(6)
    own = runs(rng, place=np.array([1 / 256, 1 / 128, 1 / 64, 1 / 32, 1 / 16, 4, 16]), noise=0.02)
    short = own.batch > KNEE
    steps = np.where(short, 0.9 * own.steps, own.steps)
    kept = fit_steps_to_target(own.batch, steps, censored=short)
    dropped = fit_steps_to_target(own.batch[~short], steps[~short])
    assert dropped.estimate("critical_batch").interval.hi is None or (
        dropped.estimate("critical_batch").interval.hi > 3 * kept.estimate("critical_batch").interval.hi
    )
    assert kept.estimate("critical_batch").interval.contains(KNEE)
    assert kept.estimate("critical_batch").interval.hi < 2 * KNEE


def test_the_last_step_of_a_run_is_not_its_crossing():
    batch, step = np.array([64.0, 256, 1024, 4096, 16384]), np.arange(1, 61) / 60
    targets, lasts = [], []
    for size in batch:
        # Every run takes 60 evaluations up to its own budget, 1.5 to 3 times the steps that the target needs.
        needs = 1000 * (1 + 1000 / size)
        when = step * needs * (1.5 + 1.5 * size / 16384)
        loss = 2 + 0.5 * (needs / when) ** 0.5
        targets.append(steps_to_target(when, loss, 2.5).step)
        lasts.append(when[-1])
    right, wrong = fit_steps_to_target(batch, targets), fit_steps_to_target(batch, lasts)
    assert right.estimate("critical_batch").value == pytest.approx(1000, rel=0.01)
    assert abs(math.log(wrong.estimate("critical_batch").value / 1000)) > 0.3


def test_accidental_early_crossings_grow_with_the_evaluations_and_bend_the_law():
    rng = np.random.default_rng(7)
    batch = np.array([64.0, 256, 1024, 4096, 16384, 65536])
    found: dict[str, list[float]] = {"kernel": [], "running_minimum": []}
    for _ in range(8):
        steps: dict[str, list[float]] = {name: [] for name in found}
        for size in batch:
            needs = 1000 * (1 + 1000 / size)
            # An evaluation every 20 steps: the smallest batch size has sixteen times as many as the largest.
            when = np.arange(20, 2 * needs, 20)
            loss = 2 + 0.5 * (needs / when) ** 0.5 + 0.02 * rng.normal(size=when.size)
            for name, own in steps.items():
                own.append(steps_to_target(when, loss, 2.5, smoothing=name).step)
        for name, own in steps.items():
            found[name].append(math.log(fit_steps_to_target(batch, own, resamples=1).estimate("E_min").value / 1e6))
    assert abs(np.mean(found["kernel"])) < 0.05
    assert np.mean(found["running_minimum"]) < -0.1


def test_points_of_one_side_are_not_sold_as_a_knee():
    # All batch sizes far below the knee: least squares still return a number.
    own = runs(np.random.default_rng(8), place=np.geomspace(1e-3, 1e-2, 5), noise=0.05)
    assert fit_steps_to_target(own.batch, own.steps).status in (FitStatus.CENSORED_HIGH, FitStatus.NOT_IDENTIFIABLE)

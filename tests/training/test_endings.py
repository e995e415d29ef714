"""How trials end: every way is a status with a reason, and none hangs."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from lrscale_test_trials import Ran, Trials, make_spec, make_task

from lrscale.units import Layout

ONE = Layout(per_device_batch_size=8)
TWO = Layout(per_device_batch_size=4, devices=2)
PROMPT = 60.0
"""Seconds; a deadlock would last until the limit of the shared launcher, which is four times that."""


def run(trials: Trials, fail: list[Any], layout: Layout, **changed: Any) -> Ran:
    started = time.monotonic()
    ran = trials.run((make_spec(make_task(init={"fail": fail}), **changed), layout))[0]
    assert time.monotonic() - started < PROMPT
    return ran


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("where", ["forward", "backward", "validation"])
def test_memory_exhausted_on_one_rank_of_two_ends_the_trial_as_that(trials: Trials, where: str, rank: int) -> None:
    ran = run(trials, [where, "oom", rank, 3], TWO, every=4)
    assert ran.record.status == "out_of_memory"
    assert "out of memory" in ran.record.reason
    assert ran.record.final_loss is None
    assert not ran.record.retryable
    assert ran.record.log_tail


@pytest.mark.parametrize("where", ["construct", "setup", "forward"])
def test_memory_exhausted_anywhere_is_told_from_a_crash(trials: Trials, where: str) -> None:
    assert run(trials, [where, "oom", None, 0], ONE).record.status == "out_of_memory"


def test_the_hosts_memory_counts_too(trials: Trials) -> None:
    assert run(trials, ["forward", "alloc", None, 2], ONE).record.status == "out_of_memory"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_nan_on_one_rank_ends_both_as_diverged(trials: Trials, rank: int) -> None:
    ran = run(trials, ["forward", "nan", rank, 5], TWO, horizon=30)
    assert ran.record.status == "diverged"
    assert ran.record.reason == "the training loss was nan at step 6"
    assert ran.record.steps == 6
    assert ran.record.final_loss is None


def test_a_diverged_trial_keeps_only_the_steps_up_to_the_one_that_decided(trials: Trials) -> None:
    ran = run(trials, ["forward", "nan", None, 5], ONE, horizon=300)
    steps, losses = ran.trajectory["step"], ran.trajectory["train_loss"]
    assert list(steps) == [1, 2, 3, 4, 5, 6]
    assert np.isfinite(losses[:5]).all()
    assert math.isnan(losses[5])


def test_a_trial_may_go_on_past_divergence(trials: Trials) -> None:
    ran = run(trials, ["forward", "nan", None, 5], ONE, horizon=20, stop=False)
    assert ran.record.status == "diverged"
    assert ran.record.steps == 20
    assert ran.record.final_loss is None


@pytest.mark.parametrize("layout", [ONE, TWO])
def test_a_module_that_raises_on_values_that_are_no_numbers_has_diverged(trials: Trials, layout: Layout) -> None:
    ran = run(trials, ["forward", "value", layout.world_size - 1, 4], layout)
    assert ran.record.status == "diverged"
    assert ran.record.reason.startswith("the module raised at step 5: ValueError")


def test_steps_before_an_exception_are_kept(trials: Trials) -> None:
    ran = run(trials, ["forward", "value", None, 7], ONE, horizon=200)
    assert len(ran.train_losses) == 7
    assert ran.record.steps == 7


def test_a_ramp_keeps_its_steps_before_an_exception_on_two_ranks(trials: Trials) -> None:
    ran = run(trials, ["forward", "value", 1, 9], TWO, horizon=50, schedule="ramp", lr=1e-3)
    assert ran.record.status == "diverged"
    assert len(ran.train_losses) == 9


def test_too_large_an_lr_diverges_by_staying_above_the_start(trials: Trials) -> None:
    ran = trials.one(make_spec(lr=3.0, horizon=200))
    assert ran.record.status == "diverged"
    assert "stayed above" in ran.record.reason or "was inf" in ran.record.reason
    assert ran.record.steps < 200
    assert ran.record.initial_loss > 0


def test_two_ranks_end_a_ramp_together_when_only_one_of_them_sees_it_diverge(trials: Trials) -> None:
    started = time.monotonic()
    spec = make_spec(make_task("trial_modules.RisesOnOneRank"), lr=0.1, horizon=60, schedule="ramp", every=None)
    ran = trials.one(spec, TWO)
    assert time.monotonic() - started < PROMPT
    assert ran.record.status == "diverged"
    assert "stayed above" in ran.record.reason
    # The curve is the mean over both ranks: half of the 100 that one of them sees.
    assert ran.train_losses[6] - ran.train_losses[5] == pytest.approx(50, abs=8)
    assert len(ran.train_losses) == ran.record.steps < 20


def test_a_ramp_stops_soon_after_the_loss_has_left(trials: Trials) -> None:
    ran = trials.one(make_spec(lr=10.0, horizon=100, schedule="ramp", every=None))
    assert ran.record.status == "diverged"
    assert ran.lrs[-1] < 10
    assert len(ran.train_losses) == ran.record.steps < 100


@pytest.mark.parametrize("where", ["construct", "setup"])
@pytest.mark.parametrize("layout", [ONE, TWO])
def test_a_module_that_cannot_be_built_crashes_with_its_words(trials: Trials, where: str, layout: Layout) -> None:
    ran = run(trials, [where, "bug", None, 0], layout)
    assert ran.record.status == "crashed"
    assert "KeyError" in ran.record.reason
    assert "no such column" in ran.record.reason
    assert any("no such column" in line for line in ran.record.log_tail)


def test_a_bug_in_a_step_is_a_crash_and_no_divergence(trials: Trials) -> None:
    for rank in (0, 1):
        ran = run(trials, ["forward", "bug", rank, 4], TWO)
        assert ran.record.status == "crashed"
        assert "no such column" in ran.record.reason
        assert not ran.record.retryable


def test_an_error_at_the_first_step_is_a_crash_even_if_it_speaks_of_nan(trials: Trials) -> None:
    assert run(trials, ["forward", "value", None, 0], ONE).record.status == "crashed"


def test_a_killed_rank_is_run_once_more_and_then_recorded_as_retryable(trials: Trials) -> None:
    for rank in (0, 1):
        ran = run(trials, ["forward", "exit", rank, 2], TWO)
        assert ran.record.status == "crashed"
        assert ran.record.retryable


def test_a_trial_past_its_time_is_ended(trials: Trials) -> None:
    with trials.timeout(4):
        ran = trials.run((make_spec(make_task(init={"sleep": 0.2}), horizon=500), TWO))[0]
    assert ran.record.status == "timed_out"
    assert ran.record.final_loss is None
    assert 3 < ran.record.timing["total"] < 30


def test_a_module_that_ends_its_own_training_is_stopped(trials: Trials) -> None:
    ran = trials.one(make_spec(make_task("trial_modules.Stops"), horizon=50))
    assert ran.record.status == "stopped"
    assert ran.record.reason == "training ended by itself after 5 of 50 steps"
    assert ran.record.final_loss is None


def test_skipped_batches_are_gaps_and_no_divergence(trials: Trials) -> None:
    ran = trials.one(make_spec(make_task("trial_modules.Skips"), horizon=12))
    assert ran.record.status == "completed"
    assert len(ran.train_losses) == 9  # an epoch has 8 batches: the third and sixth of the first, the third of the next
    assert list(ran.trajectory.points("lr")[0]) == list(range(1, 13))


def test_the_trajectory_holds_a_row_for_every_step_and_validation(trials: Trials) -> None:
    ran = trials.run((make_spec(horizon=12, every=6, schedule="linear"), TWO))[0]
    columns = ran.trajectory
    assert list(columns["step"]) == [1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11, 12, 12]
    assert list(columns["examples"]) == [8 * step for step in columns["step"]]
    assert set(columns["global_batch_size"]) == {8}
    assert (np.diff(columns["seconds"]) >= 0).all()
    is_validation = ~np.isnan(columns["val_loss"])
    assert np.isnan(columns["train_loss"]).tolist() == is_validation.tolist()
    assert ran.record.timing["examples_per_second"] > 0
    assert ran.record.timing["setup"] > 0


@pytest.mark.parametrize("layout", [ONE, TWO])
def test_clipping_and_mixed_precision_run(trials: Trials, layout: Layout) -> None:
    task = make_task(trainer={"gradient_clip_val": 0.01, "precision": "bf16-mixed"})
    ran = trials.run((make_spec(task, horizon=10), layout))[0]
    plain = trials.run((make_spec(horizon=10), layout))[0]
    assert ran.record.status == "completed"
    assert ran.train_losses[0] == pytest.approx(plain.train_losses[0], rel=2e-2)
    assert ran.record.final_loss > plain.record.final_loss  # steps clipped to 0.01 get less far

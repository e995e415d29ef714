"""The LR that each step really ran at."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from lrscale_test_trials import Ran, Trials, make_spec, make_task, read_lines

from lrscale.schedules import build_schedule
from lrscale.units import Layout

HORIZON = 12


def run(trials: Trials, tmp_path: Path, *, init: dict[str, Any] | None = None, **changed: Any) -> tuple[Ran, list[Any]]:
    task = make_task(init={"record": str(tmp_path), **(init or {})}, schedule="module")
    if changed.get("schedule") != "module":
        task.pop("schedule")
    ran = trials.one(make_spec(task, horizon=HORIZON, **changed))
    assert ran.record.status == "completed", ran.record.reason
    return ran, read_lines(tmp_path / "step-0.jsonl")


@pytest.mark.parametrize(
    ("name", "warmup"), [("cosine", 4), ("linear", 0), ("wsd", 3), ("inverse_sqrt", 4), ("one_cycle", 0), ("ramp", 0)]
)
def test_every_step_runs_at_the_lr_of_its_schedule(trials: Trials, tmp_path: Path, name: str, warmup: int) -> None:
    ran, steps = run(trials, tmp_path, schedule=name, warmup=warmup, lr=0.02)
    schedule = build_schedule(name, warmup_steps=warmup)
    expected = [0.02 * schedule.factor(step, HORIZON) for step in range(HORIZON)]
    assert ran.lrs == pytest.approx(expected, rel=1e-12)
    assert [step["lrs"][0] for step in steps] == pytest.approx(expected, rel=1e-12)


def test_a_cosine_warm_up_is_trained(trials: Trials, tmp_path: Path) -> None:
    ran, _ = run(trials, tmp_path, schedule="linear", warmup=5, warmup_shape="cosine", lr=0.02)
    schedule = build_schedule("linear", warmup_steps=5, warmup_shape="cosine")
    assert ran.lrs == pytest.approx([0.02 * schedule.factor(step, HORIZON) for step in range(HORIZON)], rel=1e-12)


def test_a_schedule_found_elsewhere_is_trained_as_it_was(trials: Trials, tmp_path: Path) -> None:
    found = {"points": [[0, 0.25], [0.25, 1.0], [0.5, 0.6], [0.75, 0.05]]}
    ran, _ = run(trials, tmp_path, schedule="piecewise", settings=found, lr=0.02)
    expected = [0.02 * factor for factor in (0.25, 1.0, 0.6, 0.05) for _ in range(HORIZON // 4)]
    assert ran.lrs == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_one_cycle_moves_momentum_against_the_lr(trials: Trials, tmp_path: Path, optimizer: str) -> None:
    _, steps = run(trials, tmp_path, init={"optimizer": optimizer}, schedule="one_cycle")
    schedule = build_schedule("one_cycle")
    expected = [schedule.momentum(step, HORIZON) for step in range(HORIZON)]
    assert [step["momentum"][0] for step in steps] == pytest.approx(expected)
    assert min(expected) < 0.86 < 0.94 < max(expected)


def test_other_schedules_leave_momentum_alone(trials: Trials, tmp_path: Path) -> None:
    _, steps = run(trials, tmp_path, schedule="cosine")
    assert {step["momentum"][0] for step in steps} == {0.5}


def test_ratios_between_groups_survive(trials: Trials, tmp_path: Path) -> None:
    ran, steps = run(trials, tmp_path, init={"ratios": [1.0, 0.1, 3.0]}, schedule="cosine", warmup=2, lr=0.02)
    for step in steps:
        first, second, third = step["lrs"]
        assert second == pytest.approx(0.1 * first)
        assert third == pytest.approx(3.0 * first)
    assert ran.record.facts["reference_lr"] == pytest.approx(0.01)


@pytest.mark.parametrize("kind", ["one_cycle", "noam", "step", "plateau", "cosine", "sequential"])
def test_own_schedulers_are_replaced_and_that_is_said(trials: Trials, tmp_path: Path, kind: str) -> None:
    ran, steps = run(trials, tmp_path, init={"scheduler": kind}, schedule="linear", lr=0.02)
    schedule = build_schedule("linear")
    expected = [0.02 * schedule.factor(step, HORIZON) for step in range(HORIZON)]
    assert [step["lrs"][0] for step in steps] == pytest.approx(expected)
    assert ran.warned("is replaced by the trial's schedule")
    assert len(ran.record.facts["own_schedulers"]) == 1
    assert ran.record.facts["reference_lr"] == pytest.approx(0.01)


def _own(kind: str, step: int) -> float:
    """Return the factor of the module's own schedule, from torch's documentation."""
    if kind == "noam":
        return min(step / 4, (4 / max(step, 1)) ** 0.5)
    if kind == "step":
        return 0.5 ** (step // 4)
    if kind == "cosine":
        return 0.1 + 0.9 * (1 + math.cos(math.pi * step / HORIZON)) / 2
    if kind == "plateau":
        return 1.0
    if kind == "sequential":
        return 0.1 + 0.9 * step / 4 if step < 4 else (1 + math.cos(math.pi * (step - 4) / (HORIZON - 4))) / 2
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["noam", "step", "cosine", "sequential", "plateau"])
def test_own_schedulers_are_scaled_to_the_peak_and_the_horizon(trials: Trials, tmp_path: Path, kind: str) -> None:
    ran, steps = run(trials, tmp_path, init={"scheduler": kind, "ratios": [1.0, 0.5]}, schedule="module", lr=0.02)
    expected = [0.02 * _own(kind, step) for step in range(HORIZON)]
    assert [step["lrs"][0] for step in steps] == pytest.approx(expected, rel=1e-6, abs=1e-12)
    if kind != "cosine":  # its eta_min is one number for all groups, as torch has it
        assert [step["lrs"][1] for step in steps] == pytest.approx([0.5 * lr for lr in expected], rel=1e-6, abs=1e-12)
    assert ran.lrs == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert not ran.warned("is replaced")


def test_own_one_cycle_reaches_the_peak_and_ends_at_the_horizon(trials: Trials, tmp_path: Path) -> None:
    ran, _ = run(trials, tmp_path, init={"scheduler": "one_cycle"}, schedule="module", lr=0.02)
    schedule = build_schedule("one_cycle")
    assert ran.lrs == pytest.approx([0.02 * schedule.factor(step, HORIZON) for step in range(HORIZON)], rel=1e-6)


def test_schedulers_see_the_horizon_in_steps_with_accumulation(trials: Trials, tmp_path: Path) -> None:
    task = make_task(init={"record": str(tmp_path), "scheduler": "cosine"})
    layout = Layout(per_device_batch_size=4, accumulate=2)
    ran = trials.one(make_spec(task, horizon=HORIZON, schedule="module", lr=0.02), layout)
    assert ran.lrs == pytest.approx([0.02 * _own("cosine", step) for step in range(HORIZON)], rel=1e-6)


def test_a_module_that_warms_up_in_optimizer_step_is_overruled_and_that_is_said(trials: Trials) -> None:
    ran = trials.one(make_spec(make_task("trial_modules.OwnWarmup"), horizon=6, schedule="constant", lr=0.02))
    assert ran.warned("the module sets its LR itself")
    plain = trials.one(make_spec(make_task(), horizon=6, schedule="constant", lr=0.02))
    assert ran.record.final_loss == plain.record.final_loss


def test_task_lr_that_is_not_the_first_groups_is_pointed_out(trials: Trials) -> None:
    task = make_task(init={"ratios": [0.1, 1.0]}, lr="model.init_args.lr")
    ran = trials.one(make_spec(task, horizon=4, lr=0.02))
    assert ran.warned("LRs of this study are those of the first group")
    plain = trials.one(make_spec(make_task(lr="model.init_args.lr"), horizon=4, lr=0.02))
    assert plain.record.warnings == ()
    assert plain.record.facts["reference_lr"] == 0.02

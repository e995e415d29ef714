"""Schedulers that the user names, and the schedule that follows the loss, in real trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lrscale_test_trials import Ran, Trials, make_spec, make_task, read_lines

from lrscale.errors import TaskError
from lrscale.schedules import ReduceOnPlateau, build_schedule
from lrscale.store import ScheduleSpec
from lrscale.training.user_scheduler import UserScheduler
from lrscale.units import Layout

HORIZON = 12
TORCH = "torch.optim.lr_scheduler."
TWO = Layout(per_device_batch_size=4, devices=2)


def scheduler(name: str, **node: Any) -> dict[str, Any]:
    return {"class_path": name if "." in name else TORCH + name, **node}


def course(settings: dict[str, Any], steps: int = 40, **warmup: Any) -> list[float]:
    """Return the factors of a scheduler that is stepped with the steps."""
    own = UserScheduler(settings, steps, ScheduleSpec(name="scheduler", settings=settings, **warmup))
    own.begin({"lr": 0.3, "momentum": 0.9}, epochs=None)
    return [own.factor(step, steps) for step in range(steps)]


@pytest.mark.parametrize(
    ("settings", "ours"),
    [
        (scheduler("CosineAnnealingLR", init_args={"T_max": "horizon"}), build_schedule("cosine")),
        (scheduler("LinearLR", init_args={"start_factor": 1.0, "end_factor": 0.0, "total_iters": "horizon"}), "linear"),
        (scheduler("StepLR", init_args={"step_size": 12, "gamma": 0.1}), build_schedule("step")),
        (
            scheduler("OneCycleLR", init_args={"max_lr": 1.0, "total_steps": "horizon"}),
            build_schedule("one_cycle"),
        ),
    ],
)
def test_a_scheduler_of_torch_is_the_schedule_that_agrees_with_it(settings: dict[str, Any], ours: Any) -> None:
    schedule = build_schedule(ours) if isinstance(ours, str) else ours
    assert course(settings) == pytest.approx([schedule.factor(step, 40) for step in range(40)], abs=1e-9)
    behind = course(settings, warmup_steps=8)
    assert behind[8:] == pytest.approx(course(settings, 32), abs=1e-12)
    assert behind[:8] == pytest.approx([behind[8] * (step + 1) / 8 for step in range(8)])


def test_schedulers_within_a_scheduler_share_its_optimizer() -> None:
    settings = scheduler(
        "SequentialLR",
        init_args={
            "schedulers": [
                scheduler("ConstantLR", init_args={"factor": 0.5, "total_iters": 10}),
                scheduler("ExponentialLR", init_args={"gamma": 0.9}),
            ],
            "milestones": [10],
        },
    )
    assert course(settings) == pytest.approx([0.5] * 10 + [0.9**step for step in range(30)])


def test_one_cycles_momentum_is_taken_and_that_of_others_left_alone() -> None:
    settings = scheduler("OneCycleLR", init_args={"max_lr": 1.0, "total_steps": 40})
    own = UserScheduler(settings, 40, ScheduleSpec(name="scheduler"))
    own.begin({"lr": 0.3, "betas": (0.9, 0.999)}, epochs=None)
    schedule = build_schedule("one_cycle")
    for step in range(40):
        own.factor(step, 40)
        assert own.momentum(step, 40) == pytest.approx(schedule.momentum(step, 40))
    still = UserScheduler(scheduler("StepLR", init_args={"step_size": 3}), 40, ScheduleSpec(name="scheduler"))
    still.begin({"lr": 0.3, "momentum": 0.5}, epochs=None)
    assert still.momentum(0, 40) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (scheduler("StepLRR"), "has no StepLRR"),
        (scheduler("StepLR", init_args={"stepsize": 3}), "takes no stepsize"),
        (scheduler("StepLR"), "needs step_size"),
        (scheduler("builtins.dict"), "takes no optimizer, so it is no scheduler"),
        (
            scheduler("CosineAnnealingLR", init_args={"T_max": "horizon"}, interval="epoch"),
            "is the horizon in epochs, and the data are a stream without",
        ),
    ],
)
def test_what_is_no_scheduler_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(TaskError, match=said):
        course(settings)


def run(trials: Trials, tmp_path: Path, *, layout: Layout | None = None, **changed: Any) -> tuple[Ran, list[Any]]:
    task = make_task(init={"record": str(tmp_path), "ratios": [1.0, 0.1]})
    spec = make_spec(task, horizon=changed.pop("horizon", HORIZON), lr=0.02, **changed)
    ran = trials.one(spec) if layout is None else trials.one(spec, layout)
    assert ran.record.status == "completed", ran.record.reason
    return ran, read_lines(tmp_path / "step-0.jsonl")


def test_two_ranks_train_under_a_scheduler_of_the_users_with_the_ratios_of_their_groups(
    trials: Trials, tmp_path: Path
) -> None:
    settings = scheduler("trial_modules.halving", init_args={"every": 4})
    ran, steps = run(trials, tmp_path / "two", layout=TWO, schedule="scheduler", settings=settings, warmup=2)
    expected = [0.01, 0.02, *[0.02 * 0.5 ** (step // 4) for step in range(10)]]
    assert ran.lrs == pytest.approx(expected)
    assert [step["lrs"] for step in steps] == [pytest.approx([lr, 0.1 * lr]) for lr in expected]
    other = read_lines(tmp_path / "two" / "step-1.jsonl")
    assert [step["lrs"] for step in other] == [step["lrs"] for step in steps]
    alone, _ = run(trials, tmp_path / "one", schedule="scheduler", settings=settings, warmup=2)
    assert ran.train_losses == pytest.approx(alone.train_losses, rel=1e-5)


def test_a_scheduler_that_counts_epochs_moves_at_the_end_of_each(trials: Trials, tmp_path: Path) -> None:
    settings = scheduler("ExponentialLR", init_args={"gamma": 0.5}, interval="epoch")
    # 64 examples in batches of 8: eight steps an epoch.
    ran, _ = run(trials, tmp_path, horizon=20, schedule="scheduler", settings=settings)
    assert ran.lrs == pytest.approx([0.02] * 8 + [0.01] * 8 + [0.005] * 4)


def test_the_horizon_counts_epochs_where_the_scheduler_does(trials: Trials, tmp_path: Path) -> None:
    node = {"start_factor": 1.0, "end_factor": 0.0, "total_iters": "horizon"}
    settings = scheduler("LinearLR", init_args=node, interval="epoch")
    ran, _ = run(trials, tmp_path, horizon=16, schedule="scheduler", settings=settings)
    assert ran.lrs == pytest.approx([0.02] * 8 + [0.01] * 8)


@pytest.mark.parametrize("name", ["reduce_on_plateau", "scheduler"])
def test_two_ranks_reduce_at_the_same_validation_by_the_loss_of_both(trials: Trials, tmp_path: Path, name: str) -> None:
    rule = {"gamma": 0.5, "patience": 0, "threshold": 0.2}
    settings: dict[str, Any] = rule
    if name == "scheduler":
        settings = scheduler("ReduceLROnPlateau", init_args={"factor": 0.5, "patience": 0, "threshold": 0.2})
    ran, steps = run(trials, tmp_path, layout=TWO, schedule=name, settings=settings, every=2)
    at, losses = ran.trajectory.points("val_loss")
    validations = [(int(step), float(loss)) for step, loss in zip(at, losses, strict=True)]
    schedule = ReduceOnPlateau(**rule)
    expected = [
        0.02 * schedule.told([one for one in validations if one[0] <= step]).factor(step, HORIZON)
        for step in range(HORIZON)
    ]
    assert ran.lrs == pytest.approx(expected)
    assert ran.lrs[-1] < ran.lrs[0]
    assert [step["lrs"] for step in read_lines(tmp_path / "step-1.jsonl")] == [step["lrs"] for step in steps]


def test_a_schedule_without_the_validations_that_it_follows_says_so(trials: Trials, tmp_path: Path) -> None:
    ran, _ = run(trials, tmp_path, schedule="reduce_on_plateau", every=None)
    assert ran.lrs == pytest.approx([0.02] * HORIZON)
    assert ran.warned("follows the validation loss, and there was no validation")


def test_a_scheduler_of_torchs_base_is_followed_to_the_letter() -> None:
    settings = scheduler("CyclicLR", init_args={"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 5})
    optimizer = torch.optim.SGD([torch.zeros((), requires_grad=True)], lr=1.0, momentum=0.9)
    theirs = torch.optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.1, max_lr=1.0, step_size_up=5)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert course(settings) == pytest.approx(expected, rel=1e-12)

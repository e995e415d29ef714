"""The time of a study's runs is kept, killed or not, and counted once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lrscale.recipe import Budget
from lrscale.store import ScheduleSpec, StudyFolder, StudyView, Trial, TrialRecord, TrialSpec
from lrscale.store.trajectory import LINES_NAME
from lrscale.study.budget.spent import SPENT, Ledger, Spent, spent_by_plan


def spec(seed: int) -> TrialSpec:
    """Return a trial."""
    return TrialSpec(
        task={}, schedule=ScheduleSpec(name="constant"), peak_lr=0.1, global_batch_size=8, horizon=10, seed=seed
    )


def view(folder: Path, *seconds: float) -> StudyView:
    """Return a study of finished trials that took some time each."""
    trials = {}
    for seed, total in enumerate(seconds):
        record = TrialRecord(trial_id=spec(seed).trial_id, status="completed", examples=80, timing={"total": total})
        trials[record.trial_id] = Trial(spec(seed), record)
    return StudyView(trials, StudyFolder(folder).trajectory)


def lose(folder: Path, seed: int, seconds: float) -> str:
    """Leave a trial as a kill does, some seconds after its training began."""
    place = StudyFolder(folder).begin_trial(spec(seed))
    (place / LINES_NAME).write_text(json.dumps({"step": 3, "seconds": seconds, "train_loss": 1.0}) + "\n")
    return spec(seed).trial_id


def test_runs_add_up(tmp_path: Path) -> None:
    plan: dict[str, Any] = {}
    for _ in range(3):
        ledger = Ledger.open(plan, StudyFolder(tmp_path), view(tmp_path))
        ledger._began -= 20.0
        ledger.close(StudyFolder(tmp_path), view(tmp_path))
    assert plan[SPENT]["seconds"] == pytest.approx(60.0, abs=0.5)


def test_the_time_of_a_lost_trial_is_counted_once_until_it_is_run_again(tmp_path: Path) -> None:
    plan: dict[str, Any] = {}
    folder, none = StudyFolder(tmp_path), view(tmp_path)
    Ledger.open(plan, folder, none).enter()
    lost = lose(tmp_path, 7, 100.0)
    for _ in range(2):
        assert Ledger.open(plan, folder, none).seconds == pytest.approx(100.0, abs=0.5)
    # It is run again, and is lost later than before.
    lose(tmp_path, 7, 130.0)
    ledger = Ledger.open(plan, folder, none)
    assert ledger.seconds == pytest.approx(130.0, abs=0.5)
    ledger.enter(lost)
    assert plan[SPENT]["lost"] == {}


def test_a_run_that_ends_by_itself_has_counted_what_it_leaves_unfinished(tmp_path: Path) -> None:
    plan: dict[str, Any] = {}
    folder, none = StudyFolder(tmp_path), view(tmp_path)
    ledger = Ledger.open(plan, folder, none)
    ledger._began -= 50.0
    lose(tmp_path, 7, 40.0)
    ledger.close(folder, none)
    assert Ledger.open(plan, folder, none).seconds == pytest.approx(50.0, abs=0.5)


def test_a_study_of_before_its_runs_were_timed_has_spent_what_its_trials_took(tmp_path: Path) -> None:
    plan: dict[str, Any] = {}
    assert spent_by_plan(plan, view(tmp_path, 4.0, 6.0)) == Spent(trials=2, examples=160, seconds=10.0)
    assert Ledger.open(plan, StudyFolder(tmp_path), view(tmp_path, 4.0, 6.0)).seconds == pytest.approx(10.0, abs=0.5)


@pytest.mark.parametrize(
    ("budget", "left"),
    [
        (Budget(20, "trials"), {"trials": 5}),
        (Budget(10, "trials"), {"trials": 0}),
        (Budget(1e4, "examples"), {"examples": 1000}),
        (Budget(60, "seconds"), {"seconds": 20.0}),
        (None, {}),
    ],
)
def test_what_is_left_is_never_below_nothing(budget: Budget | None, left: dict[str, float]) -> None:
    allowance = Spent(trials=15, examples=9000, seconds=40.0).left_of(budget)
    assert {name: getattr(allowance, name) for name in ("trials", "examples", "seconds")} == {
        "trials": None,
        "examples": None,
        "seconds": None,
        **left,
    }

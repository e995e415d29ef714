"""What the driver of a search by Ray Tune does about trials that end, are ended, or are lost; without Ray."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from lrscale.errors import StudyError
from lrscale.launch import LaunchSettings
from lrscale.launch.progress import SilentProgress
from lrscale.launch.ray.tuned_search import Desk
from lrscale.launch.ray.tuned_trial import ENDED, NewLosses, TrialPlan, await_turn, claimed, losses_so_far
from lrscale.ray_tune import LOSS, SCHEDULERS, TIME, Space
from lrscale.ray_tune.space import EXPONENT
from lrscale.ray_tune.tuner import Search
from lrscale.store import ScheduleSpec, StudyFolder, TrialRecord, TrialSpec
from lrscale.units import Layout

LAYOUT = Layout(per_device_batch_size=32)


@pytest.fixture
def store(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


@pytest.fixture
def plan(store: StudyFolder) -> TrialPlan:
    spec = TrialSpec(
        task={}, schedule=ScheduleSpec(name="constant"), peak_lr=1e-3, global_batch_size=32, horizon=100, seed=0
    )
    return TrialPlan(
        study=store.path,
        space=Space(learning_rates=(1e-4, 1.0), batch_sizes=(32,)),
        specs={32: spec},
        layouts={32: LAYOUT},
        instruments={32: {}},
        places={32: {1: 50, 2: 100}},
        claims=store.path / "claims",
        settings=LaunchSettings(root=store.path),
        keeps_place=False,
    )


@pytest.fixture
def desk(plan: TrialPlan, store: StudyFolder) -> Desk:
    search = Search(
        space=plan.space,
        scheduler=SCHEDULERS["asha"](),
        algorithm=None,  # type: ignore[arg-type]  # asked for nothing here
        trials=4,
        length=2,
        at_once=2,
        seed=0,
    )
    return Desk(plan, search, "ray asha", SilentProgress(), lambda _spec, record: store.finish_trial(record))


CONFIG = {EXPONENT: -2.0}


def begin(plan: TrialPlan, store: StudyFolder, name: str) -> tuple[TrialSpec, Path]:
    spec = plan.spec(CONFIG)
    assert claimed(plan.claims, spec, name)
    folder = store.begin_trial(spec)
    (folder / "trajectory.jsonl").write_text('{"step": 50, "val_loss": 2.0}\n')
    return spec, folder


def test_a_trial_whose_process_was_lost_is_no_trial_that_the_scheduler_has_stopped(
    desk: Desk, plan: TrialPlan, store: StudyFolder
) -> None:
    spec, _ = begin(plan, store, "first")
    desk.heard(CONFIG, {"step": 50, LOSS: 2.0, TIME: 1})
    desk.lose("first")
    record = store.record(spec.trial_id)
    assert record is not None
    assert (record.status, record.retryable) == ("crashed", True)
    assert "was lost" in str(record.reason)


def test_who_waits_for_a_setting_that_another_was_lost_with_runs_it(
    desk: Desk, plan: TrialPlan, store: StudyFolder
) -> None:
    spec, _ = begin(plan, store, "first")
    turns: list[bool] = []
    waiter = threading.Thread(target=lambda: turns.append(await_turn(store, plan.claims, spec, "second")), daemon=True)
    waiter.start()
    waiter.join(0.5)
    assert turns == []
    desk.lose("first")
    waiter.join(10.0)
    assert turns == [True]


@pytest.mark.parametrize("retryable", [False, True])
def test_who_waits_reads_what_another_has_ended_and_runs_what_it_has_lost(
    retryable: bool, desk: Desk, plan: TrialPlan, store: StudyFolder
) -> None:
    spec, folder = begin(plan, store, "first")
    status = "crashed" if retryable else "completed"
    record = TrialRecord(trial_id=spec.trial_id, status=status, layout=LAYOUT, retryable=retryable)
    (folder / ENDED).write_text(json.dumps({"record": record.to_dict()}))
    desk.settle(CONFIG, {"step": 100, LOSS: 1.0, TIME: 2})
    kept = store.record(spec.trial_id)
    assert kept is not None and kept.status == status
    assert await_turn(store, plan.claims, spec, "second") is retryable


def test_an_error_of_a_trial_ends_the_search(desk: Desk, plan: TrialPlan, store: StudyFolder) -> None:
    _, folder = begin(plan, store, "first")
    (folder / ENDED).write_text(json.dumps({"error": {"message": "the disk is full", "hint": None}}))
    desk.lose("first")
    assert isinstance(desk.trouble, StudyError)
    assert desk.trouble.message == "the disk is full"


def test_losses_are_read_as_they_come_and_a_torn_line_when_it_is_whole(tmp_path: Path) -> None:
    losses, path = NewLosses(tmp_path), tmp_path / "trajectory.jsonl"
    assert losses.look() == {}
    path.write_text('{"step": 1, "train_loss": 3.0}\n{"step": 2, "val_loss": 2.5}\n{"step": 3, "val_l')
    assert losses.look() == {2: 2.5}
    with path.open("a") as stream:
        stream.write('oss": 2.25}\n{"step": 4, "val_loss": null}\n')
    assert losses.look() == {2: 2.5, 3: 2.25}
    assert losses.look() == losses_so_far(tmp_path)
    path.write_text('{"step": 1, "val_loss": 2.75}\n')
    assert losses.look() == {1: 2.75, 2: 2.5, 3: 2.25}

"""Trials in jobs of a real SLURM: same records as on this machine, and nothing lost whatever happens to a job."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrscale.errors import LrscaleError, StudyError, TaskError
from lrscale.launch import LaunchSettings, LocalLauncher, TrialRequest
from lrscale.launch.slurm.launcher import SlurmLauncher
from lrscale.launch.slurm.queue import PARTS, JobQueue
from lrscale.store.trajectory import read_trajectory
from lrscale.units import Layout

from ..conftest import TASKS, Watcher, eventually
from .conftest import live_jobs

pytestmark = pytest.mark.slurm

Launcher = Callable[..., SlurmLauncher]
Ask = Callable[..., TrialRequest]


def job_ids(study: Path) -> list[str]:
    return sorted((path.stem for path in (study / "slurm" / "logs").glob("*.log")), key=int)


def when(claim: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """Do something once a claim comes true, while the launcher runs."""

    def wait() -> None:
        if eventually(claim, within=90):
            act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_trials_in_a_job_end_as_they_end_on_this_machine(launcher: Launcher, request_for: Ask, study: Path) -> None:
    kinds = ({}, {"lr": 1e30}, {"act": "fail"}, {"act": "exhaust"}, {"lr": 0.02, "devices": 1})
    watcher = Watcher()
    with launcher() as jobs:
        facts = jobs.inspect({"spec": request_for().spec.to_dict()}, Layout(per_device_batch_size=2), study / "inspect")
        far = list(jobs.run([request_for(**kind) for kind in kinds], watcher))
    settings = LaunchSettings(root=TASKS, preload=("tiny",), accelerator="cpu")
    wanted = [request_for(home="-here", **kind) for kind in kinds]
    with LocalLauncher(settings) as local:
        near = list(local.run(wanted, Watcher()))
        own_facts = local.inspect(
            {"spec": request_for().spec.to_dict()}, Layout(per_device_batch_size=2), study / "inspect-here"
        )
    # Trials that have ended between two looks at the queue come in any order.
    by_id = {record.trial_id: record for record in far}
    far = [by_id[one.spec.trial_id] for one in wanted]
    assert [record.status for record in far] == ["completed", "diverged", "crashed", "out_of_memory", "completed"]
    for name in ("trial_id", "status", "reason", "final_loss", "best_loss", "steps", "examples", "layout", "facts"):
        assert [getattr(record, name) for record in far] == [getattr(record, name) for record in near], name
    assert far[2].log_tail[-1] == near[2].log_tail[-1]
    for one in wanted:
        ours = read_trajectory(one.folder)
        theirs = read_trajectory(one.folder.parent.parent / "trials" / one.spec.trial_id)
        np.testing.assert_array_equal(ours["train_loss"], theirs["train_loss"])
    assert {name: facts[name] for name in facts if name != "seconds"} == {
        name: own_facts[name] for name in own_facts if name != "seconds"
    }
    assert sorted(watcher.began) == sorted(by_id)
    # What is left of the queue is what its jobs have printed.
    assert len(job_ids(study)) == 1
    assert not any((study / "slurm" / part).exists() for part in PARTS)
    assert live_jobs() == []


def test_a_trial_over_two_nodes_reaches_the_loss_of_two_ranks_on_one(launcher: Launcher, request_for: Ask) -> None:
    with launcher(devices=1, num_nodes=2) as jobs:
        (far,) = jobs.run([request_for(devices=1, nodes=2)], Watcher())
    with LocalLauncher(LaunchSettings(root=TASKS, preload=("tiny",), accelerator="cpu")) as local:
        (near,) = local.run([request_for(home="-here", devices=2)], Watcher())
    assert far.status == "completed"
    assert far.layout is not None
    assert far.layout.num_nodes == 2
    assert (far.trial_id, far.final_loss) == (near.trial_id, near.final_loss)


@pytest.mark.parametrize("how", ["scancel", "kill", "stop"])
def test_a_job_that_dies_in_the_middle_loses_no_trial(
    how: str, launcher: Launcher, request_for: Ask, study: Path, tmp_path: Path
) -> None:
    once = tmp_path / "once"

    def end_job() -> None:
        (heart,) = JobQueue(study).hearts().values()
        if how == "scancel":
            subprocess.run(["scancel", heart["job"]], check=True, timeout=60)
        else:
            # One that is stopped is alive for SLURM, and silent, like one whose node has lost the file system.
            os.kill(heart["process"], signal.SIGKILL if how == "kill" else signal.SIGSTOP)

    when(once.exists, end_job)
    watcher = Watcher()
    wanted = [request_for(), request_for(act="hang", once=str(once)), request_for(lr=0.02)]
    with launcher(lost_after=15) as jobs:
        records = list(jobs.run(wanted, watcher))
    assert [record.status for record in records] == ["completed"] * 3, watcher.notes
    first, second = job_ids(study)
    told = {
        "scancel": f"job {first} on n1 was cancelled; 0 of its trials",
        "kill": f"job {first} on n1 failed; 1 of its trials will run again",
        "stop": f"worker {first} is silent for 15 s; its trial runs again",
    }[how]
    assert any(note.startswith(told.split(";")[0]) for note in watcher.notes), watcher.notes
    assert f"job {second} submitted" in watcher.notes
    assert live_jobs() == []


def test_a_job_that_runs_into_its_time_limit_gives_its_trial_to_the_next_job(
    launcher: Launcher, request_for: Ask, study: Path, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    watcher = Watcher()
    with launcher(time="1m") as jobs:
        records = list(jobs.run([request_for(), request_for(act="hang", once=str(once))], watcher))
    assert [record.status for record in records] == ["completed"] * 2, watcher.notes
    first, _ = job_ids(study)
    log = JobQueue(study).log_path(first).read_text()
    assert "leaves: its time is up" in log
    assert "CANCELLED" not in log, "SLURM had to end it"


@pytest.mark.slow
def test_a_trial_that_needs_more_than_a_whole_job_is_timed_out(
    launcher: Launcher, request_for: Ask, study: Path
) -> None:
    with launcher(time="1m") as jobs:
        (record,) = jobs.run([request_for(act="hang")], Watcher())
    assert record.status == "timed_out"
    assert "all that a job had for it; set a longer slurm.time" in (record.reason or "")
    assert len(job_ids(study)) == 1


def test_a_task_that_cannot_be_built_ends_the_study_with_its_own_error(
    launcher: Launcher, request_for: Ask, study: Path
) -> None:
    wanted = request_for(depth=3)
    with launcher() as jobs:
        job = {"spec": request_for(act="refuse").spec.to_dict()}
        with pytest.raises(TaskError, match="ValueError: width must be positive") as caught:
            jobs.inspect(job, Layout(per_device_batch_size=4), study / "inspect")
        # The log that the message names is where it says, and not in a folder of the queue that is gone.
        named = Path((caught.value.hint or "").removeprefix("its log is "))
        assert named == study / "inspect" / "rank-0.log"
        assert "width must be positive" in named.read_text()
        with pytest.raises(TaskError, match="depth"):
            list(jobs.run([wanted, request_for()], Watcher()))
    assert eventually(lambda: live_jobs() == [])


def test_setup_lines_that_fail_end_the_study_after_two_jobs_with_their_last_words(
    launcher: Launcher, request_for: Ask, study: Path
) -> None:
    with (
        pytest.raises(StudyError, match="2 jobs in a row ended without taking a trial") as caught,
        launcher(setup=["echo there is no module cuda/99 >&2", "false"]) as jobs,
    ):
        list(jobs.run([request_for()], Watcher()))
    assert "there is no module cuda/99" in caught.value.message
    assert "slurm.setup" in (caught.value.hint or "")
    assert len(job_ids(study)) == 2
    assert live_jobs() == []


@pytest.mark.parametrize(
    ("wish", "message", "remedy"),
    [
        ({"partition": "nowhere"}, "SLURM refuses the job: .*Invalid partition", "set slurm.partition"),
        ({"cpus_per_task": 64}, "can never start: SLURM says PartitionConfig", "check slurm.cpus_per_task"),
        ({"gpus": 4}, "SLURM refuses the job: .*[Gg]eneric resource|SLURM refuses the job: .*gres", "slurm.gpus"),
        (
            {"time": "3h"},
            "can never start: SLURM says PartitionTimeLimit",
            "set slurm.time to what the partition allows",
        ),
    ],
)
def test_what_slurm_does_not_give_is_told_with_the_field_to_change(
    wish: dict[str, object], message: str, remedy: str, launcher: Launcher, request_for: Ask
) -> None:
    with pytest.raises(LrscaleError, match=message) as caught, launcher(**wish) as jobs:
        list(jobs.run([request_for()], Watcher()))
    assert remedy in (caught.value.hint or "")
    assert eventually(lambda: live_jobs() == [])


def test_a_job_that_waits_says_why_and_ctrl_c_cancels_it(launcher: Launcher, request_for: Ask) -> None:
    watcher = Watcher()
    jobs = launcher(partition="closed")
    when(
        lambda: any("PartitionDown" in note for note in watcher.notes),
        lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT),
    )
    with pytest.raises(KeyboardInterrupt), jobs:
        list(jobs.run([request_for()], watcher))
    assert any("waits in SLURM's queue (PartitionDown): the partition is down" in note for note in watcher.notes)
    assert "the jobs are cancelled; trials that they have begun will run again" in watcher.notes
    assert eventually(lambda: live_jobs() == [])


def test_several_jobs_serve_one_study_and_no_more_than_there_are_trials(
    launcher: Launcher, request_for: Ask, study: Path
) -> None:
    watcher = Watcher()
    with launcher(max_jobs=5, devices=1) as jobs:
        records = list(jobs.run([request_for(devices=1, lr=lr) for lr in (0.01, 0.02, 0.03)], watcher))
    assert [record.status for record in records] == ["completed"] * 3
    assert len(job_ids(study)) == 3, watcher.notes
    assert live_jobs() == []


def test_trials_run_side_by_side_in_a_job_as_many_as_the_recipe_says(
    launcher: Launcher, request_for: Ask, study: Path
) -> None:
    wanted = [request_for(devices=1, lr=lr) for lr in (0.01, 0.02, 0.03)]
    with launcher(devices=1, trials_at_once=2) as jobs:
        records = list(jobs.run(wanted, Watcher()))
    assert {record.status for record in records} == {"completed"}
    (job,) = job_ids(study)
    lines = JobQueue(study).log_path(job).read_text().splitlines()
    events = [line.split()[3] if "begins" in line else line.split()[-1] for line in lines if " trial " in line]
    assert events[:2] == ["begins:", "begins:"], lines
    assert events[2:] == ["completed", "completed", "begins:", "completed"], lines


def test_a_trial_that_may_not_start_any_more_is_taken_out_of_the_queue(launcher: Launcher, request_for: Ask) -> None:
    asked = []

    def only_at_first() -> bool:
        asked.append(True)
        return len(asked) == 1

    waiting = dataclasses.replace(request_for(lr=0.02), may_start=only_at_first)
    refused = dataclasses.replace(request_for(lr=0.03), may_start=lambda: False)
    watcher = Watcher()
    with launcher(timeout=15.0) as jobs:
        (record,) = jobs.run([request_for(act="hang"), waiting, refused], watcher)
    assert record.status == "timed_out"
    assert record.trial_id == request_for(act="hang").spec.trial_id
    assert watcher.began == [record.trial_id]
    assert len(asked) == 2


@pytest.mark.slow
def test_a_trial_that_uses_up_the_memory_of_its_job_is_out_of_memory(
    memory_limits: None, launcher: Launcher, request_for: Ask
) -> None:
    del memory_limits
    with launcher(mem="2G") as jobs:
        hungry, frugal = jobs.run([request_for(act="devour"), request_for()], Watcher())
    assert hungry.status == "out_of_memory"
    assert "rank 1 was ended by SIGKILL" in (hungry.reason or "")
    assert "the job's memory was used up: set more slurm.mem" in (hungry.reason or "")
    assert not hungry.retryable
    assert frugal.status == "completed"


def test_a_fault_of_the_machine_is_tried_in_another_job_before_it_ends_the_study(
    launcher: Launcher, request_for: Ask, study: Path, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    with launcher() as jobs:
        (record,) = jobs.run([request_for(act="fill_disk", once=str(once))], Watcher())
        assert record.status == "completed"
        assert len(job_ids(study)) == 2
        with pytest.raises(StudyError, match="No space left on device"):
            list(jobs.run([request_for(act="fill_disk")], Watcher()))
    assert len(job_ids(study)) == 3

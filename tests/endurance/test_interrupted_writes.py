"""What a study folder keeps when the disk is full or its writer is killed between two steps."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lrscale.errors import StudyError
from lrscale.store import ScheduleSpec, Status, StudyFolder, StudyView, TrialRecord, TrialSpec

ROWS = [{"step": step, "examples": 8 * step, "train_loss": 1 / step} for step in range(1, 2000)]


def spec(lr: float = 0.1) -> TrialSpec:
    return TrialSpec(
        task={}, schedule=ScheduleSpec(name="constant"), peak_lr=lr, global_batch_size=8, horizon=4, seed=0
    )


def train(folder: StudyFolder, trial: TrialSpec) -> None:
    home = folder.begin_trial(trial)
    (home / "trajectory.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def finish(folder: StudyFolder, trial: TrialSpec, status: Status = "completed", *, retryable: bool = False) -> None:
    folder.finish_trial(TrialRecord(trial_id=trial.trial_id, status=status, retryable=retryable))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Stand in for a full disk: beyond so many bytes of a file, the kernel refuses to write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_at_the_end_of_a_trial_loses_nothing(tmp_path: Path) -> None:
    folder, first, second = StudyFolder(tmp_path), spec(0.1), spec(0.2)
    train(folder, first)
    finish(folder, first)
    train(folder, second)
    before = content(tmp_path)
    for size in (0, 100, 2000):
        with (
            files_of_at_most(size),
            pytest.raises(StudyError, match=r"cannot write .*: .*; free space or choose another --study"),
        ):
            finish(folder, second)
        assert content(tmp_path) == before
    assert set(folder.records()) == {first.trial_id}
    finish(folder, second)
    assert folder.trajectory(second.trial_id).points("train_loss")[1].tolist() == [row["train_loss"] for row in ROWS]


def test_a_disk_that_is_full_refuses_to_begin_a_trial_and_the_plan_stays(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    with folder.locked():
        folder.write_plan({"decisions": [1]})
    before = content(tmp_path)
    with files_of_at_most(0):
        with pytest.raises(StudyError, match="free space"):
            folder.begin_trial(spec())
        with pytest.raises(StudyError, match="free space"), folder.locked():
            pass
    assert content(tmp_path) == before
    assert StudyView.of(folder).trials == {}
    with folder.locked():
        train(folder, spec())
        finish(folder, spec())


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system, as root on Linux")
def test_a_really_full_disk_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this container may not mount")
    try:
        folder = StudyFolder(disk / "study")
        kept = []
        with folder.locked(), pytest.raises(StudyError, match=r"No space left on device; free space"):
            for number in range(1, 1000):
                trial = spec(number / 1000)
                home = folder.begin_trial(trial)
                (home / "trajectory.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:100]))
                finish(folder, trial)
                kept.append(trial.trial_id)
        assert len(kept) > 3
        assert set(folder.records()) == set(kept)
        assert all(len(folder.trajectory(trial_id)) == 100 for trial_id in kept)
        shutil.rmtree(folder.trial_path(kept.pop()))
        with folder.locked():
            folder.begin_trial(trial)
            finish(folder, trial)
        assert set(folder.records()) == {*kept, trial.trial_id}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_finished_trial_is_never_begun_again_and_a_lost_one_is(tmp_path: Path) -> None:
    folder, done, lost = StudyFolder(tmp_path), spec(0.1), spec(0.2)
    for trial, status in ((done, "diverged"), (lost, "crashed")):
        train(folder, trial)
        finish(folder, trial, status, retryable=trial is lost)  # type: ignore[arg-type]  # literals in a tuple
    before = content(folder.trial_path(done.trial_id))
    with pytest.raises(StudyError, match=r"is finished \(diverged\) and is never run again"):
        folder.begin_trial(done)
    assert content(folder.trial_path(done.trial_id)) == before
    assert [path.name for path in folder.begin_trial(lost).iterdir()] == ["spec.json"]


REPLACE = """
import os, signal, sys
from pathlib import Path
import shutil
from lrscale.store import StudyFolder
folder = StudyFolder(Path(sys.argv[1]))
(trial_id,) = folder.trial_ids()
steps = int(sys.argv[2])
def audit(event, _):
    global steps
    if event in ("os.remove", "os.rmdir", "os.mkdir", "os.rename", "open", "shutil.rmtree") and armed:
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
armed = False
sys.addaudithook(audit)
spec = folder.spec(trial_id)
armed = True
folder.begin_trial(spec)
"""


def test_a_kill_at_any_step_of_removing_a_lost_trial_leaves_a_study_that_can_be_read(tmp_path: Path) -> None:
    codes = set()
    for step in (2, 3, 4, 5, 6, 7, 8, 60):
        folder = StudyFolder(tmp_path / str(step))
        train(folder, spec())
        finish(folder, spec(), "crashed", retryable=True)
        command = [sys.executable, "-c", REPLACE, str(folder.path), str(step)]
        codes.add(subprocess.run(command, timeout=60).returncode)
        assert all(trial.spec == spec() for trial in StudyView.of(folder))
        train(folder, spec())
        finish(folder, spec())
        assert StudyView.of(folder).trials.keys() == {spec().trial_id}
    assert codes == {0, -signal.SIGKILL}


def test_half_written_files_of_a_killed_writer_are_removed_by_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".plan.json.4711.partial").write_text("{")
    with StudyFolder(tmp_path).locked():
        assert not list(tmp_path.glob(".*.partial"))

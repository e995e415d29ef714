"""A study folder under kills, full disks, second processes and newer versions."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import StudyError
from lrscale.store import ScheduleSpec, StudyFolder, StudyView, TrialRecord, TrialSpec
from lrscale.store.files import read_json, to_json, write_atomically
from lrscale.store.lock import is_held

ROOT = Path(__file__).resolve().parents[2]


def spec(**changes: Any) -> TrialSpec:
    values: dict[str, Any] = {
        "task": {"model": {"class_path": "shop.Net", "init_args": {}}},
        "schedule": ScheduleSpec(name="cosine", warmup_steps=3),
        "peak_lr": 0.1,
        "global_batch_size": 32,
        "horizon": 20,
        "seed": 0,
    }
    return TrialSpec(**{**values, **changes})


def finish(folder: StudyFolder, one: TrialSpec, rows: int = 3, **changes: Any) -> None:
    path = folder.begin_trial(one)
    lines = [to_json({"step": step, "train_loss": 1 / (step + 1)}) for step in range(rows)]
    (path / "trajectory.jsonl").write_text("".join(f"{line}\n" for line in lines))
    values: dict[str, Any] = {"trial_id": one.trial_id, "status": "completed", "final_loss": 0.5, "steps": rows}
    folder.finish_trial(TrialRecord(**{**values, **changes}))


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_finished_trial_is_found_with_its_spec_and_its_trajectory(tmp_path: Path) -> None:
    folder, one = StudyFolder(tmp_path), spec()
    finish(folder, one)
    view = StudyView.of(StudyFolder(tmp_path))
    trial = view.get(one)
    assert trial is not None
    assert (trial.spec, trial.record.final_loss, trial.trial_id) == (one, 0.5, one.trial_id)
    assert view.get(spec(seed=1)) is None
    assert view.load_trajectory(one.trial_id)["train_loss"].tolist() == [1.0, 0.5, pytest.approx(1 / 3)]
    assert folder.has_packed(one.trial_id)
    row = view.frame().iloc[0]
    assert (row["lr"], row["batch_size"], row["status"], row["loss"]) == (0.1, 32, "completed", 0.5)


def test_a_trial_without_a_record_is_begun_and_not_finished(tmp_path: Path) -> None:
    folder, one = StudyFolder(tmp_path), spec()
    path = folder.begin_trial(one)
    (path / "trajectory.jsonl").write_text('{"step": 1}\n{"step": 2, "tr')
    assert folder.trial_ids() == [one.trial_id]
    assert folder.records() == {}
    assert len(folder.trajectory(one.trial_id)) == 1
    assert folder.record(one.trial_id) is None
    again = folder.begin_trial(one)
    assert [entry.name for entry in again.iterdir()] == ["spec.json"]


def test_an_empty_folder_has_no_trials(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "new")
    assert not folder.exists()
    assert folder.trial_ids() == []
    with pytest.raises(StudyError, match=r"is not a study folder: it has no plan\.json; start one: lrscale run"):
        folder.read_plan()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema_version": 99}', "has version 99; the newest this lrscale reads is 1; upgrade lrscale"),
        ('{"schema_version": "x"}', "has version x"),
        ('{"schema_ver', r"plan\.json is not valid JSON"),
        ("\udcff", r"plan\.json is not valid JSON"),
        ("[]", r"plan\.json is not"),
    ],
)
def test_a_plan_that_cannot_be_used_is_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "plan.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(StudyError, match=said):
        StudyFolder(tmp_path).read_plan()


def test_a_newer_or_damaged_trial_is_named(tmp_path: Path) -> None:
    folder, one = StudyFolder(tmp_path), spec()
    finish(folder, one)
    path = folder.trial_path(one.trial_id)
    record = json.loads((path / "record.json").read_text())
    (path / "record.json").write_text(json.dumps({**record, "schema_version": 2}))
    with pytest.raises(StudyError, match="record version 2 is newer than 1, the newest this lrscale reads"):
        StudyView.of(folder)
    (path / "record.json").write_text(json.dumps(record)[:40])
    with pytest.raises(StudyError, match=r"record\.json is not valid JSON"):
        StudyView.of(folder)
    (path / "record.json").write_text("{}")
    with pytest.raises(StudyError, match=r"record\.json is damaged: KeyError .*; remove .* to have"):
        StudyView.of(folder)
    (path / "record.json").write_text(json.dumps({**record, "future": 1}))
    with pytest.raises(StudyError, match=r"record\.json is damaged: TypeError"):
        StudyView.of(folder)
    (path / "record.json").write_text(json.dumps(record))
    (path / "spec.json").unlink()
    with pytest.raises(StudyError, match=r"cannot read .*spec\.json"):
        StudyView.of(folder)


def test_the_plan_is_read_back(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.write_plan({"recipe": {"name": "demo"}, "value": float("nan")})
    assert folder.exists()
    assert folder.read_plan() == {"schema_version": 1, "recipe": {"name": "demo"}, "value": None}


HOLD = """
import sys, time
from pathlib import Path
from lrscale.store import StudyFolder
with StudyFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    holder = python(HOLD, str(tmp_path))
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StudyError, match=rf"is in use by process {holder.pid} on .*; wait for it"):
            StudyFolder(tmp_path).locked().__enter__()
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    # The operating system gives the lock back when the holder dies.
    with StudyFolder(tmp_path).locked():
        assert f"process {os.getpid()}" in (tmp_path / ".holder").read_text()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_stands_for_the_lock_where_the_file_system_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    for _ in range(2):
        with StudyFolder(tmp_path).locked():
            assert is_held(tmp_path)
            with pytest.raises(StudyError, match=r"is in use by process .*if it is gone, remove .*\.held"):
                StudyFolder(tmp_path).locked().__enter__()
        assert not is_held(tmp_path)


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    with pytest.raises(ZeroDivisionError), folder.locked():
        raise ZeroDivisionError
    with folder.locked():
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StudyError, match="cannot be written"):
        StudyFolder(tmp_path / "file" / "study").locked().__enter__()


WRITE = """
import sys
from pathlib import Path
from lrscale.store.files import write_atomically
path = Path(sys.argv[1])
print("go", flush=True)
number = 0
while True:
    number += 1
    write_atomically(path, str(number) * 40_000)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for wait in (0.02, 0.05, 0.11, 0.23):
        writer = python(WRITE, str(path))
        assert writer.stdout is not None
        assert writer.stdout.readline() == "go\n"
        time.sleep(wait)
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        if path.exists():
            text = path.read_text()
            number = text[: len(text) // 40_000]
            assert text == number * 40_000
    assert path.exists()


FULL = """
import resource, signal, sys
from pathlib import Path
from lrscale.errors import StudyError
from lrscale.store.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path(sys.argv[1]), "x" * 5000)
except StudyError as error:
    print(error)
"""


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("old")
    said, problem = python(FULL, str(path)).communicate(timeout=60)
    assert said.startswith(f"cannot write {path}: File too large; free space or choose another --study"), problem
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_log_lines_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    line = b"loss \xff \xe9".decode("utf-8", "surrogateescape")
    write_atomically(tmp_path / "record.json", to_json({"log_tail": [line]}))
    assert read_json(tmp_path / "record.json") == {"log_tail": [line]}


def test_a_file_in_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot write"):
        write_atomically(tmp_path / "none" / "a", "x")
    with pytest.raises(StudyError, match="cannot read"):
        read_json(tmp_path / "none" / "a")


def test_packing_that_was_cut_off_is_finished_later(tmp_path: Path) -> None:
    from lrscale.store.trajectory import pack_trajectory, read_trajectory

    lines = tmp_path / "trajectory.jsonl"
    lines.write_text('{"step": 1, "train_loss": 2.0}\n')
    pack_trajectory(tmp_path)
    packed = read_trajectory(tmp_path)
    # As after a kill between the two: both files are there.
    lines.write_text('{"step": 1, "train_loss": 2.0}\n')
    pack_trajectory(tmp_path)
    assert not lines.exists()
    assert read_trajectory(tmp_path)["train_loss"].tolist() == packed["train_loss"].tolist() == [2.0]

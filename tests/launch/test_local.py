"""Trials of a tiny module in real DDP groups: how each way of ending is recorded."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lrscale.errors import LayoutError, StudyError, TaskError
from lrscale.launch import LaunchSettings, LocalLauncher, TrialRequest
from lrscale.launch.progress import AbstractProgress
from lrscale.store import TrialRecord, TrialSpec
from lrscale.units import Layout

from .conftest import TASKS, Watcher, descendants, eventually, is_running, tiny_request


def settings(**changes: Any) -> LaunchSettings:
    return LaunchSettings(**{"root": TASKS, "preload": ("tiny",), "accelerator": "cpu", **changes})


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    with LocalLauncher(settings()) as shared:
        yield shared


@pytest.fixture
def use(launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LocalLauncher]:
    """Change the settings of the shared launcher for one test; its server is kept."""

    def change(**changes: Any) -> LocalLauncher:
        monkeypatch.setattr(launcher, "_settings", settings(**changes))
        return launcher

    return change


def request(folder: Path, *, world: int = 2, **changes: Any) -> TrialRequest:
    # The same trial on other ranks is another folder.
    return tiny_request(folder / str(world), devices=world, **changes)


def run_one(launcher: LocalLauncher, wanted: TrialRequest, watcher: Watcher | None = None) -> TrialRecord:
    (record,) = launcher.run([wanted], watcher or Watcher())
    assert record.trial_id == wanted.spec.trial_id
    assert record.layout == wanted.layout
    return record


def test_the_loss_is_the_same_for_two_one_three_and_two_ranks(launcher: LocalLauncher, tmp_path: Path) -> None:
    wanted = [request(tmp_path / str(place), world=world) for place, world in enumerate((2, 1, 3, 2))]
    records = list(launcher.run(wanted, Watcher()))
    assert [record.status for record in records] == ["completed"] * 4, records
    losses = [record.final_loss for record in records]
    assert losses[0] == losses[3]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)
    assert all(0 < record.timing["training"] < record.timing["total"] for record in records)
    assert all(record.log_tail == () for record in records)


def test_a_trial_that_diverges_is_recorded_and_the_next_one_trains(launcher: LocalLauncher, tmp_path: Path) -> None:
    records = list(launcher.run([request(tmp_path, lr=1e30), request(tmp_path)], Watcher()))
    assert [record.status for record in records] == ["diverged", "completed"]
    assert records[0].final_loss is None
    assert records[0].reason
    assert not records[0].retryable


def test_an_exception_is_recorded_with_the_log_of_its_rank_and_not_retried(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    watcher = Watcher()
    record = run_one(launcher, request(tmp_path, act="fail", rank=1), watcher)
    assert record.status == "crashed"
    assert record.reason == "RuntimeError: the wrong shape of things"
    assert record.log_tail[-1] == "RuntimeError: the wrong shape of things"
    assert not record.retryable
    assert watcher.notes == []


def test_memory_exhausted_on_one_rank_is_the_outcome_of_the_trial(launcher: LocalLauncher, tmp_path: Path) -> None:
    record = run_one(launcher, request(tmp_path, act="exhaust", rank=1))
    assert record.status == "out_of_memory"
    assert not record.retryable


def test_a_lost_rank_is_tried_once_more(launcher: LocalLauncher, tmp_path: Path) -> None:
    watcher = Watcher()
    record = run_one(launcher, request(tmp_path, act="die", rank=1, once=str(tmp_path / "died")), watcher)
    assert record.status == "completed"
    undisturbed = run_one(launcher, request(tmp_path))
    assert record.final_loss == undisturbed.final_loss
    (note,) = watcher.notes
    assert "rank 1 was ended by SIGKILL" in note
    assert note.endswith("it is run once more")
    assert len(watcher.began) == 1


def test_a_trial_that_may_not_start_is_left_out_and_the_others_run(launcher: LocalLauncher, tmp_path: Path) -> None:
    refused = dataclasses.replace(request(tmp_path / "a", lr=0.02), may_start=lambda: False)
    allowed = dataclasses.replace(request(tmp_path / "b"), may_start=lambda: True)
    watcher = Watcher()
    (record,) = launcher.run([refused, allowed], watcher)
    assert record.trial_id == allowed.spec.trial_id
    assert watcher.began == [allowed.spec.trial_id]
    assert list(refused.folder.iterdir()) == []


def test_a_lost_trial_that_may_not_start_again_keeps_the_record_of_its_first_attempt(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    answers = iter([True, False])
    lost = request(tmp_path, act="die", rank=1, once=str(tmp_path / "died"))
    record = run_one(launcher, dataclasses.replace(lost, may_start=lambda: next(answers)))
    assert record.status == "crashed"
    assert record.retryable


def test_a_rank_that_leaves_twice_without_a_result_is_a_crash(launcher: LocalLauncher, tmp_path: Path) -> None:
    watcher = Watcher()
    record = run_one(launcher, request(tmp_path, act="leave", rank=0), watcher)
    assert record.status == "crashed"
    assert record.reason == "rank 0 ended with code 3 without leaving a result"
    assert record.log_tail[-1] == "leaving now"
    assert record.retryable
    assert len(watcher.notes) == 1


def test_a_rank_that_hangs_is_timed_out_and_the_record_tells_where_it_was(
    use: Callable[..., LocalLauncher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrscale.launch.tail.SILENCE", 1.5)
    watcher = Watcher()
    record = run_one(use(timeout=6.0), request(tmp_path, act="hang", rank=1), watcher)
    (note,) = watcher.notes
    assert note.startswith(f"trial {record.trial_id} has made no step for ")
    assert note.endswith("if it hangs, layout.timeout ends such trials")
    assert record.status == "timed_out"
    assert 6 <= record.timing["total"] < 20
    assert not record.retryable
    assert "rank 0:" in record.log_tail
    place = record.log_tail.index("rank 1:")
    assert record.log_tail[place + 1].endswith("in _hang")


def test_a_full_disk_ends_the_study_and_is_no_outcome_of_a_trial(launcher: LocalLauncher, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="No space left on device; free space"):
        run_one(launcher, request(tmp_path, act="fill_disk", rank=1))


def test_a_task_that_cannot_be_built_ends_the_study(launcher: LocalLauncher, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="depth"):
        list(launcher.run([request(tmp_path, depth=3), request(tmp_path)], Watcher()))
    job = {"spec": request(tmp_path, act="refuse").spec.to_dict()}
    with pytest.raises(TaskError, match="ValueError: width must be positive; its log is"):
        launcher.inspect(job, Layout(per_device_batch_size=4), tmp_path / "inspect")


def test_what_an_earlier_attempt_has_left_is_not_taken_for_a_result(launcher: LocalLauncher, tmp_path: Path) -> None:
    folder = tmp_path / "inspect"
    folder.mkdir()
    (folder / "outcome-0.json").write_text(json.dumps({"kind": "task_error", "message": "stale", "hint": None}))
    facts = launcher.inspect({"spec": request(tmp_path).spec.to_dict()}, Layout(per_device_batch_size=4), folder)
    assert facts["module"].endswith("Tiny")
    wanted = request(tmp_path)
    (wanted.folder / "outcome-0.json").write_text("torn")
    (wanted.folder / "trajectory.jsonl").write_text('{"step": 99}\n')
    assert run_one(launcher, wanted).status == "completed"
    assert '"step": 99' not in (wanted.folder / "trajectory.jsonl").read_text()


def test_two_trials_at_once_overlap_and_a_timed_one_runs_alone(
    use: Callable[..., LocalLauncher], tmp_path: Path
) -> None:
    rates = (0.011, 0.012, 0.013, 0.014)
    wanted = [request(tmp_path, world=1, lr=lr, pinned=lr == 0.013) for lr in rates]
    names = {trial.spec.trial_id: lr for trial, lr in zip(wanted, rates, strict=True)}
    spans: dict[float, list[float]] = {}

    class Clock(AbstractProgress):
        def trial_started(self, spec: TrialSpec, layout: Layout) -> None:
            spans[names[spec.trial_id]] = [time.monotonic()]

    for record in use(trials_at_once=2).run(wanted, Clock()):
        assert record.status == "completed"
        spans[names[record.trial_id]].append(time.monotonic())
    assert spans[0.012][0] < spans[0.011][1]
    assert max(spans[0.011][1], spans[0.012][1]) <= spans[0.013][0]
    assert spans[0.013][1] <= spans[0.014][0]


def test_a_consumer_that_stops_leaves_no_rank(launcher: LocalLauncher, tmp_path: Path) -> None:
    run_one(launcher, request(tmp_path))
    assert launcher._server is not None and launcher._server._process is not None
    keepers = descendants(launcher._server._process.pid)
    wanted = [request(tmp_path, world=1, lr=0.02), request(tmp_path, act="linger", rank=0, place=str(tmp_path))]
    records = launcher.run(wanted, Watcher())
    next(records)
    records.close()
    assert descendants(launcher._server._process.pid) == keepers


def test_the_study_survives_its_server(launcher: LocalLauncher, tmp_path: Path) -> None:
    run_one(launcher, request(tmp_path))

    class Murderer(Watcher):
        def trial_started(self, spec: TrialSpec, layout: Layout) -> None:
            super().trial_started(spec, layout)
            assert launcher._server is not None and launcher._server._process is not None
            (server,) = psutil.Process(launcher._server._process.pid).children()
            server.kill()

    murderer = Murderer()
    record = run_one(launcher, request(tmp_path, lr=0.03), murderer)
    assert record.status == "completed"
    assert len(murderer.notes) == 1


def test_nodes_that_are_not_there_are_refused(launcher: LocalLauncher, tmp_path: Path) -> None:
    spec = request(tmp_path).spec
    wanted = TrialRequest(spec=spec, layout=Layout(per_device_batch_size=6, num_nodes=2), folder=tmp_path)
    with pytest.raises(LayoutError, match="one node"):
        run_one(launcher, wanted)


INTERRUPTED = """
import json, sys
from pathlib import Path
import lrscale.launch.processes.forkserver, lrscale.launch.processes.group
from lrscale.launch import LaunchSettings, LocalLauncher, SilentProgress, TrialRequest
from lrscale.store import TrialSpec
from lrscale.units import Layout
lrscale.launch.processes.forkserver.core_modules = lambda: ("json",)
lrscale.launch.processes.group.ENTRY = "plain_ranks"
folder, root = Path(sys.argv[1]), Path(sys.argv[2])
spec = TrialSpec.from_dict(json.loads((folder / "spec.json").read_text()))
wanted = TrialRequest(spec=spec, layout=Layout(per_device_batch_size=6, devices=2), folder=folder)
jobs = {"JOBS": json.dumps([f"family:{folder}", "deaf"])}
settings = LaunchSettings(root=root, preload=("plain",), accelerator="cpu", environment=jobs)
try:
    with LocalLauncher(settings) as launcher:
        list(launcher.run([wanted], SilentProgress()))
except KeyboardInterrupt:
    (folder / "interrupted").touch()
"""


def test_an_interrupted_driver_has_ended_everything_before_it_goes(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(request(tmp_path).spec.to_dict()))
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path), str(TASKS)], env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert eventually((tmp_path / "far.pid").exists, within=60)
    pids = descendants(process.pid)
    assert len(pids) >= 6
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert (tmp_path / "interrupted").exists()
    assert [pid for pid in pids if is_running(pid)] == []
    assert list(tmp_path.glob("lrscale-*")) == []

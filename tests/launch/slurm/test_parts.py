"""The parts around the queue that need no cluster: texts, spans, ends of jobs, signs of life, verdicts."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import LrscaleError, StudyError, TaskError
from lrscale.launch import LAUNCHERS, LaunchSettings, TrialRequest
from lrscale.launch.slurm import queue_overview
from lrscale.launch.slurm.cluster import span
from lrscale.launch.slurm.deadline import RESERVE, Deadline
from lrscale.launch.slurm.heart import Heart, Pulses
from lrscale.launch.slurm.launcher import bring
from lrscale.launch.slurm.memory_group import oom_kills
from lrscale.launch.slurm.overview import LOST_AFTER, living_driver
from lrscale.launch.slurm.queue import JobQueue
from lrscale.launch.slurm.script import job_script, sbatch_options
from lrscale.launch.slurm.states import ENDED, OUTSIDE, WORDS, is_limit, is_transient, remedy_for
from lrscale.launch.slurm.ticket import (
    CARRIED,
    Ticket,
    error_from_dict,
    error_to_dict,
    launch_settings,
    train_ticket,
    trial_request,
)
from lrscale.launch.slurm.verdict import verdict
from lrscale.recipe import SlurmSettings
from lrscale.store import ScheduleSpec, TrialSpec
from lrscale.units import Layout

LAYOUT = Layout(per_device_batch_size=4, devices=2)


def request(folder: Path, **changes: Any) -> TrialRequest:
    spec = TrialSpec(
        task={"model": {"class_path": "tiny.Tiny"}},
        schedule=ScheduleSpec(name="constant", settings={"a": (1, 2)}),
        peak_lr=0.1,
        global_batch_size=8,
        horizon=5,
        seed=0,
    )
    return TrialRequest(**{"spec": spec, "layout": LAYOUT, "folder": folder, "instruments": {"x": {"y": 1}}, **changes})


def test_a_request_travels_whole(tmp_path: Path) -> None:
    settings = LaunchSettings(root=tmp_path, import_paths=("a", "b"), preload=("tiny",), timeout=3.0, trials_at_once=2)
    sent = train_ticket(request(tmp_path, seconds=2.5, keep=(3, 9)), settings)
    got = Ticket.from_dict(json.loads(json.dumps(sent.to_dict())), sent.key)
    back = trial_request(got, tmp_path / "elsewhere")
    assert back.spec.trial_id == request(tmp_path).spec.trial_id
    assert (back.layout, back.instruments, back.seconds, back.keep) == (LAYOUT, {"x": {"y": 1}}, 2.5, (3, 9))
    assert back.folder == tmp_path / "elsewhere"
    carried = launch_settings(got, tmp_path / "study")
    assert {name: getattr(carried, name) for name in CARRIED} == {name: getattr(settings, name) for name in CARRIED}
    assert (carried.root, carried.study) == (tmp_path, tmp_path / "study")


def test_every_field_of_a_request_and_of_the_settings_travels_or_is_the_drivers_own() -> None:
    fields = {field.name for field in dataclasses.fields(TrialRequest)}
    assert fields == {"spec", "layout", "instruments", "keep", "seconds"} | {"folder", "may_start"}
    names = {field.name for field in dataclasses.fields(LaunchSettings)}
    assert names == {"root", *CARRIED} | {"study", "slurm", "note", "devices", "num_nodes", "address"}


def test_what_a_trial_is_expected_to_take_does_not_change_its_key(tmp_path: Path) -> None:
    settings = LaunchSettings(root=tmp_path)
    keys = {train_ticket(request(tmp_path, seconds=seconds), settings).key for seconds in (None, 1.0, 2.0)}
    assert len(keys) == 1
    other = train_ticket(request(tmp_path), LaunchSettings(root=tmp_path / "other"))
    assert other.key not in keys


def test_errors_keep_their_kind_and_an_unknown_kind_runs_nothing() -> None:
    error = error_from_dict(error_to_dict(TaskError("no module shop", hint="install it")))
    assert isinstance(error, TaskError)
    assert (error.message, error.hint, error.exit_code) == ("no module shop", "install it", 2)
    for kind in ("Iterable", "difflib", "did_you_mean", "__builtins__", "SystemExit"):
        plain = error_from_dict({"kind": kind, "message": "m", "hint": None})
        assert type(plain) is LrscaleError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0:56", 56), ("4:57", 297), ("1:00:00", 3600), ("365-00:00:00", 31536000), ("1-02:03:04", 93784)),
        *((text, None) for text in ("UNLIMITED", "INVALID", "NOT_SET", "", "-1:00", "1:2:3:4")),
    ],
)
def test_spans_are_read_as_slurm_writes_them(text: str, seconds: int | None) -> None:
    assert span(text) == seconds


def test_a_job_asks_for_what_the_recipe_says_and_for_nothing_else() -> None:
    bare = sbatch_options(SlurmSettings(), name="lrscale-a", log=Path("/s/%j.log"), nodes=2, ranks=4)
    assert set(bare) == {
        *(
            "--no-requeue",
            "--job-name=lrscale-a",
            "--output=/s/%j.log",
            "--open-mode=append",
            f"--signal={int(signal.SIGURG)}@90",
        ),
        *("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=4"),
    }
    wishes = SlurmSettings.model_validate(
        {"partition": "gpu", "account": 7, "time": "1h", "gpus": "a100:4", "nodes": 3, "mem": "64G", "qos": "long"}
        | {"constraint": "a|b", "extra": ["--reservation=r"]}
    )
    asked = sbatch_options(wishes, name="lrscale-a", log=Path("/s/%j.log"), nodes=2, ranks=4)
    assert set(asked) - set(bare) == {
        *("--partition=gpu", "--account=7", "--time=60", "--gpus-per-node=a100:4", "--nodes=3", "--mem=64G"),
        *("--constraint=a|b", "--reservation=r", "--qos=long"),
    }
    assert not any(option.startswith("--cpus-per-task") for option in asked)


def test_the_script_runs_the_setup_and_then_one_worker_a_node() -> None:
    settings = SlurmSettings.model_validate({"setup": ["module load a"], "python": "/opt/my env/python", "idle": 5})
    script = job_script(settings, study=Path("/data/my study"), nodes=2, ranks=4)
    first, strict, setup, run = script.splitlines()
    assert (first, strict, setup) == ("#!/bin/bash", "set -e", "module load a")
    words = shlex.split(run)
    assert words[:2] == ["exec", "srun"]
    assert "--nodes=2" in words
    assert "--cpus-per-task=4" in words
    assert words[-6:] == ["/opt/my env/python", "-m", "lrscale", "worker", "/data/my study", "--idle=5"]


def test_every_end_has_words_and_every_outside_end_is_one() -> None:
    assert set(WORDS) == ENDED
    assert OUTSIDE < ENDED


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        ("sbatch: error: invalid partition specified: gpux", "slurm.partition"),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination",
            "slurm.account",
        ),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "slurm.qos"),
        (
            "sbatch: error: Batch job submission failed: Requested time limit is invalid",
            "time",
        ),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", "slurm.gpus"),
        ("sbatch: error: Batch job submission failed: Invalid generic resource (gres) specification", "slurm.gpus"),
        ("sbatch: error: Batch job submission failed: Node count specification invalid", "slurm.nodes"),
        ("sbatch: error: Memory specification can not be satisfied", "slurm.mem"),
        ("sbatch: unrecognized option '--foo=1'", "slurm.extra"),
    ],
)
def test_a_refusal_of_sbatch_is_told_with_the_field_to_change(refusal: str, remedy: str) -> None:
    assert remedy in (remedy_for(refusal) or "")


def test_limits_and_failures_that_pass_are_told_apart_from_refusals() -> None:
    limit = (
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
        "accounting/QOS policy (job submit limit, user's size and/or time limits)"
    )
    assert is_limit(limit)
    assert not is_limit("sbatch: error: invalid partition specified: gpux")
    assert is_transient("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    assert not is_transient(limit)


def test_a_clock_that_jumps_changes_no_silence(tmp_path: Path) -> None:
    now = [0.0]
    pulses = Pulses(clock=lambda: now[0])
    path = tmp_path / "12.json"
    with Heart(path, state="idle") as heart:
        pulses.look({"12": json.loads(path.read_text())})
        now[0] = 50.0
        # Times of files play no part: a beat is a beat, whenever its machine thinks that it is.
        heart.tell(state="running")
        pulses.look({"12": json.loads(path.read_text())})
        assert pulses.silence("12") == 0.0
        now[0] = 90.0
        pulses.look({"12": json.loads(path.read_text())})
        assert pulses.silence("12") == 40.0
    assert pulses.silence("never seen") == 0.0


def test_trials_are_taken_only_where_they_can_end() -> None:
    now = [0.0]
    deadline = Deadline(600.0 + RESERVE, clock=lambda: now[0])
    assert deadline.admits(399.0, first=False)
    assert not deadline.admits(401.0, first=False)
    assert deadline.admits(None, first=False)
    assert deadline.admits(9000.0, first=True)
    now[0] = 301.0
    assert not deadline.admits(None, first=False)
    assert deadline.admits(190.0, first=False)
    deadline.at_most(RESERVE)
    assert not deadline.admits(0.1, first=True)
    assert Deadline(None).admits(1e9, first=False)


def attempt(cause: str, **more: Any) -> dict[str, Any]:
    return {"job": "7", "cause": cause, "beside": 0, **more}


@pytest.mark.parametrize(
    ("past", "status", "words"),
    [
        ([attempt("NODE_FAIL")] * 5, None, ""),
        ([attempt("NODE_FAIL")] * 6, "crashed", "died 6 times: job 7 lost its node"),
        ([attempt("FAILED")], None, ""),
        ([attempt("FAILED"), attempt("PREEMPTED")], None, ""),
        ([attempt("FAILED"), attempt("GONE")], "crashed", "job 7 failed, then job 7 is gone"),
        ([attempt("OUT_OF_MEMORY")], "out_of_memory", "set more slurm.mem"),
        ([attempt("OUT_OF_MEMORY", beside=3)], None, ""),
        ([attempt("time", whole=False, had=9.0)], None, ""),
        ([attempt("time", whole=True, had=580.0)], "timed_out", "still running after 580 s, all that a job had"),
        ([attempt("SIGTERM")] * 5, None, ""),
        ([attempt("error")], None, ""),
    ],
)
def test_a_trial_is_run_again_where_that_can_help_and_never_endlessly(
    past: list[dict[str, Any]], status: str | None, words: str
) -> None:
    record = verdict("ab", LAYOUT, past)
    assert (None if record is None else record.status) == status
    if record is not None:
        assert words in (record.reason or "")
        assert record.layout == LAYOUT
        assert record.retryable == (status != "out_of_memory")


def test_the_queue_is_seen_without_slurm_and_silent_workers_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert queue_overview(tmp_path) is None
    queue = JobQueue(tmp_path)
    queue.open()
    tickets = [Ticket(name=f"t{number}", work={"number": number}) for number in range(4)]
    queue.put(enumerate(tickets))
    with Heart(queue.heart_path("12"), node="n1", state="running"):
        alive = queue.claim(tickets[0].key, 0, "12")
        lost = queue.claim(tickets[1].key, 1, "13")
        ended = queue.claim(tickets[2].key, 2, "12")
        assert alive is not None
        assert lost is not None
        assert ended is not None
        queue.finish(ended, {})
        seen = queue_overview(tmp_path)
    assert seen is not None
    assert (list(seen.queued), list(seen.uncollected)) == (["t3"], ["t2"])
    assert {one.trial_id: (one.where, one.lost) for one in seen.at_work} == {
        "t0": ("job 12 on n1", False),
        "t1": ("job 13", True),
    }
    assert seen.jobs is None


def test_without_sbatch_the_launcher_says_where_to_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LrscaleError, match="needs sbatch, squeue, scancel on the path; run it on a login node"):
        LAUNCHERS["slurm"](LaunchSettings(root=tmp_path, study=tmp_path)).__enter__()


def test_a_worker_without_a_queue_says_how_to_start_one(tmp_path: Path) -> None:
    from lrscale.launch.slurm import serve

    with pytest.raises(StudyError, match="nobody asks for trials"):
        serve(tmp_path, idle=1.0)


@pytest.mark.parametrize(
    ("groups", "file", "text", "kills"),
    [
        (
            "9:cpu:/\n4:memory:/slurm/job_2\n0::/",
            "memory/slurm/job_2/memory.oom_control",
            "under_oom 0\noom_kill 2\n",
            2,
        ),
        ("4:memory,hugetlb:/\n", "memory/memory.oom_control", "oom_kill_disable 0\noom_kill 0\n", 0),
        ("0::/system.slice/job_2\n", "system.slice/job_2/memory.events", "oom 1\noom_kill 1\noom_group_kill 0\n", 1),
        ("0::/job_2\n", "job_2/memory.current", "7\n", None),
        ("1:name=systemd:/\n", "memory.events", "oom_kill 3\n", None),
    ],
)
def test_kills_for_memory_are_counted_in_both_versions_of_control_groups(
    groups: str, file: str, text: str, kills: int | None, tmp_path: Path
) -> None:
    (tmp_path / "told").write_text(groups)
    if groups.startswith("0::"):
        (tmp_path / "cgroup.controllers").write_text("memory")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert oom_kills(tmp_path / "told", tmp_path) == kills


def test_a_driver_on_another_machine_is_told_by_its_signs_of_life(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    queue.open()
    assert living_driver(queue) is None
    queue.driver_path.write_text(json.dumps({"host": "elsewhere", "process": 7, "beat": 1}))
    assert living_driver(queue) == "process 7 on elsewhere"
    os.utime(queue.driver_path, (0, queue.driver_path.stat().st_mtime - LOST_AFTER - 1))
    assert living_driver(queue) is None
    queue.driver_path.write_text(json.dumps({"host": socket.gethostname(), "process": 2**22 + 1, "beat": 1}))
    assert living_driver(queue) is None, "no such process runs here"
    queue.driver_path.write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid(), "beat": 1}))
    assert living_driver(queue) == f"process {os.getpid()} on {socket.gethostname()}"


def test_all_files_of_an_attempt_are_brought_but_links_and_halves(tmp_path: Path) -> None:
    source, target = tmp_path / "run", tmp_path / "trial"
    (source / "rank-0" / "plots").mkdir(parents=True)
    (source / "trajectory.jsonl").write_text("{}\n")
    (source / "rank-0" / "plots" / "a.txt").write_text("kept")
    (source / ".x.json.7.partial").write_text("half")
    (tmp_path / "secret").write_text("elsewhere")
    (source / "link").symlink_to(tmp_path / "secret")
    (source / "folder").symlink_to(tmp_path)
    target.mkdir()
    (target / "trajectory.jsonl").write_text("stale")
    for _ in range(2):
        bring(source, target)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()) == [
        "rank-0/plots/a.txt",
        "trajectory.jsonl",
    ]
    assert (target / "trajectory.jsonl").read_text() == "{}\n"
    assert (source / "trajectory.jsonl").exists()

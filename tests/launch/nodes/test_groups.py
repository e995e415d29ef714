"""Worker groups of real processes over several nodes of one machine, without torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lrscale.errors import StudyError
from lrscale.launch import LAUNCHERS, LaunchSettings

from ..conftest import TASKS, eventually, is_running

GROUP = Path(__file__).with_name("group.py")
Processes = dict[int, subprocess.Popen[bytes]]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study").mkdir()
    (tmp_path / "tmp").mkdir()
    return tmp_path / "study"


@pytest.fixture
def processes() -> Iterator[Processes]:
    """The members of the group of a test, by rank; whatever is left of them is killed."""
    started: Processes = {}
    yield started
    for process in started.values():
        process.kill()
        process.wait()


def begin(processes: Processes, study: Path, nodes: int, per_node: int, **asked: Any) -> None:
    """Start the members as torchrun starts them."""
    (study / "requests.json").write_text(json.dumps(asked))
    for rank in range(nodes * per_node):
        node, local = divmod(rank, per_node)
        told = {
            "RANK": rank,
            "WORLD_SIZE": nodes * per_node,
            "LOCAL_RANK": local,
            "LOCAL_WORLD_SIZE": per_node,
            "GROUP_RANK": node,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": 29999,
            "TORCHELASTIC_RUN_ID": "test",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TEST_NODE": node,
            "TMPDIR": study.parent / "tmp",
        }
        environment = {**os.environ, **{name: str(value) for name, value in told.items()}}
        command = [sys.executable, str(GROUP), str(study), str(TASKS)]
        if "cores" in asked:
            command = ["taskset", "--cpu-list", str(asked["cores"][rank]), *command]
        processes[rank] = subprocess.Popen(command, env=environment)


def codes(processes: Processes, *, within: float = 60.0) -> list[int]:
    deadline = time.monotonic() + within
    return [process.wait(timeout=max(0.1, deadline - time.monotonic())) for process in processes.values()]


def told(study: Path, what: str) -> list[Any]:
    path = study / "told.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line[what] for line in map(json.loads, lines) if what in line]


def facts(study: Path, number: int, rank: int) -> dict[str, Any]:
    path = study / "trials" / str(number) / f"facts-{rank}.json"
    assert eventually(path.exists, within=60), f"rank {rank} of trial {number} has not begun"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def trial(nodes: int, devices: int, *acts: str) -> dict[str, Any]:
    ranks = nodes * devices
    return {
        "layout": {"num_nodes": nodes, "devices": devices},
        "acts": list(acts) or ["publish:completed"] * ranks,
    }


def assert_nothing_is_left(study: Path) -> None:
    """No process of the study runs, and no file of a run is left beside its trials."""

    def theirs() -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TMPDIR") == str(study.parent / "tmp") and is_running(process.pid):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    assert eventually(lambda: not theirs(), within=15), theirs()
    assert eventually(lambda: list((study.parent / "tmp").iterdir()) == [])


def test_ranks_of_two_nodes_know_their_places_and_all_end_with_the_leaders_code(
    study: Path, processes: Processes
) -> None:
    begin(processes, study, 2, 2, requests=[trial(2, 2), trial(1, 2)], code=1)
    assert codes(processes) == [1, 1, 1, 1]
    assert [record["status"] for record in told(study, "record")] == ["completed", "completed"]
    seen = [facts(study, 0, rank) for rank in range(4)]
    assert [one["TEST_NODE"] for one in seen] == ["0", "0", "1", "1"]
    assert [one["GROUP_RANK"] for one in seen] == ["0", "0", "1", "1"]
    assert [one["LOCAL_RANK"] for one in seen] == ["0", "1", "0", "1"]
    assert {(one["WORLD_SIZE"], one["LOCAL_WORLD_SIZE"], one["GROUP_WORLD_SIZE"]) for one in seen} == {("4", "2", "2")}
    assert {one["job"]["rendezvous"] for one in seen} == {f"tcp://127.0.0.1:{seen[0]['MASTER_PORT']}"}
    assert {one["TORCHELASTIC_USE_AGENT_STORE"] for one in seen} == {None}
    assert seen[0]["job"]["rendezvous"] != facts(study, 1, 0)["job"]["rendezvous"]
    assert facts(study, 1, 0)["job"]["rendezvous"].startswith("file://")
    assert_nothing_is_left(study)
    assert sorted(path.name for path in study.iterdir()) == ["requests.json", "told.jsonl", "trials"]


@pytest.mark.slow
def test_trials_of_one_node_run_on_both_at_the_same_time(study: Path, processes: Processes) -> None:
    wanted = [trial(1, 1, "sleep:1.5") for _ in range(4)]
    begin(processes, study, 2, 2, requests=wanted, settings={"trials_at_once": 4})
    seen = [facts(study, number, 0) for number in range(4)]
    assert sorted(one["TEST_NODE"] for one in seen) == ["0", "0", "1", "1"]
    assert max(one["at"] for one in seen) - min(one["at"] for one in seen) < 1.5
    assert codes(processes) == [0] * 4


def test_a_node_that_is_lost_ends_its_trial_in_seconds_and_the_next_runs_on_what_is_left(
    study: Path, processes: Processes
) -> None:
    hanging = trial(2, 1, "sleep:600", "hang_once")
    begin(processes, study, 2, 1, requests=[trial(1, 1), hanging, trial(1, 1)], settings={"trials_at_once": 1})
    pid = facts(study, 1, 1)["pid"]
    assert eventually((study / "trials" / "1" / "far.pid").exists)
    began = time.monotonic()
    processes[1].send_signal(signal.SIGKILL)
    assert eventually(lambda: len(told(study, "record")) == 2, within=30)
    assert time.monotonic() - began < 8
    assert eventually(lambda: not is_running(pid), within=5)
    lost = told(study, "record")[1]
    assert (lost["status"], lost["retryable"]) == ("crashed", True)
    assert lost["reason"].startswith("node 1 (")
    assert lost["reason"].endswith(") was lost while the trial ran on it")
    assert any("is lost: its connection closed" in note for note in told(study, "note"))
    # A trial over two nodes cannot be run again on one; the study stops and says so.
    assert codes(processes) == [2, -signal.SIGKILL]
    (error,) = told(study, "error")
    assert "do not hold a trial of 2 x 1" in error
    assert_nothing_is_left(study)


@pytest.mark.slow
def test_a_node_that_is_lost_between_rounds_is_told_as_lost(study: Path, processes: Processes) -> None:
    begin(processes, study, 2, 1, requests=[trial(2, 1), trial(2, 1)], round=1, between="go_on")
    assert eventually(lambda: len(told(study, "record")) == 1, within=60)
    processes[1].kill()
    processes[1].wait()
    time.sleep(0.3)
    (study / "go_on").touch()
    assert codes(processes) == [2, -signal.SIGKILL]
    (error,) = told(study, "error")
    assert error.startswith("the nodes that are left (node 0 (")
    assert "do not hold a trial of 2 x 1; finished trials are kept" in error


@pytest.mark.slow
def test_a_trial_of_one_node_is_run_once_more_on_another(study: Path, processes: Processes) -> None:
    wanted = [trial(1, 1, "sleep:2"), trial(1, 1, "hang_once"), trial(1, 1)]
    begin(processes, study, 2, 1, requests=wanted, settings={"trials_at_once": 2})
    second = facts(study, 1, 0)
    # The first trial has the leader's node, for it comes first; the second goes where more is free.
    assert second["TEST_NODE"] == "1"
    processes[1].send_signal(signal.SIGKILL)
    assert codes(processes) == [0, -signal.SIGKILL]
    records = dict(zip(told(study, "number"), told(study, "record"), strict=True))
    assert records[1]["status"] == records[2]["status"] == "completed"
    assert facts(study, 1, 0)["TEST_NODE"] == "0"


@pytest.mark.slow
def test_a_node_that_is_stopped_is_lost_after_its_silence(study: Path, processes: Processes) -> None:
    begin(processes, study, 2, 1, requests=[trial(2, 1, "sleep:600", "sleep:600")], settings={})
    facts(study, 0, 1)
    processes[1].send_signal(signal.SIGSTOP)
    assert eventually(lambda: len(told(study, "record")) == 1, within=45)
    assert "gave no sign of life" in " ".join(told(study, "note"))
    processes[1].send_signal(signal.SIGCONT)
    assert codes(processes) == [2, 130]
    assert_nothing_is_left(study)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_nothing_outlives_a_leader_on_any_node(study: Path, processes: Processes, number: int) -> None:
    begin(processes, study, 2, 2, requests=[trial(2, 2, "deaf", "deaf", "deaf", "hang_once")])
    assert eventually((study / "trials" / "0" / "far.pid").exists, within=60)
    began = time.monotonic()
    processes[0].send_signal(number)
    assert codes(processes)[1:] == [130, 130, 130]
    assert time.monotonic() - began < 10
    assert_nothing_is_left(study)


@pytest.mark.slow
def test_a_follower_that_is_told_to_end_leaves_nothing(study: Path, processes: Processes) -> None:
    begin(processes, study, 2, 1, requests=[trial(2, 1, "sleep:600", "hang_once")])
    assert eventually((study / "trials" / "0" / "far.pid").exists, within=60)
    pid = facts(study, 0, 1)["pid"]
    processes[1].send_signal(signal.SIGTERM)
    assert processes[1].wait(timeout=20) == 130
    assert not is_running(pid)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can be bound on Linux only")
def test_ranks_have_the_cores_of_all_tasks_of_their_node(study: Path, processes: Processes) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core")
    # srun may bind each task to cores of its own, the leader's to one.
    begin(processes, study, 1, 2, requests=[trial(1, 2)], cores=cores)
    assert codes(processes) == [0, 0]
    assert facts(study, 0, 0)["cores"] == facts(study, 0, 1)["cores"] == cores[:2]
    assert facts(study, 0, 0)["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_those_who_only_wait_take_no_time(study: Path, processes: Processes) -> None:
    begin(processes, study, 1, 2, requests=[trial(1, 2, "sleep:3", "sleep:3")])
    facts(study, 0, 1)
    time.sleep(0.5)
    before = psutil.Process(processes[1].pid).cpu_times()
    time.sleep(1.5)
    after = psutil.Process(processes[1].pid).cpu_times()
    assert (after.user + after.system) - (before.user + before.system) < 0.05
    assert codes(processes) == [0, 0]


@pytest.mark.slow
def test_a_layout_beyond_the_ranks_is_refused_with_what_was_given(study: Path, processes: Processes) -> None:
    begin(processes, study, 2, 2, requests=[trial(2, 3, *["publish:completed"] * 6)])
    assert codes(processes) == [2] * 4
    (error,) = told(study, "error")
    assert error.startswith("a trial of 2 x 3 does not fit the ranks that were given: 2 on node 0 (")
    assert "set layout.devices and layout.num_nodes to what was given" in error


def test_without_ranks_the_launcher_says_how_to_start_some(tmp_path: Path) -> None:
    settings = LaunchSettings(root=tmp_path, study=tmp_path)
    for name in ("torchrun", "srun"):
        with pytest.raises(StudyError, match="this process leads no ranks of torchrun or srun; start the command with"):
            LAUNCHERS[name](settings).__enter__()

"""Trials on two nodes of a Ray cluster: the same records as on this machine, and what becomes of lost ones."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lrscale.launch import LaunchSettings, LocalLauncher, RayLauncher
from lrscale.units import Layout

from ..conftest import TASKS, Watcher, eventually, is_running, tiny_request
from .conftest import CPUS

pytestmark = [
    pytest.mark.ray,
    # Ray leaves pipes and files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _import_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TASKS))


def settings(**changes: Any) -> LaunchSettings:
    return LaunchSettings(**{"root": TASKS, "accelerator": "cpu", **changes})


@pytest.fixture
def undisturbed(tmp_path: Path) -> Iterator[LocalLauncher]:
    with LocalLauncher(settings(preload=("tiny",))) as launcher:
        yield launcher


def test_records_are_those_of_the_local_launcher_and_each_ending_is_told(
    cluster: Any, undisturbed: LocalLauncher, tmp_path: Path
) -> None:
    over_nodes = tiny_request(tmp_path / "trials", nodes=2, devices=1)
    wanted = [
        over_nodes,
        tiny_request(tmp_path / "trials", module="tiny_unified"),
        tiny_request(tmp_path / "trials", act="fail", rank=1),
        tiny_request(tmp_path / "trials", act="die", rank=1, once=str(tmp_path / "died")),
        tiny_request(tmp_path / "trials", devices=1, lr=1e30),
    ]
    watcher = Watcher()
    with RayLauncher(settings(trials_at_once=2)) as launcher:
        records = {record.trial_id: record for record in launcher.run(wanted, watcher)}
        facts = launcher.inspect(
            {"spec": over_nodes.spec.to_dict()}, Layout(per_device_batch_size=4), tmp_path / "inspect"
        )
    ended = [records[one.spec.trial_id] for one in wanted]
    assert [one.status for one in ended] == ["completed", "completed", "crashed", "completed", "diverged"], ended
    assert watcher.began == [one.spec.trial_id for one in wanted]

    alone = dataclasses.replace(tiny_request(tmp_path / "local"), spec=over_nodes.spec)
    (there,) = undisturbed.run([alone], Watcher())
    assert there.trial_id == ended[0].trial_id
    assert [one.final_loss for one in (*ended[:2], ended[3])] == pytest.approx([there.final_loss] * 3, rel=1e-6)
    assert ended[0].monitor == there.monitor == "val_loss"
    assert (ended[0].steps, ended[0].examples, ended[0].facts) == (there.steps, there.examples, there.facts)
    assert ended[1].facts["flavour"] == "lightning.pytorch"
    assert facts["module"].endswith("Tiny")

    assert ended[2].reason == "RuntimeError: the wrong shape of things"
    assert ended[2].log_tail[-1] == "RuntimeError: the wrong shape of things"
    assert not ended[2].retryable
    (note,) = watcher.notes
    assert "rank 1 was lost" in note and note.endswith("it is run once more")
    assert {path.name for path in over_nodes.folder.iterdir()} == {
        *("job.json", "outcome-0.json", "outcome-1.json", "rank-0.log", "rank-1.log", "trajectory.jsonl")
    }


@pytest.mark.slow
def test_a_rank_that_hangs_is_timed_out_and_the_record_tells_where_it_was(cluster: Any, tmp_path: Path) -> None:
    with RayLauncher(settings(timeout=25.0)) as launcher:
        (record,) = launcher.run(
            [tiny_request(tmp_path / "trials", act="linger", rank=1, place=str(tmp_path))], Watcher()
        )
    assert record.status == "timed_out"
    assert "rank 1:" in record.log_tail
    place = record.log_tail.index("rank 1:")
    assert record.log_tail[place + 1].endswith("in _linger")
    (seen,) = tmp_path.glob("*.pid")
    pid = int(seen.read_text().split()[0])
    assert eventually(lambda: not is_running(pid))


@pytest.mark.slow
def test_a_trial_whose_node_is_removed_is_run_once_more_elsewhere(cluster: Any, tmp_path: Path) -> None:
    lost = cluster.list_all_nodes()[-1]
    once = str(tmp_path / "lingered")
    wanted = tiny_request(tmp_path / "trials", nodes=2, devices=1, act="linger", rank=1, once=once, place=str(tmp_path))

    def remove_when_it_runs() -> None:
        while not (tmp_path / "lingered").exists():
            time.sleep(0.2)
        cluster.remove_node(lost)

    class Spare(Watcher):
        def note(self, text: str) -> None:
            super().note(text)
            cluster.add_node(num_cpus=CPUS)

    remover = threading.Thread(target=remove_when_it_runs)
    watcher = Spare()
    with RayLauncher(settings()) as launcher:
        remover.start()
        (record,) = launcher.run([wanted], watcher)
    remover.join()
    assert record.status == "completed", record
    assert "lost" in watcher.notes[0] and watcher.notes[0].endswith("it is run once more")


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
# As lrscale run does.
signal.signal(signal.SIGTERM, signal.default_int_handler)
from tests.launch.conftest import Watcher, tiny_request
from tests.launch.ray.test_on_a_cluster import settings
from lrscale.launch import RayLauncher
folder = Path(sys.argv[1])
try:
    with RayLauncher(settings()) as launcher:
        print("here", file=sys.stderr)
        list(launcher.run([tiny_request(folder / "trials", act="linger", rank=0, place=str(folder))], Watcher()))
except KeyboardInterrupt:
    (folder / "interrupted").touch()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_driver_without_a_cluster_leaves_no_process_and_prints_nothing_of_rays(
    tmp_path: Path, number: signal.Signals
) -> None:
    here = str(Path(__file__).parents[3])
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path), here],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*.pid")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    out, err = process.communicate(timeout=90)
    assert (tmp_path / "interrupted").exists(), err
    assert (out, err) == ("", "here\n")
    _, alive = psutil.wait_procs(below, timeout=20)
    assert alive == []

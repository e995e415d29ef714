"""Whole studies by ``lrscale run --launcher slurm``, on a login node without torch."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lrscale.cli.doctor_slurm import check_slurm
from lrscale.launch.slurm import queue_overview
from lrscale.launch.slurm.cluster import Cluster
from lrscale.store import StudyFolder

from ..conftest import eventually
from .conftest import live_jobs

pytestmark = pytest.mark.slurm

RECIPE = """
name: tiny
task:
  model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 16, depth: 1, optimizer: sgd}}
  data: {class_path: lrscale.zoo.Digits}
  monitor: val_loss
layout: {devices: 1, num_nodes: 2, accelerator: cpu}
slurm: {time: 10m, max_jobs: 1, poll: 1}
experiments:
  equivalence: false
  range_test: false
  scaling:
    batch_sizes: [32]
    horizon: 1280 examples
    learning_rates: [0.02, 0.05, 0.15, 0.4, 1.0, 2.5]
    seeds: 1
    validations: 2
"""
LOGIN_NODE = """
import sys
class NotHere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lightning", "pytorch_lightning", "lightning_fabric", "torchmetrics"):
            raise ModuleNotFoundError(f"{name} is not installed on the login node")
sys.meta_path.insert(0, NotHere())
from lrscale.cli import main
main()
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", LOGIN_NODE, *arguments]


@pytest.fixture
def home(cluster: dict[str, str], tmp_path: Path) -> Path:
    del cluster
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


def losses(study: Path) -> dict[str, tuple[str, float | None]]:
    return {name: (record.status, record.final_loss) for name, record in StudyFolder(study).records().items()}


def start(home: Path) -> subprocess.Popen[bytes]:
    with (home / "stderr.txt").open("ab") as stream:
        return subprocess.Popen(
            command("run", "tiny.yaml", "--launcher", "slurm"),
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,
        )


def until(claim: Callable[[], bool], home: Path) -> None:
    assert eventually(claim, within=120), (home / "stderr.txt").read_text()


def submitted(home: Path) -> int:
    return (home / "stderr.txt").read_text().count(" submitted")


def test_a_driver_killed_and_started_again_ends_as_a_local_study_and_as_one_below_srun(home: Path) -> None:
    study = home / "tiny-study"
    driver = start(home)
    until(lambda: len(losses(study)) >= 1, home)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    known = losses(study)
    assert len(known) < 6
    status = subprocess.run(command("status", "tiny-study"), cwd=home, capture_output=True, text=True, check=True)
    assert "running" in status.stdout or "queued" in status.stdout or "to be collected" in status.stdout
    assert "no job is submitted twice" in status.stdout, status.stdout
    # Its job goes on without it.
    until(lambda: len(getattr(queue_overview(study), "uncollected", ())) >= 1, home)
    again = start(home)
    assert again.wait(timeout=150) == 0, (home / "stderr.txt").read_text()
    assert submitted(home) == 1, (home / "stderr.txt").read_text()
    assert live_jobs() == []
    subprocess.run(
        [sys.executable, "-m", "lrscale", "run", "tiny.yaml", "--devices", "2", "--num-nodes", "1", "--study", "local"],
        cwd=home,
        capture_output=True,
        check=True,
        timeout=300,
    )
    assert losses(study) == losses(home / "local")
    # The launcher of ranks that are there, by the same SLURM.
    subprocess.run(
        [
            *("srun", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2"),
            *(sys.executable, "-m", "lrscale", "run", "tiny.yaml", "--study", "by-srun"),
        ],
        cwd=home,
        capture_output=True,
        check=True,
        timeout=300,
    )
    assert losses(home / "by-srun") == losses(home / "local")
    assert known.items() <= losses(study).items()
    lr = {name: json.loads((home / name / "findings.json").read_text())["scaling"] for name in ("tiny-study", "local")}
    assert lr["tiny-study"]["sentence"] == lr["local"]["sentence"]


def test_ctrl_c_cancels_the_jobs_says_how_to_go_on_and_the_next_run_does(home: Path) -> None:
    study = home / "tiny-study"
    driver = start(home)
    until(lambda: len(losses(study)) >= 1, home)
    os.kill(driver.pid, signal.SIGINT)
    assert driver.wait(timeout=60) == 130
    told = (home / "stderr.txt").read_text()
    assert "the jobs are cancelled" in told
    assert "hint: go on with: lrscale run tiny.yaml --launcher slurm" in told
    until(lambda: live_jobs() == [], home)
    known = losses(study)
    again = start(home)
    assert again.wait(timeout=150) == 0, (home / "stderr.txt").read_text()
    assert len(losses(study)) == 6
    assert known.items() <= losses(study).items()


def test_doctor_says_whether_slurm_would_take_a_job_and_submits_none(
    cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del cluster
    check = check_slurm()
    assert (check.status, check.sentence) == ("PASS", "SLURM would take a worker job of one node; none was submitted")
    # What a person likes to see of the queue must not hide jobs from the driver.
    for name, value in (("SQUEUE_PARTITION", "closed"), ("SQUEUE_FORMAT", "%i"), ("SLURM_JOB_ID", "7")):
        monkeypatch.setenv(name, value)
    job = Cluster().submit(["--job-name=lrscale-here", "--output=/dev/null"], "#!/bin/bash\nsleep 60\n")
    assert list(Cluster().jobs("lrscale-here") or {}) == [job]
    assert Cluster().cancel([job])
    assert eventually(lambda: live_jobs() == [])
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    refused = check_slurm()
    assert refused.status == "WARNING"
    assert "set slurm.partition" in (refused.remedy or "")
    assert live_jobs() == []


def test_status_tells_queued_and_running_trials_with_job_and_node_also_on_a_machine_without_slurm(home: Path) -> None:
    study = home / "tiny-study"
    driver = start(home)
    try:
        until(lambda: bool(getattr(queue_overview(study), "at_work", ())) and len(losses(study)) >= 1, home)
        path = os.pathsep.join(
            folder for folder in os.environ["PATH"].split(os.pathsep) if not shutil.which("sbatch", path=folder)
        )
        seen = subprocess.run(
            command("status", "tiny-study"),
            cwd=home,
            env={**os.environ, "PATH": path, "COLUMNS": "120"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    finally:
        driver.send_signal(signal.SIGINT)
        driver.wait(timeout=60)
    assert "running, by process" in seen
    assert "queued" in seen
    assert "lost" not in seen
    assert ", job " in seen
    assert " on " in seen

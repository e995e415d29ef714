"""Studies inside of an allocation: srun starts the ranks, and one of them plans."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster")]

SHORT = """
name: short
task:
  model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 16, depth: 1, optimizer: sgd}}
  data: {class_path: lrscale.zoo.Digits}
  monitor: val_loss
experiments:
  equivalence: null
  range_test: {seeds: 1, steps: 40, lr_min: 1e-4, lr_max: 100.0, confirm: false}
"""


def srun(folder: Path, *command: str, nodes: int = 2, tasks: int = 2) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["srun", f"--nodes={nodes}", f"--ntasks-per-node={tasks}", sys.executable, "-m", "lrscale", *command],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_ranks_of_two_nodes_train_what_this_machine_trains(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(SHORT)
    command = [sys.executable, "-m", "lrscale", "range-test", "short.yaml", "--study"]
    local = subprocess.run([*command, "local"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    ended = srun(tmp_path, "range-test", "short.yaml", "--study", "nodes")
    assert ended.returncode == local.returncode, ended.stderr
    assert ended.stdout.count("1 trial run, 0 reused") == 1
    (here,), (there,) = (list((tmp_path / name).glob("trials/*/record.json")) for name in ("local", "nodes"))
    assert here.parent.name == there.parent.name
    one, other = json.loads(here.read_text()), json.loads(there.read_text())
    assert (other["layout"]["num_nodes"], other["layout"]["devices"]) == (2, 2)
    assert other["status"] == one["status"]
    assert other["initial_loss"] == pytest.approx(one["initial_loss"], rel=2e-5)
    assert list((tmp_path / "nodes").glob(".meeting-*")) == []


def test_a_rehearsal_reaches_every_node(tmp_path: Path) -> None:
    ended = srun(tmp_path, "doctor", "--launch", tasks=1)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "PASS     group: srun: 2 processes on 2 nodes have met at 127.0.0.1" in ended.stdout
    assert "PASS     group: 2 nodes x 1 rank on CPU (gloo) trained 4 steps together in" in ended.stdout

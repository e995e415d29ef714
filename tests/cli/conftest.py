from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TINY = """
name: tiny
task:
  model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 16, depth: 1, optimizer: sgd}}
  data: {class_path: lrscale.zoo.Digits}
  monitor: val_loss
experiments:
  range_test: {seeds: 1, steps: 40, lr_min: 1e-4, lr_max: 100.0}
  scaling:
    batch_sizes: [32, 64]
    horizon: 1280 examples
    seeds: 2
    ratio: 3.0
    validations: 2
"""
"""A real study that takes some seconds: one rank, 20 to 40 steps a trial."""

Lrscale = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tiny() -> str:
    return TINY


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of the processes that tests start; the width keeps sentences on one line."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "LRSCALE_DEBUG": "", "COLUMNS": "400"}


@pytest.fixture(scope="session")
def lrscale(environment: dict[str, str]) -> Lrscale:
    """Run the command line in a process of its own, in a given folder."""

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lrscale", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, lrscale: Lrscale) -> Path:
    """A folder with tiny.yaml and its finished study, tiny-study; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY)
    ended = lrscale(folder, "run", "tiny.yaml")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (folder / "stdout.txt").write_text(ended.stdout)
    (folder / "stderr.txt").write_text(ended.stderr)
    return folder

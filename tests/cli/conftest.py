from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from lrscale.cli.app import app

TINY = """
name: tiny
task:
  model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 16, depth: 1, optimizer: sgd}}
  data: {class_path: lrscale.zoo.Digits}
  monitor: val_loss
experiments:
  range_test: {seeds: 1, steps: 40, lr_min: 1e-4, lr_max: 100.0, confirm: false}
  scaling:
    batch_sizes: [32]
    horizon: 1280 examples
    learning_rates: [0.02, 0.05, 0.15, 0.4, 1.0, 2.5]
    seeds: 1
    validations: 2
"""
"""A real study of seven trials of 40 steps on one rank."""


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def tiny() -> str:
    return TINY


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of the processes that tests start; the width keeps sentences on one line."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "LRSCALE_DEBUG": "", "COLUMNS": "100"}


@pytest.fixture
def lrscale(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run the command line in this process, in a given folder."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(folder: Path, *arguments: str) -> Ended:
        monkeypatch.chdir(folder)
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder with tiny.yaml and its finished study, tiny-study; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY)
    ended = subprocess.run(
        [sys.executable, "-m", "lrscale", "run", "tiny.yaml"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (folder / "stdout.txt").write_text(ended.stdout)
    (folder / "stderr.txt").write_text(ended.stderr)
    return folder

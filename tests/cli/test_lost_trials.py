"""What a command says and returns when the processes of a trial are killed again and again."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrscale.cli.app import app
from lrscale.store import StudyFolder

MODULE = """
import os
import signal
from pathlib import Path

from lrscale.zoo import DigitsMLP


class Mortal(DigitsMLP):
    def training_step(self, batch, index):
        lives = Path(__file__).with_name("deaths")
        left = int(lives.read_text())
        if index == 2 and left:
            lives.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, index)
"""
RECIPE = """
name: mortal
task:
  model: {class_path: mortal.Mortal, init_args: {width: 16}}
  data: {class_path: lrscale.zoo.Digits}
  monitor: val_loss
layout: {accelerator: cpu}
experiments:
  equivalence: false
  range_test: {seeds: 2, steps: 30, lr_min: 1e-4, lr_max: 0.1, confirm: false}
  scaling: {batch_sizes: [32], horizon: 320 examples, learning_rates: [1e-2], seeds: 1, validations: 1}
"""


@pytest.mark.slow
def test_a_command_whose_trial_was_lost_says_so_and_the_same_command_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mortal.py").write_text(MODULE)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "deaths").write_text("2")
    command = ["run", "recipe.yaml", "--study", "study"]

    first = CliRunner().invoke(app, command)
    told = " ".join(first.output.split())
    assert first.exit_code == 3, first.output
    assert "1 trial was lost (rank 0 was ended by SIGKILL, as the kernel does when memory runs out," in told
    assert "Without what was lost range_test, scaling cannot go on." in told
    assert "run it again: lrscale run recipe.yaml --study study" in told
    assert [record.retryable for record in StudyFolder(Path("study")).records().values()].count(True) == 1
    assert "lost 1" in " ".join(CliRunner().invoke(app, ["status", "study"]).output.split())

    second = CliRunner().invoke(app, command)
    assert second.exit_code in (0, 1), second.output
    assert "lost" not in second.output
    records = StudyFolder(Path("study")).records().values()
    assert [record.status for record in records] == ["completed"] * 3
    assert not any(record.runs_lost for record in records)

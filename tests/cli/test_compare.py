"""Two studies of handwritten digits with different optimizers, side by side."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STUDY = """
name: {optimizer}
task:
  model: {{class_path: lrscale.zoo.DigitsMLP, init_args: {{width: 32, depth: 1, optimizer: {optimizer}}}}}
  data: {{class_path: lrscale.zoo.Digits}}
  monitor: val_loss
experiments:
  range_test: false
  scaling: {{batch_sizes: [64], horizon: 9600 examples, learning_rates: {rates}, seeds: 3, validations: 2}}
"""

Run = Callable[..., Any]


def test_a_study_is_the_same_as_itself(lrscale: Run, finished: Path, tmp_path: Path) -> None:
    study = str(finished / "tiny-study")
    ended = lrscale(tmp_path, "compare", study, study, "--report", "both.html", "--margin", "0.5")
    assert ended.returncode == 0
    assert ", 0 differ, " in ended.stdout
    assert "9 trials are the same in both" in " ".join(ended.stdout.split())
    assert "What differs?" in (tmp_path / "both.html").read_text()
    as_markdown = lrscale(tmp_path, "compare", study, study, "--markdown")
    assert as_markdown.stdout.startswith("**A** against **B**: Of ")


def test_wrong_use_exits_2(lrscale: Run, finished: Path, tmp_path: Path) -> None:
    study = str(finished / "tiny-study")
    assert lrscale(tmp_path, "compare", study, "absent").returncode == 2
    assert lrscale(tmp_path, "compare", study, study, "--margin", "7").returncode == 2
    ended = lrscale(tmp_path, "compare", study, study, "--report", "no/where.html")
    assert (ended.returncode, "there is no folder no" in ended.stderr) == (2, True)


@pytest.mark.slow
def test_another_optimizer_moves_the_best_lr_and_is_named(lrscale: Run, tmp_path: Path) -> None:
    for optimizer, rates in (
        ("sgd", [0.05, 0.15, 0.45, 1.3, 4.0, 12.0]),
        ("adamw", [0.002, 0.006, 0.02, 0.06, 0.2, 0.6]),
    ):
        (tmp_path / f"{optimizer}.yaml").write_text(STUDY.format(optimizer=optimizer, rates=rates))
        assert lrscale(tmp_path, "run", f"{optimizer}.yaml").returncode == 0
    ended = lrscale(tmp_path, "compare", "sgd-study", "adamw-study")
    told = " ".join(ended.stdout.split())
    assert ended.returncode == 0, told
    ratio = re.search(r"differs: - Best peak LR at batch 64: adamw is below sgd, (\S+) x \(95 % (\S+) to (\S+)\)", told)
    assert ratio is not None, told
    assert 1 / 500 < float(ratio[1]) < float(ratio[3]) < 1
    # The same data, model, examples and seeds: nothing else is set differently.
    assert "task.model.init_args.optimizer sgd adamw" in told
    assert "Losses are not compared" not in told

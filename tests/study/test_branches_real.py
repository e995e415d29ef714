"""Real trunks with cooldowns on two ranks: killed without warning, the study goes on to the same numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lrscale.store import StudyFolder

RECIPE = """
name: branches
task:
  model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 16, depth: 2, dropout: 0.2}}
  data: {class_path: lrscale.zoo.Digits}
  monitor: val_loss
layout: {devices: 2, accelerator: cpu, max_per_device_batch_size: 32}
experiments:
  range_test: false
  equivalence: false
  horizons:
    lengths: [640 examples, 1280 examples, 2560 examples]
    batch_size: 16
    seeds: 1
    learning_rates: [0.004, 0.016]
    own_runs: false
  critical_batch:
    {batch_size: 16, horizon: 1280 examples, learning_rate: 0.004, at: [0.5], multiples: [2, 4], orders: 2}
  growing_batch: {batch_size: 16, horizon: 1280 examples, seeds: 1, max_learning_rates: 3}
"""


def command(recipe: Path, study: Path) -> list[str]:
    return [sys.executable, "-m", "lrscale", "run", str(recipe), "--study", str(study)]


def losses(study: Path) -> dict[str, tuple[str, float | None]]:
    return {name: (record.status, record.final_loss) for name, record in StudyFolder(study).records().items()}


@pytest.mark.slow
def test_a_study_with_branches_that_is_killed_again_and_again_ends_with_the_losses_of_one_that_is_not(
    tmp_path: Path,
) -> None:
    recipe, whole, disturbed = tmp_path / "recipe.yaml", tmp_path / "whole", tmp_path / "disturbed"
    recipe.write_text(RECIPE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # Without a best LR there is no recommendation, which is an answer too.
    assert subprocess.run(command(recipe, whole), env=environment, capture_output=True, timeout=900).returncode in (
        0,
        1,
    )
    wanted = losses(whole)
    assert all(status == "completed" for status, _ in wanted.values())
    for kills, more in enumerate((1, 3, 4, 3, 4)):
        process = subprocess.Popen(
            command(recipe, disturbed), env=environment, start_new_session=True, stdout=subprocess.DEVNULL
        )
        there = len(losses(disturbed)) if disturbed.exists() else 0
        deadline = time.monotonic() + 300
        while len(losses(disturbed) if disturbed.exists() else ()) < there + more and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.3 * kills)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command(recipe, disturbed), env=environment, capture_output=True, timeout=900).returncode in (
        0,
        1,
    )
    assert losses(disturbed) == wanted
    assert not list(disturbed.glob("trials/*/states"))

"""The loss that a study promises is the loss of the job: real trials, the exported fragment, fresh seeds."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from lrscale.recommend import Recommendation

SEEDS = range(1000, 1010)
"""Of the jobs; the study has had others."""

RECIPE = """
name: digits-small
task:
  model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 32}}
  data: {class_path: lrscale.zoo.Digits}
  trainer: {precision: 32-true, gradient_clip_val: 1.0}
  monitor: val_loss
layout: {devices: 2, max_per_device_batch_size: 32}
experiments:
  range_test: {seeds: 2, confirm: false}
  scaling: {batch_sizes: [128], horizon: 8k examples, schedule: cosine, seeds: 4}
  equivalence: null
"""

# A job as it was before: its own LR, length and devices, and no clipping.
MINE = """
model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 32, lr: 0.5}}
data: {class_path: lrscale.zoo.Digits, init_args: {batch_size: 32}}
trainer:
  accelerator: cpu
  devices: 1
  max_epochs: 2
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
"""

JOB = """
import json, os, sys
from pytorch_lightning.cli import LightningCLI

for seed in json.loads(os.environ["SEEDS"]):
    cli = LightningCLI(args=["fit", *sys.argv[1:], "--seed_everything", str(seed)], save_config_callback=None)
    (ended,) = cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    if cli.trainer.is_global_zero:
        with open("jobs.jsonl", "a") as stream:
            job = {"seed": seed, "loss": ended["val_loss"], "steps": cli.trainer.global_step}
            stream.write(json.dumps(job) + "\\n")
"""


def run(folder: Path, *command: str) -> str:
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SEEDS": json.dumps(list(SEEDS))},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recommendation, list[dict[str, Any]]]:
    """Run a study of digits, and jobs from the fragment that it exports."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "recipe.yaml").write_text(RECIPE)
    run(folder, "-m", "lrscale", "run", "recipe.yaml", "--study", "S")
    fragment = run(folder, "-m", "lrscale", "recommend", "S", "--format", "cli")
    study = folder / "S"
    (study / "fragment.yaml").write_text(fragment)
    (study / "mine.yaml").write_text(MINE)
    (study / "job.py").write_text(JOB)
    run(study, "job.py", "--config", "mine.yaml", "--config", "fragment.yaml")
    lines = (study / "jobs.jsonl").read_text().splitlines()
    assert yaml.safe_load(fragment)["trainer"]["gradient_clip_val"] == 1.0
    return Recommendation.load(study), [json.loads(line) for line in lines]


@pytest.mark.slow
def test_a_job_from_the_fragment_has_the_length_of_the_trials(
    jobs: tuple[Recommendation, list[dict[str, Any]]],
) -> None:
    one, ended = jobs
    assert [job["seed"] for job in ended] == list(SEEDS)
    # Two epochs of the job's own config, at batch 64 x 2, would have been 22.
    assert {job["steps"] for job in ended} == {one.horizon_steps} == {62}


@pytest.mark.slow
def test_jobs_from_the_fragment_reach_the_predicted_loss_within_its_interval(
    jobs: tuple[Recommendation, list[dict[str, Any]]],
) -> None:
    one, ended = jobs
    losses = [job["loss"] for job in ended]
    expected = one.expected_loss
    assert expected.lo is not None and expected.hi is not None and expected.value is not None
    # The interval is that of the mean over seeds.
    assert expected.lo <= statistics.fmean(losses) <= expected.hi
    # One job lies beside the mean by its own seed: the share of them inside what both allow is that of 95 %.
    reach = float(stats.t.ppf(0.975, len(losses) - 1)) * statistics.stdev(losses)
    inside = sum(expected.lo - reach <= loss <= expected.hi + reach for loss in losses)
    assert inside >= stats.binom.ppf(0.001, len(losses), expected.confidence)
    # An interval that holds everything would promise nothing.
    assert expected.hi / expected.lo < 4

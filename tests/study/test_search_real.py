"""A real search on this machine names a setting that its surroundings do not beat."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrscale.cli.app import app
from lrscale.study.finding import Finding

RECIPE = """
name: searched
task:
  model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 32}}
  data: {class_path: lrscale.zoo.Digits}
  monitor: val_loss
instruments: {noise_scale: false}
experiments:
  range_test: false
  equivalence: false
  search: {batch_sizes: [32, 64, 128], horizon: 4096 examples}
"""


def _finding(folder: Path, key: str, *changes: str) -> Finding:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    result = CliRunner().invoke(app, ["run", str(folder / "recipe.yaml"), "--study", str(folder / "study"), *changes])
    assert result.exit_code == 0, result.output
    assert "recommendation" in result.output
    return Finding.from_dict(json.loads((folder / "study" / "findings.json").read_text())[key])


@pytest.mark.slow
def test_optunas_pruner_ends_real_trials_on_two_ranks_at_their_validations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    engine = "experiments.search.engine={name: optuna, sampler: tpe, pruner: {name: median, settings: {startup: 3}}}"
    more = ("--set", "experiments.search.trials=12", "--devices", "2", "--set", "experiments.search.confirm=false")
    finding = _finding(tmp_path / "pruned", "search", "--set", engine, *more)
    rows = finding.tables["trials"]
    stopped = [row for row in rows if row["status"] == "stopped"]
    assert stopped
    assert len(rows) == 12
    for row in stopped:
        steps, horizon = row["examples"] // row["batch_size"], 4096 // row["batch_size"]
        assert steps % -(-horizon // 10) == 0
        assert steps < horizon
    named = finding.numbers["best_lr"].value, finding.numbers["best_batch_size"].value
    assert named in {(row["lr"], row["batch_size"]) for row in rows if row["status"] == "completed"}


@pytest.mark.slow
def test_a_search_over_digits_names_an_lr_that_a_factor_of_four_either_way_does_not_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    finding = _finding(tmp_path / "search", "search")
    lr, size = finding.numbers["best_lr"].value, finding.numbers["best_batch_size"].value
    assert lr is not None
    assert size is not None
    searched = [row for row in finding.tables["trials"] if row["phase"] == "search"]
    assert len(searched) <= 10
    rates = [lr / 4, lr / 2, lr, 2 * lr, 4 * lr]
    sweep = f"{{batch_sizes: [{int(size)}], learning_rates: {rates}, horizon: 4096 examples, seeds: 3}}"
    grid = _finding(tmp_path / "grid", "scaling", "--set", f"experiments.scaling={sweep}")
    fit = grid.data["cells"][0]["slice"]
    losses = {rate: [loss for at, loss in zip(fit["lr"], fit["loss"], strict=True) if at == rate] for rate in rates}
    mean = {rate: statistics.fmean(own) for rate, own in losses.items()}
    assert [len(own) for own in losses.values()] == [3] * 5
    # A factor of four costs far more than the noise of a run; over a factor of two digits is nearly flat.
    assert mean[lr / 4] > 1.2 * mean[lr] < mean[4 * lr]
    assert mean[lr] < 1.1 * min(mean.values())


@pytest.mark.slow
def test_a_pruned_search_of_the_planner_that_is_killed_ends_with_the_trials_and_stops_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Every trial is held against the best before it from its first validation on, as long as enough are left.
    search = (
        "{batch_sizes: [32, 64, 128], learning_rates: [0.008, 0.5], horizon: 2048 examples, trials: 12, tolerance: 0, "
        "confirm: false, engine: {pruner: {name: median, settings: {startup: 1}}}}"
    )
    changes = ("--set", f"experiments.search={search}", "--devices", "2")
    whole = _finding(tmp_path / "whole", "search", *changes)
    rows = whole.tables["trials"]
    assert any(row["status"] == "stopped" for row in rows)
    assert sum(row["status"] == "completed" for row in rows) >= 5

    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "recipe.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "lrscale", "run", str(killed / "recipe.yaml"), "--study", str(killed / "study")]
    for there in (2, 6):
        driver = subprocess.Popen(
            [*command, *changes], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + 300
        while len(list((killed / "study").glob("trials/*/record.json"))) < there:
            assert driver.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    again = _finding(killed, "search", *changes)
    kept = ("order", "lr", "batch_size", "seed", "loss", "examples", "status", "trial_id")
    assert [[row[name] for name in kept] for row in again.tables["trials"]] == [
        [row[name] for name in kept] for row in rows
    ]

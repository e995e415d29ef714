"""A real study of three widths, trained on this machine, forecasts the best LR of a fourth."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from lrscale.cli.app import app
from lrscale.study.finding import Finding
from lrscale.study.forecast.answer import read_cells

RECIPE = """
name: widths
task:
  model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 16, depth: 1, optimizer: sgd}}
  data: {class_path: lrscale.zoo.Digits}
  monitor: val_loss
instruments: {noise_scale: false}
experiments:
  range_test: false
  equivalence: false
  forecast:
    factors: {task.model.init_args.width: [16, 32, 64]}
    horizons: [1280 examples, 2560 examples]
    batch_sizes: [16, 64]
"""


def _finding(folder: Path, *changes: str, code: int = 0) -> Finding:
    (folder / "recipe.yaml").write_text(RECIPE)
    result = CliRunner().invoke(app, ["run", str(folder / "recipe.yaml"), "--study", str(folder / "study"), *changes])
    assert result.exit_code == code, result.output
    return Finding.from_dict(json.loads((folder / "study" / "findings.json").read_text())["forecast"])


@pytest.mark.slow
def test_three_widths_forecast_the_best_lr_of_a_fourth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    finding = _finding(tmp_path / "small")
    # 64 inputs and 10 classes: 64 w + w + 10 w + 10 parameters of one hidden layer.
    assert sorted({cell.params for cell in read_cells(finding)}) == [75.0 * w + 10 for w in (16, 32, 64)]
    params = str(75 * 128 + 10)
    answer = CliRunner().invoke(
        app,
        [
            "recommend",
            str(tmp_path / "small" / "study"),
            "--params",
            params,
            "--horizon",
            "2560 examples",
            "--format",
            "yaml",
        ],
    )
    assert answer.exit_code == 0, answer.output
    said = yaml.safe_load(answer.output)
    truth = _finding(
        tmp_path / "large",
        "--set",
        "experiments.forecast.factors={task.model.init_args.width: [128]}",
        "--set",
        "experiments.forecast.horizons=[2560 examples]",
        "--set",
        "experiments.forecast.batch_sizes=[16]",
        code=1,
    )
    (cell,) = read_cells(truth)
    losses = {lr: loss for lr, loss in zip(cell.lr, cell.loss, strict=True) if loss is not None}
    best = min(losses, key=lambda lr: losses[lr])
    # A walk in factors of two finds the best LR to a factor of two; one seed decides between two neighbours.
    assert abs(math.log(said["lr"]["value"] / best)) < math.log(4)
    assert said["lr"]["hi"] / said["lr"]["lo"] < 10

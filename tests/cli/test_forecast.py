"""``lrscale recommend --params`` prints a forecast, its miss and the published laws, or says what it would take."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from lrscale.cli.app import app
from lrscale.cli.forecast import amount
from lrscale.errors import LrscaleError
from lrscale.store import StudyFolder
from lrscale.study import Study
from tests.study.test_forecast import _recipe, _record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three widths at two horizons, its trials answered by a known law."""
    path = tmp_path_factory.mktemp("study")
    recipe = _recipe()
    study = Study(recipe, StudyFolder(path))
    study.folder.path.mkdir(exist_ok=True)
    (path / "recipe.yaml").write_text(yaml.safe_dump(recipe.dump()))
    study.folder.write_plan(
        {
            "lrscale_version": "0.1.0",
            "created": "2026-01-01T00:00:00+00:00",
            "recipe": {**recipe.dump(), "task": recipe.task.resolved(recipe.root)},
            "root": str(path),
            "decisions": [],
            "facts": {"reference_lr": 1e-3},
        }
    )
    from lrscale.store import StudyView
    from lrscale.study.experiments import EXPERIMENTS, Context

    while True:
        view = StudyView.of(study.folder)
        context = Context(recipe=recipe, view=view, facts={"reference_lr": 1e-3}, findings={})
        missing = [spec for spec in EXPERIMENTS["forecast"].plan(context) if view.get(spec) is None]
        if not missing:
            return path
        for spec in missing:
            study.folder.begin_trial(spec)
            study.folder.finish_trial(_record(spec))


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["recommend", *arguments])


def test_the_forecast_its_miss_and_the_published_laws_are_printed(folder: Path) -> None:
    result = _run(str(folder), "--params", "8e8", "--horizon", "80e9", "--unit", "tokens")
    assert result.exit_code == 0, result.output
    for part in ("best peak LR is forecast at", "surface *", "LR missed by", "Li et al. 2025 (Step Law)", "Bjorck"):
        assert part in " ".join(result.output.split())
    assert "with 4096 tokens in an example" in result.output
    # What each of the laws counts, and under which schedule it holds.
    for part in ("N without embeddings; B in tokens; along the best batch", "at a fixed batch; cosine", "under muP"):
        assert part in " ".join(result.output.split())


def test_examples_and_tokens_of_one_length_give_one_forecast(folder: Path) -> None:
    tokens = _run(str(folder), "--params", "800M", "--horizon", "81.92B tokens", "--format", "yaml")
    examples = _run(str(folder), "--params", "8e8", "--horizon", "20M examples", "--format", "yaml")
    first, second = yaml.safe_load(tokens.output), yaml.safe_load(examples.output)
    assert first["lr"] == second["lr"]
    assert first["target"] == {"params": 8e8, "horizon_examples": 2e7}
    assert first["lr"]["lo"] < first["lr"]["value"] < first["lr"]["hi"]
    assert {row["law"] for row in first["published"]} >= {"step_law", "deepseek", "minicpm", "bjorck", "power_lines"}


def test_without_a_target_on_the_command_line_the_recipe_s_own_is_forecast(folder: Path) -> None:
    own = _run(str(folder), "--format", "yaml")
    same = _run(str(folder), "--params", "8e8", "--horizon", "20M examples", "--format", "yaml")
    assert own.exit_code == 0, own.output
    assert yaml.safe_load(own.output)["lr"] == yaml.safe_load(same.output)["lr"]


def test_a_target_in_epochs_is_forecast_like_its_examples(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "study"))
    plan = json.loads((copy / "plan.json").read_text())
    plan["recipe"]["target"]["horizon"] = "10 epochs"
    plan["facts"]["training_examples"] = 2_000_000
    (copy / "plan.json").write_text(json.dumps(plan))
    (copy / "recipe.yaml").write_text(yaml.safe_dump(plan["recipe"]))
    epochs, examples = (yaml.safe_load(_run(str(own), "--format", "yaml").output) for own in (copy, folder))
    assert epochs["target"] == examples["target"]
    assert epochs["lr"] == examples["lr"]


def test_a_batch_that_is_given_has_its_own_lr(folder: Path) -> None:
    at = _run(str(folder), "--params", "8e8", "--horizon", "20M examples", "--batch-size", "64", "--format", "yaml")
    said = yaml.safe_load(at.output)
    best = yaml.safe_load(_run(str(folder), "--format", "yaml").output)
    assert said["fixed_batch_size"] == pytest.approx(64)
    assert said["global_batch_size"] is None
    # The best batch there is 215; below it the best LR falls.
    assert said["lr"]["value"] < best["lr"]["value"]


def test_a_useless_interval_is_refused_with_the_cells_that_are_needed(folder: Path) -> None:
    result = _run(str(folder), "--params", "1e15", "--horizon", "1e15", "--unit", "examples")
    assert result.exit_code == 1
    assert "too wide to name one" in " ".join(result.output.split())
    assert "Add cells at" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--params", "8e8"), "needs a length"),
        (("--params", "8e8", "--horizon", "1e9"), "has no unit"),
        (("--params", "many", "--horizon", "1e9 tokens"), "is no number"),
        (("--params", "8e8", "--horizon", "1e9 steps"), "is unknown"),
        (("--params", "8e8", "--horizon", "1e9 tokens", "--unit", "examples"), "differ"),
        (("--params", "8e8", "--horizon", "1e9 tokens", "--format", "markdown"), "unknown for a forecast"),
    ],
)
def test_wrong_use_is_named(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    result = _run(str(folder), *arguments)
    assert result.exit_code not in (0, 1) or isinstance(result.exception, LrscaleError)
    assert said in result.output or said in str(result.exception)


def test_amounts_are_read_with_suffix_and_word() -> None:
    assert amount("--horizon", "20B tokens") == (2e10, "tokens")
    assert amount("--params", "1.3B") == (1.3e9, "")

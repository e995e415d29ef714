"""Studies whose search Ray Tune drives, on two nodes: ordinary records, an end, and nothing run twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lrscale.cli.run import launch_settings
from lrscale.errors import StudyError
from lrscale.launch import LocalLauncher, RayLauncher
from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import Recipe
from lrscale.store import StudyFolder, StudyView, Trial
from lrscale.study import Study, StudyOutcome

TASKS = Path(__file__).resolve().parent.parent.parent / "launch" / "tasks"
VALIDATIONS = 3


class Notes(AbstractProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.finished_trials: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_finished(self, trial: Trial) -> None:
        self.finished_trials.append(trial.trial_id)


def recipe(engine: dict[str, Any], trials: int) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "tiny",
            "task": {
                "model": {"class_path": "tiny.Tiny"},
                "data": {"class_path": "tiny.Points"},
                "monitor": "val_loss",
                "import_paths": [str(TASKS)],
            },
            "layout": {"devices": 1, "accelerator": "cpu", "trials_at_once": 2},
            "experiments": {
                "range_test": False,
                "search": {
                    "batch_sizes": [8, 16],
                    "learning_rates": [1e-3, 1e-1],
                    "horizon": "512 examples",
                    "validations": VALIDATIONS,
                    "trials": trials,
                    "confirm": False,
                    "engine": {"name": "ray", **engine},
                },
            },
        }
    )


def run(asked: Recipe, folder: Path, progress: AbstractProgress) -> StudyOutcome:
    study = StudyFolder(folder)
    with RayLauncher(launch_settings(asked, study)) as launcher:
        return Study(asked, study).run(launcher, experiments=["search"], progress=progress)


def test_another_launcher_is_told_what_the_engine_needs(tmp_path: Path) -> None:
    asked = recipe({"scheduler": "asha"}, 3)
    study = StudyFolder(tmp_path)
    with (
        LocalLauncher(launch_settings(asked, study)) as launcher,
        pytest.raises(StudyError, match="add --launcher ray, or set engine: optuna, which any launcher runs"),
    ):
        Study(asked, study).run(launcher, experiments=["search"], progress=Notes())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("engine", "trials"),
    [
        pytest.param({"scheduler": "asha"}, 4, id="asha"),
        pytest.param({"scheduler": "bohb"}, 4, id="bohb"),
        pytest.param({"scheduler": "median", "algorithm": "hyperopt"}, 3, id="hyperopt"),
        pytest.param({"scheduler": "none", "algorithm": "bayesopt"}, 3, id="bayesopt"),
        pytest.param({"scheduler": "none", "algorithm": "nevergrad"}, 3, id="nevergrad"),
        pytest.param({"scheduler": "none", "algorithm": "optuna"}, 3, id="optuna"),
        pytest.param({"scheduler": "none", "algorithm": "zoopt"}, 3, id="zoopt"),
    ],
)
def test_a_search_leaves_ordinary_trials_and_none_is_run_twice(
    cluster: Any, engine: dict[str, Any], trials: int, tmp_path: Path
) -> None:
    asked, progress = recipe(engine, trials), Notes()
    outcome = run(asked, tmp_path, progress)
    (finding,) = outcome.findings
    assert finding.data["engine"]["name"] == "ray"
    view = StudyView.of(StudyFolder(tmp_path))
    assert outcome.ran == len(view.trials) == trials
    assert sorted(progress.finished_trials) == sorted(view.trials)
    for trial in view:
        assert 1e-3 <= trial.spec.peak_lr <= 1e-1
        assert trial.record.status in ("completed", "stopped")
        steps, _ = view.load_trajectory(trial.trial_id).points("train_loss")
        assert trial.record.steps == len(steps)
        if trial.record.status == "completed":
            assert trial.record.steps == trial.spec.horizon
        else:
            ended = trial.record.ended_by_stopper
            assert ended is not None
            assert ended["name"] == f"ray {engine['scheduler']}"
            assert trial.record.steps == ended["step"] < trial.spec.horizon
    assert any(trial.record.status == "completed" for trial in view)
    if engine["scheduler"] in ("none",):
        assert all(trial.record.status == "completed" for trial in view)
    assert not (tmp_path / "search").exists()

    again = run(asked, tmp_path, Notes())
    assert (again.ran, again.reused) == (0, trials)
    assert again.findings[0].sentence == finding.sentence

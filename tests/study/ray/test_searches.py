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
from lrscale.recipe.search import SearchConfirm
from lrscale.store import StudyFolder, StudyView, Trial
from lrscale.study import Study, StudyOutcome

TASKS = Path(__file__).resolve().parent.parent.parent / "launch" / "tasks"
VALIDATIONS = 3
SLOW = pytest.mark.slow


def on_ray(test: Any) -> Any:
    """Mark a test that runs on a cluster; Ray leaves pipes and files to the garbage collector."""
    for ignored in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning", "FutureWarning"):
        test = pytest.mark.filterwarnings(f"ignore::{ignored}")(test)
    return pytest.mark.ray(test)


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


@on_ray
@pytest.mark.parametrize(
    ("engine", "trials"),
    [
        pytest.param({"scheduler": "asha"}, 4, id="asha"),
        pytest.param({"scheduler": "bohb"}, 4, id="bohb"),
        pytest.param({"scheduler": "median", "algorithm": "hyperopt"}, 3, id="hyperopt", marks=SLOW),
        pytest.param({"scheduler": "none", "algorithm": "bayesopt"}, 3, id="bayesopt", marks=SLOW),
        pytest.param({"scheduler": "none", "algorithm": "nevergrad"}, 3, id="nevergrad", marks=SLOW),
        pytest.param({"scheduler": "none", "algorithm": "optuna"}, 3, id="optuna", marks=SLOW),
        pytest.param({"scheduler": "none", "algorithm": "zoopt"}, 3, id="zoopt", marks=SLOW),
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


@on_ray
def test_a_population_evolves_a_schedule_that_fresh_trials_replay(cluster: Any, tmp_path: Path) -> None:
    asked = recipe({"scheduler": "pbt"}, 4)
    search = asked.experiments.search
    assert search is not None
    update = {"batch_sizes": (16,), "validations": 2, "confirm": SearchConfirm(seeds=1)}
    experiments = asked.experiments.model_copy(update={"search": search.model_copy(update=update)})
    asked = asked.model_copy(update={"experiments": experiments})
    outcome = run(asked, tmp_path, Notes())
    (finding,) = outcome.findings
    evolved = finding.data["evolved"]
    segments = evolved["segments"]
    assert [one["from"] for one in segments] == [0, 256]
    assert sum(one["examples"] for one in segments) == 512

    view = StudyView.of(StudyFolder(tmp_path))
    by_start = {trial.spec.start is not None: trial for trial in view if trial.spec.instruments}
    # Half of the segments begin from the state in which another has ended.
    ends = {trial.record.measurements["final_state"]["sha256"] for trial in view if trial.spec.instruments}
    assert by_start[True].spec.start is not None
    assert by_start[True].spec.start.sha256 in ends
    assert by_start[True].spec.seed == by_start[False].spec.seed + 1
    assert not list(tmp_path.rglob("*.ckpt"))

    (replay,) = [trial for trial in view if trial.spec.schedule.name == "piecewise"]
    assert replay.record.status == "completed"
    steps, lrs = view.load_trajectory(replay.trial_id).points("lr")
    half = replay.spec.horizon // 2
    assert (lrs[0], lrs[-1]) == pytest.approx((segments[0]["lr"], segments[1]["lr"]), rel=1e-5)
    assert set(lrs[steps <= half]) == {lrs[0]}
    assert f"{replay.record.final_loss:.4g}" in finding.sentence

    again = run(asked, tmp_path, Notes())
    assert again.ran == 0

"""A study asks, runs what is missing, and answers; on trials whose truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lrscale.errors import StudyError, TaskError, TrialsFailedError
from lrscale.launch import TrialRequest
from lrscale.recipe import Recipe
from lrscale.store import StudyFolder, StudyView, Trial, TrialRecord
from lrscale.study import Study, read_findings
from lrscale.study.experiments import EXPERIMENTS
from lrscale.study.progress import AbstractProgress, SilentProgress
from lrscale.testing.synthetic import SyntheticStudy, Truth
from lrscale.testing.synthetic_launcher import SyntheticLauncher
from tests.study.notes import Notes


def recipe(**experiments: object) -> Recipe:
    """Return a recipe over the synthetic task."""
    return Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "layout": {"devices": 2, "max_per_device_batch_size": 64},
            "experiments": {
                "range_test": {"seeds": 3},
                "scaling": {"batch_sizes": [16, 64, 256, 1024], "horizon": "40k examples", "seeds": 3},
                "schedules": ["constant", "linear", "cosine", "wsd"],
                "throughput": {},
                # Its trials are compared by what an instrument measured, and nothing is measured here.
                "equivalence": None,
                **experiments,
            },
        }
    )


def run(folder: Path, asked: Recipe, launcher: SyntheticLauncher, progress: AbstractProgress | None = None) -> Study:
    """Run a study on the synthetic truth."""
    study = Study(asked, StudyFolder(folder))
    study.run(launcher, progress=progress or SilentProgress())
    return study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SyntheticLauncher]:
    """Run a whole study once."""
    folder = tmp_path_factory.mktemp("study")
    launcher = SyntheticLauncher(SyntheticStudy())
    run(folder, recipe(), launcher)
    return folder, launcher


def test_the_best_lr_of_every_batch_size_is_found_with_an_interval_that_holds_the_truth(
    finished: tuple[Path, SyntheticLauncher],
) -> None:
    findings = {finding.key: finding for finding in read_findings(StudyFolder(finished[0]))}
    rows = findings["scaling"].tables["slices"]
    assert [row["batch_size"] for row in rows] == [16, 64, 256, 1024]
    for row in rows:
        truth = Truth().best_lr(row["batch_size"])
        assert row["status"] == "ok"
        assert abs(math.log(row["best_lr"] / truth)) < math.log(1.6)
        assert row["lo"] / 1.1 < truth < row["hi"] * 1.1


def test_schedules_are_ranked_as_the_truth_ranks_them(finished: tuple[Path, SyntheticLauncher]) -> None:
    findings = {finding.key: finding for finding in read_findings(StudyFolder(finished[0]))}
    rows = {row["name"]: row for row in findings["schedules"].data["schedules"]}
    assert rows["constant"]["verdict"] == "worse"
    assert rows["constant"]["difference"] == pytest.approx(0.06, abs=0.02)
    assert rows["linear"]["loss"] < rows["constant"]["loss"]


def test_a_schedule_found_elsewhere_is_compared_with_the_others_at_its_own_best_lr(tmp_path: Path) -> None:
    found = {"points": [[0, 1.0], [0.4, 0.5], [0.8, 0.1]], "called": "found by evolution"}
    asked = recipe(
        range_test=None,
        scaling=None,
        throughput=None,
        schedules={
            "schedules": ["constant", {"name": "piecewise", "settings": found}],
            "batch_size": 64,
            "horizon": "40k examples",
        },
    )
    # It ends where a linear decay does, 0.06 below a constant LR.
    run(tmp_path, asked, SyntheticLauncher(SyntheticStudy()))
    (finding,) = read_findings(StudyFolder(tmp_path))
    rows = {row["label"]: row for row in finding.data["schedules"]}
    assert rows["found by evolution"]["verdict"] == "best"
    assert rows["constant"]["difference"] == pytest.approx(0.06, abs=0.02)
    assert [round(factor, 6) for _, factor in rows["found by evolution"]["shape"]][::30] == [1.0, 0.5, 0.1]
    assert finding.sentence.startswith("found by evolution ends lowest")
    view = StudyView.of(StudyFolder(tmp_path))
    assert len({trial.spec.examples for trial in view}) == 1


def test_the_cosine_trials_of_the_sweep_serve_the_comparison_too(finished: tuple[Path, SyntheticLauncher]) -> None:
    findings = {finding.key: finding for finding in read_findings(StudyFolder(finished[0]))}
    batch = findings["schedules"].data["batch_size"]
    sweep = next(cell for cell in findings["scaling"].data["cells"] if cell["batch_size"] == batch)
    assert len(set(sweep["trials"]) & set(findings["schedules"].trial_ids)) >= 5


def test_throughput_names_the_layout_with_the_most_examples_a_second(
    finished: tuple[Path, SyntheticLauncher],
) -> None:
    findings = {finding.key: finding for finding in read_findings(StudyFolder(finished[0]))}
    rows = findings["throughput"].data["rows"]
    assert findings["throughput"].numbers["examples_per_second"].value == max(
        row["examples_per_second"] for row in rows
    )
    assert {row["devices"] for row in rows} == {1, 2}


def test_a_second_run_runs_nothing_and_says_the_same(finished: tuple[Path, SyntheticLauncher]) -> None:
    folder, _ = finished
    before = (folder / "findings.json").read_text()
    again = SyntheticLauncher(SyntheticStudy())
    outcome = Study(recipe(), StudyFolder(folder)).run(again, progress=SilentProgress())
    assert again.ran == []
    assert outcome.ran == 0
    assert outcome.reused == len(StudyView.of(StudyFolder(folder)).trials)
    assert (folder / "findings.json").read_text() == before


def test_a_study_interrupted_again_and_again_ends_with_the_records_of_an_undisturbed_one(
    finished: tuple[Path, SyntheticLauncher], tmp_path: Path
) -> None:
    asked = recipe()
    for after in (0, 3, 7, 20, 33):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, asked, SyntheticLauncher(SyntheticStudy(), stop_after=after))
    run(tmp_path, asked, SyntheticLauncher(SyntheticStudy()))
    undisturbed = StudyFolder(finished[0]).records()
    assert StudyFolder(tmp_path).records() == undisturbed
    assert json.loads((tmp_path / "findings.json").read_text()) == json.loads(
        (finished[0] / "findings.json").read_text()
    )


def test_a_changed_task_is_refused_and_the_change_named(finished: tuple[Path, SyntheticLauncher]) -> None:
    changed = Recipe.model_validate({**recipe().dump(), "task": {**recipe().dump()["task"], "monitor": "another_loss"}})
    with pytest.raises(StudyError, match=r"task.monitor: val_loss -> another_loss.*--study"):
        Study(changed, StudyFolder(finished[0])).run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())


def test_more_seeds_extend_a_study_and_it_is_said(tmp_path: Path) -> None:
    small = {"range_test": None, "schedules": None, "throughput": None}
    sweep = {"batch_sizes": [64], "horizon": "40k examples"}
    run(tmp_path, recipe(**small, scaling={**sweep, "seeds": 2}), SyntheticLauncher(SyntheticStudy()))
    progress, launcher = Notes(), SyntheticLauncher(SyntheticStudy())
    run(tmp_path, recipe(**small, scaling={**sweep, "seeds": 4}), launcher, progress)
    assert any("experiments.scaling.seeds: 2 -> 4" in note for note in progress.said)
    assert 0 < len(launcher.ran) <= 12


def test_an_explicit_grid_is_run_as_it_is_and_an_optimum_outside_is_censored(tmp_path: Path) -> None:
    truth = Truth().best_lr(64)
    rates = [truth * factor for factor in (0.05, 0.1, 0.2, 0.4)]
    asked = recipe(
        range_test=None,
        schedules=None,
        throughput=None,
        scaling={"batch_sizes": [64], "horizon": "40k examples", "seeds": 2, "learning_rates": rates},
    )
    run(tmp_path, asked, SyntheticLauncher(SyntheticStudy()))
    (finding,) = read_findings(StudyFolder(tmp_path))
    (row,) = finding.tables["slices"]
    assert row["trials"] == 8
    assert row["status"] == "censored_high"
    assert row["best_lr"] is None
    assert finding.status == "cannot_tell"
    assert any(check.status == "WARNING" and "learning_rates" in (check.remedy or "") for check in finding.checks)


def test_without_any_stable_lr_the_study_says_that_it_cannot_tell(tmp_path: Path) -> None:
    asked = recipe(schedules=None, throughput=None)
    run(tmp_path, asked, SyntheticLauncher(SyntheticStudy(all_diverge=True)))
    findings = {finding.key: finding for finding in read_findings(StudyFolder(tmp_path))}
    assert findings["scaling"].status == "cannot_tell"
    assert all(row["best_lr"] is None for row in findings["scaling"].tables["slices"])


class Crashing(SyntheticLauncher):
    """Crashes every trial."""

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Yield crashes."""
        for request in requests:
            yield TrialRecord(
                trial_id=request.spec.trial_id, status="crashed", reason="KeyError: 'x'", log_tail=("KeyError: 'x'",)
            )


def test_when_every_trial_crashes_the_first_reason_and_its_log_are_shown(tmp_path: Path) -> None:
    with pytest.raises(TrialsFailedError, match="KeyError: 'x'") as caught:
        run(tmp_path, recipe(), Crashing(SyntheticStudy()))
    assert caught.value.exit_code == 3
    assert "trials" in (caught.value.hint or "")


def test_a_crash_above_a_completed_lr_counts_as_divergence_and_at_the_smallest_not(
    finished: tuple[Path, SyntheticLauncher],
) -> None:
    from lrscale.study.outcomes import counts_as_diverged

    trials = [
        trial
        for trial in StudyView.of(StudyFolder(finished[0]))
        if trial.spec.schedule.name == "cosine" and trial.spec.global_batch_size == 64
    ]
    done = [trial for trial in trials if trial.record.status == "completed"]
    lowest, highest = min(done, key=lambda t: t.spec.peak_lr), max(done, key=lambda t: t.spec.peak_lr)
    crashed = [
        Trial(trial.spec, TrialRecord(trial_id=trial.trial_id, status="crashed", reason="ValueError"))
        for trial in (lowest, highest)
    ]
    rest = [trial for trial in done if trial.spec.peak_lr not in (lowest.spec.peak_lr, highest.spec.peak_lr)]
    assert not counts_as_diverged(crashed[0], [*rest, *crashed])
    assert counts_as_diverged(crashed[1], [*rest, *crashed])


def test_planning_before_anything_ran_names_every_experiment_with_its_trials(tmp_path: Path) -> None:
    study = Study(recipe(), StudyFolder(tmp_path / "new"))
    planned = study.plan(StudyView({}, lambda trial_id: StudyFolder(tmp_path).trajectory(trial_id)))
    assert [one.name for one in planned] == ["range_test", "scaling", "schedules", "throughput"]
    assert all(0 < one.trials <= one.trials_at_most for one in planned)
    assert planned[0].trials == 3
    assert planned[0].seconds is None


def test_the_layout_check_comes_first_and_is_cheap(tmp_path: Path) -> None:
    study = Study(recipe(equivalence={}), StudyFolder(tmp_path / "new"))
    planned = study.plan(StudyView({}, StudyFolder(tmp_path).trajectory))
    assert planned[0].name == "equivalence"
    assert planned[0].trials == 4
    assert planned[0].examples == 4 * 3 * 16


def test_planning_after_everything_ran_asks_for_nothing_more(finished: tuple[Path, SyntheticLauncher]) -> None:
    folder = StudyFolder(finished[0])
    planned = Study(recipe(), folder).plan(StudyView.of(folder))
    assert [one.trials for one in planned] == [0, 0, 0, 0]
    assert [one.trials_at_most for one in planned] == [0, 0, 0, 0]


def test_a_recipe_may_change_while_nothing_stands_on_it(tmp_path: Path) -> None:
    class Refusing(SyntheticLauncher):
        """Finds the task wanting."""

        def inspect(self, job: object, layout: object, folder: object) -> dict[str, object]:
            """Refuse."""
            raise TaskError("module shop has no Nett", hint="did you mean Net?")

    wrong = Recipe.model_validate(
        {**recipe().dump(), "task": {"model": {"class_path": "shop.Nett"}, "monitor": "val_loss"}}
    )
    with pytest.raises(TaskError, match="did you mean Net"):
        run(tmp_path, wrong, Refusing(SyntheticStudy()))
    launcher = SyntheticLauncher(SyntheticStudy())
    ramps = {"seeds": 3, "confirm": False}
    run(tmp_path, recipe(range_test=ramps, scaling=None, schedules=None, throughput=None), launcher)
    assert len(launcher.ran) == 3


def test_a_horizon_in_epochs_is_planned_as_unknown_before_the_first_run(tmp_path: Path) -> None:
    asked = recipe(schedules=None, throughput=None, scaling={"batch_sizes": [64], "horizon": "2 epochs"})
    planned = Study(asked, StudyFolder(tmp_path / "new")).plan(StudyView({}, StudyFolder(tmp_path).trajectory))
    assert planned[1].name == "scaling"
    assert planned[1].seconds is None
    assert "epochs" in (planned[1].note or "")


def test_a_study_whose_experiments_run_one_by_one_is_analysed_as_far_as_it_goes(tmp_path: Path) -> None:
    study = Study(recipe(), StudyFolder(tmp_path))
    study.run(SyntheticLauncher(SyntheticStudy()), experiments=["range_test"], progress=SilentProgress())
    assert [finding.key for finding in study.analyse(StudyView.of(study.folder))] == ["range_test"]


def test_an_analysis_that_fails_does_not_cost_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = run(tmp_path, recipe(schedules=None), SyntheticLauncher(SyntheticStudy()))
    whole = {finding.key: finding for finding in study.analyse(StudyView.of(study.folder))}

    def broken(context: object) -> None:
        raise KeyError("shapes")

    monkeypatch.setattr(EXPERIMENTS["range_test"], "analyse", broken)
    found = {finding.key: finding for finding in study.analyse(StudyView.of(study.folder))}
    assert set(found) == set(whole)
    assert found["range_test"].status == "cannot_tell" and "KeyError: 'shapes'" in found["range_test"].sentence
    assert [check.status for check in found["range_test"].checks] == ["FAIL"]
    assert found["throughput"] == whole["throughput"]


def test_fields_that_came_with_a_later_version_are_no_change_of_the_recipe(tmp_path: Path) -> None:
    notes = Notes()
    asked = recipe(schedules=None, throughput=None, scaling=None)
    run(tmp_path / "S", asked, SyntheticLauncher(SyntheticStudy()))
    folder = StudyFolder(tmp_path / "S")
    plan = folder.read_plan()
    del plan["recipe"]["cost"], plan["recipe"]["logger"], plan["recipe"]["task"]["schedule"]
    folder.write_plan(plan)
    run(tmp_path / "S", asked, SyntheticLauncher(SyntheticStudy()), notes)
    assert notes.said == []

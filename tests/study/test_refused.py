"""A question that the task refuses, or whose trials all crash, does not cost a study its other questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import TaskError, TrialsFailedError
from lrscale.launch import SilentProgress, TrialRequest
from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import parse_recipe
from lrscale.store import StudyFolder, StudyView, TrialRecord, TrialSpec
from lrscale.study import Study
from lrscale.study.study import StudyOutcome, read_findings
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher

RECIPE = """
name: refused
task: {model: {class_path: m.Net}}
experiments:
  range_test: false
  equivalence: false
  scaling: {batch_sizes: [32], horizon: 3k examples, schedule: cosine, seeds: 2}
  schedules: {schedules: [constant, linear], batch_size: 32, seeds: 2}
  horizons: {lengths: [2k examples, 4k examples], batch_size: 32, seeds: 1, own_runs: false}
  growing_batch: {seeds: 1, max_learning_rates: 3}
"""
NEED = "give a dataset with __len__ and __getitem__"


class Refusing(SyntheticLauncher):
    """A task whose data cannot be branched and whose batch cannot grow."""

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Raise as a rank does that cannot build a trial."""
        for request in requests:
            if request.spec.branch is not None or request.spec.batch_schedule is not None:
                raise TaskError("the training data are a stream", hint=NEED)
            yield from super().run([request], progress)


class Crashing(SyntheticLauncher):
    """Crashes the trials of some schedules."""

    schedules: tuple[str, ...] = ("constant", "linear")

    def adjusted(self, spec: TrialSpec, record: TrialRecord) -> TrialRecord:
        """Return a crash in the place of a record."""
        if spec.schedule.name not in self.schedules:
            return record
        crash: dict[str, Any] = {"status": "crashed", "reason": "KeyError: 'x'", "log_tail": ("KeyError: 'x'",)}
        return TrialRecord(trial_id=record.trial_id, **crash)


def run(path: Path, launcher: SyntheticLauncher, recipe: str = RECIPE) -> StudyOutcome:
    return Study(parse_recipe(recipe), StudyFolder(path)).run(launcher, progress=SilentProgress())


def test_data_that_cannot_be_branched_leave_their_questions_open_and_the_others_answered(tmp_path: Path) -> None:
    findings = {one.key: one for one in run(tmp_path, Refusing(SyntheticStudy())).findings}
    assert {key: one.status for key, one in findings.items()} == {
        "scaling": "ok",
        "schedules": "ok",
        "growing_batch": "cannot_tell",
        "horizons": "cannot_tell",
    }
    for key in ("horizons", "growing_batch"):
        assert findings[key].sentence == f"Cannot tell: the training data are a stream; {NEED}."
        assert [(check.status, check.remedy) for check in findings[key].checks] == [("FAIL", NEED)]
    folder = StudyFolder(tmp_path)
    # Nothing is left half begun, and the report of the folder says the same.
    assert {entry.name for entry in (tmp_path / "trials").iterdir()} == set(StudyView.of(folder).trials)
    study = Study(parse_recipe(RECIPE), folder)
    assert {one.key: one.sentence for one in study.analyse(StudyView.of(folder))} == {
        one.key: one.sentence for one in read_findings(folder)
    }


def test_a_task_that_is_mended_is_asked_again(tmp_path: Path) -> None:
    run(tmp_path, Refusing(SyntheticStudy()))
    findings = {one.key: one for one in run(tmp_path, SyntheticLauncher(SyntheticStudy())).findings}
    assert findings["horizons"].status == "ok"
    assert not any(check.status == "FAIL" for one in findings.values() for check in one.checks)
    assert "refused" not in StudyFolder(tmp_path).read_plan()


def test_a_question_all_of_whose_trials_crash_does_not_end_the_study(tmp_path: Path) -> None:
    recipe = RECIPE[: RECIPE.index("  horizons")] + "  growing_batch: {seeds: 1, max_learning_rates: 5}\n"
    outcome = run(tmp_path, Crashing(SyntheticStudy()), recipe)
    findings = {one.key: one for one in outcome.findings}
    assert (findings["scaling"].status, findings["schedules"].status) == ("ok", "cannot_tell")
    assert "crashed: KeyError: 'x'" in findings["schedules"].sentence
    assert findings["growing_batch"].trial_ids
    assert outcome.failed > 0


def test_a_machine_on_which_question_after_question_crashes_ends_the_study(tmp_path: Path) -> None:
    class Broken(Crashing):
        schedules = ("constant", "linear", "multi_step")

    with pytest.raises(TrialsFailedError, match="growing_batch"):
        run(tmp_path, Broken(SyntheticStudy()))


def test_a_task_that_cannot_be_built_ends_the_study_at_once(tmp_path: Path) -> None:
    class Unbuilt(SyntheticLauncher):
        def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
            raise TaskError("no module named shop")
            yield

    with pytest.raises(TaskError, match="shop"):
        run(tmp_path, Unbuilt(SyntheticStudy()))

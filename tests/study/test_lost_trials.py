"""A trial that was lost does not turn the course of a study: it is waited for, and given up after five runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lrscale.cli.run import NEEDS
from lrscale.launch import SilentProgress, TrialRequest
from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import parse_recipe
from lrscale.store import StudyFolder, StudyView, TrialRecord
from lrscale.study import Study, StudyOutcome
from lrscale.study.experiments import EXPERIMENTS, Context
from lrscale.study.finding import Finding
from lrscale.study.lost import MOST_RUNS
from lrscale.study.outcomes import counts_as_diverged
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import FACTS, SyntheticLauncher

BARE = "name: lost\ntask: {model: {class_path: m.Net}}"
RECIPE = f"""
{BARE}
experiments:
  range_test: null
  scaling: {{batch_sizes: [32, 64], horizon: 2k examples, seeds: 2, validations: 2}}
"""
WITH_RANGE_TEST = RECIPE.replace("range_test: null", "range_test: {seeds: 2, steps: 40}\n  equivalence: null")
GONE: dict[str, Any] = {"status": "crashed", "final_loss": None, "retryable": True, "reason": "rank 1 is gone"}


class Losing(SyntheticLauncher):
    """Loses one trial, counted from 1, as when its node goes twice."""

    lost_trial = 0

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        for record in super().run(requests, progress):
            yield dataclasses.replace(record, **GONE) if len(self.ran) == self.lost_trial else record


class LosingOne(SyntheticLauncher):
    """Loses the same trial whenever it runs, as when the memory of the machine does not do for it."""

    lost_id = ""

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        for record in super().run(requests, progress):
            yield dataclasses.replace(record, **GONE) if record.trial_id == self.lost_id else record


def study(path: Path, launcher: SyntheticLauncher, recipe: str = RECIPE) -> StudyOutcome:
    return Study(parse_recipe(recipe), StudyFolder(path)).run(launcher, progress=SilentProgress())


def run(path: Path, launcher: SyntheticLauncher, recipe: str = RECIPE) -> dict[str, tuple[str, float | None]]:
    study(path, launcher, recipe)
    return {name: (record.status, record.final_loss) for name, record in StudyFolder(path).records().items()}


@pytest.mark.parametrize("place", [2, *(pytest.param(place, marks=pytest.mark.slow) for place in (3, 4, 6, 9))])
def test_a_sweep_waits_for_a_lost_trial_and_takes_the_undisturbed_course(tmp_path: Path, place: int) -> None:
    whole = run(tmp_path / "undisturbed", SyntheticLauncher(SyntheticStudy()))
    launcher = Losing(SyntheticStudy())
    launcher.lost_trial = place
    disturbed = run(tmp_path / "disturbed", launcher)
    assert ("crashed", None) in disturbed.values()
    assert disturbed.keys() <= whole.keys()
    assert run(tmp_path / "disturbed", SyntheticLauncher(SyntheticStudy())) == whole


@pytest.mark.parametrize("place", [2, *(pytest.param(place, marks=pytest.mark.slow) for place in (1, 3, 5, 9))])
def test_a_sweep_does_not_begin_before_a_lost_trial_of_the_range_test_has_run(tmp_path: Path, place: int) -> None:
    whole = run(tmp_path / "undisturbed", SyntheticLauncher(SyntheticStudy()), WITH_RANGE_TEST)
    launcher = Losing(SyntheticStudy())
    launcher.lost_trial = place
    outcome = study(tmp_path / "disturbed", launcher, WITH_RANGE_TEST)
    assert outcome.waiting == ("range_test", "scaling")
    assert outcome.lost == "1 trial was lost (rank 1 is gone)"
    assert outcome.failed == 1
    waits = {finding.key: finding for finding in outcome.findings}["scaling"]
    assert "starts from what others find (LR range test)" in waits.sentence
    assert StudyFolder(tmp_path / "disturbed").records().keys() < whole.keys()

    again = SyntheticLauncher(SyntheticStudy())
    second = study(tmp_path / "disturbed", again, WITH_RANGE_TEST)
    assert again.ran[0] == launcher.ran[place - 1]
    assert (second.lost, second.waiting, second.failed) == (None, (), 0)
    records = StudyFolder(tmp_path / "disturbed").records()
    assert {name: (record.status, record.final_loss) for name, record in records.items()} == whole


def test_a_lost_trial_holds_up_no_question_that_does_not_start_from_its_own(tmp_path: Path) -> None:
    recipe = WITH_RANGE_TEST.replace("equivalence: null", "equivalence: true")
    whole = run(tmp_path / "undisturbed", SyntheticLauncher(SyntheticStudy()), recipe)
    launcher = Losing(SyntheticStudy())
    launcher.lost_trial = 1
    outcome = study(tmp_path / "disturbed", launcher, recipe)
    assert outcome.waiting == ("equivalence",)
    assert StudyFolder(tmp_path / "disturbed").records().keys() == whole.keys()
    found = {finding.key: finding for finding in outcome.findings}
    assert found["scaling"].status == "ok"
    assert [check.sentence for check in found["equivalence"].checks if "lost" in check.name] == [
        "1 trial was lost (rank 1 is gone) and says nothing yet."
    ]


def test_a_trial_that_five_runs_have_lost_has_crashed_and_the_study_goes_on_without_it(tmp_path: Path) -> None:
    launcher = LosingOne(SyntheticStudy())
    whole = SyntheticLauncher(SyntheticStudy())
    run(tmp_path / "undisturbed", whole, WITH_RANGE_TEST)
    launcher.lost_id = whole.ran[0]
    folder = StudyFolder(tmp_path / "disturbed")
    for times in range(1, MOST_RUNS):
        assert study(folder.path, launcher, WITH_RANGE_TEST).lost is not None
        record = folder.record(launcher.lost_id)
        assert record is not None and (record.retryable, record.runs_lost) == (True, times)
        assert folder.read_plan()["lost"] == {launcher.lost_id: times}
    last = study(folder.path, launcher, WITH_RANGE_TEST)
    assert (last.lost, last.waiting, last.failed) == (None, (), 1)
    record = folder.record(launcher.lost_id)
    assert record is not None and (record.status, record.retryable, record.runs_lost) == ("crashed", False, MOST_RUNS)
    assert record.reason == "rank 1 is gone; 5 runs of the study have lost it, and it is not tried again"
    assert folder.read_plan()["lost"] == {}
    assert study(folder.path, launcher, WITH_RANGE_TEST).ran == 0


def test_the_count_of_lost_runs_outlives_a_driver_that_is_killed_in_the_middle_of_the_next_one(tmp_path: Path) -> None:
    launcher = Losing(SyntheticStudy())
    launcher.lost_trial = 2
    study(tmp_path, launcher)
    lost_id = launcher.ran[1]
    folder = StudyFolder(tmp_path)
    folder.begin_trial(folder.spec(lost_id))  # What the next run does first; then it is killed.
    assert folder.record(lost_id) is None
    another = LosingOne(SyntheticStudy())
    another.lost_id = lost_id
    study(tmp_path, another)
    record = folder.record(lost_id)
    assert record is not None and record.runs_lost == 2


def test_a_trial_that_was_given_up_as_lost_does_not_say_that_its_lr_is_too_high(tmp_path: Path) -> None:
    whole = SyntheticLauncher(SyntheticStudy())
    run(tmp_path / "undisturbed", whole)
    trials = StudyView.of(StudyFolder(tmp_path / "undisturbed")).trials
    highest = max(trials.values(), key=lambda trial: trial.spec.peak_lr)
    crash = {**GONE, "retryable": False}
    raised = dataclasses.replace(highest, record=dataclasses.replace(highest.record, **crash))
    lost = dataclasses.replace(highest, record=dataclasses.replace(highest.record, **crash, runs_lost=3))
    assert counts_as_diverged(raised, trials.values())
    assert not counts_as_diverged(lost, trials.values())


class Asked(dict[str, Finding]):
    """Findings that remember who was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.keys_asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_asked.add(key)
        return super().get(key, default)


QUESTIONS: dict[str, str] = {
    "factors": "{task.model.init_args.width: [16, 32]}",
    "growing_batch": "{batch_size: 16, horizon: 20k examples}",
    "horizons": "{lengths: [10k examples, 20k examples], batch_size: 64}",
    "forecast": "{batch_sizes: [16, 32], horizons: [2k examples, 4k examples]}",
    "scaling": "{batch_sizes: [32, 64], horizon: 2k examples}",
    "schedules": "[cosine, linear]",
}
"""Those that cannot be asked by `true` alone."""


@pytest.mark.parametrize("key", list(EXPERIMENTS))
def test_an_experiment_names_the_findings_that_its_plan_follows(key: str, tmp_path: Path) -> None:
    asked = {name: QUESTIONS.get(name, "true") for name in ("range_test", "scaling", key)}
    lines = [f"  {name}: {settings}" for name, settings in asked.items()]
    recipe = parse_recipe("\n".join([BARE, "experiments:", *lines]))
    findings = Asked()
    view = StudyView({}, StudyFolder(tmp_path).trajectory)
    EXPERIMENTS[key].plan(Context(recipe=recipe, view=view, facts=FACTS, findings=findings))
    # What fits on a device decides how a trial is split, and not which trial it is.
    assert findings.keys_asked - {"memory"} <= EXPERIMENTS[key].starts_from


@pytest.mark.parametrize(("name", "before"), [(name, one) for name, keys in NEEDS.items() for one in keys])
def test_a_command_for_one_experiment_runs_those_before_it_that_it_starts_from(name: str, before: str) -> None:
    assert before in EXPERIMENTS[name].starts_from

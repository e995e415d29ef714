"""A study keeps its budget over all its runs, and says what it kept out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import BudgetError
from lrscale.recipe import Recipe
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Study, StudyOutcome
from lrscale.study.budget.spent import SPENT
from lrscale.study.progress import SilentProgress
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher


def recipe(budget: str | None, **cost: Any) -> Recipe:
    """Return a recipe over the synthetic task, of about 25 trials for the range test and 52 for the sweep."""
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
                "equivalence": None,
            },
            "cost": {"budget": budget, **cost},
        }
    )


def run(folder: Path, asked: Recipe, launcher: SyntheticLauncher | None = None) -> StudyOutcome:
    """Run a study on the synthetic truth."""
    launcher = launcher or SyntheticLauncher(SyntheticStudy())
    return Study(asked, StudyFolder(folder)).run(launcher, progress=SilentProgress())


def trials(folder: Path) -> int:
    """Return how many trials lie in a study."""
    return len(StudyView.of(StudyFolder(folder)).trials)


@pytest.mark.parametrize("budget", [1, 2, 7, 25, 60])
def test_no_more_trials_run_than_the_budget_allows(tmp_path: Path, budget: int) -> None:
    outcome = run(tmp_path, recipe(f"{budget} trials"))
    assert trials(tmp_path) == outcome.ran <= budget
    assert outcome.ran >= min(budget, 20) - 5 or budget < 5
    assert len(StudyFolder(tmp_path).trial_ids()) == outcome.ran


def test_what_is_left_out_is_a_finding_that_says_what_it_would_take(tmp_path: Path) -> None:
    study = Study(recipe("40 trials"), StudyFolder(tmp_path))
    outcome = study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    findings = {finding.key: finding for finding in outcome.findings}
    schedules = findings["schedules"]
    assert schedules.status == "cannot_tell"
    assert schedules.sentence.startswith("The budget of 40 trials left this question out: it would take ")
    assert [check.status for check in schedules.checks] == ["WARNING"]
    assert any(line.startswith("kept out by the budget of 40 trials: schedules: ") for line in outcome.budget)
    assert "; reduced as far as it goes " in schedules.sentence
    assert findings["range_test"].status == "ok"
    # Whoever opens the folder later reads the same.
    assert {one.key: one for one in study.analyse(StudyView.of(study.folder))} == findings


def test_a_reduced_question_is_asked_as_reduced_and_says_so(tmp_path: Path) -> None:
    outcome = run(tmp_path, recipe("60 trials"))
    scaling = next(finding for finding in outcome.findings if finding.key == "scaling")
    assert scaling.status == "ok"
    assert scaling.data["seeds"] == 2
    assert any("it was asked with" in check.sentence and "seeds 3 -> 2" in check.sentence for check in scaling.checks)
    assert any(line.startswith("reduced by the budget of 60 trials: scaling: ") for line in outcome.budget)


def test_a_larger_budget_goes_on_with_what_is_there(tmp_path: Path) -> None:
    run(tmp_path, recipe("40 trials"))
    before = set(StudyView.of(StudyFolder(tmp_path)).trials)
    launcher = SyntheticLauncher(SyntheticStudy())
    outcome = run(tmp_path, recipe(None), launcher)
    assert not before & set(launcher.ran)
    assert outcome.budget == ()
    assert all(finding.status == "ok" for finding in outcome.findings)


def test_a_budget_in_examples_is_kept(tmp_path: Path) -> None:
    outcome = run(tmp_path, recipe("1M examples"))
    spent = sum(trial.record.examples for trial in StudyView.of(StudyFolder(tmp_path)))
    assert 500_000 < spent <= 1_000_000
    assert outcome.budget


def test_killed_and_run_again_a_study_spends_its_budget_once(tmp_path: Path) -> None:
    for after in (3, 9, 14):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, recipe("40 trials"), SyntheticLauncher(SyntheticStudy(), stop_after=after))
    run(tmp_path, recipe("40 trials"))
    assert trials(tmp_path) <= 40
    again = run(tmp_path, recipe("40 trials"))
    assert again.ran == 0
    assert again.budget


def test_a_run_that_is_refused_and_a_measuring_one_that_is_interrupted_have_spent_their_time(tmp_path: Path) -> None:
    asked = recipe("30s", throughput="1 examples/s")
    with pytest.raises(BudgetError):
        run(tmp_path, asked)
    refused = StudyFolder(tmp_path).read_plan()[SPENT]["seconds"]
    with pytest.raises(KeyboardInterrupt):
        Study(asked, StudyFolder(tmp_path)).measure(
            SyntheticLauncher(SyntheticStudy(), stop_after=0), progress=SilentProgress()
        )
    assert 0 < refused < StudyFolder(tmp_path).read_plan()[SPENT]["seconds"]


def test_in_a_budget_of_time_no_trial_starts_that_is_expected_to_last_longer(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"the budget of 30s.* is below the cheapest trial of the study, which takes"):
        run(tmp_path, recipe("30s", throughput="1 examples/s"))
    assert trials(tmp_path) == 0


def search(budget: str | None, **cost: Any) -> Recipe:
    """Return a recipe that asks for a search of 10 trials and its confirmation alone."""
    plain = recipe(budget, **cost).model_dump(mode="json")
    own = {"batch_sizes": [16, 64, 256], "horizon": "40k examples", "tolerance": 0.0}
    return Recipe.model_validate({**plain, "experiments": {**dict.fromkeys(plain["experiments"]), "search": own}})


@pytest.mark.parametrize("share", [0.7, 0.3])
@pytest.mark.parametrize("throughput", [None, "1e6 examples/s"])
def test_a_question_that_begins_in_a_form_that_is_too_dear_is_still_answered(
    tmp_path: Path, share: float, throughput: str | None
) -> None:
    whole = tmp_path / "whole"
    run(whole, search(None))
    taken = sum(one.record.timing["total"] for one in StudyView.of(StudyFolder(whole)))
    outcome = run(tmp_path / "bounded", search(f"{share * taken:.0f}s", throughput=throughput))
    (finding,) = outcome.findings
    # Before the first trials no time is known, or a wrong one is stated; what they take shows which form fits.
    assert finding.status == "ok", finding.sentence
    assert any(line.startswith("reduced by the budget of ") for line in outcome.budget)
    assert 5 <= trials(tmp_path / "bounded") < trials(whole)


def test_a_budget_below_one_trial_says_what_one_takes_and_runs_nothing(tmp_path: Path) -> None:
    launcher = SyntheticLauncher(SyntheticStudy())
    with pytest.raises(BudgetError, match="the budget of 10 examples is below the cheapest trial") as caught:
        run(tmp_path, recipe("10 examples"), launcher)
    assert caught.value.exit_code == 1
    assert "lrscale plan" in (caught.value.hint or "")
    assert launcher.ran == []


def test_the_plan_of_a_budget_names_every_question_and_what_becomes_of_it(tmp_path: Path) -> None:
    study = Study(recipe("60 trials"), StudyFolder(tmp_path / "new"))
    planned = {one.name: one for one in study.plan(StudyView({}, StudyFolder(tmp_path).trajectory))}
    assert {name: one.verdict for name, one in planned.items()} == {
        "range_test": "full",
        "scaling": "reduced",
        "throughput": "reduced",
        "schedules": "left out",
    }
    assert "seeds 3 -> 2" in planned["scaling"].changes
    kept = [one for one in planned.values() if one.verdict != "left out"]
    assert sum(one.trials_expected for one in kept) <= 60


def test_without_a_known_time_a_budget_in_time_decides_nothing_yet(tmp_path: Path) -> None:
    study = Study(recipe("1h"), StudyFolder(tmp_path / "new"))
    planned = study.plan(StudyView({}, StudyFolder(tmp_path).trajectory))
    assert all(one.verdict is None and one.seconds is None for one in planned)

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from lrscale.report import ReportContext
from lrscale.report.checks import run_checks
from lrscale.report.checks.base import AbstractCheck
from lrscale.report.checks.gather import CHECKS
from lrscale.store import StudyView, Trial
from lrscale.study.finding import Check

from .conftest import VARIANTS

Contexts = Callable[[str], ReportContext]


def _found(context: ReportContext) -> dict[str, Check]:
    return {check.name: check for check in run_checks(context)}


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_every_check_answers_with_a_remedy_where_it_warns(
    check: AbstractCheck, variant: str, context_of: Contexts
) -> None:
    answer = check.run(context_of(variant))
    if answer is None:
        return
    assert answer.name == check.name
    assert answer.status in ("PASS", "WARNING", "FAIL", "INFO")
    assert answer.sentence.strip()
    assert (answer.remedy is not None) == (answer.status in ("WARNING", "FAIL"))


def test_checks_are_sorted_by_how_serious_they_are(context_of: Contexts) -> None:
    order = ["FAIL", "WARNING", "INFO", "PASS"]
    places = [order.index(check.status) for check in run_checks(context_of("complete"))]
    assert places == sorted(places)


def test_two_seeds_warn_and_one_fails(context_of: Contexts) -> None:
    assert _found(context_of("complete"))["seeds"].status == "WARNING"
    assert _found(context_of("one seed, one LR"))["seeds"].status == "FAIL"


def test_a_crashed_trial_warns_with_its_reason(context_of: Contexts) -> None:
    check = _found(context_of("complete"))["lost trials"]
    assert check.status == "WARNING"
    assert "synthetic failure" in check.sentence


def test_a_study_of_diverged_trials_fails(context_of: Contexts) -> None:
    assert _found(context_of("all diverged"))["diverged trials"].status == "FAIL"


def test_an_optimum_at_the_edge_fails_when_no_batch_size_has_one(context_of: Contexts) -> None:
    assert _found(context_of("optimum outside"))["optimum inside the grid"].status == "FAIL"
    assert _found(context_of("complete"))["optimum inside the grid"].status == "PASS"


def test_warnings_of_records_are_counted_once_a_trial(context_of: Contexts) -> None:
    context = context_of("complete")
    trials = {
        trial.trial_id: Trial(
            trial.spec, dataclasses.replace(trial.record, warnings=("a summed loss", "a summed loss"))
        )
        for trial in context.trials
    }
    warned = dataclasses.replace(context, view=StudyView(trials, context.view.load_trajectory))
    check = _found(warned)["warnings of the trials"]
    assert check.status == "WARNING"
    assert f"a summed loss ({len(trials)} trials)" in check.sentence


def test_a_check_of_a_finding_stands_in_place_of_the_reports_own(context_of: Contexts) -> None:
    context = context_of("complete")
    first = context.findings[0]
    own = Check(name="seeds", status="PASS", sentence="Said by the experiment.")
    findings = (dataclasses.replace(first, checks=(own,)), *context.findings[1:])
    assert _found(dataclasses.replace(context, findings=findings))["seeds"] == own


def test_a_check_that_raises_warns_about_itself(context_of: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    from lrscale.report.checks.noise import NoiseCheck

    def fail(self: NoiseCheck, context: ReportContext) -> Check:
        raise KeyError("absent")

    monkeypatch.setattr(NoiseCheck, "run", fail)
    assert "KeyError" in _found(context_of("complete"))["noise against differences"].sentence

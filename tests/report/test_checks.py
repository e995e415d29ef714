from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from lrscale.report import ReportContext
from lrscale.report.checks import run_checks
from lrscale.report.checks.base import AbstractCheck
from lrscale.report.checks.gather import CHECKS
from lrscale.report.checks.spikes import SpikesCheck
from lrscale.report.stability_data import is_near
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


def test_spikes_far_above_the_recommended_lr_are_told_and_do_not_warn(context_of: Contexts) -> None:
    check = _found(context_of("complete"))["loss spikes"]
    assert check.status == "PASS"
    assert "near the recommended LR" in check.sentence and "Elsewhere spikes begin at LR" in check.sentence
    without = dataclasses.replace(context_of("complete"), recommendation=None)
    everywhere = next(check for check in run_checks(without) if check.name == "loss spikes")
    assert everywhere.status == "INFO" and "robust standard deviations high" in everywhere.sentence


@pytest.mark.parametrize(("share", "recovered", "status"), [(1.0, True, "WARNING"), (0.1, False, "WARNING")])
def test_spikes_at_the_recommended_lr_warn(context_of: Contexts, share: float, recovered: bool, status: str) -> None:
    context = context_of("complete")
    assert context.recommendation is not None
    spike = {"step": 50, "height": 20.0, "rise": 1.0, "gradient_height": 9.0, "recovered_after": None}
    trials = dict(context.view.trials)
    near = [name for name, trial in trials.items() if is_near(trial, context.recommendation, 1.5)]
    near = [name for name in near if "stability" in trials[name].record.measurements]
    assert near
    for place, name in enumerate(near):
        record = trials[name].record
        spikes = [{**spike, "recovered": recovered}] if place < max(1, share * len(near)) else []
        stability = {**record.measurements["stability"], "status": "ok", "spikes": spikes}
        trials[name] = Trial(
            trials[name].spec,
            dataclasses.replace(record, measurements={"stability": stability}),
        )
    changed = dataclasses.replace(context, view=StudyView(trials, context.view.load_trajectory))
    check = SpikesCheck().run(changed)
    assert check is not None and check.status == status
    assert check.remedy is not None and "warmup_fraction" in check.remedy


def test_a_study_without_measurements_is_not_asked_for_spikes(context_of: Contexts) -> None:
    context = context_of("complete")
    bare = {
        name: Trial(trial.spec, dataclasses.replace(trial.record, measurements={}))
        for name, trial in context.view.trials.items()
    }
    assert SpikesCheck().run(dataclasses.replace(context, view=StudyView(bare, context.view.load_trajectory))) is None

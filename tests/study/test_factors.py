"""Factors of the task, searched on trials whose best LR is known at every value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lrscale.recipe import Recipe
from lrscale.report import ReportContext
from lrscale.report.base import make_card
from lrscale.report.sections.factors import FactorsSection
from lrscale.store import StudyView, Trajectory, Trial, TrialRecord, TrialSpec
from lrscale.study.experiments import EXPERIMENTS, Context
from lrscale.study.finding import Finding

BATCH = 128


def recipe(factors: dict[str, Any], **experiments: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "factors",
            "task": {"model": {"class_path": "shop.Net", "init_args": {"width": 64}}},
            "experiments": {
                "range_test": False,
                "scaling": {"batch_sizes": [BATCH], "horizon": "12800 examples", "seeds": 3},
                "factors": factors,
                **experiments,
            },
        }
    )


def record(spec: TrialSpec) -> TrialRecord:
    """Train nothing: the best LR falls as 1 / width, dropout raises it and halves the gap, gelu is as good as relu."""
    if spec.instruments:
        return measured(spec)
    arguments = spec.task["model"]["init_args"]
    width, dropout = arguments.get("width", 64), arguments.get("dropout", 0.0)
    best = 0.008 * 64 / width * (1 + 2 * dropout)
    x = spec.peak_lr / best
    rng = np.random.default_rng([spec.seed, int(spec.trial_id[:8], 16)])
    luck = 0.02 * np.random.default_rng([spec.seed, 9]).standard_normal()
    loss = 1 + 0.3 * (x**-0.5 + x / 2 - 1.5) + luck + 0.003 * rng.standard_normal()
    loss += 0.1 * (arguments.get("activation") == "tanh") - 0.05 * math.log2(width / 64)
    gap = 0.2 / (1 + 10 * dropout) + 0.002 * rng.standard_normal()
    return TrialRecord(
        trial_id=spec.trial_id,
        status="completed",
        final_loss=loss,
        final_train_loss=loss - gap,
        monitor="val_loss",
        examples=spec.examples,
        facts={"optimizers": ["AdamW"]},
    )


def measured(spec: TrialSpec) -> TrialRecord:
    """Give outputs: after the first update those of the hidden part grow with the width, those of the first do not."""
    width = spec.task["model"]["init_args"]["width"]
    rng = np.random.default_rng([spec.seed, width])
    noise = np.exp(0.01 * rng.standard_normal((3, 6)))
    hidden = [1.0] + [width**0.8] * 5
    parts = [
        {"name": name, "type": kind, "weight": None, "sizes": [float(one) for one in sizes]}
        for name, kind, sizes in (
            ("inputs", "Linear", noise[0]),
            ("net", "Sequential", hidden * noise[1]),
            ("net.0", "Linear", hidden * noise[1]),
            *((("norm", "LayerNorm", noise[2]),) if width < 256 else ()),
        )
    ]
    return TrialRecord(
        trial_id=spec.trial_id,
        status="completed",
        final_loss=1.0,
        monitor="train_loss",
        facts={"optimizers": ["AdamW"]},
        measurements={"coordinates": {"steps": 6, "parts": parts}},
    )


def run(asked: Recipe, trials: dict[str, Trial] | None = None) -> tuple[Finding, dict[str, Trial], Context]:
    trials = {} if trials is None else trials
    context = Context(
        recipe=asked, view=StudyView(trials, lambda _: Trajectory()), facts={"reference_lr": 1e-3}, findings={}
    )
    experiment = EXPERIMENTS["factors"]
    for _ in range(100):
        missing = [spec for spec in experiment.plan(context) if spec.trial_id not in trials]
        if not missing:
            return experiment.analyse(context), trials, context
        for spec in missing:
            trials[spec.trial_id] = Trial(spec, record(spec))
    raise AssertionError("the plan does not end")


def swept(trials: dict[str, Trial]) -> list[Trial]:
    return [trial for trial in trials.values() if not trial.spec.instruments]


@pytest.fixture(scope="module")
def widths() -> tuple[Finding, dict[str, Trial], Context]:
    return run(recipe({"width": [64, 128, 256]}))


def test_the_best_lr_goes_with_the_width_as_in_truth(widths: tuple[Finding, dict[str, Trial], Context]) -> None:
    finding = widths[0]
    power = finding.numbers["width_power"]
    assert power.value == pytest.approx(-1, abs=0.1)
    assert power.lo is not None and power.hi is not None and power.lo < -1 < power.hi
    (factor,) = finding.data["factors"]
    for level in factor["levels"]:
        assert level["lo"] < 0.008 * 64 / level["value"] < level["hi"]
    assert "The loss ends lowest with width 256, width 64 and width 128 are worse" in finding.sentence
    assert [level["verdict"] for level in factor["levels"]] == ["worse", "worse", "best"]
    assert Finding.from_dict(finding.to_dict()) == finding


def test_the_search_of_a_value_begins_where_that_of_the_task_ended(
    widths: tuple[Finding, dict[str, Trial], Context],
) -> None:
    count = {width: 0 for width in (64, 128, 256)}
    for trial in swept(widths[1]):
        count[trial.spec.task["model"]["init_args"]["width"]] += 1
    assert count[128] <= count[64]
    assert all(6 <= number <= 14 for number in count.values())


def test_trials_of_the_task_as_it_stands_are_those_of_the_sweep(
    widths: tuple[Finding, dict[str, Trial], Context],
) -> None:
    _, trials, context = widths
    own = {trial.trial_id for trial in context.own_trials}
    assert {trials[one].spec.task["model"]["init_args"]["width"] for one in own} == {64}
    sweep = EXPERIMENTS["scaling"].plan(context)
    assert {spec.trial_id for spec in sweep} & own


def test_values_that_are_no_numbers_are_compared_and_tie() -> None:
    finding, _, _ = run(recipe({"activation": ["relu", "gelu", "tanh"], "margin": 0.02}))
    (factor,) = finding.data["factors"]
    assert factor["law"] is None and not factor["numeric"]
    verdicts = {level["label"]: level["verdict"] for level in factor["levels"]}
    assert verdicts["activation tanh"] == "worse"
    # A tie has a lowest one, and no best one.
    assert sorted([verdicts["activation relu"], verdicts["activation gelu"]]) == ["lowest", "tied"]
    assert ", by its fit alone" in finding.sentence
    assert "power" not in finding.sentence


def test_zero_has_no_power_and_two_factors_share_the_trials_of_the_task() -> None:
    asked = recipe({"dropout": [0.0, 0.5], "width": [64, 128]})
    task = asked.task.model_copy(
        update={"model": asked.task.model.model_copy(update={"init_args": {"width": 64, "dropout": 0.0}})}
    )  # type: ignore[union-attr]
    finding, trials, context = run(asked.model_copy(update={"task": task}))
    dropout, width = finding.data["factors"]
    assert dropout["law"] is None and width["law"] is not None
    move = dropout["move"]
    assert move["lo"] < 2 < move["hi"] and move["factor"] == pytest.approx(2, rel=0.15)
    change = dropout["gap_change"]
    assert change["lo"] < 0.2 / 6 - 0.2 < change["hi"] < 0
    assert set(dropout["levels"][0]["trials"]) == set(width["levels"][0]["trials"])
    assert len(EXPERIMENTS["factors"].plan(context)) == len(trials)


def test_an_optimum_that_is_not_inside_is_a_warning_with_its_remedy() -> None:
    finding, _, _ = run(recipe({"width": [64, 128], "max_learning_rates": 3, "seeds": 1}))
    warned = [check for check in finding.checks if check.status == "WARNING"]
    assert warned and all("max_learning_rates above 3" in (check.remedy or "") for check in warned)


def test_a_small_budget_keeps_the_ends_and_two_seeds() -> None:
    experiment = EXPERIMENTS["factors"]
    forms = experiment.reductions(recipe({"width": [64, 128, 256]}))
    assert forms == [{"seeds": 2}, {"seeds": 2, "factors": {"width": [64, 256]}}]
    context = Context(
        recipe=recipe({"width": [64, 128]}), view=StudyView({}, lambda _: Trajectory()), facts={}, findings={}
    )
    assert len(experiment.typical(context)) <= len(experiment.at_most(context)) == 2 * (9 + 3 * 2) + 2 * 4


def test_outputs_of_every_part_are_compared_once_and_at_one_lr(
    widths: tuple[Finding, dict[str, Trial], Context],
) -> None:
    finding, trials, _ = widths
    short = [trial.spec for trial in trials.values() if trial.spec.instruments]
    assert len(short) == 3 * 4 and len({spec.peak_lr for spec in short}) == 1
    assert {(spec.schedule.name, spec.schedule.warmup_steps, spec.validate_every) for spec in short} == {
        ("constant", 0, None)
    }
    (factor,) = finding.data["factors"]
    check = factor["parametrisation"]["coordinates"]
    # What hands on the output of a part is that part again, and a part that a width lacks compares with nothing.
    assert [part["name"] for part in check["parts"]] == ["inputs", "net.0"]
    assert [part["drift"] for part in check["parts"]] == ["does not grow", "grows"]
    assert check["parts"][1]["lo"] < 0.8 < check["parts"][1]["hi"]
    assert "outputs grow with width: net.0 with power 0.8" in finding.sentence
    assert "1 / width, that of hidden matrices in the standard parametrisation, is not excluded" in finding.sentence
    drift = factor["parametrisation"]["drift"]
    assert drift["transfer"] == "drifts"
    assert {row["name"]: row["excluded"] for row in drift["predictions"]} == {
        "maximal update": True,
        "standard, Adam": False,
    }


def test_what_is_no_width_has_no_check() -> None:
    finding, trials, _ = run(recipe({"dropout": [0.0, 0.5], "seeds": 2}))
    assert finding.data["factors"][0]["parametrisation"] is None
    assert not any(trial.spec.instruments for trial in trials.values())


def test_the_section_draws_the_law_and_every_slice(widths: tuple[Finding, dict[str, Trial], Context]) -> None:
    finding, trials, _ = widths
    view = StudyView(trials, lambda _: Trajectory())
    card = make_card(FactorsSection(), ReportContext(plan={}, view=view, findings=(finding,)))
    assert card.status == "ok" and card.finding == finding.sentence
    assert set(card.figure("width-law").points) == {"width 64", "width 128", "width 256"}
    drawn = sum(len(points) for points in card.figure("width-slices").points.values())
    assert drawn == len(swept(trials))
    assert [row["label"] for row in card.table("levels-0").rows] == ["width 64", "width 128", "width 256"]
    assert set(card.figure("width-outputs").points) == {"inputs", "net.0"}
    assert [row["verdict"] for row in card.table("predictions-0").rows] == ["excluded", "not excluded"]
    assert [row["drift"] for row in card.table("parts-0").rows] == ["does not grow", "grows"]
    bare = make_card(FactorsSection(), ReportContext(plan={}, view=view))
    assert bare.status == "absent" and "experiments.factors" in bare.finding

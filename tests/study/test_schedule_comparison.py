"""Schedules crossed with optimizers, and how they get on along the way, on trials whose truth is known."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from lrscale.cli.finding_tables import table_lines
from lrscale.errors import TaskError
from lrscale.recipe import Recipe
from lrscale.recommend import Recommendation, recommend
from lrscale.report.context import ReportContext
from lrscale.report.sections.schedules import SchedulesSection
from lrscale.store import StudyFolder, StudyView, Trajectory
from lrscale.study import Study, read_findings
from lrscale.study.experiments.base import Context
from lrscale.study.finding import Finding
from lrscale.study.progress import SilentProgress
from lrscale.study.schedules.along import Course, along_rows
from lrscale.study.schedules.cells import entrants
from lrscale.testing.synthetic import SyntheticStudy, Truth
from lrscale.testing.synthetic_launcher import SyntheticLauncher


def recipe(alone: bool = False, **comparison: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "layout": {"devices": 2, "max_per_device_batch_size": 64},
            "experiments": {
                "range_test": {"seeds": 2},
                "scaling": None if alone else {"batch_sizes": [64, 256, 1024], "horizon": "20k examples", "seeds": 3},
                "equivalence": None,
                "schedules": {"schedules": ["constant", "cosine"], "batch_size": 256, **comparison},
            },
        }
    )


def planned(asked: Recipe, **facts: object) -> Context:
    view = StudyView({}, lambda trial_id: Trajectory())
    return Context(recipe=asked, view=view, facts=facts, findings={})


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finding, StudyFolder]:
    asked = recipe(optimizers=["module", "sgd", "lion", "schedule_free_adamw"])
    study = Study(asked, StudyFolder(tmp_path_factory.mktemp("study")))
    study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    (finding,) = (one for one in read_findings(study.folder) if one.key == "schedules")
    return finding, study.folder


def test_every_schedule_meets_every_optimizer_and_one_without_schedule_enters_once() -> None:
    where = planned(recipe(optimizers=["module", "lion", "schedule_free_adamw"]), optimizers=["AdamW"])
    found = entrants(where)
    assert list(found) == [
        "AdamW + constant",
        "AdamW + cosine",
        "lion + constant",
        "lion + cosine",
        "schedule_free_adamw",
    ]
    specs = {label: one.cell.spec(where, 0.1, 0) for label, one in found.items()}
    assert len({spec.trial_id for spec in specs.values()}) == 5
    assert specs["AdamW + cosine"].other_optimizer == {}
    assert specs["lion + cosine"].other_optimizer == {"name": "lion", "settings": {}}
    assert specs["schedule_free_adamw"].schedule.name == "constant"


def test_a_package_that_is_missing_is_named_before_any_trial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "schedulefree" else object())
    study = Study(recipe(optimizers=["module", "schedule_free_sgd"]), StudyFolder(tmp_path))
    launcher = SyntheticLauncher(SyntheticStudy())
    with pytest.raises(
        TaskError, match=r"experiments.schedules needs the package schedulefree, which is not installed"
    ):
        study.run(launcher, progress=SilentProgress())
    assert not list(StudyView.of(study.folder))


def test_without_optimizers_nothing_changes() -> None:
    assert list(entrants(planned(recipe(), optimizers=["AdamW"]))) == ["constant", "cosine"]


def test_the_search_of_another_optimizer_begins_at_its_own_order_of_magnitude() -> None:
    asked = recipe(optimizers=["module", "adamw", "sgd", "lion", {"class_path": "torch.optim.NAdam"}])
    for own, expected in (("AdamW", [1, 1, 30, 0.2, 1]), ("SGD", [1, 1 / 30, 1, 0.2 / 30, 1])):
        where = planned(asked, optimizers=[own])
        starts = [one.start(where) for label, one in entrants(where).items() if label.endswith("cosine")]
        assert [start / starts[0] for start in starts] == pytest.approx(expected)


def test_each_optimizer_is_tuned_at_its_own_lr_and_ranked_as_the_truth(crossed: tuple[Finding, StudyFolder]) -> None:
    finding, _ = crossed
    truth = Truth()
    rows = {row["label"]: row for row in finding.data["schedules"]}
    assert [row["label"] for row in finding.data["schedules"]][:2] == ["lion + cosine", "AdamW + cosine"]
    assert finding.data["schedules"][-1]["label"] == "sgd + constant"
    for name, scale in (("AdamW", 1.0), ("sgd", 30.0), ("lion", 0.2)):
        assert math.log(rows[f"{name} + cosine"]["best_lr"] / (scale * truth.best_lr(256))) == pytest.approx(0, abs=0.4)
    assert rows["lion + cosine"]["places"] == [1, 1]
    assert rows["AdamW + cosine"]["verdict"] == "worse"


def test_the_warm_up_of_the_recommended_schedule_is_the_one_that_it_was_trained_with(tmp_path: Path) -> None:
    long = {"name": "linear", "warmup": "20 %", "warmup_shape": "cosine"}
    for schedules, share, shape in ((["constant", "linear"], 0.05, "linear"), ([long, "constant"], 0.2, "cosine")):
        asked = recipe(schedules=schedules, horizon="20k examples", alone=True)
        study = Study(asked, StudyFolder(tmp_path / shape))
        study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
        made = recommend(asked, StudyView.of(study.folder), read_findings(study.folder), batch_size=256)
        assert isinstance(made, Recommendation)
        assert made.schedule.name == "linear"
        assert made.schedule.warmup_steps == round(share * (20_000 // 256))
        assert made.schedule.warmup_shape == shape


def test_a_recommendation_is_for_the_modules_own_optimizer(crossed: tuple[Finding, StudyFolder]) -> None:
    finding, folder = crossed
    assert [row["label"] for row in finding.data["own_schedules"]] == ["AdamW + cosine", "AdamW + constant"]
    assert finding.data["own_schedules"][0]["verdict"] == "best"
    asked = recipe(optimizers=["module", "sgd", "lion", "schedule_free_adamw"])
    made = recommend(asked, StudyView.of(folder), read_findings(folder), batch_size=256)
    assert isinstance(made, Recommendation)
    assert made.schedule.name == "cosine"
    assert made.peak_lr == pytest.approx(Truth().best_lr(256), rel=0.5)


def test_the_ranking_is_printed_with_its_places_and_ties(crossed: tuple[Finding, StudyFolder]) -> None:
    lines = table_lines(crossed[0])
    assert lines[1].split()[:2] == ["place", "schedule"]
    assert lines[3].startswith("1  ")
    assert "lion + cosine" in lines[3]
    assert any("examples to target" in line for line in lines)


def test_along_the_way_every_measure_is_paired_with_the_leaders(crossed: tuple[Finding, StudyFolder]) -> None:
    finding, folder = crossed
    rows = {row["label"]: row for row in finding.tables["along"]}
    first, other = rows["lion + cosine"], rows["sgd + constant"]
    assert first["final_gap"] is None
    assert other["final_lo"] < other["final"] - first["final"] < other["final_hi"]
    assert other["examples"] >= first["examples"]
    assert finding.data["target_loss"] == pytest.approx(other["final"], abs=0.05)
    view = StudyView.of(folder)
    trial = next(
        trial
        for trial in view
        if trial.spec.other_optimizer.get("name") == "sgd"
        and trial.spec.schedule.name == "constant"
        and trial.spec.peak_lr == other["lr"]
        and trial.spec.seed == 0
    )
    steps, loss = folder.trajectory(trial.trial_id).points("val_loss")
    assert other["mean"] == pytest.approx(np.sum((loss[1:] + loss[:-1]) / 2 * np.diff(steps)) / np.ptp(steps), abs=0.05)


def test_the_section_shows_places_slices_of_each_pair_and_the_way(crossed: tuple[Finding, StudyFolder]) -> None:
    finding, folder = crossed
    context = ReportContext(plan={}, view=StudyView.of(folder), findings=(finding,))
    card = SchedulesSection().compute(context)
    rows = card.table("schedules").rows
    assert (rows[0]["label"], rows[0]["place"], rows[0]["verdict"]) == ("lion + cosine", "1", "best")
    assert [row["label"] for row in card.table("along").rows] == [row["label"] for row in rows]
    assert "a loss of" in card.table("along").caption
    (forest, slices) = card.figures
    assert set(forest.points) == {row["label"] for row in rows}
    # One panel each, of its own trials: under the same schedule another optimizer has other LRs.
    assert {panel.title for panel in slices.views[0].panels} == {row["label"] for row in rows}


def test_a_target_that_a_seed_does_not_reach_has_no_mean() -> None:
    def course(*examples: float | None) -> Course:
        rows = {
            seed: {"final": 1.0, "lowest": 1.0, "mean": 1.5 + seed, "examples": value, "seconds": value}
            for seed, value in enumerate(examples)
        }
        return Course(lr=0.1, by_seed=rows)

    rows = along_rows({"a": course(100.0, 120.0, 110.0), "b": course(200.0, None, 230.0)}, "a")
    assert rows[0]["examples"] == 110
    assert rows[1]["examples"] is None
    assert rows[1]["examples_gap"] == pytest.approx(110)
    assert rows[1]["mean_gap"] == 0

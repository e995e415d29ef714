"""The planner with a rule that ends trials early: the same question and the same trials after any kill."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lrscale.launch import TrialRequest
from lrscale.recipe import Recipe
from lrscale.recipe.amounts import Speed
from lrscale.stoppers import STOPPERS
from lrscale.store import StudyFolder, StudyView, Trajectory, TrialRecord
from lrscale.store.trajectory import PARQUET_NAME
from lrscale.study import Study
from lrscale.study.engines import PlannerEngine, engine_of
from lrscale.study.experiments import EXPERIMENTS, Context
from lrscale.study.progress import AbstractProgress
from lrscale.study.search.course import Course
from lrscale.study.search.informed import informed
from lrscale.study.search.stopping import Stopping
from lrscale.testing.synthetic import SyntheticStudy, Truth
from lrscale.testing.synthetic_launcher import FACTS, SyntheticLauncher
from tests.study.searched import check, context, regret, run

PRUNERS: dict[str, Any] = {
    "median": {"name": "median", "settings": {"startup": 3}},
    "successive_halving": {"name": "successive_halving", "settings": {"reduction_factor": 2, "first": 3}},
    "hyperband": {"name": "hyperband", "settings": {"reduction_factor": 2}},
    "survivors": "survivors",
    "predicted": "predicted",
}
EAGER = PRUNERS["median"]
"""A rule that ends trials after few others."""
SIZES = [16, 64]
EXAMPLES = 8_192
SEARCH = EXPERIMENTS["search"]


def recipe(pruner: Any = None, **search: object) -> Recipe:
    """Return a recipe that asks for a search over the synthetic task."""
    return Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "layout": {"devices": 2, "max_per_device_batch_size": 64},
            "experiments": {
                "range_test": None,
                "equivalence": None,
                "search": {
                    "batch_sizes": SIZES,
                    "horizon": f"{EXAMPLES} examples",
                    "trials": 12,
                    "tolerance": 0,
                    "confirm": False,
                    "engine": {} if pruner is None else {"pruner": pruner},
                    **search,
                },
            },
        }
    )


def course(asked: Recipe, folder: Path) -> Course:
    """Return the course of a search as far as it has come."""
    return engine_of(asked).follow(context(asked, folder))


def test_every_rule_is_tried() -> None:
    assert set(PRUNERS) == set(STOPPERS)


QUICK = ("survivors", "predicted")


@pytest.mark.parametrize(
    "pruner", [pytest.param(one, marks=[] if one in QUICK else pytest.mark.slow) for one in PRUNERS]
)
def test_a_search_names_a_setting_that_it_trained_to_the_end(tmp_path: Path, pruner: str) -> None:
    asked = recipe(PRUNERS[pruner])
    finding = run(tmp_path, asked)
    rows = finding.tables["trials"]
    assert finding.status == "ok", finding.sentence
    assert len(rows) == 12
    stopped = [row for row in rows if row["status"] == "stopped"]
    # Survivors ends only what lies behind two trials of the same batch size, for which the planner seldom asks.
    assert stopped or pruner == "survivors"
    assert all(row["loss"] is None and row["examples"] < 0.95 * EXAMPLES for row in stopped)
    named = finding.numbers["best_lr"].value, finding.numbers["best_batch_size"].value
    assert named in {(row["lr"], row["batch_size"]) for row in rows if row["status"] == "completed"}
    assert regret(finding, Truth(), SIZES, EXAMPLES) < 3 * Truth().noise_sd


def test_without_a_pruner_it_asks_for_the_trials_of_before(tmp_path: Path) -> None:
    plain, none = recipe(), recipe("none")
    run(tmp_path, plain)
    assert not any(spec.stopper for spec in SEARCH.plan(context(plain, tmp_path)))
    launcher = SyntheticLauncher(SyntheticStudy())
    run(tmp_path, none, launcher)
    assert launcher.ran == []


@pytest.mark.parametrize("at_once", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_search_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path: Path, at_once: int) -> None:
    asked = recipe(EAGER, trials=9, at_once=at_once)
    run(tmp_path / "undisturbed", asked)
    for more in (1, 4, 2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", asked, SyntheticLauncher(SyntheticStudy(), stop_after=more))
    run(tmp_path / "killed", asked)
    assert StudyFolder(tmp_path / "killed").records() == StudyFolder(tmp_path / "undisturbed").records()
    wanted = [
        [spec.trial_id for spec in SEARCH.plan(context(asked, tmp_path / name))] for name in ("undisturbed", "killed")
    ]
    assert wanted[0] == wanted[1]


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A search whose trials were ended after few others."""
    folder, asked = tmp_path_factory.mktemp("eager"), recipe(EAGER, trials=16)
    run(folder, asked)
    return course(asked, folder)


def test_stopped_trials_are_told_as_estimates_near_what_they_would_have_come_to(eager: Course) -> None:
    estimates = [run for run in eager.runs if 0 < run.sd < np.inf]
    assert estimates
    assert not {one.setting for one in estimates} & {one.setting for one in eager.finite if one.seed == 0}
    for one in estimates:
        away = Truth().loss(one.batch_size, one.lr, EXAMPLES) - (one.loss or 0.0)
        assert abs(away) < 3 * (one.sd + Truth().noise_sd + Truth().seed_sd)


def test_a_stopped_setting_that_is_asked_for_again_is_trained_to_its_horizon(eager: Course) -> None:
    again = [
        trial
        for trial in eager.stopped
        if any(one.trial_id == dataclasses.replace(trial.spec, stopper={}).trial_id for one in eager.trials)
    ]
    assert again
    stopping = Stopping.of(eager)
    assert stopping is not None
    whole = sum(trial.spec.examples for trial in eager.stopped if trial not in again)
    assert stopping.saved == whole - sum(trial.record.examples for trial in eager.stopped)


def test_a_stopped_setting_that_cannot_be_trained_says_nothing_of_its_neighbours(tmp_path: Path) -> None:
    asked = recipe(EAGER, trials=9)
    run(tmp_path, asked)
    there, here = course(asked, tmp_path), context(asked, tmp_path)
    gone = {one.setting for one in there.runs if one.sd > 0}
    question = dataclasses.replace(there.question, without=frozenset(gone), closed=frozenset())
    told, runs = informed(here, there.setup, question, there.measured, there.trials)
    assert gone
    assert told == question
    assert [one.sd for one in runs] == [0.0] * len(there.measured)


def test_a_plan_counts_what_the_rule_saves_and_a_budget_does_not(tmp_path: Path) -> None:
    seconds = {}
    for pruner in ("none", "hyperband"):
        asked = recipe(pruner)
        cost = asked.cost.model_copy(update={"throughput": Speed.parse("1000 examples/s")})
        asked = asked.model_copy(update={"cost": cost})
        (planned,) = Study(asked, StudyFolder(tmp_path / pruner)).plan(StudyView({}, lambda _: Trajectory()))
        seconds[pruner] = planned.seconds
        here = Context(recipe=asked, view=StudyView({}, lambda _: Trajectory()), facts=FACTS, findings={})
        assert sum(spec.examples for spec in SEARCH.at_most(here)) == pytest.approx(12 * EXAMPLES, rel=0.01)
    assert 0.3 < (seconds["hyperband"] or 0) / (seconds["none"] or 1) < 0.9


def test_a_task_without_validation_stops_nothing_and_says_so(tmp_path: Path) -> None:
    finding = run(tmp_path, recipe(EAGER, trials=6), SyntheticLauncher(SyntheticStudy(validations=0)))
    assert "stopped" not in finding.tables
    assert "the task validates nothing along the way" in check(finding, "search stopping").sentence


def test_the_report_says_by_which_rule_trials_end_and_what_is_made_of_them() -> None:
    engine = PlannerEngine()
    assert "survivors" in engine.method(recipe("survivors"))
    assert "predicted from how far" in engine.method(recipe("survivors"))
    assert "stopped" not in engine.method(recipe())


class Overdue(SyntheticLauncher):
    """Runs out of time at 60 % of a trial that is to be the sixth."""

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Yield its record without a loss, and leave its trajectory up to there."""
        folders = {request.spec.trial_id: request for request in requests}
        for record in super().run(requests, progress):
            request = folders[record.trial_id]
            if len(self.ran) != 6:
                yield record
                continue
            path = request.folder / PARQUET_NAME
            rows = pq.read_table(path).to_pandas()
            pq.write_table(pa.Table.from_pandas(rows[rows.step <= 0.6 * request.spec.horizon]), path)
            steps = int(0.6 * request.spec.horizon)
            reason = "it ran longer than it may"
            yield dataclasses.replace(record, status="timed_out", reason=reason, final_loss=None, steps=steps)


def test_a_trial_whose_time_ran_out_informs_by_its_last_validation_and_is_not_asked_for_again(tmp_path: Path) -> None:
    asked = recipe()
    run(tmp_path, asked, Overdue(SyntheticStudy()))
    there = course(asked, tmp_path)
    (late,) = there.failed
    setting = (late.spec.peak_lr, late.spec.global_batch_size)
    (told,) = [one for one in there.runs if one.sd > 0]
    assert told.setting == setting
    assert abs((told.loss or 0.0) - Truth().loss(told.batch_size, told.lr, EXAMPLES)) < 3 * told.sd
    assert there.question.closed == {setting}
    assert setting in there.question.settings
    assert sum((spec.peak_lr, spec.global_batch_size) == setting for spec in there.wanted) == 1
    assert there.advice.named != setting

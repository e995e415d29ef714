"""What a question still takes is counted on top of its own trials, whatever others train beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lrscale.recipe import Recipe
from lrscale.store import ScheduleSpec, StudyFolder, StudyView, TrialSpec
from lrscale.study import Study
from lrscale.study.budget.allocate import Need
from lrscale.study.cost import TrialCost
from lrscale.study.experiments import EXPERIMENTS, Context
from lrscale.study.planned import estimate, taken_by
from lrscale.study.progress import SilentProgress
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import FACTS, SyntheticLauncher
from lrscale.units import Layout

RECIPE = Recipe.model_validate(
    {
        "name": "synthetic",
        "task": SyntheticStudy().task,
        "layout": {"devices": 2, "max_per_device_batch_size": 64},
        "experiments": {
            "range_test": None,
            "equivalence": None,
            "scaling": {"batch_sizes": [16, 64, 256], "horizon": "40k examples", "seeds": 2},
            "search": {},
        },
    }
)


@pytest.mark.parametrize(("first", "second"), [("search", "scaling"), ("scaling", "search")])
def test_trials_of_the_same_size_that_another_question_asked_for_are_not_taken_for_its_own(
    tmp_path: Path, first: str, second: str
) -> None:
    folder = StudyFolder(tmp_path)
    Study(RECIPE, folder).run(SyntheticLauncher(SyntheticStudy()), experiments=[first], progress=SilentProgress())
    here = Context(recipe=RECIPE, view=StudyView.of(folder), facts=FACTS, findings={})
    experiment = EXPERIMENTS[second]
    own = {trial.trial_id for trial in here.finished(experiment.plan(here))}
    entry = estimate(experiment, here)
    assert own < set(here.view.trials)
    assert entry.trials > 0
    assert entry.trials_expected == len(experiment.typical(here)) - len(own)
    assert entry.trials_at_most == len(experiment.at_most(here)) - len(own)


@pytest.mark.parametrize(("at_once", "seconds"), [(1, 60.0), (2, 40.0), (4, 30.0)])
def test_trials_run_side_by_side_and_those_of_a_pinned_layout_alone(at_once: int, seconds: float) -> None:
    free = TrialSpec(
        task={}, schedule=ScheduleSpec(name="constant"), peak_lr=0.1, global_batch_size=8, horizon=10, seed=0
    )
    pinned = dataclasses.replace(free, layout=Layout(per_device_batch_size=8))
    costs = [TrialCost(examples=80, devices=1, seconds=20.0, basis="measured")] * 3
    assert taken_by([free, free, pinned], costs, at_once) == Need(trials=3, examples=240, seconds=seconds)
    unknown = dataclasses.replace(costs[0], seconds=None)
    assert taken_by([free, free, pinned], [*costs[:2], unknown], at_once).seconds is None

"""What a question still takes is counted on top of its own trials, whatever others train beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrscale.recipe import Recipe
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Study
from lrscale.study.experiments import EXPERIMENTS, Context
from lrscale.study.planned import estimate
from lrscale.study.progress import SilentProgress
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import FACTS, SyntheticLauncher

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

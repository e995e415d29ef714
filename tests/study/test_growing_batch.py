"""A batch that grows against an LR that decays, on studies whose truth is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from lrscale.launch import SilentProgress
from lrscale.recipe import parse_recipe
from lrscale.store import StudyFolder, StudyView, TrialRecord, TrialSpec
from lrscale.study import Study
from lrscale.study.experiments import Context
from lrscale.study.experiments.growing_batch import GROWING, growing_cells
from lrscale.study.finding import Finding
from lrscale.study.optimizer_rule import lr_power
from lrscale.testing.synthetic import SyntheticStudy, Truth
from lrscale.testing.synthetic_launcher import FACTS, SyntheticLauncher

RECIPE = """
name: growing
task: {model: {class_path: m.Net}}
experiments:
  range_test: false
  equivalence: false
  growing_batch: {batch_size: 16, horizon: 20k examples, margin: 0.02}
"""
STUDY = SyntheticStudy(truth=Truth(noise_sd=0.002, seed_sd=0.02), validations=10)


class Planted(SyntheticLauncher):
    """Adds a loss to the trials whose batch grows."""

    extra = 0.0

    @override
    def adjusted(self, spec: TrialSpec, record: TrialRecord) -> TrialRecord:
        if spec.batch_schedule is None or record.final_loss is None:
            return record
        return dataclasses.replace(record, final_loss=record.final_loss + self.extra)


def run(path: Path, extra: float, recipe: str = RECIPE) -> Finding:
    launcher = Planted(STUDY)
    launcher.extra = extra
    return Study(parse_recipe(recipe), StudyFolder(path)).run(launcher, progress=SilentProgress()).findings[0]


@pytest.mark.parametrize(("extra", "verdict"), [(0.0, "equivalent"), (0.06, "higher"), (-0.06, "lower")])
def test_the_verdict_is_that_of_the_planted_difference(tmp_path: Path, extra: float, verdict: str) -> None:
    finding = run(tmp_path, extra)
    assert finding.data["verdict"] == verdict
    for name in ("difference", "difference_same_lr"):
        gap = finding.numbers[name]
        assert gap.lo is not None
        assert gap.hi is not None
        assert gap.value == pytest.approx(extra, abs=0.012)
        assert gap.lo <= extra <= gap.hi
    assert finding.trial_ids


@pytest.mark.parametrize(("optimizer", "multiples"), [("SGD", {1, 2, 4, 8}), ("AdamW", {1, 4, 16})])
def test_the_batch_grows_by_the_rule_of_the_optimizer(optimizer: str, multiples: set[int]) -> None:
    facts: dict[str, Any] = {**FACTS, "optimizers": [optimizer]}
    context = Context(recipe=parse_recipe(RECIPE), view=StudyView({}, pytest.fail), facts=facts, findings={})
    spec = growing_cells(context)[GROWING].spec(context, 0.01, 0)
    # The last step takes what is left of the examples.
    assert set(list(spec.course.multiples())[:-1]) == multiples
    assert spec.examples == 20_000


def test_a_mixture_of_optimizers_counts_as_adaptive() -> None:
    assert lr_power("auto", {"optimizers": ["SGD", "AdamW"]}) == 0.5
    assert lr_power("linear", {"optimizers": ["AdamW"]}) == 1.0
    assert lr_power("auto", {}) == 0.5


def test_a_schedule_that_is_not_known_before_it_runs_is_refused() -> None:
    from lrscale.errors import LrscaleError

    with pytest.raises(LrscaleError, match="not known before it runs"):
        parse_recipe(RECIPE.replace("margin: 0.02", "schedule: module"))

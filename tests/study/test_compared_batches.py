"""Schedules of the batch size in the comparison: equal examples, the optimizer's rule, no recommendation."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrscale.launch import SilentProgress
from lrscale.recipe import parse_recipe
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Study
from lrscale.study.experiments import Context
from lrscale.study.schedules.cells import entrants
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import FACTS, SyntheticLauncher

RECIPE = """
name: grown
task: {model: {class_path: m.Net}}
experiments:
  range_test: false
  equivalence: false
  schedules:
    batch_size: 32
    horizon: 4k examples
    seeds: 2
    schedules:
      - constant
      - {name: constant, batch_schedule: {name: doubling, rule: auto}}
      - {name: constant, batch_schedule: {name: linear_ramp, settings: {times: 4}}}
      - multi_step
      - {name: multi_step, batch_schedule: instead_of_decay}
"""


@pytest.mark.parametrize(("optimizer", "lr_power", "power"), [("SGD", 1.0, 1.0), ("AdamW", 0.5, 2.0)])
def test_lr_and_batch_go_together_as_the_optimizer_has_it(optimizer: str, lr_power: float, power: float) -> None:
    context = Context(
        recipe=parse_recipe(RECIPE),
        view=StudyView({}, pytest.fail),
        facts={**FACTS, "optimizers": [optimizer]},
        findings={},
    )
    specs = {label: one.cell.spec(context, 0.1, 0) for label, one in entrants(context).items()}
    settings = {label: dict(spec.batch_schedule.settings) for label, spec in specs.items() if spec.batch_schedule}
    assert list(settings.values()) == [{"lr_power": lr_power}, {"times": 4}, {"power": power}]
    # Equal examples, in fewer steps.
    assert {spec.examples for spec in specs.values()} == {4000}
    steps = {label: spec.course.steps for label, spec in specs.items()}
    assert steps["constant"] == steps["multi_step"] == 125
    assert all(steps[label] < 125 for label in settings)


def test_what_grows_is_ranked_with_the_others_and_not_recommended(tmp_path: Path) -> None:
    study = Study(parse_recipe(RECIPE), StudyFolder(tmp_path))
    (finding,) = study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress()).findings
    rows = {row["label"]: row for row in finding.data["schedules"]}
    assert len(rows) == 5
    assert rows["constant + batch doubling (rule=auto)"]["largest_batch"] == 256
    assert {row["label"] for row in finding.data["own_schedules"]} == {"constant", "multi_step"}
    # The LR is drawn as it runs: doubled batches raise it by sqrt(2) each.
    shape = rows["constant + batch doubling (rule=auto)"]["shape"]
    assert max(factor for _, factor in shape) == pytest.approx(8**0.5)

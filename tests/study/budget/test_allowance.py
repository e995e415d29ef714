"""What may still be spent bounds how many trials may run."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrscale.recipe import Recipe
from lrscale.store import ScheduleSpec, StudyFolder, StudyView, TrialSpec
from lrscale.study.budget import Allowance
from lrscale.study.cost import TrialCost
from lrscale.study.experiments import Context

COSTS = [TrialCost(examples=100 * size, devices=1, seconds=float(size), basis="measured") for size in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("allowance", "count"),
    [
        (Allowance(), 4),
        (Allowance(trials=0), 0),
        (Allowance(trials=3), 3),
        (Allowance(examples=300), 2),
        (Allowance(seconds=5.9), 2),
        (Allowance(seconds=6.0), 3),
        (Allowance(seconds=3.0, at_once=2), 3),
        (Allowance(trials=3, examples=100), 1),
    ],
)
def test_trials_are_afforded_in_their_order_until_one_does_not_fit(allowance: Allowance, count: int) -> None:
    assert allowance.affords(COSTS) == count


def test_an_experiment_chooses_its_number_of_trials_by_the_budget() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "demo",
            "task": {"model": {"class_path": "shop.Net"}},
            "cost": {"throughput": "1000 examples/s"},
        }
    )
    spec = TrialSpec(
        task={}, schedule=ScheduleSpec(name="cosine"), peak_lr=0.1, global_batch_size=50, horizon=180, seed=0
    )
    context = Context(
        recipe=recipe,
        view=StudyView({}, StudyFolder(Path("none")).trajectory),
        facts={},
        findings={},
        budget=Allowance(seconds=55.0),
    )
    # A second to start, nine to train.
    assert context.cost(spec).seconds == pytest.approx(10.0)
    assert context.affords([spec] * 200) == 5

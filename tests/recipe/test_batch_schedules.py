"""A schedule that is compared may say how its batch grows."""

from __future__ import annotations

import pytest

from lrscale.errors import RecipeError
from lrscale.recipe import Recipe, parse_recipe
from lrscale.recipe.batch_schedules import BatchScheduleChoice


def recipe(entry: str) -> Recipe:
    head = "name: r\ntask: {model: {class_path: m.Net}}\nexperiments:\n  schedules:\n    batch_size: 8\n"
    return parse_recipe(f"{head}    horizon: 1k examples\n    schedules: [constant, {entry}]\n")


def grown(entry: str) -> tuple[str, BatchScheduleChoice]:
    comparison = recipe(entry).experiments.schedules
    assert comparison is not None
    choice = comparison.schedules[1]
    assert choice.batch_schedule is not None
    return choice.label, choice.batch_schedule


def test_a_batch_schedule_is_named_shortly_or_with_its_settings() -> None:
    short, choice = grown("{name: constant, batch_schedule: doubling}")
    assert (short, dict(choice.settings)) == ("constant + batch doubling", {})
    # A setting equal to its default is the same trial.
    assert grown("{name: constant, batch_schedule: {name: doubling, settings: {factor: 2}}}")[0] == short
    own, choice = grown("{name: cosine, batch_schedule: {name: linear_ramp, settings: {times: 4}, rule: auto}}")
    assert own == "cosine + batch linear_ramp (rule=auto, times=4)"
    assert choice.rule == "auto"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{name: constant, batch_schedule: doubeling}", "doubling"),
        ("{name: constant, batch_schedule: {name: doubling, settings: {every: 0.5}}}", "has no setting every"),
        ("{name: constant, batch_schedule: {name: doubling, settings: {factor: 0}}}", "factor"),
        ("{name: constant, batch_schedule: {name: doubling, settings: {lr_power: 1}, rule: auto}}", "lr_power"),
        ("{name: constant, batch_schedule: instead_of_decay}", "in the place of a decay, and is constant"),
        ("{name: multi_step, batch_schedule: {name: instead_of_decay, rule: none}}", "by no rule"),
        ("{name: module, batch_schedule: doubling}", "not known before it runs"),
        ("{name: reduce_on_plateau, batch_schedule: doubling}", "not known before it runs"),
        ("{class_path: torch.optim.lr_scheduler.StepLR, batch_schedule: doubling}", "not known before it runs"),
        ("{name: constant, batch_schedule: {name: piecewise, settings: {points: [[0.5, 2]]}}}", "rise from 0"),
    ],
)
def test_what_cannot_grow_is_refused_with_the_remedy(entry: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(entry)
    assert said in str(caught.value)


def test_no_other_schedule_takes_a_batch_schedule() -> None:
    text = (
        "name: r\ntask: {model: {class_path: m.Net}}\nexperiments:\n  scaling:\n    batch_sizes: [8]\n"
        "    horizon: 1k examples\n    schedule: {name: cosine, batch_schedule: doubling}\n"
    )
    with pytest.raises(RecipeError, match="batch_schedule"):
        parse_recipe(text)

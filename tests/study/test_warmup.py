"""The warm-up of a schedule: what a recipe says becomes steps at each batch size."""

from __future__ import annotations

import pytest

from lrscale.errors import LrscaleError, RecipeError
from lrscale.recipe import Recipe
from lrscale.store import StudyView, Trajectory, TrialSpec
from lrscale.study.experiments.base import Context
from lrscale.study.experiments.scaling import scaling_cells
from lrscale.study.schedules.cells import entrants


def context(*schedules: object, horizon: str = "64k examples") -> Context:
    asked = Recipe.model_validate(
        {
            "name": "warm",
            "task": {"model": {"class_path": "shop.Net"}},
            "experiments": {
                "scaling": {"batch_sizes": [16, 64], "horizon": horizon, "schedule": schedules[0]},
                "schedules": {"schedules": list(schedules), "batch_size": 64},
            },
        }
    )
    view = StudyView({}, lambda trial_id: Trajectory())
    return Context(recipe=asked, view=view, facts={"training_examples": 8000}, findings={})


def swept(schedule: object, size: int) -> TrialSpec:
    where = context(schedule)
    return scaling_cells(where)[size].spec(where, 0.1, 0)


@pytest.mark.parametrize(
    ("warmup", "steps"),
    [
        ("3200 examples", (200, 50)),
        ("30 steps", (30, 30)),
        ("1 epoch", (500, 125)),
        ("2 %", (80, 20)),
        (0.02, (80, 20)),
        (0, (0, 0)),
    ],
)
def test_a_length_of_warm_up_becomes_steps_with_the_global_batch(warmup: object, steps: tuple[int, int]) -> None:
    choice = {"name": "cosine", "warmup": warmup}
    assert tuple(swept(choice, size).schedule.warmup_steps for size in (16, 64)) == steps


def test_the_same_share_stated_with_a_schedule_is_the_same_trial() -> None:
    assert swept({"name": "cosine", "warmup": "5 %"}, 64).trial_id == swept("cosine", 64).trial_id
    cosine = {"name": "cosine", "warmup_shape": "cosine"}
    assert swept(cosine, 64).trial_id != swept("cosine", 64).trial_id
    assert swept({**cosine, "warmup": 0}, 64) == swept({"name": "cosine", "warmup": 0}, 64)


def test_a_schedule_with_its_own_rise_has_a_warm_up_where_it_is_stated() -> None:
    assert swept("one_cycle", 64).schedule.warmup_steps == 0
    assert swept({"name": "one_cycle", "warmup": "3200 examples"}, 64).schedule.warmup_steps == 50


def test_a_warm_up_that_leaves_nothing_is_refused_with_its_steps() -> None:
    with pytest.raises(LrscaleError, match="a warm-up of 64k examples takes 1000 of 1000 steps at batch 64, all of"):
        swept({"name": "cosine", "warmup": "64k examples"}, 64)


def test_schedules_that_differ_in_their_warm_up_alone_are_compared() -> None:
    where = context("cosine", {"name": "cosine", "warmup": "3200 examples"}, {"name": "cosine", "warmup": 0})
    cells = {label: one.cell for label, one in entrants(where).items()}
    assert list(cells) == ["cosine", "cosine + 3.2k examples warm-up", "cosine without warm-up"]
    assert len({cell.spec(where, 0.1, 0).trial_id for cell in cells.values()}) == 2
    assert [cell.spec(where, 0.1, 0).schedule.warmup_steps for cell in cells.values()] == [50, 50, 0]


@pytest.mark.parametrize("warmup", [1.0, -0.1, "fast", "10", True])
def test_what_is_no_length_of_warm_up_is_refused(warmup: object) -> None:
    with pytest.raises((RecipeError, ValueError), match="warmup"):
        context({"name": "cosine", "warmup": warmup})

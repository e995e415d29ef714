"""The schedule of an evolved member: its points, and what is said of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.recipe import Recipe, parse_recipe
from lrscale.schedules import build_schedule
from lrscale.store import StudyView
from lrscale.store.trajectory import Trajectory
from lrscale.study.engines.evolved import Evolved, schedule_points
from lrscale.study.experiments import EXPERIMENTS, Context

segments = st.lists(st.tuples(st.floats(1e-6, 1.0), st.integers(1, 5)), min_size=1, max_size=8)


@given(segments)
def test_the_points_give_back_the_lr_of_every_segment(course: list[tuple[float, int]]) -> None:
    told = [{"lr": lr, "examples": 100 * length} for lr, length in course]
    peak = max(lr for lr, _ in course)
    schedule = build_schedule("piecewise", {"points": schedule_points(told)})
    horizon = 100 * sum(length for _, length in course)
    begun = 0
    for lr, length in course:
        middle = begun + 50 * length
        assert math.isclose(peak * schedule.factor(middle, horizon), lr, rel_tol=1e-5)
        begun += 100 * length


def context(seeds: int) -> Context:
    recipe = Recipe.model_validate(
        {
            "name": "demo",
            "task": {"model": {"class_path": "shop.Net"}},
            "experiments": {
                "search": {
                    "batch_sizes": [16, 32],
                    "horizon": "3200 examples",
                    "validations": 2,
                    "learning_rates": [1e-4, 1e-1],
                    "confirm": {"seeds": seeds} if seeds else False,
                    "engine": {"name": "ray", "scheduler": "pbt"},
                }
            },
        }
    )
    view = StudyView({}, lambda trial_id: Trajectory())
    return Context(recipe=recipe, view=view, facts={"training_examples": 1000}, findings={})


def segment(lr: float, size: int = 16, loss: float | None = 0.5) -> dict[str, Any]:
    return {"trial_id": "t", "lr": lr, "batch_size": size, "examples": 1600, "loss": loss}


def test_the_replay_trains_as_many_examples_at_the_peak_of_the_course_with_fresh_seeds() -> None:
    own = Evolved(context(2), {"trials": [], "course": [segment(1e-3), segment(4e-3)], "members": 4}, "")
    replays = own.plan()
    assert [spec.seed for spec in replays] == [2, 3]
    assert {spec.peak_lr for spec in replays} == {4e-3}
    assert {spec.examples for spec in replays} == {3200}
    assert replays[0].schedule.settings["points"] == [[0.0, 0.25], [0.5, 1.0]]


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (None, "Cannot tell: the population has not come to its end."),
        ({"trials": ["a"], "course": [], "members": 4}, "Cannot tell: no member of the population came to its end"),
        (
            {"trials": ["a"], "course": [segment(1e-3), segment(4e-3, loss=0.25)], "members": 4},
            "A population of 4 found a schedule of 2 segments with LRs from 1.0e-3 to 4.0e-3: its best member ended at "
            "loss 0.25; it was not trained again.",
        ),
    ],
)
def test_what_an_evolution_came_to_is_one_sentence(kept: dict[str, Any] | None, words: str) -> None:
    own = Evolved(context(0), kept, "")
    assert own.finding(EXPERIMENTS["search"]).sentence.startswith(words)


def test_a_member_that_changed_its_batch_size_is_not_replayed_and_it_is_said() -> None:
    course = [segment(1e-3), segment(4e-3, size=32)]
    own = Evolved(context(2), {"trials": [], "course": course, "members": 4}, "")
    assert own.plan() == []
    (check,) = own.finding(EXPERIMENTS["search"]).checks
    assert (check.name, check.status) == ("search replay", "WARNING")


def test_the_remedy_is_a_recipe_that_compares_the_schedule_with_others_at_equal_examples() -> None:
    course = [segment(1e-3), segment(4e-3)]
    own = Evolved(context(0), {"trials": [], "course": course, "members": 4}, "")
    (check,) = own.finding(EXPERIMENTS["search"]).checks
    assert check.remedy is not None
    override = check.remedy.partition("--set ")[2].strip("'")
    recipe = parse_recipe("name: demo\ntask: {model: {class_path: shop.Net}}", overrides=[override])
    asked = recipe.experiments.schedules
    assert asked is not None
    assert (asked.batch_size, str(asked.horizon)) == (16, "3.2k examples")
    assert [choice.name for choice in asked.schedules] == ["constant", "cosine", "wsd", "piecewise"]
    assert asked.schedules[-1].settings["points"] == schedule_points(course)

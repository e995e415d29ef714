"""A batch schedule made of the noise scale along training can be trained as it stands."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from lrscale.batch_schedules import build_batch_schedule
from lrscale.laws.base import Interval
from lrscale.laws.noise_scale import NoiseScale, NoiseScaleStatus
from lrscale.recipe import parse_recipe
from lrscale.report.batch_schedule_entry import batch_schedule_entry
from lrscale.study.noise_scale.growth import MOST, batch_growth

WINDOW = NoiseScale(
    **dict.fromkeys((field.name for field in dataclasses.fields(NoiseScale)), None)  # type: ignore[arg-type]
    | {"status": NoiseScaleStatus.OK, "reason": "", "steps": 10, "confidence": 0.95}
)


def window(first: int, least: float | None, value: float | None = None) -> NoiseScale:
    interval = None if least is None else Interval(least, None, 0.95)
    return dataclasses.replace(WINDOW, first_step=first, last_step=first + 9, interval=interval, value=value)


def test_the_batch_is_the_largest_power_of_two_that_the_noise_scale_surely_allows() -> None:
    course = [window(0, 20.0), window(100, 70.0, 500.0), window(200, 40.0), window(300, 130.0), window(350, None)]
    found = batch_growth(course, batch_size=16, horizon=400)
    assert found == {"name": "piecewise", "settings": {"points": [[0.0, 1], [0.25, 4], [0.75, 8]]}, "rule": "auto"}
    built = build_batch_schedule(found["name"], found["settings"])
    assert [built.multiple(place, 400) for place in (0, 99, 100, 299, 300, 399)] == [1, 1, 4, 4, 8, 8]


@pytest.mark.parametrize("course", [[], [window(0, None)], [window(0, 15.9), window(100, 31.0)]])
def test_a_noise_scale_below_twice_the_batch_grows_nothing(course: list[NoiseScale]) -> None:
    assert batch_growth(course, batch_size=16, horizon=400) is None


def test_a_noise_scale_that_is_large_from_the_beginning_on_starts_there() -> None:
    found = batch_growth([window(0, 1e9), window(399, 1e12)], batch_size=16, horizon=400)
    assert found is not None
    assert found["settings"]["points"] == [[0.0, MOST]]


def test_what_the_report_hands_over_is_a_recipe_as_it_stands() -> None:
    found = batch_growth([window(0, 20.0), window(100, 70.0)], batch_size=16, horizon=400)
    assert found is not None
    text = batch_schedule_entry("a batch that grows", 16, found).text
    asked = yaml.safe_load(text)
    asked["experiments"]["schedules"]["horizon"] = "4k examples"
    whole = {"name": "r", "task": {"model": {"class_path": "m.Net"}}, **asked}
    comparison = parse_recipe(yaml.safe_dump(whole)).experiments.schedules
    assert comparison is not None
    choice = comparison.schedules[1].batch_schedule
    assert choice is not None
    assert choice.settings["points"] == [[0.0, 1], [0.25, 4]]
    assert choice.rule == "auto"

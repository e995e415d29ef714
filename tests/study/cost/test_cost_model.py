"""The time of a trial is that of its start, its steps and its validations, as far as trials have told it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lrscale.recipe import Recipe
from lrscale.store import ScheduleSpec, StudyFolder, StudyView, Trial, TrialRecord, TrialSpec
from lrscale.study.cost import CostModel
from lrscale.study.specs import trial_layout
from lrscale.units import Layout

STEP = 0.02
START = 1.5
VALIDATION = 0.4


def recipe(**cost: Any) -> Recipe:
    """Return a recipe for two devices that hold 64 examples each."""
    return Recipe.model_validate(
        {
            "name": "demo",
            "task": {"model": {"class_path": "shop.Net"}},
            "layout": {"devices": 2, "max_per_device_batch_size": 64},
            "cost": cost,
        }
    )


def spec(batch: int = 64, steps: int = 100, *, every: int | None = 10, layout: Layout | None = None) -> TrialSpec:
    """Return a trial of some steps."""
    return TrialSpec(
        task={},
        schedule=ScheduleSpec(name="cosine"),
        peak_lr=0.1,
        global_batch_size=batch,
        horizon=steps,
        seed=0,
        validate_every=every,
        layout=layout,
    )


def trial(one: TrialSpec, *, step: float = STEP, start: float = START, status: Any = "completed") -> Trial:
    """Return a trial that took what it should."""
    validation = 0.0 if one.validate_every is None else VALIDATION * -(-one.horizon // (one.validate_every or 10**9))
    timing = {
        "training": one.horizon * step,
        "validation": validation,
        "total": start + one.horizon * step + validation,
        "step_min": step,
    }
    if one.horizon > 3:
        timing["step_mean"] = step
    record = TrialRecord(
        trial_id=one.trial_id,
        status=status,
        steps=one.horizon,
        layout=trial_layout(recipe(), one),
        timing=timing,
    )
    return Trial(one, record)


def model(
    *trials: Trial, asked: Recipe | None = None, facts: Mapping[str, Any] | None = None, folder: Path = Path("none")
) -> CostModel:
    """Return what the trials tell."""
    view = StudyView({one.trial_id: one for one in trials}, StudyFolder(folder).trajectory)
    return CostModel.of(asked or recipe(), view, facts or {})


def test_a_longer_trial_of_a_timed_batch_costs_its_steps_and_validations() -> None:
    cost = model(trial(spec(steps=100, every=10))).cost(spec(steps=450, every=30))
    assert cost.seconds == pytest.approx(START + 450 * STEP + 15 * VALIDATION)
    assert (cost.basis, cost.devices, cost.examples) == ("measured", 2, 450 * 64)
    assert cost.device_seconds == pytest.approx(2 * (START + 450 * STEP + 15 * VALIDATION))


def test_validation_costs_nothing_where_a_trial_does_not_validate() -> None:
    cost = model(trial(spec())).cost(spec(steps=100, every=None))
    assert cost.seconds == pytest.approx(START + 100 * STEP)


def test_the_mean_counts_and_not_the_median() -> None:
    specs = [spec(steps=steps) for steps in (100, 101, 102)]
    told = model(trial(specs[0]), trial(specs[1]), trial(specs[2], step=0.08)).cost(spec(steps=200, every=None))
    mean = (100 * STEP + 101 * STEP + 102 * 0.08) / 303
    assert told.seconds == pytest.approx(START + 200 * mean)


def test_between_two_timed_batches_the_time_is_on_the_line_through_them() -> None:
    told = model(trial(spec(16), step=0.01), trial(spec(64), step=0.025)).cost(spec(32, every=None))
    assert told.basis == "between"
    assert told.seconds == pytest.approx(START + 100 * 0.015)


def test_accumulated_forwards_cost_as_much_each_as_one_that_was_timed() -> None:
    told = model(trial(spec(128), step=0.03)).cost(spec(512, every=None))
    assert told.basis == "measured"
    assert told.seconds == pytest.approx(START + 100 * 4 * 0.03)


def test_beyond_the_timed_batches_the_time_lies_between_constant_and_proportional() -> None:
    told = model(trial(spec(8), step=0.01)).cost(spec(128, every=None))
    assert told.basis == "beyond"
    assert told.seconds is not None
    assert START + 100 * 0.01 < told.seconds < START + 100 * 0.16


def test_other_numbers_of_devices_follow_from_the_model_of_step_times() -> None:
    # 2 ms and 0.1 ms an example; the reduction adds 3 ms.
    layouts = [Layout(per_device_batch_size=size, devices=ranks) for size in (8, 16, 32, 64) for ranks in (1, 2)]
    timed = [
        trial(
            spec(one.global_batch_size, every=None, layout=one),
            step=0.002 + 1e-4 * one.per_device_batch_size + (0.003 if one.devices > 1 else 0.0),
        )
        for one in layouts
        if one != layouts[-1]
    ]
    told = model(*timed).cost(spec(64, every=None, layout=Layout(per_device_batch_size=64)))
    assert told.seconds == pytest.approx(START + 100 * (0.002 + 64e-4), rel=0.1)


def test_the_first_steps_alone_tell_little_and_give_way_to_a_stated_throughput() -> None:
    short = trial(spec(steps=3, every=None), step=0.2)
    assert model(short).cost(spec(every=None)).basis == "beyond"
    stated = model(short, asked=recipe(throughput="6400 examples/s")).cost(spec(every=None))
    assert stated.basis == "stated"
    assert stated.seconds == pytest.approx(START + 100 * 64 / 6400)
    measured = model(short, trial(spec()), asked=recipe(throughput="6400 examples/s")).cost(spec(every=None))
    assert measured.basis == "measured"
    assert measured.seconds == pytest.approx(START + 100 * STEP)


def test_before_any_trial_a_stated_throughput_prices_steps_and_validations() -> None:
    asked = recipe(throughput="6400 examples/s")
    told = model(asked=asked, facts={"validation_examples": 1920}).cost(spec(every=50))
    assert told.seconds == pytest.approx(1.0 + 100 * 64 / 6400 + 2 * 1920 / 6400 / 3)


def test_without_anything_the_time_is_unknown_and_the_examples_are_not() -> None:
    told = model().cost(spec())
    assert (told.seconds, told.device_seconds, told.basis, told.examples) == (None, None, "unknown", 6400)


def test_trials_that_crashed_or_left_no_times_tell_nothing() -> None:
    assert model(trial(spec(), status="crashed")).cost(spec()).basis == "unknown"
    bare = TrialRecord(trial_id=spec().trial_id, status="completed", steps=100, timing={"total": 3.0})
    assert model(Trial(spec(), bare)).cost(spec()).basis == "unknown"


def test_the_spread_is_how_far_trials_lie_from_their_price() -> None:
    assert model(trial(spec())).spread() is None
    exact = model(*(trial(spec(steps=steps)) for steps in (50, 100, 200)))
    assert exact.spread() == pytest.approx(0.0, abs=1e-9)
    wide = model(trial(spec(steps=400)), trial(spec(steps=401), step=4 * STEP))
    spread = wide.spread()
    assert spread is not None and 0.3 < spread < 1.5


def test_another_model_is_priced_by_its_own_trials_once_it_has_some() -> None:
    wide = dataclasses.replace(spec(), task={"model": "wide"})
    before = model(trial(spec())).cost(wide)
    assert before.basis == "beyond"
    after = model(trial(spec()), trial(dataclasses.replace(wide, seed=1), step=5 * STEP)).cost(wide)
    assert after.basis == "measured"
    assert after.seconds == pytest.approx(START + 100 * 5 * STEP + 10 * VALIDATION)

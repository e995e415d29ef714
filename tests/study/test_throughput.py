"""Throughput on trials whose times follow a known model: knees, layouts for a target, what more ranks would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lrscale.laws.step_time import StepTimeModel, TimedLayout, fit_step_time
from lrscale.recipe import Recipe
from lrscale.store import StudyView, Trial, TrialRecord, TrialSpec
from lrscale.study.experiments import EXPERIMENTS, Context
from lrscale.study.experiments.throughput import throughput_layouts
from lrscale.study.finding import Finding
from lrscale.study.layouts.choice import fastest_layout
from lrscale.units import Layout

TRUTH = StepTimeModel(
    compute_fixed=0.01, compute_per_example=1e-3, sync_fixed=0.02, sync_per_rank=0.002, gamma=1.5
)  # fmt: skip


def recipe(throughput: Mapping[str, Any], *, most: int | None = 64, **rest: Any) -> Recipe:
    layout = {"devices": 4} if most is None else {"devices": 4, "max_per_device_batch_size": most}
    experiments = {
        "throughput": dict(throughput),
        "scaling": {"batch_sizes": [32, 512], "horizon": "40k examples"},
    }
    task = {"model": {"class_path": "shop.Net"}}
    return Recipe.model_validate({"name": "t", "task": task, "layout": layout, "experiments": experiments, **rest})


def timed(spec: TrialSpec, factor: float = 1.0, **measured: Any) -> Trial:
    layout = spec.layout
    assert layout is not None
    seconds = factor * TRUTH.seconds(layout.per_device_batch_size, layout.world_size)
    timing = {
        "step_p50": seconds,
        "step_p90": 1.2 * seconds,
        "step_mean": seconds,
        "step_se": 0.01 * seconds,
        "step_degrees": 8,
        "examples_per_second": layout.global_batch_size / seconds,
    }
    record = TrialRecord(trial_id=spec.trial_id, status="completed", timing=timing, measurements=measured)
    return Trial(spec, record)


def answer(asked: Recipe, *, memory: Finding | None = None, **measured: Any) -> Finding:
    trials: dict[str, Trial] = {}
    findings = {} if memory is None else {"memory": memory}
    context = Context(
        recipe=asked, view=StudyView(trials, lambda _: None), facts={}, findings=findings  # type: ignore[arg-type]
    )  # fmt: skip
    for spec in EXPERIMENTS["throughput"].plan(context):
        trials[spec.trial_id] = timed(spec, 1 + 0.02 * spec.seed, **measured)
    return EXPERIMENTS["throughput"].analyse(context)


def memory(size: int | None) -> Finding:
    status: Any = "cannot_tell" if size is None else "ok"
    return Finding(key="memory", title="Memory", status=status, sentence="Probed.", data={"size": size})


def test_rows_have_the_speed_and_interval_of_their_step_times() -> None:
    finding = answer(recipe({}))
    row = next(
        row for row in finding.tables["layouts"] if (row["devices"], row["per_device_batch_size"]) == (2, 16)
    )  # fmt: skip
    assert row["examples_per_second"] == pytest.approx(32 / TRUTH.seconds(16, 2))
    # Student's t at 8 degrees is 2.306: 2.3 % either way.
    assert row["hi"] / row["examples_per_second"] == pytest.approx(1.0233, rel=1e-3)
    assert row["examples_per_second"] / row["lo"] == pytest.approx(1.0233, rel=1e-3)


def test_repeats_are_trials_of_their_own_and_one_row() -> None:
    finding = answer(recipe({"repeats": 3}))
    rows = finding.tables["layouts"]
    assert len(finding.trial_ids) == 3 * len(rows)
    assert {row["repeats"] for row in rows} == {3}
    # Factors 1, 1.02, 1.04: a mean of 1.02, with the error of the trials and not of their steps.
    row = next(row for row in rows if (row["devices"], row["per_device_batch_size"]) == (1, 4))
    assert row["step_mean"] == pytest.approx(1.02 * TRUTH.seconds(4, 1))
    assert row["step_degrees"] == 2
    assert row["step_se"] == pytest.approx(0.02 * TRUTH.seconds(4, 1) / 3**0.5)


def test_the_first_repeat_has_the_id_that_a_single_one_has_always_had() -> None:
    def ids(asked: Recipe) -> list[str]:
        context = Context(
            recipe=asked, view=StudyView({}, lambda _: None), facts={}, findings={}  # type: ignore[arg-type]
        )  # fmt: skip
        return [spec.trial_id for spec in EXPERIMENTS["throughput"].plan(context)]

    once = ids(recipe({}))
    assert once[0] == "7e171ff4786dacd0"
    assert ids(recipe({"repeats": 2}))[: len(once)] == once


def test_the_knee_is_where_the_known_model_puts_it() -> None:
    finding = answer(recipe({"per_device_batch_sizes": [4, 16, 64, 256, 1024]}, most=None))
    knees = {knee["ranks"]: knee for knee in finding.data["knees"]}
    # On one device b / (0.01 + 0.001 b) reaches 90 % of its value at 1024 from b = 82 on; 64 reach 87 %, within errors.
    assert (knees[1]["size"], knees[1]["lo"], knees[1]["hi"]) == (256, 64, 256)
    assert finding.numbers["knee"].value == knees[4]["size"]


def test_more_ranks_are_predicted_with_an_interval_that_holds_the_truth() -> None:
    finding = answer(recipe({}))
    rows = {row["ranks"]: row for row in finding.tables["scale_out"]}
    assert sorted(rows) == [8, 16, 32]
    for ranks, row in rows.items():
        assert row["examples_per_second"] == pytest.approx(64 * ranks / TRUTH.seconds(64, ranks), rel=0.02)
        assert row["lo"] < row["examples_per_second"] < row["hi"]


def test_targets_of_the_recipe_get_the_fastest_layout_within_the_memory() -> None:
    finding = answer(recipe({}, target={"batch_size": 4096}), memory=memory(16))
    rows = {row["global_batch_size"]: row for row in finding.tables["targets"]}
    assert sorted(rows) == [32, 512, 4096]
    assert all(row["per_device_batch_size"] <= 16 for row in rows.values())
    for size, row in rows.items():
        assert row["per_device_batch_size"] * row["accumulate"] * row["devices"] == size
    assert rows[4096]["devices"] == 4


def test_sizes_that_do_not_fit_are_not_timed() -> None:
    def sizes(findings: Mapping[str, Finding]) -> set[int]:
        context = Context(
            recipe=recipe({}), view=StudyView({}, lambda _: None), facts={}, findings=findings  # type: ignore[arg-type]
        )  # fmt: skip
        return {layout.per_device_batch_size for layout in throughput_layouts(context)}

    assert sizes({}) == {4, 16, 64}
    assert sizes({"memory": memory(24)}) == {4, 16, 24}
    assert sizes({"memory": memory(None)}) == {4, 16, 64}


def test_a_step_that_waits_is_a_warning_with_its_share() -> None:
    parts = {
        "steps": 10,
        "seconds": 0.1,
        "busy": 0.5,
        "data": {"seconds": 0.03, "share": 0.3, "se": 0.01, "degrees": 4},
        "sync": {"seconds": 0.01, "share": 0.1, "se": 0.01, "degrees": 4},
    }
    finding = answer(recipe({}), step_time=parts)
    checks = {check.name: check for check in finding.checks}
    assert checks["data loading"].status == "WARNING"
    assert "At most 30 % of a step waits for data" in checks["data loading"].sentence
    assert checks["synchronisation"].status == "PASS"


def rows_of(*cells: tuple[int, int, float]) -> list[dict[str, Any]]:
    return [
        {
            "devices": devices,
            "num_nodes": 1,
            "per_device_batch_size": size,
            "accumulate": 1,
            "examples_per_second": speed,
            "lo": 0.95 * speed,
            "hi": 1.05 * speed,
        }
        for devices, size, speed in cells
    ]


def test_a_target_takes_the_fastest_split_that_divides_it() -> None:
    rows = rows_of((1, 64, 1500.0), (2, 24, 3000.0), (2, 32, 2000.0), (2, 64, 1900.0))
    choice = fastest_layout(256, rows)
    assert choice is not None
    assert choice.layout == Layout(per_device_batch_size=32, accumulate=4, devices=2)
    assert (choice.examples_per_second, choice.how) == (2000.0, "timed with another accumulation")
    exact = fastest_layout(48, rows)
    assert exact is not None
    assert (exact.layout.per_device_batch_size, exact.how) == (24, "timed")
    assert fastest_layout(7, rows) is None
    bounded = fastest_layout(256, rows, max_per_device_batch_size=16)
    assert bounded is None


def test_a_prediction_replaces_a_timed_layout_only_when_it_is_surely_faster() -> None:
    sizes = (4, 16, 64)
    fit = fit_step_time(
        [
            TimedLayout(per_device_batch_size=size, ranks=ranks, seconds=TRUTH.seconds(size, ranks))
            for size in sizes
            for ranks in (1, 2, 4)
        ]
    )
    cells = [(ranks, size, ranks * size / TRUTH.seconds(size, ranks)) for size in sizes for ranks in (1, 2, 4)]
    choice = fastest_layout(96, rows_of(*cells), fit=fit)
    assert choice is not None
    # 24 per device on four devices was not timed; 16 and 4 do not form 96 on them without accumulating.
    assert choice.layout == Layout(per_device_batch_size=24, devices=4)
    assert choice.how == "predicted"
    assert choice.examples_per_second == pytest.approx(96 / TRUTH.seconds(24, 4), rel=1e-3)
    assert fastest_layout(96, rows_of(*cells), fit=fit, max_per_device_batch_size=16) != choice

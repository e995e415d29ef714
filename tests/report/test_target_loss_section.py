"""The card on the way to a target loss."""

from __future__ import annotations

import dataclasses

import pytest

from lrscale.laws.steps import fit_steps_to_target
from lrscale.recipe import Recipe
from lrscale.recommend.measured import Speeds
from lrscale.recommend.to_target import WayToTarget, way_to_target
from lrscale.report import ReportContext
from lrscale.report.base import Card, make_card
from lrscale.report.sections.target_loss import TargetLossSection
from lrscale.store import StudyView, Trajectory
from lrscale.study.finding import Finding

SIZES = (16, 32, 64, 128, 256)
# 30 steps and 3,840 examples at least: the critical batch size is 128. Some steps are a little off, as runs are.
STEPS = [30 * (1 + 128 / size) * off for size, off in zip(SIZES, (1.01, 0.99, 1.01, 0.985, 1.005), strict=True)]


def finding(**changes: object) -> Finding:
    fit = fit_steps_to_target(SIZES, STEPS)
    data = {
        "target": 1.2,
        "stated": True,
        "rule": "stated in the recipe",
        "reason": "To reach loss 1.2 the critical batch size is about 128 examples.",
        "needs": None,
        "fit": fit.to_dict(),
        "runs": [
            {"batch_size": size, "lr": 0.1, "seed": 0, "steps": steps, "censored": 0, "trial_id": f"t{size}"}
            for size, steps in zip(SIZES, STEPS, strict=True)
        ],
        **changes,
    }
    ends = {"lo": 0.09, "hi": 0.11, "equivalent_lo": 0.09, "equivalent_hi": 0.11}
    rest = {"loss_lo": 1.0, "loss_hi": 1.2, "diverged_above": None, "trials": 9, "status": "ok"}
    slices = tuple({"batch_size": size, "best_lr": 0.1, "loss": 1.1, **ends, **rest} for size in SIZES)
    return Finding(
        key="scaling",
        title="Scaling",
        status="ok",
        sentence="It was measured.",
        tables={"slices": slices},
        data={"horizon_examples": 40_960, "target_loss": data},
    )


def throughput(half: float | None = None) -> Finding:
    rows = [
        {
            "per_device_batch_size": size,
            "devices": 1,
            "num_nodes": 1,
            "global_batch_size": size,
            "examples_per_second": size / (3e-3 + 4e-5 * size),
            **({} if half is None else {"lo": size / (3e-3 + 4e-5 * size) / half}),
            **({} if half is None else {"hi": size / (3e-3 + 4e-5 * size) * half}),
        }
        for size in SIZES
    ]
    return Finding(key="throughput", title="Throughput", status="ok", sentence="Timed.", data={"rows": rows})


PLAIN = {
    "name": "demo",
    "task": {"model": {"class_path": "shop.Net"}},
    "experiments": {"scaling": {"batch_sizes": list(SIZES), "horizon": "40960 examples", "schedule": "constant"}},
    "target": {"loss": 1.2, "objective": "time"},
    "cost": {"price": "2.5 EUR"},
}


def context(scaling: Finding, plain: dict[str, object] | None = None) -> ReportContext:
    view = StudyView({}, lambda _: Trajectory())
    return ReportContext(
        plan={"recipe": PLAIN if plain is None else plain}, view=view, findings=(scaling, throughput())
    )


def card(context: ReportContext) -> Card:
    made = make_card(TargetLossSection(), context)
    assert made.status != "error", made.notes
    return made


def test_the_card_carries_the_point_that_the_objective_asks_for() -> None:
    made = card(context(finding()))
    rows = made.table("points").frame().set_index("batch_size")
    # 30 x (1 + 128 / 128) steps of 8.12 ms.
    assert rows.loc[128, "front"] == "best"
    assert rows.loc[128, "seconds"] == pytest.approx(60 * 8.12e-3, rel=0.02)
    assert rows.loc[128, "examples"] == pytest.approx(60 * 128, rel=0.02)
    assert rows.loc[128, "device_hours"] == pytest.approx(rows.loc[128, "seconds"] / 3600)
    assert rows.loc[128, "money"] == "0.00 EUR"
    # A batch of 256 takes more examples and, by 1.5 x 13.24 against 2 x 8.12, more time.
    assert rows.loc[256, "front"] == "no" and rows.loc[[16, 32, 64], "front"].tolist() == ["yes"] * 3
    assert "To reach loss 1.2, batch 128 is the fastest of 5 batch sizes" in made.finding
    assert made.figure("pareto").points["points"][3][:2] == [128.0, rows.loc[128, "examples"]]
    assert len(made.figure("steps").points["steps"]) == len(SIZES)


def test_a_price_of_time_moves_the_point_and_leaves_the_front() -> None:
    target = {"loss": 1.2, "objective": "time_price", "time_price": 5000.0}
    made = card(context(finding(), {**PLAIN, "target": target}))
    rows = made.table("points").frame().set_index("batch_size")
    assert rows["front"].tolist() == ["yes", "best", "yes", "yes", "no"]
    recipe = Recipe.model_validate({**PLAIN, "target": target})
    way = way_to_target(
        recipe, finding().data["target_loss"], SIZES, Speeds.of([throughput()], context(finding()).view)
    )
    assert isinstance(way, WayToTarget)
    expected = [30 * (1 + 128 / size) * (size + 5000 * (3e-3 + 4e-5 * size)) for size in SIZES]
    assert way.weighed == pytest.approx(expected, rel=0.03)


def test_the_cheapest_way_weighs_fewer_devices() -> None:
    # A second device halves the time of an example and adds 2 ms of exchange to a step, for both of them.
    single = throughput()
    double = [
        {**row, "devices": 2, "per_device_batch_size": size // 2, "examples_per_second": size / (5e-3 + 2e-5 * size)}
        for row in single.data["rows"]
        for size in [row["global_batch_size"]]
    ]
    timed = dataclasses.replace(single, data={"rows": [*single.data["rows"], *double]})
    asked = {**PLAIN, "layout": {"devices": 2}, "target": {"loss": 1.2, "objective": "cost"}}
    devices = {}
    for objective in ("time", "cost"):
        plain = {**asked, "target": {"loss": 1.2, "objective": objective}}
        view = context(finding()).view
        made = card(ReportContext(plan={"recipe": plain}, view=view, findings=(finding(), timed)))
        rows = made.table("points").frame().set_index("batch_size")
        devices[objective] = set(rows["devices"])
        assert rows["device_hours"].tolist() == pytest.approx((rows["seconds"] * rows["devices"] / 3600).tolist())
    assert devices == {"time": {2}, "cost": {1}}
    # 60 steps at batch 128, of 8.12 ms on one device against 2 x 7.56 ms on two.
    assert rows.loc[128, "front"] == "best"
    assert rows.loc[128, "seconds"] == pytest.approx(60 * 8.12e-3, rel=0.02)
    assert "batch 128 costs least of 5 batch sizes" in made.finding and "on 1 device for" in made.finding


def test_the_share_of_the_best_one_knows_how_well_steps_were_timed() -> None:
    recipe, data, view = Recipe.model_validate(PLAIN), finding().data["target_loss"], context(finding()).view
    shares = []
    for half in (1.0001, 1.1):
        way = way_to_target(recipe, data, SIZES, Speeds.of([throughput(half)], view))
        assert isinstance(way, WayToTarget) and way.batch_size == 128
        shares.append(way.share)
    # Batch 64 takes 90 x 5.56 / (60 x 8.12) = 1.027 times as long; the log of the ratio has an error of 0.069.
    assert shares[0] > 0.9
    assert 0.5 < shares[1] < 0.8


def test_one_located_batch_size_leaves_no_choice() -> None:
    recipe, data, view = Recipe.model_validate(PLAIN), finding().data["target_loss"], context(finding()).view
    way = way_to_target(recipe, data, [64], Speeds.of([throughput()], view))
    assert isinstance(way, str) and "leave no choice: the best LR was located at 1 of" in way


def test_a_refusal_is_said_with_what_would_tell() -> None:
    refused = finding(fit=None, reason="Steps to a target loss cannot be told: annealed.", needs="train at constant LR")
    made = card(context(refused))
    assert made.status == "absent"
    assert made.finding == "Steps to a target loss cannot be told: annealed. To tell: train at constant LR."


def test_the_law_is_shown_where_the_recipe_cannot_be_read() -> None:
    made = card(context(finding(), {"name": "old"}))
    assert [figure.key for figure in made.figures] == ["steps"]
    assert made.status == "cannot_tell" and "recipe cannot be read" in made.notes[0]

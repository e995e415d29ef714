from __future__ import annotations

from typing import Any

import pytest

from lrscale.report import ReportContext
from lrscale.report.base import Card, make_card
from lrscale.report.sections.layout import LayoutSection
from lrscale.store import StudyView, Trajectory
from lrscale.study import Check, Finding


def row(layout: str, gradients: list[float], losses: list[float | None], **others: Any) -> dict[str, Any]:
    return {
        "layout": layout,
        "status": "completed",
        "relation": "same" if gradients else None,
        "gradient": max(gradients, default=None),
        "loss": max((one for one in losses if one is not None), default=None),
        "scale": None,
        "parameter": "head.weight" if gradients else None,
        "parameter_difference": 1e-7 if gradients else None,
        "gradients": gradients,
        "losses": losses,
        **others,
    }


def card_of(rows: list[dict[str, Any]], **data: Any) -> Card:
    finding = Finding(
        key="equivalence",
        title="Layout check",
        status="ok",
        sentence="The layouts agree.",
        checks=(Check(name="layout does not change the answer", status="PASS", sentence="They agree."),),
        data={"status": "same", "causes": [], "rows": rows, "tolerance": 1.5e-5, "noise": None, **data},
    )
    context = ReportContext(plan={}, view=StudyView({}, lambda trial_id: Trajectory()), findings=(finding,))
    return make_card(LayoutSection(), context)


def test_every_difference_is_drawn_and_stands_in_the_table() -> None:
    card = card_of([row("1 device x 8", [], []), row("2 devices x 4", [1e-8, 0.0, 2e-8], [0.0, 1e-8, None])])
    assert card.status == "ok"
    assert card.figure("differences").points == {"2 devices x 4": [1e-8, 0.0, 2e-8]}
    assert [one["outcome"] for one in card.table("layouts").rows] == ["the reference", "agrees"]


def test_a_layout_that_failed_says_how_and_is_not_drawn() -> None:
    card = card_of([row("1 device x 8", [], []), row("2 devices x 4", [], [], status="crashed")])
    assert card.figures == ()
    assert card.table("layouts").rows[1]["outcome"] == "crashed"


def test_a_summed_loss_shows_its_ratio_and_what_to_do() -> None:
    causes = [{"kind": "sum_reduction", "sentence": "the loss is summed", "remedy": "average it"}]
    rows = [row("1 device x 8", [], []), row("2 devices x 4", [0.5], [0.5], relation="scaled", scale=2.0)]
    card = card_of(rows, causes=causes, noise=0.3)
    assert card.table("layouts").rows[1]["outcome"] == "the reference is 2 times it"
    assert card.table("causes").rows[0]["remedy"] == "average it"


@pytest.mark.parametrize("rows", [[], [row("1 device x 1", [], [])]])
def test_a_check_without_a_comparison_still_makes_a_card(rows: list[dict[str, Any]]) -> None:
    card = card_of(rows)
    assert card.status in ("ok", "absent")
    assert card.figures == ()

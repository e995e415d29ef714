"""The section of the forecast shows the finding, its miss, and published laws as comparisons."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable
from typing import Any

import pytest

from lrscale.report import ReportContext
from lrscale.report.base import make_card
from lrscale.report.render import render_report
from lrscale.report.sections.forecast import ForecastSection
from lrscale.store import StudyFolder, Trial
from lrscale.study.finding import Finding
from tests.study.test_forecast import _recipe, _run

Contexts = Callable[[str], ReportContext]


@pytest.fixture(scope="module")
def finding() -> Finding:
    """Of three widths at two horizons."""
    made: tuple[Finding, dict[str, Trial], list[int]] = _run(_recipe())
    return made[0]


def _with(context: ReportContext, made: Finding) -> ReportContext:
    return dataclasses.replace(context, findings=(*context.findings, made))


def test_the_figure_draws_every_cell_and_the_table_every_family(context_of: Contexts, finding: Finding) -> None:
    card = ForecastSection().compute(_with(context_of("complete"), finding))
    assert card.status == "ok"
    assert card.finding == finding.sentence
    points: Any = card.figures[0].points
    assert set(points) == {"best LR", "best batch", "lowest loss"}
    assert [len(rows) for rows in points.values()] == [6, 6, 6]
    tables = {table.key: table for table in card.tables}
    assert [row["family"] for row in tables["families"].rows] == ["surface (chosen)", "constant", "power", "nearest"]
    assert {row["law"] for row in tables["published"].rows} >= {"step_law", "bjorck"}
    assert "held out" in card.facts[0].term.lower()


def test_a_page_with_a_forecast_is_drawn(studies: Callable[[str], StudyFolder], finding: Finding) -> None:
    page = render_report(studies("complete"), findings=(finding,), recommendation=None)
    assert html.unescape(page).count(ForecastSection.title) >= 1
    assert "Bjorck" in page


def test_without_a_target_the_section_says_what_is_missing(context_of: Contexts) -> None:
    plain = _recipe().dump()
    plain["target"] = None
    from lrscale.recipe import Recipe

    made = _run(Recipe.model_validate(plain))[0]
    card = make_card(ForecastSection(), _with(context_of("complete"), made))
    assert card.status == "absent"
    assert "target.params" in card.finding

"""The section of a search draws every setting that it trained, in order, and what it names."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrscale.report import ReportContext
from lrscale.report.base import make_card
from lrscale.report.render import render_report
from lrscale.report.sections.headline import HeadlineSection
from lrscale.report.sections.search import SearchSection
from lrscale.store import StudyFolder
from lrscale.study.finding import Finding
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher
from tests.study.test_search import found, recipe

Contexts = Callable[[str], ReportContext]


@pytest.fixture(scope="module")
def finding(tmp_path_factory: pytest.TempPathFactory) -> Finding:
    """Of a search that ended and was confirmed."""
    return found(tmp_path_factory.mktemp("search"), recipe(trials=7))


def _card(context: ReportContext, finding: Finding) -> Any:
    return make_card(SearchSection(), dataclasses.replace(context, findings=(finding,)))


def test_the_map_has_every_trial_and_the_table_its_order(context_of: Contexts, finding: Finding) -> None:
    card = _card(context_of("complete"), finding)
    rows = finding.tables["trials"]
    assert card.status == "ok"
    assert card.finding == finding.sentence
    assert card.figure("map").points["trials"] == [[row["lr"], row["batch_size"], row["loss"]] for row in rows]
    assert [row["order"] for row in card.table("trials").rows] == list(range(1, len(rows) + 1))
    assert sum("named" in row["setting"] for row in card.table("confirmation").rows) == 1
    assert {fact.term for fact in card.facts} >= {"Predicted loss", "Confirmed loss", "Expected regret"}


def test_a_page_with_a_search_is_drawn(studies: Callable[[str], StudyFolder], finding: Finding) -> None:
    page = html.unescape(render_report(studies("complete"), findings=(finding,), recommendation=None))
    assert page.count(SearchSection.title) >= 1
    assert finding.sentence in page


def test_a_search_that_cannot_tell_still_shows_what_it_tried(context_of: Contexts, tmp_path: Path) -> None:
    made = found(tmp_path, recipe(trials=6), SyntheticLauncher(SyntheticStudy(all_diverge=True)))
    card = _card(context_of("complete"), made)
    assert card.status == "cannot_tell"
    assert len(card.table("trials").rows) == 6


def test_without_a_search_the_section_says_so(context_of: Contexts) -> None:
    card = make_card(SearchSection(), context_of("complete"))
    assert card.status == "absent"


def test_the_first_screen_has_the_map_where_no_slices_are(context_of: Contexts, finding: Finding) -> None:
    context = dataclasses.replace(context_of("range tests alone"), findings=(finding,))
    card = make_card(HeadlineSection(), context)
    assert [figure.key for figure in card.figures] == ["map"]


def test_the_course_counts_trials_and_examples_and_never_rises(context_of: Contexts, finding: Finding) -> None:
    card = _card(context_of("complete"), finding)
    points = card.figure("course").points["course"]
    searched = [row for row in finding.tables["trials"] if row["phase"] == "search"]
    assert [point[0] for point in points] == list(range(1, len(searched) + 1))
    assert points[-1][1] == sum(row["examples"] for row in searched)
    lowest = [point[3] for point in points if point[3] is not None]
    assert lowest == sorted(lowest, reverse=True)
    assert lowest[-1] == min(row["loss"] for row in searched if row["loss"] is not None)
    assert "A planner asks for each trial" in card.method


def test_what_a_stopper_ended_is_told_with_what_it_saved(context_of: Contexts, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    engine = {"name": "optuna", "pruner": "median"}
    made = found(tmp_path, recipe(trials=20, engine=engine, learning_rates=[1e-4, 1e-1], confirm=False))
    card = _card(context_of("complete"), made)
    stopped = [row for row in made.tables["trials"] if row["status"] == "stopped"]
    assert stopped
    facts = {fact.term: fact for fact in card.facts}
    assert facts["Stopped early"].value == f"{len(stopped)} of 20"
    assert facts["Planned by"].value == "Optuna"
    assert sum(row["stopped"] for row in card.table("stopped").rows) == len(stopped)
    assert "Optuna asks for each trial" in card.method
    assert "Such rules compare losses before the LR has decayed" in card.method
    # They have no loss, and leave the lowest one as it is.
    points = card.figure("course").points["course"]
    for row, (order, _, value, best) in zip(made.tables["trials"], points, strict=True):
        if row["status"] == "stopped":
            assert value is None
            assert order == 1 or best == points[order - 2][3]


def test_a_search_of_an_earlier_version_is_drawn_without_what_it_did_not_keep(
    context_of: Contexts, finding: Finding
) -> None:
    rows = [{key: value for key, value in row.items() if key != "examples"} for row in finding.tables["trials"]]
    data = {key: value for key, value in finding.data.items() if key not in ("engine", "stopping")}
    older = dataclasses.replace(finding, tables={**finding.tables, "trials": tuple(rows)}, data=data)
    card = _card(context_of("complete"), older)
    assert card.status == "ok"
    assert "Planned by" not in {fact.term for fact in card.facts}

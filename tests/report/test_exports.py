"""Figures, tables and Markdown beside the page, and the list of studies."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

from lrscale.recommend import Recommendation, Refusal
from lrscale.report import ReportContext, make_cards, render_report, write_report
from lrscale.report.base import Card, Column, Table
from lrscale.report.checks import run_checks
from lrscale.report.exports import report_markdown, write_figures, write_tables
from lrscale.report.index import find_studies, read_entry, render_index
from lrscale.store import StudyFolder
from lrscale.testing.synthetic import read_findings

from .conftest import HOSTILE, recommendation_for


def test_every_panel_is_a_picture_of_its_size_with_its_finding_as_title(
    context_of: Callable[[str], ReportContext], tmp_path: Path
) -> None:
    cards = [card for card in make_cards(context_of("complete")) if card.key in ("slices", "schedules")]
    written = write_figures(cards, tmp_path)
    panels = [panel for card in cards for figure in card.figures for view in figure.views for panel in view.panels]
    assert len(written) == len(set(written)) == 2 * len(panels)
    svg = ET.fromstring((tmp_path / "schedules-forest.svg").read_bytes())
    wide = next(card for card in cards if card.key == "schedules").figure("forest").views[0].panels[0].wide
    assert svg.attrib["viewBox"].split()[2:] == [str(side) for side in wide]
    forest = next(card for card in cards if card.key == "schedules").figure("forest")
    assert forest.alt[:60] in "".join(svg.itertext())
    # The size of a PNG stands in bytes 16 to 24 of it: two pixels to a CSS pixel.
    head = (tmp_path / "schedules-forest.png").read_bytes()[:24]
    assert (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")) == (2 * wide[0], 2 * wide[1])


def test_tables_come_back_with_every_value(context_of: Callable[[str], ReportContext], tmp_path: Path) -> None:
    cards = make_cards(context_of("complete"))
    written = write_tables(cards, tmp_path)
    assert {path.suffix for path in written} == {".csv", ".parquet"}
    for card in cards:
        for table in card.tables:
            stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{card.key}-{table.key}")
            packed, text = pd.read_parquet(tmp_path / f"{stem}.parquet"), pd.read_csv(tmp_path / f"{stem}.csv")
            assert list(packed.columns) == list(text.columns)
            assert len(packed) == len(text) == len(table.rows)
    slices = pd.read_parquet(tmp_path / "slices-slices.parquet")
    finding = context_of("complete").finding("scaling")
    assert finding is not None
    assert slices["best_lr"].tolist() == [row["best_lr"] for row in finding.tables["slices"]]


def test_a_table_of_mixed_values_is_written_too(tmp_path: Path) -> None:
    rows = ({"a": 1, "b": [1, 2]}, {"a": "text", "b": {"c": None}}, {"a": None, "b": None})
    table = Table(key="odd", caption="", columns=(Column(key="a", label="a"),), rows=rows)
    write_tables([Card(key="x", title="", finding="", tables=(table,))], tmp_path)
    read = pd.read_parquet(tmp_path / "x-odd.parquet")["a"]
    assert (read.tolist()[:2], read.isna().tolist()) == (["1", "text"], [False, False, True])
    assert pd.read_parquet(tmp_path / "x-odd.parquet")["b"].tolist()[0] == "[1, 2]"


def test_markdown_has_the_answer_every_finding_and_every_remedy(context_of: Callable[[str], ReportContext]) -> None:
    context = context_of("complete")
    answer = Recommendation.from_dict(context.recommendation or {})
    checks = run_checks(context)
    text = report_markdown(context.name, answer, context.findings, checks)
    assert text.startswith(f"**{answer.name}**: peak LR **")
    assert all(f"- **{finding.title}**: " in text for finding in context.findings)
    assert text.count("- **WARNING**") == sum(check.status == "WARNING" for check in checks)
    refused = report_markdown(context.name, Refusal(sentence="No optimum.", needs="More."), (), ())
    assert "no recommendation. No optimum. More." in refused


def test_hostile_names_are_text_in_markdown() -> None:
    text = report_markdown(HOSTILE, Refusal(sentence=HOSTILE, needs=""), (), ())
    assert "<script>" not in text
    assert text.count("\n") == 8
    assert not set(text) & set("\x00\x1b\u202e\u2066")


def test_the_numbers_of_page_findings_and_recommendation_are_the_same(studies: Callable[[str], StudyFolder]) -> None:
    folder = studies("complete")
    findings = read_findings(folder)
    plain = recommendation_for(findings, "complete")
    answer = Recommendation.from_dict(plain or {})
    path = folder.path / "kept.yaml"
    answer.save(path)
    kept = Recommendation.load(path)
    path.unlink()
    row = next(
        row
        for finding in findings
        if finding.key == "scaling"
        for row in finding.tables["slices"]
        if row["batch_size"] == kept.global_batch_size
    )
    # To the last digit in the files.
    assert (kept.lr.value, kept.lr.lo, kept.lr.hi) == (row["best_lr"], row["lo"], row["hi"])
    assert (kept.expected_loss.value, kept.equivalent_lr) == (row["loss"], (row["equivalent_lo"], row["equivalent_hi"]))
    page = render_report(folder, findings=findings, recommendation=answer)
    # The page shows two digits, sorts by all of them, and its figures are drawn from the same numbers.
    assert f'data-value="{row["best_lr"]}"' in page
    assert f'data-value="{row["loss"]}"' in page
    context = ReportContext.of(folder, view=_view(folder), findings=findings, recommendation=answer)
    headline = make_cards(context)[0]
    from lrscale.report.words import rate

    assert rate(kept.lr.value) in headline.finding + "".join(fact.value for fact in headline.facts)
    assert str(kept.lr.value) in "".join(snippet.text for snippet in headline.snippets) or headline.snippets


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    from lrscale.testing.synthetic import SyntheticStudy, write_synthetic_study

    bare = {"batch_sizes": (32,), "seeds": 1, "horizon_examples": 3_200, "schedules": (), "throughput": False}
    folder = write_synthetic_study(tmp_path / "team" / "one", SyntheticStudy(**bare, validations=0))  # type: ignore[arg-type]  # settings
    findings = read_findings(folder)
    plain = recommendation_for(findings, "complete")
    if plain is not None:
        Recommendation.from_dict(plain).save(folder.path / "recommendation.yaml")
    write_report(folder, findings=findings, recommendation=plain)
    broken = tmp_path / "team" / "<b>broken"
    broken.mkdir()
    (broken / "plan.json").write_text("{")
    (tmp_path / "team" / ".hidden").mkdir()
    (tmp_path / "team" / ".hidden" / "plan.json").write_text("{}")
    (tmp_path / "team" / "around").symlink_to(tmp_path / "team")
    return tmp_path / "team"


def test_a_list_of_studies_links_their_reports_and_says_what_cannot_be_read(shelf: Path) -> None:
    found = find_studies(shelf)
    assert [path.name for path in found] == ["<b>broken", "one"]
    entries = [read_entry(path) for path in found]
    assert entries[0].problem
    assert entries[1].trials > 5
    assert entries[1].report is not None
    page = render_index(entries, shelf)
    assert 'href="./one/report.html"' in page
    assert "<b>broken" not in page
    assert "cannot be read" in page
    assert "script-src" not in page


def test_a_report_alone_says_in_the_list_what_its_study_folder_says(
    studies: Callable[[str], StudyFolder], tmp_path: Path
) -> None:
    one, alone = tmp_path / "one", tmp_path / "alone"
    shutil.copytree(studies("complete").path, one)
    alone.mkdir()
    findings = read_findings(StudyFolder(one))
    answer = Recommendation.from_dict(recommendation_for(findings, "complete") or {})
    answer.save(one / "recommendation.yaml")
    write_report(StudyFolder(one), findings=findings, recommendation=answer).rename(alone / "one #1.html")
    (alone / "other.html").write_text("<!doctype html><title>another page</title>")
    (alone / "index.html").write_text(render_index([], alone))
    (path,) = find_studies(alone)
    from_page, from_folder = read_entry(path), read_entry(one)
    assert from_page.problem == ""
    told = ("name", "created", "answer", "expected", "confidence", "trials", "failed")
    assert [getattr(from_page, name) for name in told] == [getattr(from_folder, name) for name in told]
    assert from_page.answer.startswith("peak LR ") and from_page.expected
    # The page counts the report's own checks too.
    assert dict(from_page.checks).keys() >= dict(from_folder.checks).keys()
    assert 'href="./one%20%231.html"' in render_index([from_page], alone)


def test_a_report_without_an_answer_is_listed_with_its_reason(
    studies: Callable[[str], StudyFolder], tmp_path: Path
) -> None:
    folder = studies("all diverged")
    refusal = Refusal(sentence="All trials diverged.", needs="Lower the LRs.")
    (tmp_path / "r.html").write_text(render_report(folder, findings=read_findings(folder), recommendation=refusal))
    entry = read_entry(tmp_path / "r.html")
    assert "All trials diverged" in entry.answer
    assert (entry.confidence, entry.expected) == ("", "")
    assert entry.failed == entry.trials - sum(record.status == "completed" for record in folder.records().values())


def test_hostile_names_in_a_report_stay_text_in_the_list(studies: Callable[[str], StudyFolder], tmp_path: Path) -> None:
    folder = studies("hostile names")
    (tmp_path / "r.html").write_text(render_report(folder, findings=read_findings(folder)), encoding="utf-8")
    page = render_index([read_entry(path) for path in find_studies(tmp_path)], tmp_path)
    assert "<script" not in page and HOSTILE not in page and "cannot be read" not in page


def test_the_example_reports_are_listed() -> None:
    reports = Path(__file__).parents[2] / "reports"
    listed = (reports / "index.html").read_text(encoding="utf-8")
    entries = [read_entry(path) for path in find_studies(reports)]
    assert {entry.path.name for entry in entries} >= {"digits.html"}
    # `lrscale index reports` renews it.
    for entry in entries:
        assert f'href="./{entry.path.name}"' in listed
        assert entry.expected in re.sub("<[^>]*>", "", listed)


def test_a_page_that_is_watched_loads_itself_anew_and_the_last_one_does_not(
    studies: Callable[[str], StudyFolder],
) -> None:
    folder = studies("no findings")
    assert '<meta http-equiv="refresh" content="30">' in render_report(folder, refresh=30.0)
    assert 'http-equiv="refresh"' not in render_report(folder)


def _view(folder: StudyFolder) -> object:
    from lrscale.store import StudyView

    return StudyView.of(folder)

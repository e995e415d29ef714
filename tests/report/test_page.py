from __future__ import annotations

import html
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lrscale.report import ReportContext, render_report, words, write_report
from lrscale.store import StudyFolder
from lrscale.testing.synthetic import read_findings

from .conftest import HOSTILE, VARIANTS

Pages = Callable[[str], str]
VOID = {"meta", "input", "br", "link", "img", "hr"}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts = 0
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value or "")


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_the_page_is_well_formed_with_unique_ids_and_reaches_for_nothing(variant: str, page_of: Pages) -> None:
    page = page_of(variant)
    reader = _read(page)
    assert reader.unbalanced == []
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert reader.scripts == 1
    assert "could not be drawn" not in page
    for _, name, value in reader.attributes:
        assert not name.startswith("on"), name
        assert name not in ("src", "style", "srcset", "action", "formaction"), (name, value)
        if name == "href":
            assert value.startswith("#"), value
    assert "http://" not in page
    assert "url(//" not in page
    assert re.search(r"https?:", page.replace("http-equiv", "")) is None


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_references_inside_figures_point_to_ids_of_the_page(variant: str, page_of: Pages) -> None:
    reader = _read(page_of(variant))
    ids = set(reader.ids)
    for _, name, value in reader.attributes:
        wanted = [value.removeprefix("#")] if name == "href" else re.findall(r"url\(#([^)]+)\)", value)
        assert set(wanted) <= ids, (name, value)
        if name == "aria-labelledby":
            assert value in ids


def test_the_policy_allows_one_style_and_one_script_by_hash(page_of: Pages) -> None:
    policy = html.unescape(
        re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page_of("complete"))[0]
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall("'sha256-", policy)) == 2


def test_hostile_names_stay_text(page_of: Pages) -> None:
    page = page_of("hostile names")
    reader = _read(page)
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "\x00" not in page
    assert "\x1b" not in page
    said = "".join(reader.text)
    assert "<script>alert('x')</script>" in said
    assert "{{ 7*7 }}" in said
    # Ten thousand letters appear where text can be copied, and nowhere else.
    assert "long" * 2_500 not in re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)
    assert len(page) < 5_000_000


def test_hostile_names_in_the_head_are_cut(page_of: Pages) -> None:
    title = re.findall(r"<h1><bdi>(.*?)</bdi></h1>", page_of("hostile names"))[0]
    assert len(html.unescape(title)) <= 80
    assert len(HOSTILE) > 10_000


def test_the_numbers_of_the_page_are_those_of_the_findings(
    page_of: Pages, context_of: Callable[[str], ReportContext]
) -> None:
    page, context = page_of("complete"), context_of("complete")
    values = {float(value) for value in re.findall(r'data-value="([^"]+)"', page)}
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    finding = context.finding("scaling")
    assert finding is not None
    for row in finding.tables["slices"]:
        assert row["best_lr"] in values
        assert row["loss"] in values
        assert words.with_interval(row["best_lr"], row["lo"], row["hi"]) in text
        assert words.loss_between(row["loss"], row["loss_lo"], row["loss_hi"]) in text
    for trial in context.trials:
        if trial.record.final_loss is not None:
            assert trial.record.final_loss in values
    assert finding.sentence in text


def test_the_recommendation_in_the_page_is_exact(page_of: Pages, context_of: Callable[[str], ReportContext]) -> None:
    import yaml

    shown = re.findall(r'aria-label="recommendation.yaml">(.*?)</pre>', page_of("complete"), flags=re.DOTALL)[0]
    assert yaml.safe_load(html.unescape(shown)) == context_of("complete").recommendation


def test_every_figure_has_an_alternative_text(page_of: Pages) -> None:
    page = page_of("complete")
    assert len(re.findall(r'<figure class="plot', page)) >= 6
    assert all(label.strip() for label in re.findall(r'role="img" aria-label="([^"]*)"', page))
    assert page.count("<svg") == page.count('aria-hidden="true" focusable="false"')


def test_an_empty_study_has_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    page = render_report(StudyFolder(tmp_path / "nothing"))
    assert "no trial has finished" in page
    assert "Error." not in page


def test_an_unfinished_study_counts_what_has_no_record_yet(
    studies: Callable[[str], StudyFolder], tmp_path: Path
) -> None:
    import shutil

    path = tmp_path / "S"
    shutil.copytree(studies("no findings").path, path)
    folder = StudyFolder(path)
    victim = folder.trial_ids()[0]
    (folder.trial_path(victim) / "record.json").unlink()
    page = render_report(folder)
    assert "1 trial began and left no record" in page


def test_write_report_replaces_the_file_whole(studies: Callable[[str], StudyFolder]) -> None:
    folder = studies("one batch size")
    (folder.path / "report.html").write_text("old")
    path = write_report(folder, findings=read_findings(folder))
    assert path == folder.path / "report.html"
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [entry.name for entry in folder.path.iterdir() if "partial" in entry.name] == []


def test_a_damaged_trajectory_costs_its_line_and_not_the_report(
    studies: Callable[[str], StudyFolder], tmp_path: Path
) -> None:
    import shutil

    path = tmp_path / "S"
    shutil.copytree(studies("no validation").path, path)
    folder = StudyFolder(path)
    for trial_id in folder.trial_ids()[:3]:
        (folder.trial_path(trial_id) / "trajectory.parquet").write_bytes(b"not parquet")
    page = render_report(folder, findings=read_findings(folder))
    assert "Does it train?" in page
    assert "Error." not in page


def test_two_reports_of_one_study_are_equal(studies: Callable[[str], StudyFolder], page_of: Pages) -> None:
    folder = studies("no findings")
    assert render_report(folder) == page_of("no findings")


def test_a_missing_number_is_shown_as_absent() -> None:
    from lrscale.report.base import Column
    from lrscale.report.html import cell

    shown: dict[str, Any] = cell({"lr": None}, Column(key="lr", label="LR", kind="rate"))
    assert shown == {"text": words.EMPTY, "value": None, "number": True}

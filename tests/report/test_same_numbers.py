"""The page, fits.json, findings.json and recommendation.yaml hold the same numbers, to the last digit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from lrscale.recipe import Recipe
from lrscale.recommend import Recommendation, recommend
from lrscale.report import write_report
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Study, read_findings
from lrscale.study.progress import SilentProgress
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher


class Page(HTMLParser):
    """The tables of a report by id, as dictionaries of attributes by column; and its snippets."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[dict[str, dict[str, str]]]] = {}
        self.snippets: list[str] = []
        self._id, self._heads, self._cells, self._into = "", list[str](), list[dict[str, str]](), ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag == "table":
            self._id, self._heads = named.get("id", ""), []
            self.tables[self._id] = []
        elif tag == "tr":
            self._cells = []
        elif tag == "td":
            self._cells.append({**named, "text": ""})
            self._into = "td"
        elif tag == "th":
            self._heads.append("")
            self._into = "th"
        elif tag == "pre":
            self.snippets.append("")
            self._into = "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "pre"):
            self._into = ""
        elif tag == "tr" and self._cells:
            self.tables[self._id].append(dict(zip(self._heads, self._cells, strict=True)))

    def handle_data(self, data: str) -> None:
        if self._into == "td":
            self._cells[-1]["text"] += data
        elif self._into == "th":
            self._heads[-1] += data
        elif self._into == "pre":
            self.snippets[-1] += data


def number(cell: dict[str, str], name: str = "data-value") -> float | None:
    return float(cell[name]) if name in cell else None


def whole(cell: dict[str, str]) -> list[float | None]:
    """Return a cell's number with its interval."""
    return [number(cell, name) for name in ("data-value", "data-lo", "data-hi")]


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    folder = StudyFolder(tmp_path_factory.mktemp("numbers") / "S")
    recipe = Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "layout": {"devices": 2, "max_per_device_batch_size": 64},
            "experiments": {
                "range_test": {"seeds": 2},
                "scaling": {"batch_sizes": [32, 128], "horizon": "6400 examples", "seeds": 2},
                "schedules": ["linear", "cosine"],
                "throughput": {},
                "equivalence": None,
            },
        }
    )
    Study(recipe, folder).run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    findings = read_findings(folder)
    answer = recommend(recipe, StudyView.of(folder), findings)
    assert isinstance(answer, Recommendation)
    answer.save(folder.path / "recommendation.yaml")
    path = write_report(folder, findings=findings, recommendation=answer)
    return folder.path, Page(path.read_text(encoding="utf-8"))


def test_the_slices_of_the_page_are_those_of_the_fits(study: tuple[Path, Page]) -> None:
    folder, page = study
    cells = json.loads((folder / "fits.json").read_text())["scaling"]["cells"]
    rows = page.tables["slices-slices-table"]
    assert len(rows) == len(cells) == 2
    for row, cell in zip(rows, cells, strict=True):
        fit = cell["slice"]
        assert number(row["batch"]) == cell["batch_size"]
        assert whole(row["best LR (95 %)"]) == [fit["best_lr"], fit["interval"]["lo"], fit["interval"]["hi"]]
        bounds = fit["min_loss_interval"]
        assert whole(row["loss at best (95 %)"]) == [fit["min_loss"], bounds["lo"], bounds["hi"]]
        assert [number(row["equal from"]), number(row["to"])] == fit["equivalence"]


def test_the_comparison_of_schedules_on_the_page_is_that_of_the_fits(study: tuple[Path, Page]) -> None:
    folder, page = study
    fitted = {one["label"]: one for one in json.loads((folder / "fits.json").read_text())["schedules"]["schedules"]}
    rows = page.tables["schedules-schedules-table"]
    assert {row["schedule"]["text"] for row in rows} == set(fitted)
    for row in rows:
        fit = fitted[row["schedule"]["text"]]
        assert whole(row["best LR (95 %)"]) == [fit["best_lr"], fit["lr_lo"], fit["lr_hi"]]
        assert whole(row["loss (95 %)"]) == [fit["loss"], fit["loss_lo"], fit["loss_hi"]]
        names = ("difference", "difference_lo", "difference_hi")
        assert whole(row["difference to the best (95 %)"]) == [fit[name] for name in names]


def test_the_recommendation_is_a_number_of_the_fits_and_the_page_holds_the_file(study: tuple[Path, Page]) -> None:
    folder, page = study
    kept = Recommendation.load(folder)
    (snippet,) = [text for text in page.snippets if "schema_version" in text]
    assert yaml.safe_load(snippet) == yaml.safe_load((folder / "recommendation.yaml").read_text())
    fits = json.loads((folder / "fits.json").read_text())
    slices = {cell["batch_size"]: cell["slice"] for cell in fits["scaling"]["cells"]}
    fit = slices[kept.global_batch_size]
    fitted = [fit["best_lr"], fit["interval"]["lo"], fit["interval"]["hi"], *fit["equivalence"], fit["min_loss"]]
    schedules = [one for one in fits["schedules"]["schedules"] if one["name"] == kept.schedule.name]
    others = [
        [one["best_lr"], one["lr_lo"], one["lr_hi"], *one["slice"]["equivalence"], one["loss"]] for one in schedules
    ]
    assert [kept.lr.value, kept.lr.lo, kept.lr.hi, *kept.equivalent_lr, kept.expected_loss.value] in [fitted, *others]


def test_no_number_of_a_table_is_the_pages_own(study: tuple[Path, Page]) -> None:
    folder, page = study
    told = [json.loads((folder / name).read_text()) for name in ("fits.json", "findings.json", "plan.json")]
    told += [json.loads(path.read_text()) for path in (folder / "trials").glob("*/*.json")]
    known = set(numbers_in(told)) | set(numbers_in(yaml.safe_load((folder / "recommendation.yaml").read_text())))
    checked, own = 0, []
    for name, rows in page.tables.items():
        for row in rows:
            for column, cell in row.items():
                for bound in ("data-value", "data-lo", "data-hi"):
                    value = number(cell, bound)
                    if value is None or not math.isfinite(value):
                        continue
                    checked += 1
                    if value not in known:
                        own.append((name, column, bound, value))
    assert checked > 300
    assert own == []

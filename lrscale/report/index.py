"""A page that lists studies with their answers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final
from urllib.parse import quote

from lrscale.errors import LrscaleError
from lrscale.report.read_page import is_report, read_page
from lrscale.report.render import REPORT_NAME
from lrscale.report.words import count, loss, rate, short, with_interval

if TYPE_CHECKING:
    from lrscale.recommend import Recommendation

DEEPEST = 3
"""Folders below the given one in which studies are looked for."""
INDEX_NAME = "index.html"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEntry:
    """One study in the list, read from its files alone."""

    path: Path
    name: str
    created: str = ""
    """Day of the recommendation, else of the plan."""
    answer: str = ""
    """What to train with, or that there is no recommendation."""
    expected: str = ""
    confidence: str = ""
    trials: int = 0
    failed: int = 0
    """Trials that did not complete."""
    checks: tuple[tuple[str, int], ...] = ()
    """Numbers of FAIL and WARNING of the findings and the recommendation."""
    report: Path | None = None
    """The report, where there is one."""
    problem: str = ""
    """Why it cannot be read."""


def find_studies(folder: Path) -> list[Path]:
    """Return the studies in a folder, at most `DEEPEST` levels down, the folder itself included.

    A study is a study folder, or the report of one whose folder is elsewhere.
    """
    return sorted(_studies(folder, DEEPEST))


def _studies(folder: Path, levels: int) -> Iterator[Path]:
    if (folder / "plan.json").is_file():
        yield folder
        return
    for child in folder.iterdir():
        # A link may lead anywhere, around in a circle too.
        if child.is_symlink() or child.name.startswith("."):
            continue
        if child.is_dir() and levels:
            yield from _studies(child, levels - 1)
        elif child.suffix == ".html" and child.is_file() and is_report(child):
            yield child


def read_entry(path: Path) -> StudyEntry:
    """Read what the list says of a study, from its folder or its report alone.

    Nothing is fitted, and a study that cannot be read says why.
    """
    try:
        return _read_report(path) if path.is_file() else _read(path)
    except (LrscaleError, OSError, ValueError, LookupError, TypeError) as error:
        return StudyEntry(path=path, name=path.name, problem=short(error, 300))


def _read(path: Path) -> StudyEntry:
    from lrscale.recommend import Recommendation
    from lrscale.recommend.recommendation import FILE_NAME
    from lrscale.store import StudyFolder
    from lrscale.store.files import read_json
    from lrscale.study.finding import Finding

    folder = StudyFolder(path)
    plan = folder.read_plan()
    statuses = Counter(record.status for record in folder.records().values())
    kept = path / "findings.json"
    findings = [Finding.from_dict(one) for one in read_json(kept).values()] if kept.is_file() else []
    checks = Counter(check.status for finding in findings for check in finding.checks)
    answer, expected, confidence = "no recommendation", "", ""
    created = str(plan.get("created") or "")
    if (path / FILE_NAME).is_file():
        one = Recommendation.load(path)
        created, confidence = one.created, one.confidence
        answer, expected = _answer(one)
        checks.update(check.status for check in one.checks)
    elif not findings:
        answer = "not finished"
    recipe: Any = plan.get("recipe") or {}
    return StudyEntry(
        path=path,
        name=short(recipe.get("name") or plan.get("name") or path.name, 80),
        created=created[:10],
        answer=answer,
        expected=expected,
        confidence=confidence,
        trials=sum(statuses.values()),
        failed=sum(statuses.values()) - statuses["completed"],
        checks=tuple((status, checks[status]) for status in ("FAIL", "WARNING") if checks[status]),
        report=path / REPORT_NAME if (path / REPORT_NAME).is_file() else None,
    )


def _read_report(path: Path) -> StudyEntry:
    from lrscale.recipe.lines import read_yaml
    from lrscale.recommend import Recommendation

    page = read_page(path)
    answer, expected, confidence = page.finding, "", ""
    created = next((fact.rpartition(" of ")[2] for fact in page.facts if fact.startswith("calibration of ")), "")
    if page.recommendation:
        one = Recommendation.from_dict(read_yaml(page.recommendation).value)
        confidence = one.confidence
        answer, expected = _answer(one)
    return StudyEntry(
        path=path,
        name=short(page.name, 80),
        created=short(created, 10),
        answer=short(answer, 300),
        expected=expected,
        confidence=confidence,
        trials=len(page.statuses),
        failed=sum(status != "completed" for status in page.statuses),
        checks=tuple((status, page.checks[status]) for status in ("FAIL", "WARNING") if page.checks.get(status)),
        report=path,
    )


def _answer(one: Recommendation) -> tuple[str, str]:
    """Return what to train with and what to expect, in a few words each."""
    answer = (
        f"peak LR {with_interval(one.lr.value, one.lr.lo, one.lr.hi)}, batch {count(one.global_batch_size)}, "
        f"{one.schedule.name}"
    )
    if one.validity.diverges_above is not None:
        answer += f"; diverges from {rate(one.validity.diverges_above)}"
    if one.expected_loss.value is None:
        return answer, ""
    return answer, f"{one.monitor} {loss(one.expected_loss.value, one.expected_loss.lo, one.expected_loss.hi)}"


def render_index(entries: Sequence[StudyEntry], base: Path) -> str:
    """Return the list as one HTML file; links are relative to `base`, the folder that it will lie in."""
    import lrscale
    from lrscale.report.html import render_list

    newest = sorted(entries, key=lambda one: (one.created, one.name), reverse=True)
    rows = [{"entry": one, "link": _link(one, base), "place": os.path.relpath(one.path, base)} for one in newest]
    answered = sum(bool(one.confidence) for one in entries)
    return render_list(
        rows,
        title="Calibrations",
        sentence=f"{answered} of {len(entries)} studies {'has' if answered == 1 else 'have'} a recommendation.",
        footer=f"Made by lrscale {lrscale.__version__} from the files of the studies, or their reports, alone.",
    )


def _link(entry: StudyEntry, base: Path) -> str | None:
    # Names of folders may hold anything; only the path part of an address is made of them.
    if entry.report is None:
        return None
    return "./" + quote(Path(os.path.relpath(entry.report, base)).as_posix())

"""Reads from a report what a list of studies says of it, where the study folder itself is not there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, final

from typing_extensions import override

from lrscale.errors import LrscaleError

TITLE = re.compile(rb"<title>[^<]* \xc2\xb7 calibration</title>")
"""What the head of every report has, and no other page of lrscale."""
HEAD_BYTES = 4096
SNIPPET = "recommendation.yaml"
LARGEST = 100_000_000
"""Bytes of a page that is read; a report of a thousand trials has 15 million."""


@final
@dataclass(slots=True)
class PageFacts:
    """What the page of a report says, as text.

    Parameters
    ----------
    name : str
        Of the study.
    """

    name: str = ""
    facts: list[str] = field(default_factory=list)
    """Beside the name: the day, the devices, the trials."""
    checks: dict[str, int] = field(default_factory=dict)
    """Status -> number of checks."""
    finding: str = ""
    """The first sentence: the recommendation, or why there is none."""
    recommendation: str = ""
    """recommendation.yaml; empty where there is none."""
    statuses: list[str] = field(default_factory=list)
    """Of the trials in the table."""


def is_report(path: Path) -> bool:
    """Whether a file is the report of a study, by its head."""
    try:
        with path.open("rb") as stream:
            return TITLE.search(stream.read(HEAD_BYTES)) is not None
    except OSError:
        return False


def read_page(path: Path) -> PageFacts:
    """Return what a report says of its study. Nothing of the page is run or loaded.

    Raises
    ------
    LrscaleError
        When the file is no report, or larger than one can be.
    OSError
        When it cannot be read.
    """
    if path.stat().st_size > LARGEST:
        raise LrscaleError(f"{path} is too large for a report: {path.stat().st_size:,} bytes")
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8", errors="replace"))
    if not reader.found.name:
        raise LrscaleError(f"{path} is not a report of lrscale", hint="make one: lrscale report STUDY")
    return reader.found


@final
class _Reader(HTMLParser):
    """Knows the parts of the template `report.html.j2` that it needs."""

    def __init__(self) -> None:
        super().__init__()
        self.found = PageFacts()
        self._into, self._text = "", ""
        self._within = ""
        self._in_trials = False
        self._summary = ""

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        kinds = named.get("class", "").split()
        if tag == "h1":
            self._begin("name")
        elif tag == "p" and "facts" in kinds:
            self._within = "facts"
        elif tag == "span" and self._within == "facts":
            self._begin("fact")
        elif tag == "a" and "badge" in kinds:
            self._begin("check")
        elif tag == "p" and "finding" in kinds and not self.found.finding:
            self._begin("finding")
        elif tag == "summary":
            self._begin("summary")
        elif tag == "pre" and self._summary == SNIPPET:
            self._begin("recommendation")
        elif tag == "table":
            self._in_trials = named.get("id") == "trials-trials-table"
        elif tag == "td" and self._in_trials and kinds[:1] == ["status"]:
            self._begin("status")

    @override
    def handle_endtag(self, tag: str) -> None:
        found, text = self.found, self._text.strip()
        ends: dict[str, Any] = {
            "name": "h1",
            "fact": "span",
            "check": "a",
            "finding": "p",
            "summary": "summary",
            "recommendation": "pre",
            "status": "td",
        }
        if tag == "p":
            self._within = ""
        if not self._into or ends[self._into] != tag:
            return
        kind, self._into = self._into, ""
        if kind == "fact":
            found.facts.append(text)
        elif kind == "check":
            status, _, number = text.partition(" ")
            found.checks[status] = int(number) if number.isdigit() else 0
        elif kind == "summary":
            self._summary = text
        elif kind == "recommendation":
            found.recommendation, self._summary = self._text, ""
        elif kind == "status":
            found.statuses.append(text)
        elif kind == "name":
            found.name = text
        elif kind == "finding":
            found.finding = text

    @override
    def handle_data(self, data: str) -> None:
        if self._into:
            self._text += data

    def _begin(self, kind: str) -> None:
        self._into, self._text = kind, ""

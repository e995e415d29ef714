"""``lrscale report``: the page of a study, made anew from its folder, and what goes beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lrscale.cli.guard import DONE, faults_logged_in
from lrscale.cli.outputs import open_page, write_page, write_recommendation
from lrscale.cli.study_access import open_study
from lrscale.errors import StudyError
from lrscale.store.lock import is_held

if TYPE_CHECKING:
    from lrscale.cli.study_access import OpenStudy
    from lrscale.recommend import Recommendation, Refusal
    from lrscale.study.finding import Finding

FASTEST = 2.0
"""Seconds between two looks below which watching would take a core for itself."""


def make_report(
    path: Path,
    *,
    open_in_browser: bool,
    markdown: bool = False,
    figures: Path | None = None,
    tables: Path | None = None,
) -> int:
    """Write ``report.html`` and ``recommendation.yaml`` of a study; a study without an answer has a report too.

    Parameters
    ----------
    path : Path
        Study folder.
    open_in_browser : bool
    markdown : bool, optional
        Print the study as Markdown in place of the path of the page. Default False.
    figures, tables : Path or None, optional
        Folders for the figures as SVG and PNG, and for the tables as CSV and Parquet. Default None: none are written.
    """
    study = open_study(path)
    with faults_logged_in(path):
        findings = study.findings()
        answer = write_recommendation(study, findings)
        page = write_page(study, findings, answer)
        told = _beside(study, findings, answer, markdown=markdown, figures=figures, tables=tables)
    typer.echo(told if markdown else str(page))
    if open_in_browser:
        open_page(page)
    return DONE


def watch_report(
    path: Path, *, every: float, open_in_browser: bool, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Write the page anew whenever a trial has ended, until nothing runs in the study any more.

    The page reloads itself meanwhile; the last one does not. recommendation.yaml is left to the run.

    Parameters
    ----------
    path : Path
        Study folder.
    every : float
        Seconds between two looks.
    open_in_browser : bool
        Open the first page.
    sleep : callable, optional
        Waits; for tests. Default `time.sleep`.
    """
    every = max(every, FASTEST)
    seen: object = None
    while True:
        running = is_held(path)
        state = _state(path)
        if state != seen or not running:
            page = _write_watched(path, refresh=every if running else None)
            typer.echo(f"{time.strftime('%H:%M:%S')} {page}: {_trials(state)} trials")
            if open_in_browser and seen is None:
                open_page(page)
            seen = state
        if not running:
            return DONE
        sleep(every)


def _write_watched(path: Path, *, refresh: float | None) -> Path:
    from lrscale.recommend import recommend
    from lrscale.report import write_report

    study = open_study(path)
    with faults_logged_in(path):
        findings = study.findings()
        answer = recommend(study.recipe, study.view, findings)
        return write_report(study.folder, view=study.view, findings=findings, recommendation=answer, refresh=refresh)


def _state(path: Path) -> tuple[tuple[str, int], ...]:
    if not path.is_dir():
        raise StudyError(f"there is no study folder {path}", hint="start one: lrscale run RECIPE --study DIR")
    return tuple(sorted((str(one), one.stat().st_mtime_ns) for one in path.glob("trials/*/record.json")))


def _trials(state: object) -> int:
    return len(state) if isinstance(state, tuple) else 0


def _beside(
    study: OpenStudy,
    findings: tuple[Finding, ...],
    answer: Recommendation | Refusal,
    *,
    markdown: bool,
    figures: Path | None,
    tables: Path | None,
) -> str:
    """Write the figures and tables that are asked for, and return the Markdown, empty unless asked for."""
    if not markdown and figures is None and tables is None:
        return ""
    from lrscale.report import ReportContext, make_cards
    from lrscale.report.checks import run_checks
    from lrscale.report.exports import report_markdown, write_figures, write_tables

    context = ReportContext.of(study.folder, view=study.view, findings=findings, recommendation=answer)
    cards = make_cards(context) if figures is not None or tables is not None else ()
    for folder, write, what in ((figures, write_figures, "figures"), (tables, write_tables, "tables")):
        if folder is not None:
            typer.echo(f"{what}: {len(write(cards, folder))} files in {folder}", err=True)
    return report_markdown(context.name, answer, findings, run_checks(context)).rstrip("\n") if markdown else ""

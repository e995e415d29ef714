"""From a study to its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrscale.report.base import Card, make_card
from lrscale.report.context import ReportContext
from lrscale.report.words import duration, plural, short

if TYPE_CHECKING:
    from lrscale.store.study_folder import StudyFolder
    from lrscale.store.view import StudyView
    from lrscale.study.finding import CheckStatus, Finding

REPORT_NAME = "report.html"


def make_cards(context: ReportContext) -> tuple[Card, ...]:
    """Return the card of every section of the outline, in order."""
    from lrscale.report.outline import SECTIONS

    return tuple(make_card(section, context) for section in SECTIONS)


def render_report(
    folder: StudyFolder,
    *,
    view: StudyView | None = None,
    findings: Iterable[Finding] = (),
    recommendation: Any = None,
    refresh: float | None = None,
) -> str:
    """Return the report of a study as one self-contained HTML file.

    Nothing is trained, fitted or written. A study that has just begun has a report as well, which says what is missing.

    Parameters
    ----------
    folder : StudyFolder
    view : StudyView or None, optional
        The finished trials. Default None: read from the folder.
    findings : iterable of Finding, optional
        What the experiments found. Default: none.
    recommendation : Recommendation, Refusal, mapping or None, optional
        What to train with, or why that cannot be said. Default None.
    refresh : float or None, optional
        Seconds after which the page loads itself anew, while a study runs. Default None: never.

    Returns
    -------
    str
        HTML without references to anything outside itself.
    """
    from lrscale.report.html import render_page
    from lrscale.report.svg import report_style
    from lrscale.store.view import StudyView

    view = view if view is not None else StudyView.of(folder)
    context = ReportContext.of(folder, view=view, findings=findings, recommendation=recommendation)
    cards = make_cards(context)
    with report_style():
        return render_page(cards, head={**_head(context), "refresh": refresh})


def write_report(
    folder: StudyFolder,
    *,
    view: StudyView | None = None,
    findings: Iterable[Finding] = (),
    recommendation: Any = None,
    refresh: float | None = None,
) -> Path:
    """Write ``report.html`` into the study folder, whole or not at all, and return its path.

    The parameters are those of `render_report`.
    """
    from lrscale.store.files import write_atomically

    html = render_report(folder, view=view, findings=findings, recommendation=recommendation, refresh=refresh)
    path = folder.path / REPORT_NAME
    write_atomically(path, html)
    return path


def _head(context: ReportContext) -> dict[str, Any]:
    import lrscale
    from lrscale.report.checks import run_checks

    number = Counter(check.status for check in run_checks(context))
    facts = [f"calibration{_when(context)}"]
    devices = _devices(context)
    if devices:
        facts.append(devices)
    if context.trials:
        facts.append(f"{plural(len(context.trials), 'trial')}, {duration(context.device_seconds)} of devices")
    shown: tuple[CheckStatus, ...] = ("PASS", "WARNING", "FAIL") if number else ()
    return {
        "title": context.name,
        "facts": facts,
        "counts": [(status, number[status]) for status in shown],
        "footer": f"Made by lrscale {lrscale.__version__} from the records of the study alone.",
    }


def _when(context: ReportContext) -> str:
    created = context.recommended("created") or context.plan.get("created")
    return f" of {short(created)[:10]}" if created else ""


def _devices(context: ReportContext) -> str:
    layouts = Counter(trial.record.layout.world_size for trial in context.trials if trial.record.layout is not None)
    if not layouts:
        return ""
    ranks = layouts.most_common(1)[0][0]
    environment = context.environments[0] if context.environments else {}
    name = next((environment[key] for key in ("device", "accelerator") if environment.get(key)), "device")
    return f"{ranks} x {short(name, 40)}"

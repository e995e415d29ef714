"""From the fits of a table to its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrscale.report.base import Card, error_card

if TYPE_CHECKING:
    from lrscale.sweep import CleanRuns, SweepFit


def table_cards(fit: SweepFit, runs: CleanRuns) -> tuple[Card, ...]:
    """Return the cards in the order of the page; one that cannot be made says so and leaves the others."""
    from lrscale.report.table.batch import law_card
    from lrscale.report.table.facts import checks_card, methods_card, provenance_card, runs_card
    from lrscale.report.table.lr import slices_card
    from lrscale.report.table.overview import overview_card
    from lrscale.report.table.scale import scale_card

    makers: list[tuple[str, str, Callable[[], Card]]] = [
        ("overview", "What the table says", lambda: overview_card(fit)),
        ("checks", "Checks", lambda: checks_card(fit)),
        ("slices", "Which learning rate at each batch size?", lambda: slices_card(fit)),
        ("optimal_lr", "How does the learning rate scale with the batch size?", lambda: law_card(fit)),
        ("scale", "How do loss, learning rate and batch size move with scale?", lambda: scale_card(fit)),
        ("runs", "Every run", lambda: runs_card(fit, runs)),
        ("provenance", "Where the numbers come from", lambda: provenance_card(fit)),
        ("methods", "Methods", lambda: methods_card(fit)),
    ]
    cards = []
    for key, title, make in makers:
        try:
            cards.append(make())
        except Exception as error:  # one card that cannot be made must not cost the reader the others
            cards.append(error_card(key, title, error))
    return tuple(cards)


def render_table_report(fit: SweepFit, runs: CleanRuns) -> str:
    """Return the report of a table as one self-contained HTML file; nothing is fitted or written."""
    from lrscale.report.html import render_page
    from lrscale.report.svg import report_style

    with report_style():
        return render_page(table_cards(fit, runs), head=_head(fit))


def write_table_report(path: Path, fit: SweepFit, runs: CleanRuns) -> Path:
    """Write the report, whole or not at all, and return its path."""
    from lrscale.store.files import write_atomically

    write_atomically(path, render_table_report(fit, runs))
    return path


def _head(fit: SweepFit) -> dict[str, Any]:
    import lrscale
    from lrscale.report.table.facts import counted_checks
    from lrscale.report.words import plural, short

    source = fit.source
    facts = [f"fits of a table of {plural(source.n_runs, 'run')}"]
    if len(fit.groups) > 1:
        facts.append(plural(len(fit.groups), "group"))
    if source.n_diverged:
        facts.append(f"{source.n_diverged:,} diverged")
    return {
        "title": short(source.file, 80),
        "facts": facts,
        "counts": counted_checks(fit),
        "footer": f"Made by lrscale {lrscale.__version__} from {short(source.file, 80)} alone.",
    }

"""From the fits of a table to its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrscale.report.base import Card, error_card

if TYPE_CHECKING:
    from lrscale.study.finding import CheckStatus
    from lrscale.sweep import CleanRuns, CurvesTableFit, StepsTableFit, SweepFit


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
        ("provenance", "Where the numbers come from", lambda: provenance_card(fit.source)),
        ("methods", "Methods", lambda: methods_card(fit)),
    ]
    return made_cards(makers)


def made_cards(makers: Sequence[tuple[str, str, Callable[[], Card]]]) -> tuple[Card, ...]:
    """Return the card of each (key, title, maker); one that cannot be made says so and leaves the others."""
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


def render_steps_report(fit: StepsTableFit) -> str:
    """Return the report of a table of steps to a target as one self-contained HTML file."""
    from lrscale.report.table.facts import provenance_card
    from lrscale.report.table.steps import costs_card, critical_batch_card, steps_methods_card

    return _render(
        fit,
        [
            ("critical_batch", "How big a batch is worth it?", lambda: critical_batch_card(fit)),
            ("costs", "What does each batch size cost?", lambda: costs_card(fit)),
            ("provenance", "Where the numbers come from", lambda: provenance_card(fit.source)),
            ("methods", "Methods", lambda: steps_methods_card(fit)),
        ],
        "fits of a table of steps to a target",
    )


def render_curves_report(fit: CurvesTableFit) -> str:
    """Return the report of a table of loss curves as one self-contained HTML file."""
    from lrscale.report.table.curves import curve_law_card, curves_methods_card, held_out_card
    from lrscale.report.table.facts import provenance_card

    return _render(
        fit,
        [
            ("curve_law", "How does the loss follow the schedule?", lambda: curve_law_card(fit)),
            ("held_out", "Does the law predict schedules that it has not seen?", lambda: held_out_card(fit)),
            ("provenance", "Where the numbers come from", lambda: provenance_card(fit.source)),
            ("methods", "Methods", lambda: curves_methods_card(fit)),
        ],
        "fits of a table of loss curves",
    )


def _render(
    fit: StepsTableFit | CurvesTableFit, makers: Sequence[tuple[str, str, Callable[[], Card]]], what: str
) -> str:
    import lrscale
    from lrscale.report.html import render_page
    from lrscale.report.svg import report_style
    from lrscale.report.words import plural, short

    source = fit.source
    facts = [what, plural(source.n_runs, "run")]
    if len(fit.groups) > 1:
        facts.append(plural(len(fit.groups), "group"))
    counts: list[tuple[CheckStatus, int]] = [("PASS", sum(group.ok for group in fit.groups))]
    counts += [("WARNING", len(fit.warnings) + sum(not group.ok for group in fit.groups)), ("FAIL", 0)]
    head = {
        "title": short(source.file, 80),
        "facts": facts,
        "counts": counts,
        "footer": f"Made by lrscale {lrscale.__version__} from {short(source.file, 80)} alone.",
    }
    with report_style():
        return render_page(made_cards(makers), head=head)


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

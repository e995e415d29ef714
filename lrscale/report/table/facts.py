"""Checks, runs, provenance and methods of a table's report."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lrscale.report.base import Card, Column, Fact, Snippet, Table
from lrscale.report.sections.methods import METHODS
from lrscale.report.words import listing, plural, short

if TYPE_CHECKING:
    from lrscale.study.finding import Check, CheckStatus
    from lrscale.sweep import CleanRuns, SweepFit
    from lrscale.sweep.result import Source

MOST_ROWS = 3000
"""Runs in the table of the page; a table of more would make a page that browsers scroll badly."""
_OF_TABLES = ("LR slice", "Optimal LR against batch", "Equivalence range")


def all_checks(fit: SweepFit) -> tuple[Check, ...]:
    """Return the warnings of the table and the checks of every group, the most serious first."""
    from lrscale.study.finding import Check

    found = [Check(name="the table", status="WARNING", sentence=warning) for warning in fit.warnings]
    found += [check for group in fit.groups for check in group.finding.checks]
    order = ("FAIL", "WARNING", "INFO", "PASS")
    return tuple(sorted(found, key=lambda check: order.index(check.status)))


def counted_checks(fit: SweepFit) -> list[tuple[CheckStatus, int]]:
    """Return how many checks passed, warned and failed."""
    number = Counter(check.status for check in all_checks(fit))
    shown: tuple[CheckStatus, ...] = ("PASS", "WARNING", "FAIL")
    return [(status, number[status]) for status in shown]


def checks_card(fit: SweepFit) -> Card:
    """Return what warns, with remedies; what passes is folded away."""
    checks = all_checks(fit)
    passed = tuple(check for check in checks if check.status == "PASS")
    others = tuple(check for check in checks if check.status != "PASS")
    table = Table(
        key="passed",
        caption="Checks that passed",
        columns=(Column(key="name", label="check"), Column(key="sentence", label="what was seen")),
        rows=tuple({"name": check.name, "sentence": check.sentence} for check in passed),
        open=False,
    )
    return Card(
        key="checks",
        title="Checks",
        finding=f"{plural(len(others), 'warning')} in {plural(len(checks), 'check')}.",
        checks=others[:60],
        notes=(f"{len(others) - 60} more warnings are in fits.json.",) if len(others) > 60 else (),
        tables=(table,) if passed else (),
    )


def runs_card(fit: SweepFit, runs: CleanRuns) -> Card:
    """Return the runs that the fits stand on, diverged ones included."""
    from lrscale.sweep import group_runs

    by = fit.source.by
    labels: dict[int, str] = {}
    for group in group_runs(runs, by):
        labels.update(dict.fromkeys(group.rows.tolist(), group.label))
    shown = min(runs.lr.size, MOST_ROWS)
    extra = [role for role in ("params", "tokens", "examples", "steps") if role in runs.scale]
    rows: list[dict[str, Any]] = []
    for row in range(shown):
        loss = float(runs.loss[row])
        rows.append(
            {
                "line": int(runs.line[row]),
                "group": labels[row],
                "lr": float(runs.lr[row]),
                "batch": float(runs.batch[row]),
                "seed": None if runs.seed[row] is None else str(runs.seed[row]),
                **{role: float(runs.scale[role][row]) for role in extra},
                "loss": None if loss != loss else loss,
                "status": "diverged" if loss != loss else "completed",
            }
        )
    columns = [Column(key="line", label="line", kind="count")]
    columns += [Column(key="group", label="group")] if by else []
    columns += [
        Column(key="lr", label="LR", kind="rate"),
        Column(key="batch", label=short(runs.unit_words, 40), kind="count"),
    ]
    columns += [Column(key="seed", label="seed")] if any(row["seed"] is not None for row in rows) else []
    columns += [Column(key=role, label=role, kind="count") for role in extra]
    columns += [Column(key="loss", label="loss", kind="loss"), Column(key="status", label="status", kind="status")]
    sentence = f"{plural(fit.source.n_runs, 'run')}, {fit.source.n_diverged:,} of them diverged."
    if shown < runs.lr.size:
        sentence += f" The first {shown:,} are shown; {short(fit.source.file, 60)} holds all."
    return Card(
        key="runs",
        title="Every run",
        finding=sentence,
        tables=(
            Table(
                key="runs",
                caption="All runs" if shown == runs.lr.size else f"The first {shown:,} runs",
                columns=tuple(columns),
                rows=tuple(rows),
                sortable=True,
                open=len(rows) <= 12,
            ),
        ),
        method="Lines are those of the file, counted from 1. Column heads sort.",
    )


def provenance_card(source: Source) -> Card:
    """Return the file, how its columns were read, and what was dropped."""
    import lrscale

    guessed = {sentence.partition(":")[0]: sentence.partition(": ")[2] for sentence in source.guessed}
    facts = [
        Fact(term="File", value=f"{short(source.file, 120)} ({source.format.upper()})"),
        Fact(term="SHA-256", value=source.sha256),
        Fact(term="Rows", value=f"{source.n_rows:,} read; {source.n_runs:,} runs, {source.n_diverged:,} diverged"),
        Fact(term="Batch unit", value=source.batch_unit or "not given"),
        Fact(term="Groups by", value=listing(source.by)),
        *((Fact(term="Tolerance", value=f"{source.tolerance:g}"),) if source.tolerance else ()),
        Fact(term="Report by", value=f"lrscale {lrscale.__version__}"),
    ]
    facts += [
        Fact(term=role, value=short(guessed.get(role, f"column {column} (named by a flag)"), 300))
        for role, column in source.columns.items()
    ]
    return Card(
        key="provenance",
        title="Where the numbers come from",
        finding=f"{plural(source.n_runs, 'run')} in {source.n_rows:,} rows of {short(source.file, 80)}.",
        facts=tuple(facts),
        notes=source.notes,
        snippets=(Snippet(label="Column mapping", text="\n".join(f"{a}: {b}" for a, b in source.columns.items())),),
    )


def methods_card(fit: SweepFit) -> Card:
    """Return short texts on what was computed and whose method it is."""
    facts = [
        Fact(
            term="Diverged",
            value="The loss is missing, NaN or infinite, or the status says so. Such a run is drawn on the upper edge "
            "and never enters a mean. Runs that crashed or did not finish are left out.",
        ),
        *(Fact(term=name, value=text) for _, name, text in METHODS if name in _OF_TABLES),
        Fact(
            term="Intervals",
            value=f"Intervals are {100 * fit.confidence:g} % unless said otherwise, from posterior draws of every "
            "slice and from resampled cells (never single points) for laws against scale.",
        ),
    ]
    if fit.scale is not None and fit.scale.fits:
        facts.append(
            Fact(
                term="Scale",
                value="Loss: the form of Hoffmann et al. 2022 (arXiv:2203.15556) by variable projection, with Huber's "
                "loss on log residuals. Best LR and best batch size: power laws with censored optima as bounds, the LR "
                "with the batch size among the variables, so that an exponent holds at a fixed batch size.",
            )
        )
    return Card(
        key="methods",
        title="Methods",
        finding="Every number above comes from the runs of the table, by the methods below.",
        facts=tuple(facts),
    )

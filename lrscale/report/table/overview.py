"""The first screen of a table's report."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lrscale.report.base import Card, Column, Fact, Figure, Panel, Table
from lrscale.report.fits import pair
from lrscale.report.slice_plot import SliceData, SliceLimits, draw_slice
from lrscale.report.table.groups import FENCE, RUN_LEGEND, drawn_groups, group_label, left_out, switched
from lrscale.report.words import between, count, loss, loss_between, plural, rate, with_interval

if TYPE_CHECKING:
    from lrscale.sweep import GroupFit, SweepFit

COLUMNS = (
    Column(key="group", label="group"),
    Column(key="best_lr", label="best LR", kind="rate", lo="lo", hi="hi"),
    Column(key="best_batch", label="best batch", kind="count"),
    Column(key="loss", label="loss there", kind="loss", lo="loss_lo", hi="loss_hi"),
    Column(key="law", label="law of LR against batch"),
    Column(key="run", label="best measured run"),
    Column(key="runs", label="runs", kind="count"),
    Column(key="diverged", label="diverged", kind="count"),
    Column(key="status", label="status", kind="status"),
)

ABSENT = (
    "A table holds final losses only: trajectories, range tests, schedules and throughput need the trials of a study "
    "(lrscale run)."
)


def overview_card(fit: SweepFit) -> Card:
    """Return the answer of every group, and the slice at its best batch size."""
    answered = [group for group in fit.groups if group.ok]
    if len(fit.groups) == 1:
        sentence = fit.groups[0].finding.sentence
    else:
        sentence = f"{len(answered)} of {plural(len(fit.groups), 'group')} have a best LR inside their grids"
        rates = [group.finding.numbers["best_lr"].value for group in answered]
        known = [value for value in rates if value is not None]
        sentence += f", from {rate(min(known))} to {rate(max(known))} at the best batch sizes." if known else "."
    return Card(
        key="overview",
        title="What the table says",
        finding=sentence,
        status="ok" if answered else "cannot_tell",
        facts=tuple(_facts(fit.groups[0])) if len(fit.groups) == 1 else (),
        figures=_figures(fit),
        tables=(
            Table(
                key="groups",
                caption="Answer by group",
                columns=COLUMNS,
                rows=tuple(overview_row(group) for group in fit.groups),
                sortable=True,
                open=len(fit.groups) <= 40,
            ),
        ),
        notes=(*fit.warnings, ABSENT),
    )


def overview_row(group: GroupFit) -> dict[str, Any]:
    """Return the row of one group in the overview."""
    numbers = group.finding.numbers
    lr, value, batch = (numbers.get(key) for key in ("best_lr", "loss", "best_batch_size"))
    law = group.finding.data["law"]
    run = group.best_run
    return {
        "group": group.label,
        "best_lr": lr.value if lr else None,
        "lo": lr.lo if lr else None,
        "hi": lr.hi if lr else None,
        "best_batch": batch.value if batch else None,
        "loss": value.value if value else None,
        "loss_lo": value.lo if value else None,
        "loss_hi": value.hi if value else None,
        "law": str(law["law"] or law["status"]).replace("_", " "),
        "run": f"LR {rate(run['lr'])}, batch {count(run['batch'])}, loss {loss(run['loss'])}" if run else None,
        "runs": group.n_runs,
        "diverged": group.n_diverged,
        "status": group.finding.status,
    }


def _facts(group: GroupFit) -> list[Fact]:
    numbers = group.finding.numbers
    facts = []
    if "best_lr" in numbers:
        lr, value, batch = (numbers[key] for key in ("best_lr", "loss", "best_batch_size"))
        facts += [
            Fact(term="Best LR", value=with_interval(lr.value, lr.lo, lr.hi), strong=True),
            Fact(term="At batch", value=f"{count(batch.value)} {batch.unit}".strip(), strong=True),
            Fact(term="Loss there", value=loss_between(value.value, value.lo, value.hi)),
        ]
        best = next(cell for cell in group.finding.data["cells"] if cell["batch_size"] == batch.value)
        low, high = pair(best["slice"].get("equivalence"))
        if low is not None:
            facts.append(Fact(term="As good", value=f"LRs of {between(low, high)}"))
    if group.best_run is not None:
        run = group.best_run
        facts.append(
            Fact(
                term="Best run",
                value=f"LR {rate(run['lr'])} at batch {count(run['batch'])}: loss {loss(run['loss'])}",
                detail="The lowest of many noisy losses is lower than its setting deserves.",
            )
        )
    return facts


def _figures(fit: SweepFit) -> tuple[Figure, ...]:
    drawn = []
    points: dict[str, Any] = {}
    for group in drawn_groups(fit):
        data = group.finding.data
        chosen = data["best_batch_size"] or (group.best_run or {}).get("batch")
        cell = next((cell for cell in data["cells"] if cell["batch_size"] == chosen), None)
        if cell is None:
            continue
        title = f"{group_label(group)}, batch {count(cell['batch_size'])}" if group.key else f"batch {count(chosen)}"
        piece = SliceData.of(title, (), cell["slice"])
        limits = SliceLimits.of([piece], fence=FENCE)
        if limits is None:
            continue
        draw = partial(draw_slice, data=piece, limits=limits, monitor=data["monitor"])
        drawn.append((group, (Panel(draw=draw, title=title, wide=(560, 300), narrow=(350, 270)),)))
        points[title] = [[point.lr, point.loss] for point in piece.points]
    if not drawn:
        return ()
    return (
        Figure(
            key="best",
            alt=fit.groups[0].finding.sentence,
            views=switched(drawn),
            caption=f"The slice at the best batch size. Triangles are runs above the axis.{left_out(fit)}",
            legend=RUN_LEGEND,
            points=points,
        ),
    )

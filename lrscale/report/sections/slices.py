"""Loss against LR at each batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Figure, Panel, Table
from lrscale.report.context import ReportContext
from lrscale.report.fits import pair
from lrscale.report.slice_plot import LEGEND, SliceData, SliceLimits, draw_slice
from lrscale.report.words import count, finite, listing, with_interval

COLUMNS = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="best_lr", label="best LR (95 %)", kind="rate", lo="lo", hi="hi"),
    Column(key="equivalent_lo", label="equal from", kind="rate"),
    Column(key="equivalent_hi", label="to", kind="rate"),
    Column(key="loss", label="loss at best (95 %)", kind="loss", lo="loss_lo", hi="loss_hi"),
    Column(key="diverged_above", label="diverges above", kind="rate"),
    Column(key="trials", label="trials", kind="count"),
    Column(key="status", label="fit", kind="status"),
)
STOPPING = (
    Column(key="name", label="rule"),
    Column(key="stopped", label="trials ended", kind="count"),
    Column(key="share_saved", label="examples saved", kind="percent"),
    Column(key="relative_regret", label="regret", kind="percent"),
    Column(key="left", label="slices left to fit"),
)


@final
class SlicesSection(AbstractSection):
    """Small multiples on shared axes: every trial, the fitted slice, the best LR with its interval."""

    key: ClassVar[str] = "slices"
    title: ClassVar[str] = "Which learning rate at each batch size?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("scaling")
        if finding is None:
            return "No LR slices were measured: the study has no scaling experiment yet (experiments.scaling)."
        if not finding.data.get("cells"):
            return f"No LR slice can be drawn: {finding.sentence}"
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("scaling")
        assert finding is not None
        slices = scaling_slices(context)
        limits = SliceLimits.of(slices)
        rows = finding.tables.get("slices") or tuple(_row(cell) for cell in finding.data["cells"])
        monitor = str(finding.data.get("monitor") or context.monitor)
        sentence = _sentence(rows)
        figures: tuple[Figure, ...] = ()
        if limits is not None:
            panels = tuple(
                Panel(draw=partial(draw_slice, data=data, limits=limits, monitor=monitor), title=data.title)
                for data in slices
            )
            figures = (
                Figure.single(
                    "slices",
                    panels,
                    alt=sentence,
                    caption="All panels share both axes. Dots are single trials, several seeds at each LR; none is "
                    "left out.",
                    legend=LEGEND,
                    points={
                        data.title: [[point.lr, point.loss, point.status] for point in data.points] for data in slices
                    },
                ),
            )
        return Card(
            key=self.key,
            title=self.title,
            finding=sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=figures,
            tables=(
                Table(key="slices", caption="Best LR by batch size", columns=COLUMNS, rows=tuple(rows)),
                *_stopping(finding.tables.get("stopping") or ()),
            ),
            method=(
                "At each batch size, trials at several LRs see the same examples in the same order from the same "
                "initial weights, seed by seed, so that differences between LRs carry little of the seed noise. "
                "The slice A·LR^-p + B·LR^q + C is fitted by variable projection (Golub and Pereyra 1973), with p "
                "and q from a grid; its minimum is the best LR. Diverged trials bound the slice from above and are "
                "never averaged. An optimum without a measured rise on both sides is censored and reported as a bound."
                "\n\nWhat ending trials early would have saved is read off the complete trials, played again under "
                "each rule in the order in which they were asked for. Rules that compare losses at equal validations "
                "rank trials before the learning rate has decayed; survivors compares late in the decay, and leaves "
                "two completed trials on each side of the best learning rate, without which a vertex cannot be "
                "fitted; predicted ends a trial where completed ones tell that its loss at the horizon is surely above "
                "the lowest. Regret is the lowest loss among the trials left minus that among all."
            ),
        )


def scaling_slices(context: ReportContext) -> list[SliceData]:
    """Return the slices of the scaling experiment, one per batch size."""
    finding = context.finding("scaling")
    if finding is None:
        return []
    slices = []
    for cell in finding.data.get("cells", ()):
        trials = [context.view.trials[name] for name in cell.get("trials", ()) if name in context.view.trials]
        slices.append(SliceData.of(f"batch {count(cell['batch_size'])}", trials, cell.get("slice") or {}))
    return slices


def _stopping(rows: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    if not rows:
        return ()
    shown = tuple(
        {
            **row,
            "name": str(row["rule"]).replace("_", " "),
            "left": f"{row['slices_left']} of {row['slices']}",
        }
        for row in rows
    )
    caption = f"What ending some of {rows[0]['trials']} trials early would have saved"
    return (Table(key="stopping", caption=caption, columns=STOPPING, rows=shown, open=False),)


def _row(cell: dict[str, object]) -> dict[str, object]:
    fit = cell.get("slice")
    values = fit if isinstance(fit, dict) else {}
    (lo, hi), (same_lo, same_hi) = pair(values.get("interval")), pair(values.get("equivalence"))
    loss_lo, loss_hi = pair(values.get("min_loss_interval"))
    trials = cell.get("trials")
    return {
        "batch_size": cell["batch_size"],
        "best_lr": values.get("best_lr"),
        "lo": lo,
        "hi": hi,
        "equivalent_lo": same_lo,
        "equivalent_hi": same_hi,
        "loss": values.get("min_loss"),
        "loss_lo": loss_lo,
        "loss_hi": loss_hi,
        "diverged_above": values.get("diverged_above"),
        "trials": len(trials) if isinstance(trials, list) else None,
        "status": values.get("status"),
    }


def _sentence(rows: object) -> str:
    assert isinstance(rows, (list, tuple))
    parts, open_ = [], []
    for row in rows:
        if finite(row.get("best_lr")):
            best = with_interval(row["best_lr"], row.get("lo"), row.get("hi"))
            parts.append(f"{best} at batch {count(row['batch_size'])}")
        else:
            open_.append(count(row["batch_size"]))
    first = f"The best peak LR is {listing(parts)}." if parts else "No batch size has a best LR inside its grid."
    if parts and open_:
        first += f" At batch {listing(open_)} the optimum is not inside the grid."
    return first

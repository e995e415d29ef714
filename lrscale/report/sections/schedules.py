"""Which schedule, each at its own best LR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Figure, Panel, Table
from lrscale.report.canvas import Canvas, text_width
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.slice_plot import LEGEND, SliceData, SliceLimits, draw_slice
from lrscale.report.words import count, finite, percent, short, significant
from lrscale.store import Trial

COLUMNS = (
    Column(key="place", label="place"),
    Column(key="label", label="schedule"),
    Column(key="best_lr", label="best LR (95 %)", kind="rate", lo="lr_lo", hi="lr_hi"),
    Column(key="loss", label="loss (95 %)", kind="loss", lo="loss_lo", hi="loss_hi"),
    Column(
        key="difference", label="difference to the best (95 %)", kind="number", lo="difference_lo", hi="difference_hi"
    ),
    Column(key="verdict", label="verdict"),
)
ALONG = (
    Column(key="label", label="schedule"),
    Column(key="lr", label="at LR", kind="rate"),
    Column(key="final", label="last loss", kind="loss"),
    Column(key="lowest", label="lowest loss", kind="loss"),
    Column(key="mean", label="mean loss", kind="loss"),
    Column(key="mean_gap", label="difference", kind="number", lo="mean_lo", hi="mean_hi"),
    Column(key="examples", label="examples to target", kind="count"),
    Column(key="examples_gap", label="difference", kind="count", lo="examples_lo", hi="examples_hi"),
    Column(key="seconds", label="time to target", kind="duration"),
)
_ROLES = {"best": "accent", "lowest": "accent", "tied": "accent", "equivalent": "accent", "worse": "bad"}


@final
class SchedulesSection(AbstractSection):
    """Forest plot of the differences to the best schedule, the equivalence margin, and the shapes beside the names."""

    key: ClassVar[str] = "schedules"
    title: ClassVar[str] = "Which schedule?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("schedules")
        if finding is None:
            return "No schedules were compared in this study (experiments.schedules)."
        if not finding.data.get("schedules"):
            return f"No comparison can be drawn: {finding.sentence}"
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("schedules")
        assert finding is not None
        data = finding.data
        rows = sorted(data["schedules"], key=_by_difference)
        margin = _margin(data)
        height = 56 + 34 * len(rows)
        share = data.get("margin")
        caption = (
            f"Batch {count(data.get('batch_size'))}, {count(data.get('horizon_examples'))} examples for each, each "
            "at its own best "
            "LR. Bars are 95 % intervals of the paired difference."
        )
        if margin:
            caption += f" Inside the shaded margin ({percent(share)} of the loss) schedules count as equal."
        forest = Figure.single(
            "forest",
            (
                Panel(
                    draw=partial(
                        _draw_forest, rows=rows, margin=margin, monitor=str(data.get("monitor") or context.monitor)
                    ),
                    wide=(720, height),
                    narrow=(350, height),
                ),
            ),
            alt=finding.sentence,
            caption=caption,
            points={
                row["label"]: [row.get(k) for k in ("difference", "difference_lo", "difference_hi")] for row in rows
            },
        )
        placed = tuple({**row, "place": _place(row.get("places"))} for row in rows)
        tables = [Table(key="schedules", caption="Schedules, each at its best LR", columns=COLUMNS, rows=placed)]
        along = tuple(finding.tables.get("along", ()))
        if along:
            tables.append(Table(key="along", caption=_along_caption(data, rows), columns=ALONG, rows=along))
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=(forest, *_slice_figures(context, rows)),
            tables=tuple(tables),
            method=(
                "Every schedule sees the same number of examples, behind the same warm-up where it has none of its "
                "own, "
                "and is measured at several peak LRs; what is compared is the minimum of its fitted slice. Seeds are "
                "shared, so differences are paired. A schedule whose interval lies inside the margin is tied with the "
                "best; one whose interval lies above zero and reaches past the margin is worse; the rest cannot be "
                "told, and the first is best only where it is lower than all others. A place is first and last where "
                "the intervals of all pairs leave several."
                f"{_unpure(rows)}"
            ),
        )


def _place(places: Sequence[int] | None) -> str:
    if not places:
        return ""
    first, last = places
    return str(first) if first == last else f"{first} to {last}"


def _along_caption(data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    leader = next((short(row.get("label")) for row in rows if row.get("verdict") in ("best", "lowest")), "the first")
    target = data.get("target_loss")
    goal = f" (a loss of {significant(target)})" if finite(target) else ""
    return (
        f"Along the way, at the LR that was tried nearest the best one: differences to {leader}, paired by seed; the "
        f"mean loss is that of the validations over the examples, and the time to the target{goal} that of training"
    )


def _unpure(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [short(row.get("label")) for row in rows if row.get("pure") is False and row.get("name") != "module"]
    if not names:
        return ""
    listed = ", ".join(names)
    return f" The course of {listed} follows from the run itself; drawn is that at the LR tried nearest the best."


def _by_difference(row: Mapping[str, Any]) -> tuple[bool, float]:
    value = row.get("difference")
    return not finite(value), float(value) if finite(value) else 0.0


def _margin(data: Mapping[str, Any]) -> float | None:
    """Return the margin in the unit of the loss: the relative margin times the best schedule's loss."""
    best = [float(row["loss"]) for row in data["schedules"] if finite(row.get("loss"))]
    share = data.get("margin")
    return abs(min(best)) * float(share) if best and finite(share) else None


def _slice_figures(context: ReportContext, rows: Sequence[Mapping[str, Any]]) -> tuple[Figure, ...]:
    finding = context.finding("schedules")
    assert finding is not None
    members = [context.view.trials[name] for name in finding.trial_ids if name in context.view.trials]
    slices = []
    for row in rows:
        label = str(row.get("label") or row.get("name"))
        own = set(row.get("trials") or ())
        trials = [trial for trial in members if trial.trial_id in own or (not own and _is_named(trial, label))]
        trials = trials or [trial for trial in members if trial.spec.schedule.name == row.get("name")]
        data = SliceData.of(short(label, 40), trials, row.get("slice") or {})
        if data.points:
            slices.append(data)
    limits = SliceLimits.of(slices)
    if limits is None:
        return ()
    monitor = str(finding.data.get("monitor") or context.monitor)
    panels = tuple(
        Panel(draw=partial(draw_slice, data=data, limits=limits, monitor=monitor), title=data.title) for data in slices
    )
    return (
        Figure.single(
            "slices",
            panels,
            alt=f"Loss against LR under each schedule. {finding.sentence}",
            caption="Loss against peak LR under each schedule; all panels share both axes.",
            legend=LEGEND,
        ),
    )


def _is_named(trial: Trial, label: str) -> bool:
    return trial.spec.schedule.label == label


def _draw_forest(canvas: Canvas, rows: Sequence[Mapping[str, Any]], margin: float | None, monitor: str) -> None:
    axes = canvas.axes
    limit = 12 if canvas.is_narrow else 24
    names = [short(row.get("label") or row.get("name"), limit) for row in rows]
    shape = 44 if canvas.is_narrow else 64
    left = 14 + round(max(text_width(name) for name in names)) + shape + 16
    right = 14 if canvas.is_narrow else 92
    canvas.margins(left=left, right=right, top=8, bottom=42)
    values = [0.0]
    for row in rows:
        values += [float(row[key]) for key in ("difference", "difference_lo", "difference_hi") if finite(row.get(key))]
    if margin:
        values += [-0.3 * margin, 1.2 * margin]
    lo, hi = min(values), max(values)
    air = 0.06 * (hi - lo) or 1.0
    canvas.scale("x", lo - air, hi + air, log=False, label_width=50)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    canvas.axis_labels(f"{monitor}: difference to the best" if not canvas.is_narrow else "difference to the best")
    if margin:
        canvas.hover(axes.axvspan(-margin, margin, color=color("accent"), alpha=0.12, lw=0), "equivalence margin")
    axes.axvline(0, color=color("axis"), lw=1)
    inner = canvas.width - left - right
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        verdict = str(row.get("verdict") or "")
        role = _ROLES.get(verdict, "muted")
        axes.annotate(
            name,
            (0, index),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-(left - 8), 0),
            textcoords="offset pixels",
            va="center",
        )
        _draw_shape(canvas, row.get("shape"), index, width=shape / inner, offset=(shape + 10) / inner)
        _draw_row(canvas, row, index, role)
        if not canvas.is_narrow:
            axes.annotate(
                verdict,
                (1, index),
                xycoords=axes.get_yaxis_transform(),
                xytext=(10, 0),
                textcoords="offset pixels",
                va="center",
                color=color(role),
            )


def _draw_row(canvas: Canvas, row: Mapping[str, Any], index: int, role: str) -> None:
    if not finite(row.get("difference")):
        canvas.label(0, index, "no optimum inside its grid", role="muted", dx=6)
        return
    lo, hi = row.get("difference_lo"), row.get("difference_hi")
    if finite(lo) and finite(hi) and hi > lo:
        canvas.axes.plot([lo, hi], [index, index], color=color(role), lw=2.2)
    dot = canvas.axes.scatter(
        [row["difference"]], [index], s=34, color=color(role), marker="o" if role != "bad" else "s", zorder=3
    )
    canvas.hover(
        dot, [f"{short(row.get('label'))}: {significant(row['difference'])} ({significant(lo)} to {significant(hi)})"]
    )


def _draw_shape(canvas: Canvas, shape: Any, index: int, *, width: float, offset: float) -> None:
    points = np.array(
        [(float(x), float(y)) for x, y in shape or () if finite(x) and finite(y)], dtype=np.float64
    ).reshape(-1, 2)
    if not len(points):
        return
    x = points[:, 0] * width - offset
    (line,) = canvas.axes.plot(
        x,
        index + 0.28 - 0.56 * points[:, 1],
        color=color("muted"),
        lw=1.4,
        transform=canvas.axes.get_yaxis_transform(),
        clip_on=False,
    )
    canvas.hover(line, "LR over the horizon, as a share of its peak")

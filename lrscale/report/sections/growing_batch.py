"""A batch that grows against an LR that decays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.report.against import Against, figure_against
from lrscale.report.base import AbstractSection, Card, Column, Figure, LegendEntry, Table
from lrscale.report.canvas import Canvas, padded
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.words import count, finite

COLUMNS = (
    Column(key="what", label="training"),
    Column(key="best_lr", label="best peak LR (95 %)", kind="rate", lo="lr_lo", hi="lr_hi"),
    Column(key="loss", label="lowest loss (95 %)", kind="loss", lo="loss_lo", hi="loss_hi"),
    Column(key="examples", label="examples", kind="count"),
    Column(key="steps", label="steps", kind="count"),
    Column(key="largest_batch", label="largest batch", kind="count"),
    Column(key="runs", label="runs", kind="count"),
)
ROLES = {"decaying LR": "ink", "growing batch": "accent"}
LEGEND = (
    LegendEntry(mark="dot", label="decaying LR (dark)"),
    LegendEntry(mark="fit", label="growing batch (blue)"),
)


@final
class GrowingBatchSection(AbstractSection):
    """Batch, LR and loss of both against examples and steps, and the difference with its verdict."""

    key: ClassVar[str] = "growing_batch"
    title: ClassVar[str] = "Does growing the batch do what decaying the LR does?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding(self.key)
        if finding is None:
            return "No batch was grown in this study (experiments.growing_batch)."
        return None if finding.data.get("rows") else f"Nothing can be drawn: {finding.sentence}"

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding(self.key)
        assert finding is not None
        data = finding.data
        power = float(data["power"])
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=(_figure(context, data, finding.trial_ids, finding.sentence),),
            tables=(
                Table(key="growing_batch", caption="Both, each at its best LR", columns=COLUMNS, rows=data["rows"]),
            ),
            checks=finding.checks,
            method=(
                f"Where the schedule has decayed to a share f of its peak, the batch is f^-{power:g} times the first "
                "in whole multiples, and the LR keeps what is left of the decay, so that the noise of the steps is the "
                "same in both at every example (Smith et al. 2018, arXiv:1711.00489, for SGD; Malladi et al. 2022, "
                "arXiv:2205.10287, for Adam, whose noise goes with LR / sqrt(batch)). Both see the same examples in "
                "the same order. Each has its own LR slice; the fitted minima are compared with seeds paired, and "
                "count as equal when the interval of the difference lies inside the margin."
            ),
        )


def _figure(context: ReportContext, data: Mapping[str, Any], trial_ids: Sequence[str], alt: str) -> Figure:
    panels: dict[str, Any] = {
        "Batch size": partial(_draw_course, courses=data["courses"], column=2, name="batch size"),
        "LR over its peak": partial(_draw_course, courses=data["courses"], column=3, name="factor"),
    }
    curves = _curves(context, data, trial_ids)
    if curves:
        monitor = str(data.get("monitor") or context.monitor)
        panels[f"{monitor} at the same peak LR"] = partial(_draw_losses, curves=curves, name=monitor)
    return figure_against(
        "growing_batch",
        panels,
        alt=alt,
        caption=f"Batch {count(data['batch_size'])} at the beginning, {data['schedule']}. Losses are means over seeds.",
        legend=LEGEND,
        points={"courses": data["courses"]},
        wide=(290, 250),
    )


def _curves(context: ReportContext, data: Mapping[str, Any], trial_ids: Sequence[str]) -> dict[str, Any]:
    """Return mean validation losses of both against examples and steps, over the seeds at the peak LR in common."""
    found: dict[str, list[Any]] = {}
    for trial_id in trial_ids:
        trial = context.view.trials.get(trial_id)
        if trial is None or trial.spec.peak_lr != data.get("same_lr") or trial.record.status != "completed":
            continue
        trajectory = context.trajectory(trial_id)
        if "val_loss" not in trajectory.columns:
            continue
        name = "decaying LR" if trial.spec.batch_schedule is None else "growing batch"
        steps, losses = trajectory.points("val_loss")
        examples, _ = trajectory.points("val_loss", "examples")
        found.setdefault(name, []).append((examples, steps, losses))
    return {
        name: [np.mean([one[column] for one in own], axis=0) for column in range(3)]
        for name, own in found.items()
        if len({len(one[2]) for one in own}) == 1 and len(own[0][2])
    }


def _draw_course(canvas: Canvas, against: Against, courses: Sequence[Any], column: int, name: str) -> None:
    place = 0 if against == "examples" else 1
    canvas.margins(left=56, right=14, top=12)
    values = [float(point[column]) for course in courses for point in course["points"]]
    ends = [float(point[place]) for course in courses for point in course["points"]]
    log = column == 2
    canvas.scale("x", *padded([0.0, max(ends) or 1.0], log=False), log=False, label_width=44)
    canvas.scale("y", *padded(values if log else [0.0, *values], log=log, share=0.08), log=log, label_width=40)
    canvas.axis_labels(against, name)
    for course in courses:
        tint = color(ROLES[course["what"]])
        points = course["points"]
        (line,) = canvas.axes.plot(
            [point[place] for point in points], [point[column] for point in points], color=tint, lw=1.8
        )
        canvas.hover(line, course["what"])


def _draw_losses(canvas: Canvas, against: Against, curves: Mapping[str, Any], name: str) -> None:
    place = 0 if against == "examples" else 1
    canvas.margins(left=56, right=14, top=12)
    values = [float(loss) for curve in curves.values() for loss in curve[2] if finite(float(loss))]
    ends = [float(curve[place].max()) for curve in curves.values()]
    log = min(values) > 0
    canvas.scale("x", *padded([0.0, max(ends)], log=False), log=False, label_width=44)
    canvas.scale("y", *padded(values, log=log, share=0.08), log=log, label_width=40)
    canvas.axis_labels(against, name)
    for what, curve in curves.items():
        (line,) = canvas.axes.plot(curve[place], curve[2], color=color(ROLES[what]), lw=1.8)
        canvas.hover(line, what)

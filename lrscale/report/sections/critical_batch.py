"""Up to which batch size a larger batch costs no more examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.against import Against, figure_against
from lrscale.report.base import AbstractSection, Card, Column, Figure, LegendEntry, Panel, Snippet, Table
from lrscale.report.batch_schedule_entry import batch_schedule_entry
from lrscale.report.canvas import Canvas, padded
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.words import count, finite, significant

COMPARED = (
    Column(key="definition", label="definition"),
    Column(key="where", label="where"),
    Column(key="value", label="examples", kind="count"),
    Column(key="lo", label="at least", kind="count"),
    Column(key="hi", label="below", kind="count"),
)
BRANCHES = (
    Column(key="examples", label="after examples", kind="count"),
    Column(key="steps", label="after steps", kind="count"),
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="lr", label="LR", kind="rate"),
    Column(key="loss", label="loss", kind="loss"),
    Column(key="above", label="above the best smaller one (95 %)", kind="number", lo="above_lo", hi="above_hi"),
    Column(key="standing", label="tolerance"),
)
LEGEND = (
    LegendEntry(mark="dot", label="branches: largest batch within the tolerance"),
    LegendEntry(mark="fit", label="gradient noise scale along the trunk"),
)


@final
class CriticalBatchSection(AbstractSection):
    """Branches at each place, the critical batch along training, and the other definitions beside it."""

    key: ClassVar[str] = "critical_batch"
    title: ClassVar[str] = "Up to which batch size does a larger batch cost no more examples?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding(self.key)
        if finding is None:
            return "No branches at larger batches were trained in this study (experiments.critical_batch)."
        return None if finding.data.get("places") else f"No branch can be judged: {finding.sentence}"

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding(self.key)
        assert finding is not None
        data = finding.data
        schedule = data.get("batch_schedule")
        snippets: tuple[Snippet, ...] = ()
        if schedule is not None:
            label = "A batch schedule that stays within it, beside the constant batch"
            snippets = (batch_schedule_entry(label, int(data["batch_size"]), schedule),)
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=(_branches_figure(data, finding.sentence), _course_figure(data, finding.sentence)),
            tables=(
                Table(
                    key="compared",
                    caption="Critical batch sizes by their definitions, which differ",
                    columns=COMPARED,
                    rows=tuple(data["compared"]),
                ),
                Table(key="branches", caption="Every branch", columns=BRANCHES, rows=tuple(data["branches"])),
            ),
            checks=finding.checks,
            snippets=snippets,
            method=(
                "From a trunk at a constant LR branches take over weights, optimizer state and place in the data, and "
                f"go on for {count(data['window_examples'])} examples at k times the batch and "
                f"k^{data['lr_power']:g} times the LR. All see the same examples. The critical batch is the largest "
                f"whose mean loss over {data['orders']} orders of the examples, and that of every smaller one, is "
                "within the tolerance of the lowest at a smaller batch (Merrill et al. 2025, arXiv:2505.23971). The "
                "tolerance is twice the standard deviation of the difference of two branches at the trunk's own batch "
                "that see other orders, unless the recipe states it. At least: up to there every paired 95 % interval "
                "is within it; below: the first whose interval is beyond it.\n\n"
                "The noise scale is an estimate from gradients, and the hyperbola counts steps of whole runs to a "
                "loss: they answer other questions, and under Adam the noise scale has been seen far below branches."
            ),
        )


def _branches_figure(data: Mapping[str, Any], alt: str) -> Figure:
    panels = tuple(
        Panel(
            draw=partial(
                _draw_branches,
                rows=[row for row in data["branches"] if row["examples"] == place["examples"]],
                tolerance=float(data["tolerance"]),
            ),
            title=f"After {count(place['examples'])} examples ({count(place['steps'])} steps)",
        )
        for place in data["places"]
    )
    return Figure.single(
        "branches",
        panels,
        alt=alt,
        caption="Loss of branches above the lowest at a smaller batch, on as many examples. Bars are paired 95 % "
        "intervals, the shaded band is the tolerance.",
        points={"branches": [dict(row) for row in data["branches"]]},
    )


def _course_figure(data: Mapping[str, Any], alt: str) -> Figure:
    return figure_against(
        "course",
        {"Critical batch along training": partial(_draw_course, data=data)},
        alt=alt,
        caption="Bars reach from the batch that is within the tolerance for certain to the one that is beyond it.",
        legend=LEGEND,
        points={"places": [dict(row) for row in data["places"]]},
        wide=(560, 270),
    )


def _draw_branches(canvas: Canvas, rows: Sequence[Mapping[str, Any]], tolerance: float) -> None:
    axes = canvas.axes
    canvas.margins(left=58, right=16, top=12)
    values = [0.0, -0.3 * tolerance, 1.3 * tolerance]
    for row in rows:
        values += [float(row[key]) for key in ("above", "above_lo", "above_hi") if finite(row.get(key))]
    canvas.scale("x", *padded([row["batch_size"] for row in rows], log=True, share=0.1), log=True, label_width=40)
    canvas.scale("y", *padded(values, log=False), log=False, label_width=44)
    canvas.axis_labels("batch size", "loss above")
    canvas.hover(axes.axhspan(-tolerance, tolerance, color=color("accent"), alpha=0.12, lw=0), "tolerance")
    for row in rows:
        tint = color("ink" if row["within"] else "bad")
        if not finite(row.get("above")):
            canvas.label(row["batch_size"], 0.0, "diverged", role="bad", align="center", dy=8)
            continue
        if finite(row.get("above_lo")) and finite(row.get("above_hi")):
            axes.plot([row["batch_size"]] * 2, [row["above_lo"], row["above_hi"]], color=tint, lw=1.4)
        dot = axes.scatter([row["batch_size"]], [row["above"]], s=34, color=tint, zorder=4)
        canvas.hover(dot, [f"batch {count(row['batch_size'])}: {significant(row['above'])} above, {row['standing']}"])


def _draw_course(canvas: Canvas, against: Against, data: Mapping[str, Any]) -> None:
    axes, unit = canvas.axes, float(data["batch_size"]) if against == "steps" else 1.0
    canvas.margins(left=58, right=62, top=12)
    places, course = data["places"], data.get("noise_scale_course") or []
    values = [float(row[key]) for row in places for key in ("critical_batch", "at_least", "below") if row[key]]
    values += [float(one[1]) for one in course]
    ends = [float(row["examples"]) for row in places] + [float(one[0]) for one in course]
    canvas.scale("x", *padded([0.0, max(ends) / unit], log=False), log=False, label_width=44)
    canvas.scale("y", *padded(values, log=True, share=0.12), log=True, label_width=44)
    canvas.axis_labels(against, "examples of a step")
    if course:
        (line,) = axes.plot(
            [one[0] / unit for one in course], [one[1] for one in course], color=color("accent"), lw=1.6
        )
        canvas.hover(line, "gradient noise scale")
    for row in places:
        place = row["examples"] / unit
        low, high = row["at_least"] or row["critical_batch"], row["below"] or row["critical_batch"]
        axes.plot([place, place], [low, high], color=color("ink"), lw=1.4)
        dot = axes.scatter([place], [row["critical_batch"]], s=36, color=color("ink"), zorder=4)
        canvas.hover(dot, [f"{count(row['critical_batch'])} from {count(row[against])} {against} on"])
        if row["open_above"]:
            canvas.label(place, row["critical_batch"], "or above", role="muted", dx=8, dy=6)

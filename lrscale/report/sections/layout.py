"""Whether devices and accumulation change what a step computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Figure, LegendEntry, Panel, Table
from lrscale.report.canvas import Canvas, text_width
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.words import count, finite, percent, plural, short, significant

SMALLEST = 1e-9
"""Where a difference of zero is drawn: far below the rounding of single precision."""
RELATIONS = {
    "same": "agrees",
    "scaled": "a multiple of the reference",
    "reweighted": "parts weigh otherwise",
    "mixed": "differs",
    "other_loss": "the losses differ",
}
"""How a comparison came out, for people."""


@final
class LayoutSection(AbstractSection):
    """Relative differences of gradients and losses by layout, against what rounding and other seeds do."""

    key: ClassVar[str] = "equivalence"
    title: ClassVar[str] = "Does the layout change the answer?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("equivalence")
        if finding is None:
            return "The layout was not checked in this study (experiments.equivalence)."
        if not finding.data.get("rows"):
            return f"The layout check has nothing to show: {finding.sentence}"
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("equivalence")
        assert finding is not None
        data = finding.data
        rows = list(data["rows"])
        compared = [row for row in rows if any(finite(value) for value in row["gradients"])]
        figures: tuple[Figure, ...] = ()
        if compared:
            height = 96 + 44 * len(compared)
            figures = (
                Figure.single(
                    "differences",
                    (Panel(draw=partial(_draw, rows=compared, data=data), wide=(720, height), narrow=(350, height)),),
                    alt=finding.sentence,
                    caption=(
                        f"Against {short(_reference(rows))}; {plural(len(compared[0]['gradients']), 'step')} each. A "
                        f"difference of zero is drawn at {significant(SMALLEST, 1)}."
                    ),
                    legend=(
                        LegendEntry(mark="dot", label="gradient, one mark a step"),
                        LegendEntry(mark="ring", label="loss"),
                        LegendEntry(mark="band", label="rounding explains it"),
                    ),
                    points={row["layout"]: row["gradients"] for row in compared},
                ),
            )
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=figures,
            tables=(_table(rows), *_causes(data)),
            method=(
                "The same examples with the same seed, in short trials whose layout is pinned. Gradients are those of "
                "the step, after the ranks put theirs together and before clipping, compared by norms and by a random "
                "sketch of every parameter (count sketch: Charikar, Chen and Farach-Colton 2002). Causes are told by "
                "writing the gradient of the whole batch as a combination of the gradients of its parts, and by trials "
                "without dropout or batch statistics."
            ),
        )


def _reference(rows: Sequence[Mapping[str, Any]]) -> str:
    return next((str(row["layout"]) for row in rows if row["relation"] is None and not row["gradients"]), "the first")


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    shown = []
    for row in rows:
        trained = str(row["status"])
        outcome = "the reference" if trained == "completed" else trained
        if row["relation"] is not None:
            outcome = RELATIONS.get(str(row["relation"]), str(row["relation"]))
            if row["relation"] == "scaled" and finite(row.get("scale")):
                outcome = f"the reference is {row['scale']:.4g} times it"
        shown.append({**row, "outcome": outcome})
    return Table(
        key="layouts",
        caption="Layouts compared",
        columns=(
            Column(key="layout", label="layout"),
            Column(key="outcome", label="outcome"),
            Column(key="gradient", label="gradient differs by", kind="number"),
            Column(key="loss", label="loss differs by", kind="number"),
            Column(key="parameter", label="most in"),
            Column(key="parameter_difference", label="difference there", kind="number"),
        ),
        rows=tuple(shown),
    )


def _causes(data: Mapping[str, Any]) -> tuple[Table, ...]:
    causes = list(data.get("causes") or ())
    if not causes:
        return ()
    rows = tuple({**cause, "remedy": cause["remedy"] or "nothing to do"} for cause in causes)
    columns = (Column(key="sentence", label="cause"), Column(key="remedy", label="what to do"))
    return (Table(key="causes", caption="What makes them differ", columns=columns, rows=rows),)


def _draw(canvas: Canvas, rows: Sequence[Mapping[str, Any]], data: Mapping[str, Any]) -> None:
    names = [short(row["layout"], 40) for row in rows]
    # On a narrow screen the names stand above their rows.
    beside = not canvas.is_narrow
    canvas.margins(left=24 + round(max(map(text_width, names))) if beside else 16, right=20, top=24)
    tolerance, noise = data.get("tolerance"), data.get("noise")
    values = [SMALLEST, 1.0]
    values += [float(value) for row in rows for value in (*row["gradients"], *row["losses"]) if finite(value)]
    lo, hi = SMALLEST / 2, 2 * max(values)
    canvas.scale("x", lo, hi, log=True, label_width=42)
    canvas.scale("y", -0.6, len(rows) - 0.4, log=False, at=[])
    canvas.axis_labels("relative difference", "")
    if finite(tolerance):
        band = canvas.axes.axvspan(lo, min(float(tolerance), hi), color=color("accent"), alpha=0.13, lw=0)
        canvas.hover(band, f"rounding explains differences up to {significant(tolerance)}")
    if finite(noise) and noise > lo:
        (line,) = canvas.axes.plot([noise, noise], [-0.6, len(rows) - 0.4], color=color("muted"), lw=1.0, ls="--")
        canvas.hover(line, f"another seed moves the gradient by {percent(noise)}")
        canvas.label(min(noise, hi), len(rows) - 0.4, "another seed", role="muted", align="right", dx=-4, dy=10)
    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        height = len(rows) - 1 - place
        if beside:
            canvas.label(lo, height, name, role="ink", align="right", dx=-8)
        else:
            canvas.label(lo, height, name, role="ink", dx=6, dy=16)
        tint = color("accent") if row["relation"] == "same" else color("bad")
        for filled, values_of, word in ((True, row["gradients"], "gradient"), (False, row["losses"], "loss")):
            known = [
                (step, max(SMALLEST, float(value)), value) for step, value in enumerate(values_of) if finite(value)
            ]
            if not known:
                continue
            dots = canvas.axes.scatter(
                [x for _, x, _ in known],
                [height] * len(known),
                s=28,
                facecolors=tint if filled else "none",
                edgecolors=tint,
                zorder=3,
                alpha=0.85,
            )
            canvas.hover(
                dots,
                [
                    f"{name}, step {count(step + 1)}: {word} "
                    + (f"differs by {significant(value)}" if value else "agrees to the last bit")
                    for step, _, value in known
                ],
            )

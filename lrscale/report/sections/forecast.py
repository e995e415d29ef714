"""What the small cells say of the target: optimum against model size and horizon, families of laws, published laws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws.forecast import Forecast
from lrscale.report.base import AbstractSection, Card, Column, Fact, Figure, LegendEntry, Panel, Table
from lrscale.report.canvas import Canvas, padded
from lrscale.report.context import ReportContext
from lrscale.report.palette import LRScale, color
from lrscale.report.words import count, finite, significant
from lrscale.study.finding import Finding

FAMILIES = (
    Column(key="family", label="family"),
    Column(key="lr", label="peak LR", kind="rate", lo="lr_lo", hi="lr_hi"),
    Column(key="batch", label="batch", kind="number", lo="batch_lo", hi="batch_hi"),
    Column(key="miss_lr", label="LR, held out / own", kind="number"),
    Column(key="miss_batch", label="batch, held out / own", kind="number"),
    Column(key="miss_regret", label="which costs", kind="number"),
    Column(key="aicc", label="AICc", kind="number"),
)
FAMILIES_CAPTION = (
    "Forecasts by family: one surface whose optimum moves with scale or stays constant, power laws through "
    "the optimum of each cell, the nearest cell"
)
CELLS = (
    Column(key="cell", label="cell"),
    Column(key="params", label="parameters", kind="count"),
    Column(key="horizon", label="examples", kind="count"),
    Column(key="lr", label="best LR", kind="rate", lo="lr_lo", hi="lr_hi"),
    Column(key="batch", label="best batch", kind="number", lo="batch_lo", hi="batch_hi"),
    Column(key="loss", label="lowest loss", kind="loss"),
    Column(key="runs", label="runs", kind="count"),
)
PUBLISHED = (
    Column(key="authors", label="law"),
    Column(key="lr", label="peak LR", kind="rate"),
    Column(key="batch", label="batch", kind="number"),
    Column(key="note", label="at this target"),
    Column(key="formula", label="formula"),
    Column(key="counts", label="counts"),
    Column(key="conventions", label="conventions"),
    Column(key="arxiv", label="arXiv"),
)
_LR, _BATCH, _LOSS = "lr", "batch", "loss"
# In pixels, about: what the margins leave of a panel, and a line of text.
_AXIS_HEIGHT, _LINE_HEIGHT = 200, 13


@final
class ForecastSection(AbstractSection):
    """The best LR, batch and loss of every cell against its scale, with the target and what others published."""

    key: ClassVar[str] = "forecast"
    title: ClassVar[str] = "What will be best at the target's scale?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("forecast")
        if finding is None:
            return "The recipe asks no forecast (experiments.forecast)."
        return None if finding.data.get("forecast") is not None else finding.sentence

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("forecast")
        assert finding is not None
        found = Forecast.from_dict(finding.data["forecast"])
        published = [
            {**row, "note": "; ".join(filter(None, (row["outside"], row["silent"]))) or "inside its range"}
            for row in _published(finding)
        ]
        panels, points = _panels(found, published)
        figures: tuple[Figure, ...] = ()
        if panels:
            figures = (
                Figure.single(
                    "optima",
                    panels,
                    alt=finding.sentence,
                    caption=(
                        "The best setting of every cell with its 95 % interval, by the shape that all cells share; a "
                        "line joins cells that differ in one factor only. The diamond is the forecast at the target. "
                        "Crosses are published laws at the target: comparisons, used for nothing."
                    ),
                    legend=(
                        LegendEntry(mark="dot", label="cell, 95 % interval"),
                        LegendEntry(mark="fit", label="forecast at the target"),
                    ),
                    points=points,
                ),
            )
        rows = [
            {**row, "family": f"{row['family']} (chosen)" if row["chosen"] else row["family"]}
            for row in finding.tables.get("families", ())
        ]
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="ok" if finding.status == "ok" else "cannot_tell",
            facts=tuple(_facts(found)),
            figures=figures,
            tables=(
                Table(key="families", caption=FAMILIES_CAPTION, columns=FAMILIES, rows=tuple(rows)),
                Table(key="cells", caption="Cells", columns=CELLS, rows=tuple(finding.tables.get("cells", ()))),
                Table(
                    key="published",
                    caption="Published laws at the target, batches in examples",
                    columns=PUBLISHED,
                    rows=tuple(published),
                    open=False,
                ),
            ),
            notes=tuple(check.sentence for check in finding.checks if check.status == "INFO"),
            checks=tuple(check for check in finding.checks if check.status == "WARNING"),
            method=(
                "One surface is fitted to the runs of all cells: the loss over ln LR and ln batch, of one shape, about "
                "an optimum that follows powers of model size and horizon up to a departure of each cell; the best LR "
                "rises with the batch below a knee and is flat above it. Exponents have a prior of 0 ± 0.5, which "
                "spans the published ones and leans on none. Every family of laws is fitted once more without the "
                "largest cell; the one whose setting costs least there is chosen. The best LR is never fitted against "
                "the horizon without the batch: at a fixed batch it falls with the horizon, along the best batch it "
                "rises (Li et al. 2025, arXiv:2503.04715; Bjorck et al. 2024, arXiv:2409.19913)."
            ),
        )


def _published(finding: Finding) -> Sequence[Mapping[str, Any]]:
    return finding.tables.get("published", ())


def _facts(found: Forecast) -> list[Fact]:
    chosen = found.chosen
    facts = []
    if chosen is not None and chosen.miss is not None:
        miss = chosen.miss
        facts.append(
            Fact(
                term="Held out",
                value=f"{miss.lr_factor:.2f} x the best LR",
                detail=f"{miss.cell}, forecast without it; that setting costs {significant(miss.regret)} in loss.",
            )
        )
    exponents = found.exponents or {}
    for quantity, term in (("lr", "Best LR"), ("batch", "Best batch")):
        spans = {name: exponents.get(f"{quantity}_{name}") for name in ("params", "horizon")}
        known = {name: span for name, span in spans.items() if span is not None}
        if known:
            powers = " ".join(f"{name}^{significant(span.value)}" for name, span in known.items())
            ends = ", ".join(f"{name} {significant(span.lo)} to {significant(span.hi)}" for name, span in known.items())
            facts.append(Fact(term=term, value=f"moves as {powers}", detail=f"95 %: {ends}"))
    return facts


def _panels(
    found: Forecast, published: Sequence[Mapping[str, Any]]
) -> tuple[tuple[Panel, ...], dict[str, list[list[Any]]]]:
    sizes = {cell.params for cell in found.cells}
    by = "params" if len(sizes) > 1 else "horizon"
    panels, points = [], {}
    for name, label in ((_LR, "best LR"), (_BATCH, "best batch"), (_LOSS, "lowest loss")):
        rows = _rows(found, name)
        if rows:
            draw = partial(_draw, found=found, rows=rows, by=by, name=name, label=label, published=published)
            against = "parameters" if by == "params" else "examples"
            panels.append(Panel(draw=draw, title=f"{label} against {against}", wide=(290, 270)))
            points[label] = [[row[by], row["value"], row["lo"], row["hi"]] for row in rows]
    return tuple(panels), points


def _rows(found: Forecast, name: str) -> list[dict[str, Any]]:
    rows = []
    for cell in found.cells:
        span = {_LR: cell.lr, _BATCH: cell.batch, _LOSS: None}[name]
        value = cell.loss if name == _LOSS else None if span is None else span.value
        if value is not None:
            rows.append(
                {
                    "label": cell.label,
                    "params": cell.params,
                    "horizon": cell.horizon,
                    "value": value,
                    "lo": None if span is None else span.lo,
                    "hi": None if span is None else span.hi,
                }
            )
    return rows


def _draw(
    canvas: Canvas,
    found: Forecast,
    rows: Sequence[Mapping[str, Any]],
    by: str,
    name: str,
    label: str,
    published: Sequence[Mapping[str, Any]],
) -> None:
    canvas.margins(left=54, right=20)
    log = name != _LOSS
    target = {_LR: found.lr, _BATCH: found.batch, _LOSS: found.loss}[name]
    at = found.params if by == "params" else found.horizon
    marks = [row for row in published if name != _LOSS and finite(row[name])]
    seen = [float(row[end]) for row in rows for end in ("value", "lo", "hi") if finite(row[end])]
    ends = seen + ([] if target is None else [target.lo, target.hi])
    # A published law that is orders away is named in the table, and does not flatten the rest.
    near = sorted((row for row in marks if min(ends) / 3 < row[name] < max(ends) * 3), key=lambda row: row[name])
    limits = padded([*ends, *[float(row[name]) for row in near]], log=log, share=0.1)
    canvas.scale("x", *padded([*[float(row[by]) for row in rows], at], log=True), log=True, label_width=44)
    canvas.scale("y", *limits, log=log)
    canvas.axis_labels("parameters" if by == "params" else "examples", label)
    other = "horizon" if by == "params" else "params"
    groups = sorted({float(row[other]) for row in rows})
    levels = LRScale.of(groups)
    for group in groups:
        own = sorted((row for row in rows if row[other] == group), key=lambda row: row[by])
        tint = levels.color(group) if len(groups) > 1 else color("ink")
        canvas.axes.plot([row[by] for row in own], [row["value"] for row in own], color=tint, lw=1.2, alpha=0.6)
        for row in own:
            if finite(row["lo"]) and finite(row["hi"]):
                ends_of = [max(row["lo"], limits[0]), min(row["hi"], limits[1])]
                canvas.axes.plot([row[by]] * 2, ends_of, color=tint, lw=1.4)
        dots = canvas.axes.scatter([row[by] for row in own], [row["value"] for row in own], s=26, color=tint, zorder=4)
        canvas.hover(dots, [f"{row['label']}: {significant(float(row['value']), 3)}" for row in own])
        if len(groups) > 1:
            unit = "examples" if other == "horizon" else "parameters"
            canvas.label(own[0][by], own[0]["value"], f"{count(group)} {unit}", dx=4, dy=10)
    if target is not None:
        canvas.axes.plot(
            [at] * 2, [max(target.lo, limits[0]), min(target.hi, limits[1])], color=color("accent"), lw=2.2
        )
        dot = canvas.axes.scatter([at], [target.value], s=54, marker="D", color=color("accent"), zorder=5)
        canvas.hover(dot, f"forecast: {target.text()}")
    below = -math.inf
    for row in near:
        cross = canvas.axes.scatter([at], [row[name]], s=30, marker="x", color=color("muted"), zorder=3)
        canvas.hover(cross, f"{row['authors']}: {significant(float(row[name]), 3)}")
        # Names of laws that agree would lie on each other: the upper one moves up.
        height = _AXIS_HEIGHT * math.log(row[name] / limits[0]) / math.log(limits[1] / limits[0])
        below = max(height, below + _LINE_HEIGHT)
        who = str(row["authors"]).partition(" 2")[0].partition(" et")[0]
        canvas.label(at, row[name], who, align="right", dx=-7, dy=round(below - height), role="muted")

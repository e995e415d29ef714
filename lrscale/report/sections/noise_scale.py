"""How noisy the gradient is along training, beside the batch sizes that were used."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Figure, LegendEntry, Panel, Snippet, Table
from lrscale.report.batch_schedule_entry import batch_schedule_entry
from lrscale.report.canvas import Canvas, padded, text_width
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.words import EMPTY, between, count, finite, plural, rate, significant, with_interval
from lrscale.study.finding import Finding
from lrscale.study.noise_scale.answer import noise_scale_finding
from lrscale.study.noise_scale.cells import nearest_cells, noise_scale_cells

MOST_PANELS = 6
FAR = 4.0
"""Ends of intervals farther than this factor from every value are cut, or one wide interval would flatten the rest."""

BATCH_SIZES = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="lr", label="peak LR", kind="rate"),
    Column(key="best_lr", label="best LR", kind="rate"),
    Column(key="temperature", label="LR / batch", kind="rate"),
    Column(key="schedule", label="schedule"),
    Column(key="trials", label="runs", kind="count"),
    Column(key="measured_steps", label="measured steps", kind="count"),
    Column(key="noise_scale_text", label="noise scale"),
    Column(key="adam_noise_scale_text", label="as Adam sees it"),
    Column(key="whole_noise_scale_text", label="over the whole run"),
)
GROUPS = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="group", label="parameter group"),
    Column(key="noise_scale_text", label="noise scale"),
    Column(key="adam_noise_scale_text", label="as Adam sees it"),
    Column(key="squared_gradient", label="|G|²", kind="number"),
    Column(key="noise_trace", label="tr(Σ)", kind="number"),
)
RATES = tuple(
    column
    for column in BATCH_SIZES
    if column.key
    in ("batch_size", "lr", "temperature", "trials", "measured_steps", "noise_scale_text", "adam_noise_scale_text")
)


@final
class NoiseScaleSection(AbstractSection):
    """The noise scale against the examples seen, a panel for each batch size, with its table by parameter group."""

    key: ClassVar[str] = "noise_scale"
    title: ClassVar[str] = "How noisy is the gradient?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = _finding(context)
        if finding is None:
            return "No trial of this study measured the gradient noise scale (instruments.noise_scale)."
        return None if finding.data.get("cells") else finding.sentence

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = _finding(context)
        assert finding is not None
        cells = finding.data["cells"]
        panels, points = _panels(cells)
        figures: tuple[Figure, ...] = ()
        if panels:
            caption = (
                "Averages over windows of training with their 95 % intervals; the thick line is the second half of "
                "training, which the numbers are of. The dashed line is the batch size that was used. A window whose "
                "steps bound nothing is left empty."
            )
            if len(panels) < len(cells):
                caption += f" {plural(len(cells) - len(panels), 'further batch size')} stand in the table."
            figures = (
                Figure.single(
                    "course",
                    panels,
                    alt=finding.sentence,
                    caption=caption,
                    legend=(
                        LegendEntry(mark="fit", label="noise scale"),
                        LegendEntry(mark="band", label="95 % interval"),
                        LegendEntry(mark="bound", label="lower bound alone: the gradient is not resolved"),
                        LegendEntry(mark="dashed", label="batch size used"),
                    ),
                    points=points,
                ),
            )
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=figures,
            tables=tuple(_tables(finding)),
            snippets=_snippets(finding.data),
            notes=tuple(check.sentence for check in finding.checks if check.status == "INFO"),
            checks=tuple(check for check in finding.checks if check.status == "WARNING"),
            method=(
                "The noise scale is tr(Σ) / |G|², in examples: the batch at which the noise of a gradient is as large "
                "as the gradient (McCandlish et al. 2018, arXiv:1812.06162). Both are U-statistics over the "
                "micro-gradients of a step, one of each backward of each rank, read before clipping and after "
                "unscaling; on one device without accumulation a batch is cut into parts. They are averaged apart over "
                "steps and runs, and divided last: an average of the ratios of single steps is biased several-fold.\n\n"
                "Intervals are Fieller's (1954), with the errors from differences of neighbouring steps (von Neumann "
                "1941). Where the standard error of |G|² is above 30 % of it, a lower bound alone is given. As Adam "
                "sees it: every gradient divided by sqrt(v) + eps as they stood before the step. The first steps, "
                "whose gradients are large, would outweigh all others in an average over the whole run."
            ),
        )


def _snippets(data: Mapping[str, Any]) -> tuple[Snippet, ...]:
    schedule = data.get("batch_schedule")
    if schedule is None:
        return ()
    label = "A batch that grows as far as the noise scale surely is, beside the constant one: a proposal to be trained"
    return (batch_schedule_entry(label, int(data["headline"]), schedule),)


def _finding(context: ReportContext) -> Finding | None:
    """Return the study's finding, or one made here of what rode on its trials; None where nothing did."""
    finding = context.finding("noise_scale")
    if finding is not None:
        return finding
    # The cells of a forecast are other models at other horizons.
    apart = context.finding("forecast")
    others = frozenset(() if apart is None else apart.trial_ids)
    trials = [trial for trial in context.trials if trial.trial_id not in others]
    cells = noise_scale_cells(trials)
    if not cells:
        return None
    scaling = context.finding("scaling")
    known = () if scaling is None else scaling.data.get("cells", ())
    best = {int(cell["batch_size"]): cell["slice"].get("best_lr") for cell in known}
    chosen = nearest_cells(cells, best, None if scaling is None else scaling.data.get("schedule"))
    sizes = list(chosen)
    headline = sizes[(len(sizes) - 1) // 2]
    return noise_scale_finding(cells, chosen, headline=headline, best_lrs=best, precision=0.1, trials=trials)


def _tables(finding: Finding) -> Iterator[Table]:
    rows = _with_texts(finding.tables.get("batch_sizes", ()))
    yield Table(
        key="batch_sizes", caption="Noise scale at each batch size, in examples", columns=BATCH_SIZES, rows=rows
    )
    groups = _with_texts(finding.tables.get("groups", ()))
    if len({row["group"] for row in groups}) > 2:
        yield Table(key="groups", caption="By parameter group", columns=GROUPS, rows=groups, sortable=True)
    rates = _with_texts(finding.tables.get("temperature", ()))
    if len(rates) > len(rows):
        yield Table(
            key="temperature",
            caption="At the other learning rates that were tried",
            columns=RATES,
            rows=rates,
            sortable=True,
            open=False,
        )


def _with_texts(rows: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Return rows with each noise scale as text: a number with its interval, or a bound that says so."""
    found = []
    for row in rows:
        texts = {}
        for prefix in ("", "adam_", "whole_"):
            value, lo, hi = (row.get(f"{prefix}{name}") for name in ("noise_scale", "lo", "hi"))
            bounded = finite(lo) and lo > 0
            text = with_interval(value, lo, hi) if finite(value) else between(lo, None) if bounded else EMPTY
            texts[f"{prefix}noise_scale_text"] = text
        found.append({**row, **texts})
    return tuple(found)


def _panels(cells: Sequence[Mapping[str, Any]]) -> tuple[tuple[Panel, ...], dict[str, Any]]:
    drawn = [cell for cell in cells if any(_known(one) for one in cell["course"])][:MOST_PANELS]
    if not drawn:
        return (), {}
    limits = _limits(drawn)
    points = {
        f"batch {cell['batch_size']}": [
            [*_span(cell, one), one["value"], _lo(one), _hi(one)] for one in cell["course"] if _known(one)
        ]
        for cell in drawn
    }
    alone = len(drawn) == 1
    panels = tuple(
        Panel(
            draw=partial(_draw, cell=cell, limits=limits),
            title=f"batch {count(cell['batch_size'])}, LR {rate(cell['lr'])}",
            wide=(720, 320) if alone else (350, 270),
            narrow=(350, 290) if alone else None,
        )
        for cell in drawn
    )
    return panels, points


def _known(one: Mapping[str, Any]) -> bool:
    return one["interval"] is not None and (finite(one["value"]) or (_lo(one) or 0.0) > 0)


def _lo(one: Mapping[str, Any]) -> float | None:
    return None if one["interval"] is None else one["interval"]["lo"]


def _hi(one: Mapping[str, Any]) -> float | None:
    return None if one["interval"] is None else one["interval"]["hi"]


def _span(cell: Mapping[str, Any], one: Mapping[str, Any]) -> tuple[float, float]:
    """Return the examples between which a window lies."""
    return one["first_step"] * cell["batch_size"], (one["last_step"] + 1) * cell["batch_size"]


def _limits(cells: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    middle = [float(cell["batch_size"]) for cell in cells]
    ends = []
    for cell in cells:
        for one in [*cell["course"], cell["total"]]:
            if _known(one):
                middle.append(float(one["value"]) if finite(one["value"]) else float(_lo(one) or 1.0))
                ends += [end for end in (_lo(one), _hi(one)) if finite(end) and end > 0]
    middle = [value for value in middle if value > 0]
    lo, hi = min(middle) / FAR, max(middle) * FAR
    return padded([min(max(end, lo), hi) for end in (*ends, *middle)], log=True, share=0.08)


def _draw(canvas: Canvas, cell: Mapping[str, Any], limits: tuple[float, float]) -> None:
    from matplotlib.patches import Rectangle

    axes, tint = canvas.axes, color("accent")
    canvas.margins(left=52, right=16 + round(text_width(significant(cell["total"]["value"]))))
    end = float(cell["horizon"] * cell["batch_size"])
    canvas.scale("x", 0.0, end, log=False, label_width=52)
    canvas.scale("y", *limits, log=True)
    canvas.axis_labels("examples seen", "noise scale (examples)")
    size = float(cell["batch_size"])
    (used,) = axes.plot([0, end], [size, size], color=color("ink"), lw=1.2, linestyle=(0, (4, 3)), zorder=2)
    canvas.hover(used, f"batch size used: {count(size)}")
    centres, values = [], []
    for one in cell["course"]:
        if not _known(one):
            continue
        left, right = _span(cell, one)
        lo, hi, value = _lo(one), _hi(one), one["value"]
        middle = (left + right) / 2
        if not finite(value):
            bound = max(float(lo or 0.0), limits[0])
            mark = axes.scatter([middle], [bound], marker="^", s=34, color=color("warn"), zorder=4, clip_on=False)
            axes.plot([left, right], [bound, bound], color=color("warn"), lw=1.2, zorder=3)
            canvas.hover(mark, [f"{_steps(one)}: {significant(lo)} or more, the gradient is not resolved"])
            continue
        bottom, top = max(float(lo or 0.0), limits[0]), min(float(hi if finite(hi) else math.inf), limits[1])
        band = Rectangle((left, bottom), right - left, top - bottom, color=tint, alpha=0.18, lw=0, zorder=1)
        axes.add_patch(band)
        canvas.hover(band, f"{_steps(one)}: {with_interval(value, lo, hi)} examples")
        centres.append(middle)
        values.append(min(max(value, limits[0]), limits[1]))
    axes.plot(centres, values, color=tint, lw=1.0, alpha=0.8, marker="o", markersize=3.5, zorder=3)
    total = cell["total"]
    if finite(total["value"]) and total["value"] > 0:
        value = min(max(total["value"], limits[0]), limits[1])
        left, right = _span(cell, total)
        (line,) = axes.plot([left, right], [value, value], color=tint, lw=2.6, alpha=0.9, zorder=3)
        canvas.hover(line, f"second half: {with_interval(total['value'], _lo(total), _hi(total))} examples")
        canvas.label(end, value, significant(total["value"]), role="accent", dx=6)


def _steps(one: Mapping[str, Any]) -> str:
    return f"steps {count(one['first_step'])} to {count(one['last_step'])}"

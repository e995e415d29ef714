"""The law of the loss against the step of each group of a table of curves, and its error on what it has not seen."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lrscale.report.base import Card, Column, Fact, Figure, LegendEntry, Panel, Table
from lrscale.report.canvas import Canvas, padded, spread
from lrscale.report.palette import color, lr_color
from lrscale.report.table.groups import MOST_DRAWN, group_label, switched
from lrscale.report.thin import keep_extremes
from lrscale.report.words import loss, plural, short, significant, with_interval

if TYPE_CHECKING:
    from lrscale.sweep import CurvesGroup, CurvesTableFit

MOST_CURVES = 24
"""Curves drawn of a group; all are in the table."""
_BINS = 80
_LABELLED = 12
"""Curves that have their name at their end; more of them would hide each other."""
_LEVELS = 11


def curve_law_card(fit: CurvesTableFit) -> Card:
    """Return measured and fitted curves, group by group, with the law's parameters."""
    panels = [
        (
            group,
            (
                Panel(
                    draw=partial(_draw, group=group),
                    title=group_label(group) if group.key else "",
                    wide=(720, 380),
                    narrow=(350, 320),
                ),
            ),
        )
        for group in fit.groups[:MOST_DRAWN]
    ]
    sentence = _sentence(fit)
    rows = [
        {
            "group": group.label,
            "name": one.name,
            # Four digits: lambda lies between 0.99 and 1.
            "value": with_interval(
                one.value,
                None if one.interval is None else one.interval.lo,
                None if one.interval is None else one.interval.hi,
                4,
            ),
            "unit": one.unit,
        }
        for group in fit.groups
        for one in group.fit.estimates
    ]
    grouped = (Column(key="group", label="group"),) if len(fit.groups) > 1 else ()
    return Card(
        key="curve_law",
        title="How does the loss follow the schedule?",
        finding=sentence,
        status="ok" if fit.ok else "cannot_tell",
        figures=(
            Figure(
                key="curves",
                alt=sentence,
                views=switched(panels),
                caption="Points are measured losses, thinned so that each bin keeps its extremes; lines are the law, "
                "from the end of warm-up on.",
                legend=(LegendEntry(mark="dot", label="measured"), LegendEntry(mark="line", label="law")),
                points={
                    group.label: {curve.name: [curve.step[-1], curve.loss[-1]] for curve in group.curves}
                    for group, _ in panels
                },
            ),
        ),
        tables=(
            Table(
                key="parameters",
                caption="Parameters",
                columns=(
                    *grouped,
                    Column(key="name", label="parameter"),
                    Column(key="value", label="value"),
                    Column(key="unit", label="unit"),
                ),
                rows=tuple(rows),
            ),
        )
        if rows
        else (),
        notes=(
            *fit.warnings,
            *(f"{group_label(group)}: {note}" for group in fit.groups for note in (*group.notes, *group.fit.notes)),
        ),
    )


def held_out_card(fit: CurvesTableFit) -> Card:
    """Return the error on each schedule that was left out, and the final loss of every run."""
    missed = [
        {
            "group": group.label,
            "name": one.name,
            "rms": one.rms_error,
            "final": one.final_error,
            "decayed": "decays" if one.decayed else "constant",
        }
        for group in fit.groups
        for one in group.fit.held_out
    ]
    finals = [_final(group, curve) for group in fit.groups for curve in group.curves]
    errors = [group.fit.held_out_rmse for group in fit.groups if group.fit.held_out_rmse is not None]
    sentence = "No schedule could be left out: a fit needs two schedules to remain."
    if errors:
        margin = max(group.fit.rank_margin for group in fit.groups if group.fit.held_out_rmse is not None)
        sentence = (
            f"Schedules that the fit had not seen were missed by {significant(max(errors), 2)} at most "
            f"(root mean square by group); final losses closer than {significant(margin, 2)} are not ranked."
        )
    grouped = (Column(key="group", label="group"),) if len(fit.groups) > 1 else ()
    tables = []
    if missed:
        tables.append(
            Table(
                key="held_out",
                caption="Schedules left out in turn",
                columns=(
                    *grouped,
                    Column(key="name", label="schedule"),
                    Column(key="rms", label="rms error", kind="number"),
                    Column(key="final", label="predicted minus measured at the end", kind="number"),
                    Column(key="decayed", label="LR"),
                ),
                rows=tuple(missed),
                sortable=True,
            )
        )
    tables.append(
        Table(
            key="finals",
            caption="Final losses",
            columns=(
                *grouped,
                Column(key="name", label="run"),
                Column(key="steps", label="steps", kind="count"),
                Column(key="measured", label="measured", kind="loss"),
                Column(key="law", label="law", kind="loss", lo="lo", hi="hi"),
                Column(key="seen", label="in the fit"),
            ),
            rows=tuple(finals),
            sortable=True,
            open=len(finals) <= 20,
        )
    )
    return Card(
        key="held_out",
        title="Does the law predict schedules that it has not seen?",
        finding=sentence,
        status="ok" if errors else "cannot_tell",
        tables=tuple(tables),
    )


def curves_methods_card(fit: CurvesTableFit) -> Card:
    """Return short texts on what was computed and whose method it is."""
    return Card(
        key="methods",
        title="Methods",
        finding="Every number above comes from the curves of the table, by the methods below.",
        facts=(
            Fact(
                term="Annealing law",
                value="L = L_0 + A S_1^-alpha - C S_2 (Tissue et al. 2024, arXiv:2408.11029): S_1 is the sum of the "
                "LR, S_2 the sum of its drops with momentum.",
            ),
            Fact(
                term="Multi-power law",
                value="Luo et al. 2025 (arXiv:2503.12811). The law with more parameters is taken only where it "
                "predicts schedules left out better, beyond chance.",
            ),
            Fact(
                term="Fit",
                value="By variable projection with Huber's loss on log residuals, after the warm-up.",
            ),
            Fact(
                term="Intervals",
                value=f"{100 * fit.confidence:g} %, from schedules left out; points of one curve are never drawn "
                "again, because they share their noise.",
            ),
        ),
    )


def _sentence(fit: CurvesTableFit) -> str:
    if len(fit.groups) == 1:
        return fit.groups[0].fit.reason
    known = [group for group in fit.groups if group.ok]
    laws = sorted({group.fit.law.replace("_", " ") for group in known})
    told = f"The curves determine a law in {len(known)} of {plural(len(fit.groups), 'group')}"
    return f"{told} ({', '.join(laws)})." if laws else f"{told}."


def _final(group: CurvesGroup, curve: Any) -> dict[str, Any]:
    return {
        "group": group.label,
        "name": curve.name,
        "steps": curve.step[-1],
        "measured": curve.loss[-1],
        "law": curve.predicted[-1],
        "lo": curve.lo,
        "hi": curve.hi,
        "seen": "no" if curve.held_out else "yes",
    }


def _draw(canvas: Canvas, group: CurvesGroup) -> None:
    axes = canvas.axes
    curves = group.curves[:MOST_CURVES]
    named = len(curves) <= _LABELLED and not canvas.is_narrow
    canvas.margins(left=56, right=130 if named else 14)
    after = [
        (np.asarray(curve.step), np.asarray(curve.loss), np.asarray(curve.predicted, dtype=np.float64))
        for curve in curves
    ]
    # The first fall is steep and says nothing about the schedule: the axis begins where the law does.
    shown = np.concatenate([y[np.isfinite(p)] if np.isfinite(p).any() else y for _, y, p in after])
    shown = shown[np.isfinite(shown)]
    bottom, top = float(shown.min()), float(np.quantile(shown, 0.99))
    limits = padded([bottom, top], log=False, share=0.08)
    canvas.scale("x", 0.0, max(float(x[-1]) for x, _, _ in after), log=False, label_width=46)
    canvas.scale("y", *limits, log=False)
    canvas.axis_labels("steps", "loss")
    for place, (curve, (x, y, law)) in enumerate(zip(curves, after, strict=True)):
        tint = lr_color(round(place * _LEVELS / max(1, len(curves) - 1)))
        kept_x, kept_y = keep_extremes(x, y, _BINS)
        inside = kept_y <= limits[1]
        dots = axes.scatter(kept_x[inside], kept_y[inside], s=5, color=tint, alpha=0.7)
        canvas.hover(dots, short(curve.name, 40))
        fitted = np.isfinite(law) & (law <= limits[1])
        if fitted.any():
            (line,) = axes.plot(*keep_extremes(x[fitted], law[fitted], _BINS), color=tint, lw=1.4)
            canvas.hover(line, f"{short(curve.name, 40)}: measured {loss(curve.loss[-1])} at the end")
    if named:
        _name_ends(
            canvas, [(curve.name, float(x[-1]), float(y[-1])) for curve, (x, y, _) in zip(curves, after, strict=True)]
        )
    if not group.fit.params:
        canvas.label(0.0, limits[1], "no law was fitted", role="muted", dx=6, dy=-10)
    axes.axhline(bottom, color=color("grid"), lw=0.5)


def _name_ends(canvas: Canvas, ends: list[tuple[str, float, float]]) -> None:
    """Write the name of each curve right of the axes, at the height of its end, moved apart."""
    lo, hi = canvas.axes.get_ylim()
    last = canvas.axes.get_xlim()[1]
    shown = [(name, max(lo, min(hi, y))) for name, _, y in ends if np.isfinite(y)]
    gap = 13 * (hi - lo) / canvas.height
    places = spread([y for _, y in shown], gap=gap, lo=lo, hi=hi)
    for place, (name, _) in enumerate(shown):
        canvas.label(last, places[place], short(name, 20), role="muted", dx=4)

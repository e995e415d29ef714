"""Loss, best LR and best batch size against model size and training data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lrscale.report.base import Card, Column, Fact, Figure, LegendEntry, Panel, Table
from lrscale.report.canvas import Canvas, padded
from lrscale.report.palette import LRScale, color
from lrscale.report.words import count, finite, significant

if TYPE_CHECKING:
    from lrscale.sweep import SweepFit

TITLE = "How do loss, learning rate and batch size move with scale?"
_NAMES = {"loss": "lowest loss", "lr": "best LR", "batch": "best batch size"}
_TERMS = {"loss": "Lowest loss", "lr": "Best LR", "batch": "Best batch"}
_ESTIMATES = (
    Column(key="law", label="law"),
    Column(key="parameter", label="parameter"),
    Column(key="value", label="value", kind="number", lo="lo", hi="hi"),
    Column(key="unit", label="unit"),
    Column(key="status", label="fit", kind="status"),
)


def scale_card(fit: SweepFit) -> Card:
    """Return the laws across groups, each with its fitted against its measured values."""
    scale = fit.scale
    if scale is None or not scale.fits:
        why = "The table is one group; laws against scale need several (--by)." if scale is None else scale.reason
        return Card(key="scale", title=TITLE, finding=why, status="absent")
    panels = []
    points: dict[str, Any] = {}
    horizon = next((name for name in ("tokens", "examples") if all(name in cell for cell in scale.cells)), "params")
    for key, label, log in (
        ("loss", "lowest loss", False),
        ("best_batch", "best batch", True),
        ("best_lr", "LR", True),
    ):
        cells = [cell for cell in scale.cells if finite(cell[key])]
        if cells:
            title = label if key != "best_lr" else "best LR at best batch"
            draw = partial(_draw_cells, cells=cells, x=horizon, y=key, label=label, log=log)
            panels.append(Panel(draw=draw, title=f"{title} against {horizon}", wide=(290, 250)))
            points[key] = [[cell[horizon], cell[key]] for cell in cells]
    for name, law in scale.fits.items():
        pairs = [(a, b) for a, b in zip(law.observed, law.fitted, strict=False) if b is not None and a > 0 and b > 0]
        if pairs:
            draw = partial(_draw_parity, pairs=pairs, log=name != "loss")
            panels.append(Panel(draw=draw, title=f"{_NAMES[name]}: law against measured", wide=(290, 250)))
            points[f"{name} law"] = pairs
    sentence = _sentence(fit)
    rows = [
        {
            "law": _NAMES[name],
            "parameter": one.name.replace("_", " "),
            "value": one.value,
            "lo": None if one.interval is None else one.interval.lo,
            "hi": None if one.interval is None else one.interval.hi,
            "unit": one.unit,
            "status": law.status.value,
        }
        for name, law in scale.fits.items()
        for one in (*law.estimates, *law.derived)
    ]
    return Card(
        key="scale",
        title=TITLE,
        finding=sentence,
        status="ok" if any(law.ok for law in scale.fits.values()) else "cannot_tell",
        facts=tuple(_facts(fit)),
        figures=(
            Figure.single(
                "scale",
                tuple(panels),
                alt=sentence,
                caption="One dot a group, or a slice for the law of the best LR; the diagonal is a perfect law. "
                "Colours run from the smallest params to the largest.",
                legend=(LegendEntry(mark="dot", label="measured"),),
                points=points,
            ),
        )
        if panels
        else (),
        tables=(Table(key="scale", caption="Parameters", columns=_ESTIMATES, rows=tuple(rows)),) if rows else (),
        notes=tuple(f"{_NAMES[name]}: {note}" for name, law in scale.fits.items() for note in law.notes),
        method=(
            "The lowest loss of each group by Chinchilla's form (Hoffmann et al. 2022, arXiv:2203.15556). The best LR "
            "of every slice with the batch size among the variables: against the horizon alone its exponent would mix "
            "the effect of the batch size. The best batch size of a grid is known to half a step. Intervals come from "
            "resampling groups, never single runs."
        ),
    )


_EXPONENTS = ("e_params", "e_tokens", "e_examples")


def _sentence(fit: SweepFit) -> str:
    assert fit.scale is not None
    told = []
    for name, law in fit.scale.fits.items():
        if name != "loss" and law.ok:
            exponents = [one for one in law.estimates if one.name in _EXPONENTS and one.value]
            powers = [f"{one.name.removeprefix('e_')}^{significant(one.value)}" for one in exponents]
            if powers:
                told.append(f"the {_NAMES[name]} moves as {' '.join(powers)}")
        else:
            why = law.reason.partition(";")[0].rstrip(".")
            told.append(f"for the {_NAMES[name]}, {why[:1].lower()}{why[1:]}")
    return f"Over {fit.scale.reason.rstrip('.')}: {'; '.join(told)}."


def _facts(fit: SweepFit) -> list[Fact]:
    assert fit.scale is not None
    facts = []
    for name, law in fit.scale.fits.items():
        held = law.holdout
        detail = ""
        if held is not None:
            inside = "" if held.inside is None else f", {100 * held.inside:.0f} % inside the interval"
            detail = f"Held out {held.what}: error {significant(held.rms_error)} (ln){inside}."
        facts.append(Fact(term=_TERMS[name], value=law.reason, detail=detail))
    return facts


def _draw_cells(canvas: Canvas, cells: Sequence[Mapping[str, Any]], x: str, y: str, label: str, log: bool) -> None:
    canvas.margins(left=54)
    sizes = sorted({float(cell.get("params") or 0) for cell in cells})
    levels = LRScale.of(sizes)
    canvas.scale("x", *padded([float(cell[x]) for cell in cells], log=True), log=True, label_width=44)
    limits = padded([float(cell[y]) for cell in cells], log=log, share=0.1)
    canvas.scale("y", *limits, log=log)
    canvas.axis_labels(x, label)
    for size in sizes:
        own = sorted((cell for cell in cells if float(cell.get("params") or 0) == size), key=lambda cell: cell[x])
        tint = levels.color(size) if len(sizes) > 1 else color("ink")
        canvas.axes.plot([cell[x] for cell in own], [cell[y] for cell in own], color=tint, lw=1.2, alpha=0.6)
        if y == "best_lr":
            for cell in own:
                lo, hi = (cell[end] if finite(cell[end]) else cell[y] for end in ("lo", "hi"))
                canvas.axes.plot([cell[x]] * 2, [max(lo, limits[0]), min(hi, limits[1])], color=tint, lw=1.4)
        dots = canvas.axes.scatter([cell[x] for cell in own], [cell[y] for cell in own], s=26, color=tint, zorder=4)
        canvas.hover(dots, [f"{cell['label']}: {significant(float(cell[y]), 3)}" for cell in own])
        if len(sizes) > 1 and own:
            canvas.label(own[-1][x], own[-1][y], count(size), align="right", dx=-4, dy=8)


def _draw_parity(canvas: Canvas, pairs: Sequence[tuple[float, float]], log: bool) -> None:
    canvas.margins(left=54)
    limits = padded([value for pair in pairs for value in pair], log=log, share=0.08)
    canvas.scale("x", *limits, log=log, label_width=44)
    canvas.scale("y", *limits, log=log)
    canvas.axis_labels("law", "measured")
    canvas.axes.plot(limits, limits, color=color("accent"), lw=1.4)
    dots = canvas.axes.scatter([b for _, b in pairs], [a for a, _ in pairs], s=18, color=color("ink"), alpha=0.7)
    canvas.hover(dots, [f"measured {significant(a, 3)}, off by {100 * (math.log(a / b)):+.1f} %" for a, b in pairs])

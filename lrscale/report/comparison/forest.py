"""Effects with their intervals and margins, one below the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from lrscale.compare.contrast import Contrast
from lrscale.compare.words import effect_text
from lrscale.report.base import Figure, LegendEntry, Panel
from lrscale.report.canvas import Canvas, text_width
from lrscale.report.palette import color
from lrscale.report.words import short

_ROLES = {"differs": "bad", "same": "accent", "cannot tell": "muted"}
_LEGEND = (
    LegendEntry(mark="band", label="effects that do not matter"),
    LegendEntry(mark="bar", label="95 % interval"),
)
_FARTHEST = 100.0
"""Ratio at which an axis ends: an interval that reaches further is drawn to the edge."""


def forest_figure(key: str, contrasts: Sequence[Contrast], *, alt: str, axis: str) -> Figure | None:
    """Return the forest plot of contrasts of one scale, or None where none has an effect.

    Parameters
    ----------
    key : str
        Of the figure.
    contrasts : sequence of Contrast
        All ratios, or all differences as a share of the first study's value.
    alt : str
        What it shows, as a sentence.
    axis : str
        Name of the axis.
    """
    drawn = [one for one in contrasts if one.effect.value is not None]
    if not drawn:
        return None
    height = 56 + 30 * len(drawn)
    return Figure.single(
        key,
        (Panel(draw=partial(_draw, contrasts=drawn, axis=axis), wide=(720, height), narrow=(350, height)),),
        alt=alt,
        caption="Bars are 95 % intervals; a shaded stretch holds the effects that do not matter for its row. An "
        "interval that leaves it and excludes equality is a difference.",
        legend=_LEGEND,
        points={one.name: list(_ends(one)) for one in drawn},
    )


def _ends(one: Contrast) -> tuple[float | None, float | None, float | None]:
    if one.scale == "ratio" or one.kind != "loss":
        return one.effect.value, one.effect.lo, one.effect.hi
    return one.relative


def _draw(canvas: Canvas, contrasts: Sequence[Contrast], axis: str) -> None:
    log = contrasts[0].scale == "ratio"
    names = [short(one.name, 22 if canvas.is_narrow else 44) for one in contrasts]
    left = 16 + round(max(text_width(name) for name in names))
    right = 14 if canvas.is_narrow else 96
    canvas.margins(left=min(left, canvas.width // 2), right=right, top=8, bottom=42)
    neutral = 1.0 if log else 0.0
    known = [end for one in contrasts for end in _ends(one) if end is not None] + [neutral]
    known += [edge for one in contrasts for edge in _margin(one)]
    lo, hi = min(known), max(known)
    if log:
        lo, hi = max(lo, 1 / _FARTHEST) / 1.15, min(hi, _FARTHEST) * 1.15
    else:
        air = 0.06 * (hi - lo) or 1.0
        lo, hi = lo - air, hi + air
    canvas.scale("x", lo, hi, log=log, label_width=44)
    canvas.axes.set_ylim(len(contrasts) - 0.5, -0.5)
    canvas.axis_labels(axis)
    canvas.axes.axvline(neutral, color=color("axis"), lw=1)
    for index, (one, name) in enumerate(zip(contrasts, names, strict=True)):
        _row(canvas, one, index, (lo, hi))
        _beside(canvas, name, index, dx=-8, align="right")
        if not canvas.is_narrow:
            _beside(canvas, one.standing, index, dx=10, align="left", role=_ROLES[one.standing])


def _beside(canvas: Canvas, text: str, index: int, *, dx: int, align: str, role: str = "ink") -> None:
    canvas.axes.annotate(
        text,
        (0 if dx < 0 else 1, index),
        xycoords=canvas.axes.get_yaxis_transform(),
        xytext=(dx, 0),
        textcoords="offset pixels",
        ha=align,
        va="center",
        color=color(role),
    )


def _row(canvas: Canvas, one: Contrast, index: int, limits: tuple[float, float]) -> None:
    value, lo, hi = _ends(one)
    role = _ROLES[one.standing]
    edges = _margin(one)
    if edges:
        canvas.axes.fill_betweenx(
            [index - 0.38, index + 0.38], edges[0], edges[1], color=color("accent"), alpha=0.12, lw=0
        )
    ends = [max(limits[0], limits[0] if lo is None else lo), min(limits[1], limits[1] if hi is None else hi)]
    canvas.axes.plot(ends, [index, index], color=color(role), lw=2.2, solid_capstyle="butt")
    if value is not None and math.isfinite(value):
        marker = {"differs": "s", "same": "o"}.get(one.standing, "D")
        dot = canvas.axes.scatter([value], [index], s=34, color=color(role), marker=marker, zorder=3)
        canvas.hover(dot, [f"{one.name}: {effect_text(one)}, {one.standing}"])


def _margin(one: Contrast) -> tuple[float, ...]:
    if one.margin is None:
        return ()
    if one.scale == "ratio":
        return 1 / one.margin, one.margin
    base = abs(one.a.value or 0.0) if one.kind == "loss" else 1.0
    return (-one.margin / base, one.margin / base) if base else ()

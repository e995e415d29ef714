"""LR against batch size: every trial, within which LRs the loss stays near its lowest, and the path of the best LR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lrscale.report.canvas import Canvas, padded
from lrscale.report.fits import pair, slice_curve
from lrscale.report.palette import color
from lrscale.report.slice_plot import SliceData
from lrscale.report.words import count, finite, loss, rate

LEVELS = (0.01, 0.05, 0.2)
"""Relative loss above the lowest of the same batch size."""
_FINE = 400
"""Points of a slice between which a level is found: a hundredth of a decade apart on a grid of four."""


@final
@dataclass(frozen=True, slots=True)
class MapRow:
    """One batch size: its trials, its best LR, and between which LRs the loss is below each level."""

    batch_size: float
    points: tuple[tuple[float, float | None, str], ...]
    """LR, loss and status of every trial."""
    best: float | None
    lo: float | None
    hi: float | None
    within: tuple[tuple[float, float] | None, ...]
    """For each of `LEVELS`, the ends; None without a fitted minimum."""


def map_rows(cells: Sequence[Mapping[str, Any]], slices: Sequence[SliceData]) -> tuple[MapRow, ...]:
    """Return a row for each batch size.

    Parameters
    ----------
    cells : sequence of mapping
        Those of the finding on scaling.
    slices : sequence of SliceData
        Their trials, in the same order.
    """
    rows = []
    for cell, data in zip(cells, slices, strict=True):
        fit = cell.get("slice") or {}
        best = fit.get("best_lr") if finite(fit.get("best_lr")) else None
        lo, hi = pair(fit.get("interval"))
        points = tuple((point.lr, point.loss, str(point.status)) for point in data.points)
        within = tuple(None if best is None else _within(fit, level) for level in LEVELS)
        rows.append(MapRow(float(cell["batch_size"]), points, best, lo, hi, within))
    return tuple(rows)


def _within(fit: Mapping[str, Any], level: float) -> tuple[float, float] | None:
    """Return the LRs around the best one between which the fitted loss is below a level; at most the measured ones."""
    curve, lowest = slice_curve(fit, _FINE), fit.get("min_loss")
    if curve is None or not finite(lowest):
        return None
    low = float(lowest or 0.0)
    below = curve.y <= low + level * abs(low)
    best = int(np.argmin(np.abs(np.log(curve.x / float(fit["best_lr"])))))
    if not below[best]:
        return None
    outside = np.flatnonzero(~below)
    left, right = outside[outside < best], outside[outside > best]
    first = int(left[-1]) + 1 if len(left) else 0
    last = int(right[0]) - 1 if len(right) else len(below) - 1
    return float(curve.x[first]), float(curve.x[last])


def draw_map(canvas: Canvas, rows: Sequence[MapRow]) -> None:
    """Draw the levels as nested areas, the trials on them, and the best LR with its interval."""
    axes = canvas.axes
    canvas.margins(left=52, right=44, top=12)
    sizes = [row.batch_size for row in rows]
    canvas.scale("x", *padded([lr for row in rows for lr, _, _ in row.points], log=True, share=0.08), log=True)
    canvas.scale("y", *padded(sizes, log=True, share=0.15), log=True, at=sizes)
    canvas.axis_labels("peak LR", "global batch size")
    for place, level in reversed(list(enumerate(LEVELS))):
        ends = [(row.batch_size, row.within[place]) for row in rows]
        known = [(size, both) for size, both in ends if both is not None]
        if len(known) < 2:
            continue
        area = axes.fill_betweenx(
            [size for size, _ in known],
            [both[0] for _, both in known],
            [both[1] for _, both in known],
            color=color("accent"),
            alpha=0.13,
            lw=0,
        )
        canvas.hover(area, f"less than {100 * level:g} % above the lowest loss of the same batch size")
        size, both = known[-1]
        canvas.label(both[1], size, f"{100 * level:g} %", dx=2, dy=8 + 11 * place, role="accent")
    for row in rows:
        for lr, value, status in row.points:
            lost = value is None
            mark = axes.scatter(
                [lr],
                [row.batch_size],
                s=22,
                marker="x" if lost else "o",
                color=color("bad" if lost else "ink"),
                alpha=0.55,
                lw=1 if lost else 0,
                zorder=3,
            )
            canvas.hover(mark, [f"batch {count(row.batch_size)}, LR {rate(lr)}: {status if lost else loss(value)}"])
    optima = [(row, row.best) for row in rows if row.best is not None]
    axes.plot(
        [best for _, best in optima], [row.batch_size for row, _ in optima], color=color("accent"), lw=1.6, zorder=4
    )
    for row, best in optima:
        if row.lo is not None and row.hi is not None:
            axes.plot([row.lo, row.hi], [row.batch_size] * 2, color=color("accent"), lw=2.4, zorder=4)
        dot = axes.scatter([best], [row.batch_size], s=46, marker="D", color=color("accent"), zorder=5)
        canvas.hover(dot, [f"best LR {rate(best)} at batch {count(row.batch_size)}"])

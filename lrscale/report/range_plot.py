"""The panels of a range test: the ramps, the runs at fixed LR, and the rules against them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lrscale.report.canvas import Canvas, padded, text_width, wants_log
from lrscale.report.fits import pair, slice_curve
from lrscale.report.palette import color
from lrscale.report.slice_plot import SliceData, SliceLimits, SlicePoint, draw_slice
from lrscale.report.thin import keep_extremes
from lrscale.report.words import between, finite, rate, significant, with_interval

FloatArray = npt.NDArray[np.float64]

FENCE = 8.0
"""Fixed runs whose excess loss is more than that many times the median excess are drawn above the axis."""
RULE_NAMES = {
    "steepest": "steepest",
    "valley": "valley",
    "slide": "slide",
    "minimum_over_ten": "minimum / 10",
    "edge_over_five": "edge / 5",
}
"""Rules as the axis of a small panel names them."""


def points(curve: Mapping[str, Any], name: str = "smoothed") -> tuple[FloatArray, FloatArray]:
    """Return the LRs and the finite values of one curve."""
    values = [
        (float(lr), float(y))
        for lr, y in zip(curve.get("lr") or (), curve.get(name) or (), strict=False)
        if finite(lr) and finite(y) and lr > 0
    ]
    table = np.array(values, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def draw_ramps(canvas: Canvas, member: Mapping[str, Any], label: str) -> None:
    """Draw the ramps of one batch size, with the bracket and the confirmed LR."""
    axes = canvas.axes
    canvas.margins(top=26)
    smoothed = [points(curve) for curve in member["curves"]]
    rates = np.concatenate([x for x, _ in smoothed])
    values = np.concatenate([y for _, y in smoothed])
    start = member.get("initial_loss")
    top = float(values.max())
    if finite(start):
        # A diverging ramp leaves by orders of magnitude; a little above the start is all there is to see.
        top = min(top, float(start) + 0.5 * max(abs(float(start)), float(start) - float(values.min())))
    log = wants_log([float(values.min()), top])
    limits = padded([float(values.min()), top], log=log)
    canvas.scale("x", float(rates.min()), float(rates.max()), log=True, label_width=38)
    canvas.scale("y", *limits, log=log)
    canvas.axis_labels("LR", label)
    lo, hi = pair(member.get("bracket"))
    sure = member.get("confirmation") or {}
    if lo is not None and hi is not None:
        left, right = max(lo, float(rates.min())), min(hi, float(rates.max()))
        band = axes.axvspan(left, right, color=color("accent"), alpha=0.13, lw=0)
        canvas.hover(band, f"bracket {between(lo, hi)}")
        if not finite(sure.get("lr")):
            middle = math.sqrt(left * right)
            canvas.label(middle, limits[1], between(lo, hi), role="accent", align="center", dy=10)
    for curve, (x, y) in zip(member["curves"], smoothed, strict=True):
        axes.plot(*keep_extremes(*points(curve, "loss"), 80), color=color("ink"), lw=0.5, alpha=0.3)
        (line,) = axes.plot(x, y, color=color("ink"), lw=1.5, alpha=0.85)
        canvas.hover(line, f"seed {curve.get('seed')}")
        if finite(curve.get("diverged_at")):
            mark = axes.scatter(
                [curve["diverged_at"]], [limits[1]], marker="x", s=28, color=color("bad"), clip_on=False, zorder=4
            )
            canvas.hover(mark, f"seed {curve.get('seed')} diverged at LR {rate(curve['diverged_at'])}")
    if finite(sure.get("lr")):
        axes.axvline(sure["lr"], color=color("accent"), lw=1.2, dashes=(3, 2))
        canvas.label(sure["lr"], limits[1], f"confirmed {rate(sure['lr'])}", role="accent", align="center", dy=10)


def draw_fixed(canvas: Canvas, member: Mapping[str, Any], monitor: str) -> None:
    """Draw the runs at fixed LR, the slice through them, and where training becomes unstable."""
    sure = member["confirmation"]
    # The slice is fitted to those near the lowest; all of them are drawn.
    runs = tuple(
        SlicePoint(run["lr"], run["loss"], "completed" if finite(run["loss"]) else "diverged", run["seed"], "")
        for run in sure["runs"]
    )
    data = SliceData("", runs, sure["fit"], slice_curve(sure["fit"]))
    limits = SliceLimits.of([data], fence=FENCE)
    assert limits is not None
    draw_slice(canvas, data, limits, monitor=monitor)
    canvas.axis_labels("fixed LR", monitor)
    stable = sure.get("stable") or {}
    lo, hi = stable.get("lo"), stable.get("hi")
    if finite(lo) and finite(hi):
        band = canvas.axes.axvspan(lo, min(hi, limits.lr[1]), color=color("bad"), alpha=0.14, lw=0)
        canvas.hover(band, f"every run trained up to {rate(lo)}, and not at {rate(hi)}")


def draw_rules(canvas: Canvas, member: Mapping[str, Any]) -> None:
    """Draw what each rule suggests, with its spread over seeds, against the confirmed LR with its interval."""
    axes, sure = canvas.axes, member.get("confirmation") or {}
    found = {rule: own for rule, own in member["suggestions"].items() if finite((own or {}).get("value"))}
    order = [row["rule"] for row in sure.get("agreement") or () if row["rule"] in found]
    order += [rule for rule in found if rule not in order]
    best, (lo, hi) = sure.get("lr"), pair(sure.get("interval"))
    names = [*(["confirmed"] if finite(best) else []), *(RULE_NAMES.get(rule, rule) for rule in order)]
    factors = {row["rule"]: row["factor"] for row in sure.get("agreement") or ()}
    canvas.margins(left=round(max(map(text_width, names))) + 12, top=20, right=84)
    edges = [value for rule in order for value in (found[rule]["lo"], found[rule]["hi"])]
    if finite(best):
        edges += [value for value in (best, lo, hi) if finite(value)]
    limits = padded(edges, log=True)
    canvas.scale("x", *limits, log=True, label_width=38)
    axes.set_ylim(len(names) - 0.4, -0.6)
    canvas.axis_labels("LR", "")
    if finite(best):
        if finite(lo) and finite(hi):
            axes.axvspan(lo, hi, color=color("accent"), alpha=0.13, lw=0)
        axes.axvline(best, color=color("accent"), lw=1.2, dashes=(3, 2))
        _row(canvas, 0, best, lo, hi, role="accent", title=f"confirmed {with_interval(best, lo, hi)}")
        canvas.label(limits[0], 0, "confirmed", role="accent", align="right", dx=-8)
    first = 1 if finite(best) else 0
    for place, rule in enumerate(order, start=first):
        own = found[rule]
        value = own["value"]
        told = f"{RULE_NAMES.get(rule, rule)} {rate(value)}, over ramps {between(own['lo'], own['hi'])}"
        _row(canvas, place, value, own["lo"], own["hi"], role="ink", title=told)
        canvas.label(limits[0], place, RULE_NAMES.get(rule, rule), align="right", dx=-8)
        factor = factors.get(rule)
        verdict = f"{significant(factor)} times" if finite(factor) else "untested"
        canvas.label(limits[1], place, verdict, role="muted", dx=6)


def _row(
    canvas: Canvas, place: int, value: float, lo: float | None, hi: float | None, *, role: str, title: str
) -> None:
    if lo is not None and hi is not None and hi > lo:
        canvas.axes.plot([lo, hi], [place, place], color=color(role), lw=2, alpha=0.7, solid_capstyle="butt")
    mark = canvas.axes.scatter([value], [place], s=26, color=color(role), linewidths=0, zorder=3)
    canvas.hover(mark, title)

"""The best LR against a factor of the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrscale.report.base import LegendEntry
from lrscale.report.canvas import Canvas, padded
from lrscale.report.palette import color
from lrscale.report.words import between, finite, rate, significant

PREDICTED = (
    ("1 / width", -1.0, "rule-a", "standard parametrisation with Adam: hidden matrices want an LR of 1 / width"),
    ("constant", 0.0, "rule-c", "maximal update parametrisation: the best LR does not move"),
)
"""What theory says of the best LR against the width: name, power, colour, meaning (Yang et al. 2022)."""
_CURVE_POINTS = 40
LEAST_SPAN = 1.5
"""Ratio of the values from which on they are drawn on a log axis."""


def factor_legend(factor: Mapping[str, Any]) -> tuple[LegendEntry, ...]:
    """Return what the marks of the figure mean."""
    entries = [LegendEntry(mark="dot", label="best LR of a value, with its 95 % interval")]
    if _power(factor) is not None:
        entries.append(LegendEntry(mark="fit", label="power law"))
    if factor.get("width"):
        entries += [LegendEntry(mark=role, label=meaning) for _, _, role, meaning in PREDICTED]
    return tuple(entries)


def located(factor: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the values whose best LR was located."""
    return [level for level in factor.get("levels", ()) if finite(level.get("best_lr"))]


def draw_factor(canvas: Canvas, factor: Mapping[str, Any]) -> None:
    """Draw the best LR against the values of a numeric factor."""
    held = located(factor)
    values = [float(level["value"]) for level in held]
    log = min(values) > 0 and max(values) / min(values) >= LEAST_SPAN
    canvas.margins(left=56, right=74 if factor.get("width") else 20)
    shown = [float(level[key]) for level in held for key in ("best_lr", "lo", "hi") if finite(level[key])]
    limits = padded(shown, log=True, share=0.12)
    x_limits = padded(values, log=log, share=0.08)
    canvas.scale("x", *x_limits, log=log, label_width=38, at=values if log else None)
    canvas.scale("y", *limits, log=True)
    canvas.axis_labels(str(factor.get("name")), "best peak LR")
    if factor.get("width") and log:
        _draw_predicted(canvas, held[0], x_limits, limits)
    _draw_law(canvas, factor, held, values)
    for level in held:
        lo, hi = (float(level[key]) if finite(level[key]) else float(level["best_lr"]) for key in ("lo", "hi"))
        canvas.axes.plot([level["value"]] * 2, [lo, hi], color=color("ink"), lw=1.6)
    dots = canvas.axes.scatter(values, [level["best_lr"] for level in held], s=34, color=color("ink"), zorder=4)
    canvas.hover(
        dots, [f"{level['label']}: {rate(level['best_lr'])} ({between(level['lo'], level['hi'])})" for level in held]
    )


def _power(factor: Mapping[str, Any]) -> float | None:
    law = factor.get("law")
    exponent = law.get("exponent") if isinstance(law, Mapping) else None
    return float(exponent) if finite(exponent) else None


def _draw_law(
    canvas: Canvas, factor: Mapping[str, Any], held: Sequence[Mapping[str, Any]], values: Sequence[float]
) -> None:
    """Draw the power law through the middle of the optima."""
    power = _power(factor)
    if power is None or len(values) < 2:
        return
    x = np.geomspace(min(values), max(values), _CURVE_POINTS)
    centre = np.mean(np.log([float(level["best_lr"]) for level in held]) - power * np.log(values))
    (line,) = canvas.axes.plot(x, np.exp(centre) * x**power, color=color("accent"), lw=2)
    canvas.hover(line, f"power {significant(power)}")


def _draw_predicted(
    canvas: Canvas, anchor: Mapping[str, Any], x_limits: tuple[float, float], limits: tuple[float, float]
) -> None:
    start, best = float(anchor["value"]), float(anchor["best_lr"])
    for name, power, role, _ in PREDICTED:
        end = x_limits[1] if not power else min(x_limits[1], start * (limits[0] / best) ** (1 / power))
        y = best * (end / start) ** power
        (line,) = canvas.axes.plot([start, end], [best, y], color=color(role), lw=1.2, dashes=(5, 3), zorder=1)
        canvas.hover(line, f"{name}, from {anchor['label']}")
        # A line that ends at the bottom would have its name on the axis.
        canvas.label(end, y, name, role=role, dx=4, dy=10 if power else 0)

"""Steps to a target against the batch size: measured runs, the fitted hyperbola and the two ends that it joins."""

from __future__ import annotations

import math

import numpy as np

from lrscale.laws.steps import StepsFit
from lrscale.report.base import LegendEntry
from lrscale.report.canvas import Canvas, padded
from lrscale.report.palette import color
from lrscale.report.words import between, count, significant

STEPS_LEGEND = (
    LegendEntry(mark="dot", label="a run"),
    LegendEntry(mark="cross", label="target not reached: needs more steps"),
    LegendEntry(mark="fit", label="fitted hyperbola with its interval"),
    LegendEntry(mark="rule-a", label="fewest steps, and fewest examples"),
    LegendEntry(mark="band", label="critical batch size"),
)


def draw_steps(canvas: Canvas, fit: StepsFit, batch_label: str) -> None:
    """Draw steps against batch size on logarithmic axes."""
    axes, law = canvas.axes, fit.law
    canvas.margins(left=62, top=18)
    batch = np.asarray(law.inputs["batch"], dtype=np.float64)
    steps = np.asarray(law.observed, dtype=np.float64)
    short = np.asarray(fit.censored) > 0
    x_limits = padded(batch.tolist(), log=True, share=0.06)
    canvas.scale("x", *x_limits, log=True, label_width=44, at=np.unique(batch).tolist())
    canvas.scale("y", *padded(steps.tolist(), log=True, share=0.1), log=True)
    canvas.axis_labels(batch_label, "steps to the target")
    if law.draws:
        x = np.geomspace(*x_limits, 80)
        value, lo, hi = fit.predict(x)
        axes.fill_between(x, lo, hi, color=color("accent"), alpha=0.2, lw=0)
        (line,) = axes.plot(x, value, color=color("accent"), lw=2)
        canvas.hover(line, law.formula)
        least, fewest = fit.estimate("E_min").value, fit.estimate("S_min").value
        for y, text in ((None if fewest is None else np.full(2, fewest), "S_min"), (least, "E_min / batch")):
            if y is not None:
                ends = np.array(x_limits)
                (rule,) = axes.plot(
                    ends, y if text == "S_min" else y / ends, color=color("rule-a"), lw=1, dashes=(4, 2)
                )
                canvas.hover(rule, text)
        _draw_critical(canvas, fit, x_limits)
    dots = axes.scatter(batch[~short], steps[~short], s=26, color=color("ink"), zorder=4)
    canvas.hover(
        dots,
        [f"batch {count(b)}: {significant(s, 3)} steps" for b, s in zip(batch[~short], steps[~short], strict=True)],
    )
    if short.any():
        marks = axes.scatter(batch[short], steps[short], marker="^", s=30, color=color("bad"), zorder=4)
        canvas.hover(
            marks,
            [
                f"batch {count(b)}: not reached in {significant(s, 3)} steps"
                for b, s in zip(batch[short], steps[short], strict=True)
            ],
        )


def _draw_critical(canvas: Canvas, fit: StepsFit, x_limits: tuple[float, float]) -> None:
    ends = fit.estimate("critical_batch").interval
    if ends is None or (ends.lo is None and ends.hi is None):
        return
    left = max(ends.lo or 0.0, x_limits[0])
    right = min(ends.hi or math.inf, x_limits[1])
    if left >= right:
        return
    band = canvas.axes.axvspan(left, right, color=color("accent"), alpha=0.13, lw=0)
    canvas.hover(band, f"critical batch size {between(ends.lo, ends.hi, 3)}")
    canvas.label(
        math.sqrt(left * right),
        canvas.axes.get_ylim()[1],
        f"critical batch {between(ends.lo, ends.hi)}",
        role="accent",
        align="center"
        if x_limits[0] * 3 < left and right * 3 < x_limits[1]
        else ("right" if right * 3 >= x_limits[1] else "left"),
        dy=8,
    )

"""Time against examples to a target loss: each batch size, those worth choosing, and the best one."""

from __future__ import annotations

from collections.abc import Sequence

from lrscale.laws.steps import ParetoPoint
from lrscale.report.base import LegendEntry
from lrscale.report.canvas import Canvas, padded
from lrscale.report.palette import color
from lrscale.report.words import count, duration, percent

PARETO_LEGEND = (
    LegendEntry(mark="dot", label="a batch size, with the interval of its steps"),
    LegendEntry(mark="fit", label="no other is both faster and on fewer examples"),
    LegendEntry(mark="ring", label="best by the objective"),
)


def draw_pareto(canvas: Canvas, points: Sequence[ParetoPoint], best: int) -> None:
    """Draw the time against the examples on logarithmic axes; both intervals are one, that of the steps.

    Parameters
    ----------
    canvas : Canvas
    points : sequence of ParetoPoint
        In the order of the batch size.
    best : int
        Batch size that gets the ring.
    """
    axes = canvas.axes
    canvas.margins(left=66, right=24, top=18)
    places = {point.batch_size: (point.examples.value or 0.0, point.seconds.value or 0.0) for point in points}
    bars = {point.batch_size: bar for point in points if (bar := _bar(point)) is not None}
    corners = [*places.values(), *(corner for bar in bars.values() for corner in bar)]
    canvas.scale("x", *padded([x for x, _ in corners], log=True, share=0.1), log=True, label_width=44)
    canvas.scale("y", *padded([y for _, y in corners], log=True, share=0.12), log=True, label_width=40)
    canvas.axis_labels("examples to the loss", "seconds to the loss")
    for bar in bars.values():
        axes.plot([x for x, _ in bar], [y for _, y in bar], color=color("muted"), lw=1.2, alpha=0.8)
    front = sorted(places[point.batch_size] for point in points if point.on_front)
    axes.plot([x for x, _ in front], [y for _, y in front], color=color("accent"), lw=1.6)
    dots = axes.scatter(
        [x for x, _ in places.values()], [y for _, y in places.values()], s=32, color=color("ink"), zorder=4
    )
    canvas.hover(
        dots,
        [
            f"batch {count(point.batch_size)}: {duration(point.seconds.value)}, "
            f"{count(point.examples.value)} examples; worth choosing in {percent(point.front_share)} of the draws"
            for point in points
        ],
    )
    axes.scatter(
        [places[best][0]],
        [places[best][1]],
        s=120,
        facecolors="none",
        edgecolors=color("ink"),
        linewidths=1.5,
        zorder=5,
    )
    for size, (x, y) in places.items():
        canvas.label(x, y, count(size), role="accent" if size == best else "ink", dx=9, dy=9)


def _bar(point: ParetoPoint) -> tuple[tuple[float, float], tuple[float, float]] | None:
    examples, seconds = point.examples.interval, point.seconds.interval
    if examples is None or seconds is None:
        return None
    lo, hi = (examples.lo, seconds.lo), (examples.hi, seconds.hi)
    if lo[0] is None or lo[1] is None or hi[0] is None or hi[1] is None:
        return None
    return (lo[0], lo[1]), (hi[0], hi[1])

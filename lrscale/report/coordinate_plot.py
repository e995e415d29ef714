"""The size of each part's output against the width, one line a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from lrscale.report.base import LegendEntry
from lrscale.report.canvas import Canvas, padded
from lrscale.report.palette import color
from lrscale.report.words import count, finite, significant

MOST_PANELS = 12
COORDINATE_LEGEND = (
    LegendEntry(mark="rule-c", label="initial weights"),
    LegendEntry(mark="fit", label="after each of the first updates, the later the stronger"),
)
_FAINTEST = 0.35


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinateLimits:
    """Axes that the parts share."""

    width: tuple[float, float]
    size: tuple[float, float]

    @classmethod
    def of(cls, widths: Sequence[float], parts: Sequence[Mapping[str, Any]], steps: int) -> CoordinateLimits | None:
        """Return limits that hold every size of the first steps, or None where there is none."""
        known = [float(size) for part in parts for row in part["sizes"] for size in row[:steps] if _shows(size)]
        if not known or len(widths) < 2:
            return None
        return cls(width=padded(widths, log=True, share=0.08), size=padded(known, log=True, share=0.08))


def draw_part(
    canvas: Canvas,
    part: Mapping[str, Any],
    widths: Sequence[float],
    limits: CoordinateLimits,
    *,
    steps: int,
    name: str,
) -> None:
    """Draw one part: mean absolute output against the width, initially and after each of the first updates."""
    canvas.margins(left=46)
    canvas.scale("x", *limits.width, log=True, label_width=34, at=widths)
    canvas.scale("y", *limits.size, log=True)
    canvas.axis_labels(name, "mean |output|")
    for step in range(steps):
        points = [
            (width, row[step])
            for width, row in zip(widths, part["sizes"], strict=True)
            if step < len(row) and _shows(row[step])
        ]
        if len(points) < 2:
            continue
        x, y = zip(*points, strict=True)
        if step == 0:
            (line,) = canvas.axes.plot(x, y, color=color("rule-c"), lw=1.4, dashes=(2, 2), zorder=2)
        else:
            strength = _FAINTEST + (1 - _FAINTEST) * step / max(steps - 1, 1)
            (line,) = canvas.axes.plot(x, y, color=color("accent"), lw=1.6, alpha=strength, marker="o", ms=3)
        after = "initially" if step == 0 else f"after {count(step)} update{'s' if step > 1 else ''}"
        canvas.hover(line, f"{after}: {', '.join(significant(size) for size in y)}")


def _shows(size: Any) -> bool:
    return finite(size) and size > 0

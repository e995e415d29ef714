"""The ramps that bracket the LR."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Figure, LegendEntry, Panel, Table
from lrscale.report.canvas import Canvas, padded, wants_log
from lrscale.report.context import ReportContext
from lrscale.report.fits import pair
from lrscale.report.palette import color
from lrscale.report.thin import keep_extremes
from lrscale.report.words import between, count, finite, plural, rate, short

RULES = {
    "steepest": ("steepest descent", "largest fall of the loss per unit of log LR"),
    "valley": ("valley", "middle of the longest falling stretch"),
    "slide": ("slide", "left end of the last flat interval"),
    "minimum_over_ten": ("minimum / 10", "a tenth of the LR with the lowest loss"),
    "edge_over_five": ("edge / 5", "a fifth of the largest LR before the loss rises above its start"),
    "edge": ("edge", "largest LR before the loss rises above its start"),
}


@final
class RangeTestsSection(AbstractSection):
    """Loss along the ramp for each seed, with the bracket and what each rule would suggest."""

    key: ClassVar[str] = "range_test"
    title: ClassVar[str] = "Where can the learning rate lie?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("range_test")
        if finding is None:
            return "No range test was run in this study (experiments.range_test)."
        if not any(_points(curve)[0].size for curve in finding.data.get("curves", ())):
            return f"No range test can be drawn: {finding.sentence}"
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("range_test")
        assert finding is not None
        data = finding.data
        monitor = str(data.get("monitor") or "training loss")
        figure = Figure.single(
            "ramp",
            (Panel(draw=partial(_draw, data=data, monitor=monitor), wide=(720, 330), narrow=(350, 300)),),
            alt=finding.sentence,
            caption=(
                f"{plural(len(data['curves']), 'seed')} at batch {count(data.get('batch_size'))}. Smoothed over a "
                "fixed "
                "width in log LR, without lag; raw values behind keep the extremes of each bin."
            ),
            legend=(
                LegendEntry(mark="line", label="smoothed, one line a seed"),
                LegendEntry(mark="raw", label="raw"),
                LegendEntry(mark="cross", label="diverged"),
                LegendEntry(mark="band", label="bracket handed to the trials"),
            ),
            points={"bracket": data.get("bracket"), "suggestions": dict(data.get("suggestions") or {})},
        )
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=(figure,),
            tables=(
                Table(
                    key="suggestions",
                    caption="What each rule suggests",
                    columns=(
                        Column(key="rule", label="rule"),
                        Column(key="value", label="LR (over seeds)", kind="rate", lo="lo", hi="hi"),
                        Column(key="meaning", label="definition"),
                    ),
                    rows=tuple(_suggestions(data)),
                ),
            ),
            method=(
                "The LR rises by the same ratio at every step (Smith 2015, arXiv:1506.01186). The ramp brackets the LR "
                "and finds where training diverges; it does not rank LRs. Its steepest point moves with the length of "
                "the ramp, because the loss follows the sum of the LRs so far, so the rules are shown for comparison "
                "only and the trials decide."
            ),
        )


def _suggestions(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = data.get("suggestions") or {}
    rows = []
    for key in [*(key for key in RULES if key in found), *(key for key in found if key not in RULES)]:
        name, meaning = RULES.get(key, (short(key, 40).replace("_", " "), ""))
        value = found[key] or {}
        rows.append({"rule": name, **{k: value.get(k) for k in ("value", "lo", "hi")}, "meaning": meaning})
    return rows


def _points(curve: Mapping[str, Any], name: str = "smoothed") -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    values = [
        (float(lr), float(y))
        for lr, y in zip(curve.get("lr") or (), curve.get(name) or (), strict=False)
        if finite(lr) and finite(y) and lr > 0
    ]
    table = np.array(values, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _draw(canvas: Canvas, data: Mapping[str, Any], monitor: str) -> None:
    axes = canvas.axes
    canvas.margins(top=26)
    smoothed = [_points(curve) for curve in data["curves"]]
    rates = np.concatenate([x for x, _ in smoothed])
    values = np.concatenate([y for _, y in smoothed])
    start = data.get("initial_loss")
    top = float(values.max())
    if finite(start):
        # A diverging ramp leaves by orders of magnitude; a little above the start is all there is to see.
        top = min(top, float(start) + 0.5 * max(abs(float(start)), float(start) - float(values.min())))
    log = wants_log([float(values.min()), top])
    limits = padded([float(values.min()), top], log=log)
    canvas.scale("x", float(rates.min()), float(rates.max()), log=True, label_width=38)
    canvas.scale("y", *limits, log=log)
    canvas.axis_labels("LR", f"training loss ({monitor})" if monitor != "train_loss" else "training loss")
    lo, hi = pair(data.get("bracket"))
    if lo is not None or hi is not None:
        left = max(lo or 0.0, float(rates.min()))
        right = min(hi or math.inf, float(rates.max()))
        band = axes.axvspan(left, right, color=color("accent"), alpha=0.13, lw=0)
        canvas.hover(band, f"bracket {between(lo, hi)}")
        canvas.label(math.sqrt(left * right), limits[1], between(lo, hi), role="accent", align="center", dy=10)
    for curve, (x, y) in zip(data["curves"], smoothed, strict=True):
        raw_x, raw_y = _points(curve, "loss")
        kept = keep_extremes(raw_x, raw_y, 80)
        axes.plot(*kept, color=color("ink"), lw=0.5, alpha=0.3)
        (line,) = axes.plot(x, y, color=color("ink"), lw=1.5, alpha=0.85)
        canvas.hover(line, f"seed {curve.get('seed')}")
        if finite(curve.get("diverged_at")):
            mark = axes.scatter(
                [curve["diverged_at"]], [limits[1]], marker="x", s=28, color=color("bad"), clip_on=False, zorder=4
            )
            canvas.hover(mark, f"seed {curve.get('seed')} diverged at LR {rate(curve['diverged_at'])}")

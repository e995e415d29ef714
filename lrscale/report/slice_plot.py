"""Loss against LR at one batch size or schedule: the panel that several sections share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from lrscale.report.base import LegendEntry
from lrscale.report.canvas import Canvas, padded, wants_log
from lrscale.report.fits import Curve, pair, slice_curve
from lrscale.report.palette import color
from lrscale.report.words import finite, loss, rate

if TYPE_CHECKING:
    from lrscale.store.view import Trial

LEGEND = (
    LegendEntry(mark="dot", label="a trial"),
    LegendEntry(mark="cross", label="gave no loss: diverged or failed"),
    LegendEntry(mark="fit", label="fitted slice"),
    LegendEntry(mark="band", label="95 % intervals of the fit and of the best LR"),
    LegendEntry(mark="bar", label="LRs that count as equally good"),
)


@final
@dataclass(frozen=True, slots=True)
class SlicePoint:
    """One trial in a slice."""

    lr: float
    loss: float | None
    """None unless the trial completed."""
    status: str
    seed: int | str | None
    trial_id: str

    @property
    def who(self) -> str:
        """Seed and trial as far as they are known, with a comma before each."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{seed}, {self.trial_id}" if self.trial_id else seed


@final
@dataclass(frozen=True, slots=True)
class SliceData:
    """What a slice panel draws."""

    title: str
    points: tuple[SlicePoint, ...]
    fit: Mapping[str, Any]
    curve: Curve | None

    @classmethod
    def of(cls, title: str, trials: Iterable[Trial], fit: Mapping[str, Any]) -> SliceData:
        """Gather the trials of a slice; a fit without trials brings its own points."""
        points = tuple(
            SlicePoint(
                trial.spec.peak_lr, trial.record.final_loss, trial.record.status, trial.spec.seed, trial.trial_id
            )
            for trial in trials
        )
        if not points:
            seeds = fit.get("seeds") or itertools.repeat(None)
            rows = zip(fit.get("lr") or (), fit.get("loss") or (), seeds, strict=False)
            points = tuple(
                SlicePoint(
                    float(lr), float(y) if finite(y) else None, "completed" if finite(y) else "diverged", seed, ""
                )
                for lr, y, seed in rows
                if finite(lr) and lr > 0
            )
        return cls(title, points, fit, slice_curve(fit))

    @property
    def losses(self) -> list[float]:
        """The losses of the trials that have one."""
        return [point.loss for point in self.points if point.loss is not None and math.isfinite(point.loss)]


@final
@dataclass(frozen=True, slots=True)
class RuleMark:
    """The LR that a scaling rule names for the batch size of a slice."""

    name: str
    lr: float
    role: str
    """Its colour."""
    dashes: tuple[float, float] = (5, 3)
    """Length of dashes and of gaps, as wherever the rule is drawn."""


@final
@dataclass(frozen=True, slots=True)
class SliceLimits:
    """Axes that several slices share."""

    lr: tuple[float, float]
    loss: tuple[float, float]
    log_loss: bool
    has_loss: bool = True
    """Whether any trial has a loss; without one the axis has no numbers."""

    @classmethod
    def of(cls, slices: Sequence[SliceData], *, fence: float | None = None) -> SliceLimits | None:
        """Return limits that hold every trial, or None when there is none.

        With `fence`, losses whose excess over the lowest is more than that many times the median excess lie above the
        axis: runs that all but diverged would press the slices flat.
        """
        rates = [point.lr for data in slices for point in data.points]
        if not rates:
            return None
        known = [value for data in slices for value in data.losses]
        losses = (known if fence is None else _fenced(known, fence)) or [0.0, 1.0]
        log = wants_log(losses)
        lo, hi = padded(losses, log=log, share=0.05)
        # Room above the highest loss for the trials that gave none.
        hi = hi * (hi / lo) ** 0.08 if log else hi + 0.08 * (hi - lo)
        return cls(padded(rates, log=True, share=0.05), (lo, hi), log, bool(known))

    @property
    def ceiling(self) -> float:
        """Where trials without a loss are drawn."""
        lo, hi = self.loss
        return float(hi / (hi / lo) ** 0.03) if self.log_loss else hi - 0.03 * (hi - lo)


def _fenced(losses: Sequence[float], fence: float) -> list[float]:
    lowest = min(losses, default=0.0)
    excess = sorted(value - lowest for value in losses)
    most = fence * excess[len(excess) // 2] if excess else 0.0
    return [value for value in losses if value - lowest <= most] if most > 0 else list(losses)


def draw_slice(
    canvas: Canvas,
    data: SliceData,
    limits: SliceLimits,
    *,
    monitor: str,
    chosen: tuple[float | None, float | None, float | None] | None = None,
    rules: Sequence[RuleMark] = (),
) -> None:
    """Draw one slice.

    Parameters
    ----------
    canvas : Canvas
    data : SliceData
    limits : SliceLimits
    monitor : str
        Name of the loss.
    chosen : tuple of (value, lo, hi) or None, optional
        An LR to mark instead of the slice's own optimum. Default None.
    rules : sequence of RuleMark, optional
        Drawn where their LR lies within the limits. Default none.
    """
    axes = canvas.axes
    canvas.margins(left=46, top=20)
    canvas.scale("x", *limits.lr, log=True, label_width=38)
    canvas.scale("y", *limits.loss, log=limits.log_loss, at=None if limits.has_loss else ())
    canvas.axis_labels("peak LR", monitor)
    best, (lo, hi) = data.fit.get("best_lr"), pair(data.fit.get("interval"))
    if chosen is not None:
        best, lo, hi = chosen
    if lo is not None and hi is not None:
        band = axes.axvspan(max(lo, limits.lr[0]), min(hi, limits.lr[1]), color=color("accent"), alpha=0.13, lw=0)
        share = 100 * float(data.fit.get("confidence") or 0.95)
        canvas.hover(band, f"{share:g} % interval of the best LR: {rate(lo)} to {rate(hi)}")
    _draw_equivalence(canvas, data, limits)
    if data.curve is not None:
        axes.fill_between(data.curve.x, data.curve.lo, data.curve.hi, color=color("accent"), alpha=0.2, lw=0)
        (line,) = axes.plot(data.curve.x, data.curve.y, color=color("accent"), lw=1.8)
        canvas.hover(line, "fitted slice")
    for rule in rules:
        if limits.lr[0] <= rule.lr <= limits.lr[1]:
            line = axes.axvline(rule.lr, color=color(rule.role), lw=1.2, dashes=rule.dashes, zorder=1)
            canvas.hover(line, f"{rule.name}: {rate(rule.lr)}")
    _draw_points(canvas, data, limits)
    if finite(best):
        axes.axvline(best, color=color("accent"), lw=1, dashes=(3, 2))
        # Above the axes, where no trial is.
        canvas.label(best, limits.loss[1], rate(best), role="accent", align="center", dy=9)


def _draw_equivalence(canvas: Canvas, data: SliceData, limits: SliceLimits) -> None:
    lo, hi = pair(data.fit.get("equivalence"))
    if lo is None or hi is None:
        return
    (bar,) = canvas.axes.plot(
        [max(lo, limits.lr[0]), min(hi, limits.lr[1])],
        [limits.loss[0]] * 2,
        color=color("accent"),
        lw=5,
        solid_capstyle="butt",
        clip_on=False,
    )
    canvas.hover(bar, f"LRs that count as equally good: {rate(lo)} to {rate(hi)}")


def _draw_points(canvas: Canvas, data: SliceData, limits: SliceLimits) -> None:
    import seaborn as sns

    known = [point for point in data.points if point.loss is not None and math.isfinite(point.loss)]
    held = [point for point in known if point.loss is not None and point.loss <= limits.loss[1]]
    above = [point for point in known if point.loss is not None and point.loss > limits.loss[1]]
    lost = [point for point in data.points if point.loss is None or not math.isfinite(point.loss)]
    if held:
        sns.scatterplot(
            x=[point.lr for point in held],
            y=[point.loss for point in held],
            ax=canvas.axes,
            color=color("ink"),
            s=20,
            alpha=0.6,
            linewidth=0,
            zorder=3,
        )
        canvas.hover(
            canvas.axes.collections[-1],
            [f"LR {rate(point.lr)}, loss {loss(point.loss)}{point.who}" for point in held],
        )
    if above:
        marks = canvas.axes.scatter(
            [point.lr for point in above],
            [limits.ceiling] * len(above),
            marker="^",
            s=22,
            color=color("ink"),
            alpha=0.6,
            linewidths=0,
            zorder=4,
            clip_on=False,
        )
        canvas.hover(marks, [f"LR {rate(point.lr)}, loss {loss(point.loss)}{point.who}, above" for point in above])
    if lost:
        marks = canvas.axes.scatter(
            [point.lr for point in lost],
            [limits.ceiling] * len(lost),
            marker="x",
            s=26,
            color=color("bad"),
            linewidths=1.4,
            zorder=4,
            clip_on=False,
        )
        canvas.hover(marks, [f"LR {rate(point.lr)}: {point.status}{point.who}" for point in lost])

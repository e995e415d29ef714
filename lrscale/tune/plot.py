"""The picture of a range test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lrscale.laws import smooth_log_lr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrscale.tune.result import RangeFamily, RangeTestResult

# Colours that are told apart by all kinds of colour vision: Okabe and Ito 2008.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_HEADROOM = 0.4
"""Share of the descent that is shown above the initial loss: where a ramp leaves matters, how far it goes does not."""


def draw(result: RangeTestResult, ax: Axes) -> None:
    """Draw raw and smoothed ramps, the bracket, the ends of the runs at fixed LR, and the confirmed LR."""
    lows, highs = [], []
    for place, family in enumerate(result.families):
        colour = _COLOURS[place % len(_COLOURS)]
        seen = _draw_family(ax, family, colour, named=len(result.families) > 1)
        lows += seen[:1]
        highs += seen[1:]
    if lows:
        low, high = min(lows), max(highs)
        ax.set_ylim(low - 0.08 * (high - low), high + _HEADROOM * (high - low))
    ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    ax.set_ylabel(result.monitor)
    ax.spines[["top", "right"]].set_visible(False)
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(handles, labels, frameon=False, fontsize="small")


def _draw_family(ax: Axes, family: RangeFamily, colour: str, *, named: bool) -> list[float]:
    name = f"batch {family.batch_size:,}" if named and family.batch_size is not None else "ramps"
    for curve in family.curves:
        lr, loss = np.asarray(curve.lr), np.asarray(curve.loss, dtype=float)
        ax.plot(lr, np.where(np.isfinite(loss), loss, np.nan), ".", color=colour, alpha=0.2, markersize=3)
        if np.isfinite(loss).sum() > 1:
            first = curve is family.curves[0]
            ax.plot(lr, smooth_log_lr(lr, loss), color=colour, linewidth=1.4, label=name if first else None)
    lo, hi = family.finding.bracket
    if lo is not None:
        end = hi if hi is not None else max(lr for curve in family.curves for lr in curve.lr)
        ax.axvspan(lo, end, color=colour, alpha=0.06, label=None if named else "bracket of the ramps")
    _draw_confirmation(ax, family, colour, named)
    initial = [reading.initial for reading in family.finding.curves if reading.initial is not None]
    best = [reading.best for reading in family.finding.curves if reading.best is not None]
    if family.confirmation is not None:
        best += [run.loss for run in family.confirmation.runs if run.loss is not None]
    return [min(best), max(initial)] if best and initial else []


def _draw_confirmation(ax: Axes, family: RangeFamily, colour: str, named: bool) -> None:
    found = family.confirmation
    if found is None:
        return
    trained: Any = np.array([(run.lr, run.loss) for run in found.runs if run.loss is not None])
    if len(trained):
        ends = None if named else "ends of runs at fixed LR"
        ax.plot(trained[:, 0], trained[:, 1], "o", markerfacecolor="none", color=colour, markersize=5, label=ends)
    if found.lr is not None:
        ax.axvline(found.lr, color=colour, linestyle="--", linewidth=1.2, label=f"confirmed {found.lr:.2g}")
        if found.interval is not None and found.interval.lo is not None and found.interval.hi is not None:
            ax.axvspan(found.interval.lo, found.interval.hi, color=colour, alpha=0.14)

"""The ends of the intervals of a surface's best LRs, one-sided where it is censored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrscale.laws.base import FitStatus, FloatArray, Interval
from lrscale.laws.surface.surface_likelihood import Cell


def sided(status: FitStatus, curves: FloatArray, tail: float) -> tuple[FloatArray, FloatArray]:
    """Return the ends of the intervals in ln(LR); a censored fit spends all of its error on its one bound."""
    if status is FitStatus.CENSORED_HIGH:
        return np.quantile(curves, 2 * tail, axis=0), np.full(curves.shape[1], math.inf)
    if status is FitStatus.CENSORED_LOW:
        return np.full(curves.shape[1], -math.inf), np.quantile(curves, 1 - 2 * tail, axis=0)
    lo, hi = np.quantile(curves, [tail, 1 - tail], axis=0)
    return lo, hi


def interval_at(
    status: FitStatus, lo: float, hi: float, size: float, cells: Sequence[Cell], confidence: float
) -> Interval | None:
    """Return the interval of the best LR at one batch size, or None where its runs say nothing."""
    own = next((cell for cell in cells if cell.batch == size), None)
    if status is FitStatus.OK:
        return Interval(math.exp(lo), math.exp(hi), confidence)
    if own is None:
        return None
    # A bound beyond the grid would rest on the model alone.
    if status is FitStatus.CENSORED_HIGH:
        return Interval(math.exp(min(lo, float(own.x.max()))), own.runs.diverged_above(), confidence)
    if status is FitStatus.CENSORED_LOW:
        return Interval(None, math.exp(max(hi, float(own.x.min()))), confidence)
    return None

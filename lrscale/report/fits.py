"""Fitted curves for drawing, from the JSON values that findings carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from lrscale.report.words import finite

FloatArray = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Curve:
    """A fitted curve with its 95 % band."""

    x: FloatArray
    y: FloatArray
    lo: FloatArray
    hi: FloatArray


def slice_curve(fit: Mapping[str, Any], points: int = 80) -> Curve | None:
    """Return the fitted slice over the LRs that it was fitted to, or None where there is no fit."""
    from lrscale.laws import LRSliceFit

    rates = [float(lr) for lr, loss in zip(fit.get("lr") or (), fit.get("loss") or (), strict=False) if finite(loss)]
    if not has_fit(fit) or len(rates) < 2:
        return None
    grid = np.geomspace(min(rates), max(rates), points)
    return _curve(grid, LRSliceFit.from_dict(fit).predict(grid))


def law_curve(fit: Mapping[str, Any] | None, batch_sizes: FloatArray) -> Curve | None:
    """Return the chosen law's optimal LR over batch sizes, or None where no law was fitted."""
    from lrscale.laws import OptimalLRFit

    if fit is None or not fit.get("draws"):
        return None
    return _curve(batch_sizes, OptimalLRFit.from_dict(fit).predict(batch_sizes))


def local_slope(fit: Mapping[str, Any] | None, batch_size: float) -> tuple[float, float, float] | None:
    """Return the slope of log optimal LR against log batch at a batch size, with its interval, or None."""
    from lrscale.laws import OptimalLRFit

    if fit is None or not fit.get("draws"):
        return None
    slope, lo, hi = (float(np.ravel(value)[0]) for value in OptimalLRFit.from_dict(fit).local_slope(batch_size))
    return (slope, lo, hi) if finite(slope) else None


def has_fit(fit: Mapping[str, Any]) -> bool:
    """Return whether a slice has a fitted curve; a censored one may have it too."""
    return bool(fit.get("curve_draws"))


def pair(values: Any) -> tuple[float | None, float | None]:
    """Return an interval, given as ``[lo, hi]`` or ``{"lo": ..., "hi": ...}``, as two numbers or None where it is open.

    Examples
    --------
    >>> pair([1, 2]), pair({"lo": None, "hi": 2.0, "confidence": 0.95}), pair(None)
    ((1.0, 2.0), (None, 2.0), (None, None))
    """
    if isinstance(values, Mapping):
        values = [values.get("lo"), values.get("hi")]
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        return None, None
    lo, hi = (float(value) if finite(value) else None for value in values)
    return lo, hi


def _curve(x: FloatArray, predicted: Any) -> Curve | None:
    y, lo, hi = (np.asarray(part, dtype=np.float64) for part in predicted)
    fine = np.isfinite(y)
    if not fine.any():
        return None
    lo, hi = np.where(np.isfinite(lo), lo, y), np.where(np.isfinite(hi), hi, y)
    return Curve(x[fine], y[fine], lo[fine], hi[fine])

"""Smoothing of an evaluation curve against ln(step), with a width that the curve itself chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lrscale.laws.base import FloatArray

# A smoother of n points takes n^2 numbers.
_MOST_POINTS = 300
_WIDTHS = 12
# A kernel of this many spacings to either side holds next to no neighbour: the line through the points.
_NARROWEST = 0.4
# The widest kernel, as a fraction of the range of ln(step).
_WIDEST = 0.25
_CLEAN = 1e-9


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothCurve:
    """A curve without its noise, at points of ln(step)."""

    log_step: FloatArray
    """Increasing, shape (n,)."""
    loss: FloatArray
    """Shape (n,)."""
    se: FloatArray
    """Standard error of each, shape (n,)."""
    width: float
    """Width of the kernel in ln(step)."""


def smooth_curve(log_step: FloatArray, loss: FloatArray, width: float | None = None) -> SmoothCurve:
    """Return a local-linear fit with a Gaussian kernel in ln(step).

    A line, not a mean, because a mean lags on a falling curve. The width is that of least leave-one-out error
    (Stone 1974), so that a curve without noise stays as it is.

    Parameters
    ----------
    log_step, loss : arrays of shape (n,), n >= 3
        ``log_step`` increases. Beyond 300 points neighbours are averaged.
    width : float, optional
        Standard deviation of the kernel in ln(step). Default None: chosen.

    Examples
    --------
    >>> x = np.log(np.arange(10.0, 200.0, 10.0))
    >>> noisy = 2 + np.exp(-x) + 0.01 * np.resize([1, -1], x.size)
    >>> curve = smooth_curve(x, noisy)
    >>> bool(np.abs(curve.loss - 2 - np.exp(-x)).max() < 0.011)
    True
    """
    count = np.ones(log_step.size)
    if log_step.size > _MOST_POINTS:
        # Of equal width in ln(step): of equal count they would be coarse where the curve is steep.
        share = (log_step - log_step[0]) / (log_step[-1] - log_step[0])
        place = np.unique(np.minimum(share * _MOST_POINTS, _MOST_POINTS - 1).astype(np.intp), return_inverse=True)[1]
        count = np.bincount(place).astype(np.float64)
        log_step, loss = np.bincount(place, log_step) / count, np.bincount(place, loss) / count
    spacing = np.maximum(np.diff(log_step, prepend=log_step[0]), np.diff(log_step, append=log_step[-1]))
    if width is None:
        span = float(log_step[-1] - log_step[0])
        widths = np.geomspace(_NARROWEST * float(np.median(spacing)), _WIDEST * span, _WIDTHS)
    else:
        widths = np.array([width])
    best: tuple[float, float, FloatArray, FloatArray] | None = None
    for own in widths.tolist():
        weights = _weights(log_step, np.maximum(own, _NARROWEST * spacing), count)
        fitted = weights @ loss
        kept = np.maximum(1 - np.diag(weights), _CLEAN)
        error = float(np.mean(count * ((loss - fitted) / kept) ** 2))
        if best is None or error < best[0]:
            best = error, own, weights, fitted
    assert best is not None
    _, chosen, weights, fitted = best
    # Differences of second order hold a bend of the curve beside the noise, residuals its lack of fit: both are too
    # large, never too small (Gasser, Sroka and Jennen-Steinmetz 1986).
    free = max(float(loss.size - 2 * np.trace(weights) + np.sum(weights**2)), _CLEAN)
    variance = min(_difference_variance(log_step, loss, count), float(np.sum(count * (loss - fitted) ** 2)) / free)
    se = np.sqrt(variance * np.sum(weights**2 / count, axis=1))
    return SmoothCurve(log_step=log_step, loss=fitted, se=se, width=chosen)


def _weights(x: FloatArray, width: FloatArray, count: FloatArray) -> FloatArray:
    """Return the matrix that takes losses to their local-linear fit, shape (n, n); `count` evaluations are in each."""
    gap = x[None, :] - x[:, None]
    kernel = count * np.exp(-0.5 * (gap / width[:, None]) ** 2)
    first, second = np.sum(kernel * gap, axis=1), np.sum(kernel * gap**2, axis=1)
    total = kernel.sum(axis=1)
    spread = total * second - first**2
    weights: FloatArray = kernel * (second[:, None] - gap * first[:, None]) / np.maximum(spread, 1e-300)[:, None]
    return weights


def _difference_variance(x: FloatArray, y: FloatArray, count: FloatArray) -> float:
    """Return the variance of an evaluation from each point's distance to the line through its neighbours."""
    left = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
    away = left * y[:-2] + (1 - left) * y[2:] - y[1:-1]
    return float(np.mean(away**2 / (left**2 / count[:-2] + (1 - left) ** 2 / count[2:] + 1 / count[1:-1])))

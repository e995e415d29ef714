"""Smoothing of a range test and the published rules that read one LR off it. Pure functions of a curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray

_MIN_NEIGHBOURS = 5


def check_curve(lr: ArrayLike, loss: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the curve as float arrays; LRs must be positive and increasing, losses may be non-finite."""
    x = np.asarray(lr, dtype=np.float64)
    y = np.asarray(loss, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise LrscaleError(f"lr has shape {x.shape} and loss has shape {y.shape}", hint="give one loss for each LR")
    if x.size and (not np.all(np.isfinite(x) & (x > 0)) or np.any(np.diff(x) < 0)):
        raise LrscaleError("the LRs of a range test must be positive and increasing", hint="sort the curve by LR")
    return x, y


def kernel_weights(lr: FloatArray, finite: NDArray[np.bool_], width_decades: float) -> FloatArray:
    """Return the smoother S of `smooth_log_lr` (smoothed = S @ loss), shape (n, n); zero rows where not finite."""
    x = np.log10(lr)
    distance = np.abs(x[:, None] - x[None, :])
    reach = np.full(lr.size, width_decades)
    if finite.sum() >= _MIN_NEIGHBOURS:
        # Where the ramp is sparse the window grows until it holds five points.
        fifth = np.sort(np.where(finite[None, :], distance, np.inf), axis=1)[:, _MIN_NEIGHBOURS - 1]
        reach = np.maximum(reach, 1.001 * fifth)
    # Tricube kernel, Cleveland 1979.
    weight = np.where(finite[None, :], np.clip(1 - (distance / reach[:, None]) ** 3, 0, None) ** 3, 0.0)
    offset = x[None, :] - x[:, None]
    s0, s1, s2 = weight.sum(1), (weight * offset).sum(1), (weight * offset**2).sum(1)
    determinant = s0 * s2 - s1**2
    flat = determinant <= 1e-12 * s0**2 * reach**2
    safe = np.where(flat, 1.0, determinant)
    line = weight * (s2[:, None] - s1[:, None] * offset) / safe[:, None]
    mean = weight / np.where(s0 > 0, s0, 1.0)[:, None]
    smoother: FloatArray = np.where(flat[:, None], mean, line)
    smoother[~finite] = 0.0
    return smoother


def smooth_log_lr(lr: ArrayLike, loss: ArrayLike, width_decades: float = 0.2) -> FloatArray:
    """Smooth a range-test curve by a symmetric local-linear kernel in log LR.

    Unlike an exponential moving average it has no lag (which shifts features to larger LRs) and no start-up bias: a
    constant loss stays constant, a loss linear in log LR stays linear, and the sign of the loss does not matter.

    Parameters
    ----------
    lr : array-like of shape (n,)
        Positive, increasing.
    loss : array-like of shape (n,)
        Non-finite values are left out.
    width_decades : float, optional
        Half-width of the window in decades of LR; it grows where it would hold fewer than five points. Defaults to 0.2.

    Returns
    -------
    array of shape (n,)
        NaN where the loss is not finite.

    References
    ----------
    .. [1] Cleveland. "Robust Locally Weighted Regression and Smoothing Scatterplots." JASA 74 (1979).

    Examples
    --------
    >>> smooth_log_lr([1e-4, 1e-3, 1e-2, 1e-1, 1.0], [-2.0] * 5).round(12).tolist()
    [-2.0, -2.0, -2.0, -2.0, -2.0]
    """
    x, y = check_curve(lr, loss)
    if width_decades <= 0:
        raise LrscaleError(
            f"width_decades {width_decades} is not positive", hint="use a fraction of a decade such as 0.2"
        )
    finite = np.isfinite(y)
    if not finite.any():
        return np.full(x.size, np.nan)
    centre = float(np.mean(y[finite]))
    smoothed = kernel_weights(x, finite, width_decades) @ np.where(finite, y - centre, 0.0) + centre
    return np.where(finite, smoothed, np.nan)


def steepest(lr: ArrayLike, loss: ArrayLike) -> float | None:
    """Return the LR at which the loss falls fastest per unit of log LR; None if it never falls.

    ``argmin dL / d ln(lr)``, fastai's "steep" [1]_. On a ramp of n steps this LR is proportional to 1 / n: it measures
    how much cumulative LR the model needs, not the best LR. A derivative per linear LR would be dominated by noise at
    the smallest LRs.

    References
    ----------
    .. [1] Howard, Gugger. "fastai: A Layered API for Deep Learning." Information 11 (2020).

    Examples
    --------
    >>> steepest([1e-4, 1e-3, 1e-2, 1e-1, 1.0], [3.0, 3.0, 2.0, 1.0, 1.0])
    0.01
    """
    x, y = _finite(lr, loss)
    if x.size < 2 or np.any(np.diff(x) == 0):
        return None
    slope = np.gradient(y, np.log(x))
    best = int(np.argmin(slope))
    return float(x[best]) if slope[best] < 0 else None


def valley(lr: ArrayLike, loss: ArrayLike) -> float | None:
    """Return the LR in the middle of the longest decreasing subsequence of the loss; None if it never decreases.

    fastai's "valley" [1]_, as its code defines it: with the longest strictly decreasing subsequence of length n ending
    at index e (the earliest such end), ``third = n / 3`` and the answer is index ``(e - n) + int(third) + int(third /
    2)``. The start e - n is not the subsequence's true start and can be -1, where the published code reads the last LR
    of the curve; here the index is at least 0.

    References
    ----------
    .. [1] fastai 2, ``callback/schedule.py``; developed by ESRI.

    Examples
    --------
    >>> valley([1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0], [5.0, 5.0, 4.0, 3.0, 2.0, 9.0])
    0.0001
    """
    x, y = _finite(lr, loss)
    if x.size < 2:
        return None
    longest = np.ones(x.size, dtype=np.int_)
    for i in range(1, x.size):
        above = longest[:i][y[:i] > y[i]]
        if above.size:
            longest[i] = above.max() + 1
    end = int(np.argmax(longest))
    length = int(longest[end])
    if length < 2:
        return None
    third = length / 3
    return float(x[max(end - length + int(third) + int(third / 2), 0)])


def slide(lr: ArrayLike, loss: ArrayLike, *, interval: int = 15, threshold: float = 0.005) -> float | None:
    """Return the LR found by sliding an interval from the right until the slopes at its ends agree.

    fastai's "slide" [1]_: an interval of `interval` points moves left while the index gradients of the loss at its two
    ends differ by more than `threshold`; the answer is the LR at its left end. The published threshold is an absolute
    loss, so the rule is not scale free; `analyse_range_curves` passes 0.005 times the drop of the loss.

    References
    ----------
    .. [1] fastai 2, ``callback/schedule.py``.

    Examples
    --------
    >>> slide([1e-3, 1e-2, 1e-1, 1.0], [3.0, 2.0, 1.0, 9.0], interval=1)
    0.01
    """
    x, y = _finite(lr, loss)
    if x.size <= interval + 1:
        return None
    slope = np.gradient(y)
    left = x.size - 1 - interval
    found = float(x[left])
    while left >= 0 and abs(slope[left + interval] - slope[left]) > threshold:
        found = float(x[left])
        left -= 1
    return found


def minimum_over_ten(lr: ArrayLike, loss: ArrayLike) -> float | None:
    """Return a tenth of the LR with the lowest loss: fastai's "minimum", which depends least on the ramp's length.

    Examples
    --------
    >>> minimum_over_ten([0.1, 1.0, 10.0], [3.0, 1.0, 9.0])
    0.1
    """
    x, y = _finite(lr, loss)
    return float(x[int(np.argmin(y))]) / 10 if x.size else None


def stability_edge(lr: ArrayLike, loss: ArrayLike, *, initial: float, margin: float) -> float | None:
    """Return the first LR past the minimum at which the loss exceeds ``initial + margin`` or is not finite; else None.

    Only a rise past the minimum counts, because an early spike can recover (catapult: Lewkowycz et al. 2020,
    arXiv:2003.02218). The excess is additive: a multiple of the best loss means nothing for losses near or below zero.

    Examples
    --------
    >>> stability_edge([1e-3, 1e-2, 1e-1, 1.0], [-1.0, -2.0, -1.5, 4.0], initial=-1.0, margin=0.3)
    1.0
    """
    x, y = check_curve(lr, loss)
    finite = np.isfinite(y)
    if not finite.any():
        return float(x[0]) if x.size else None
    lowest = int(np.nanargmin(np.where(finite, y, np.nan)))
    past = np.flatnonzero((~finite | (y > initial + margin)) & (np.arange(x.size) > lowest))
    return float(x[past[0]]) if past.size else None


def _finite(lr: ArrayLike, loss: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x, y = check_curve(lr, loss)
    finite = np.isfinite(y)
    return x[finite], y[finite]

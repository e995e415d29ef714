"""Thinning and smoothing of trajectories for drawing."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SMOOTHING_WINDOW = 0.04
"""Width of the smoothing window as a share of the rows of a trajectory."""


def keep_extremes(x: FloatArray, y: FloatArray, bins: int) -> tuple[FloatArray, FloatArray]:
    """Thin points to the lowest and the highest of each bin, so that no spike disappears.

    Parameters
    ----------
    x, y : 1D array of floats
        Points in the order in which they are drawn, with finite `y`.
    bins : int
        Bins of equal numbers of points, at least 1.

    Returns
    -------
    tuple of 1D arrays
        At most ``2 * bins + 2`` of the points, in their order, the first and the last among them.

    Examples
    --------
    >>> spike = np.zeros(1000)
    >>> spike[777] = 9.0
    >>> x, y = keep_extremes(np.arange(1000.0), spike, 50)
    >>> y.max(), len(y) <= 102
    (np.float64(9.0), True)
    """
    if len(y) <= 2 * bins + 2:
        return x, y
    edges = np.linspace(0, len(y), bins + 1).astype(int)
    kept = {0, len(y) - 1}
    for start, stop in itertools.pairwise(edges):
        part = y[start:stop]
        kept.update((start + int(part.argmin()), start + int(part.argmax())))
    order: Any = sorted(kept)
    return x[order], y[order]


def smooth(y: FloatArray, window: float = SMOOTHING_WINDOW) -> FloatArray:
    """Return means over a centred window, which lag behind nothing.

    The window narrows towards the start, where the loss falls fastest, and is cut at the end.

    Parameters
    ----------
    y : 1D array of floats
        Finite values.
    window : float, optional
        Width as a share of the length, in (0, 1]. Default 0.04.

    Examples
    --------
    >>> smooth(np.arange(5.0), window=1.0)
    array([0. , 1. , 2. , 2.5, 3. ])
    """
    if len(y) < 3:
        return y
    half = max(1, round(window * len(y) / 2))
    index = np.arange(len(y))
    before = np.minimum(half, index)
    after = np.minimum(before, len(y) - 1 - index)
    total = np.concatenate(([0.0], np.cumsum(y)))
    first, last = index - before, index + after + 1
    means: FloatArray = (total[last] - total[first]) / (last - first)
    return means


def sparse(length: int, points: int) -> npt.NDArray[np.int64]:
    """Return about `points` indices into a smooth line, denser at its start.

    Examples
    --------
    >>> sparse(5, 10)
    array([0, 1, 2, 3, 4])
    """
    if length <= points:
        return np.arange(length)
    early = np.geomspace(1, length, points // 2) - 1
    even = np.linspace(0, length - 1, points - points // 2)
    return np.unique(np.concatenate((early, even, [length - 1])).astype(np.int64))

"""From the steps of a staircase ramp to one point a rung."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray
from lrscale.laws.range_test.range_rules import check_curve


def rung_means(lr: ArrayLike, loss: ArrayLike, *, share: float = 0.5) -> tuple[FloatArray, FloatArray]:
    """Return the LR of each rung and the mean loss over the last part of its steps.

    The first steps on a rung still show the LR before it; the mean over the rest is what this LR does.

    Parameters
    ----------
    lr : array-like of shape (n,)
        LR of each step, positive and increasing; equal LRs are one rung.
    loss : array-like of shape (n,)
        Loss of each step; non-finite ones mean divergence.
    share : float, optional
        Part of a rung's steps that counts, in (0, 1], at least one step. Default 0.5.

    Returns
    -------
    lr, loss : arrays of shape (rungs,)
        A rung is NaN when one of its counted losses is not finite.

    Examples
    --------
    >>> lr, loss = rung_means([1e-3, 1e-3, 1e-2, 1e-2, 1e-1], [3.0, 2.0, 2.0, 1.0, 7.0])
    >>> lr.tolist(), loss.tolist()
    ([0.001, 0.01, 0.1], [2.0, 1.0, 7.0])
    """
    x, y = check_curve(lr, loss)
    if not 0 < share <= 1:
        raise LrscaleError(f"share {share} is not in (0, 1]", hint="0.5 counts the second half of each rung")
    rungs, starts, counts = np.unique(x, return_index=True, return_counts=True)
    means = [
        float(np.mean(y[start + count - max(1, math.ceil(share * count)) : start + count]))
        for start, count in zip(starts, counts, strict=True)
    ]
    return rungs, np.where(np.isfinite(means), means, np.nan)

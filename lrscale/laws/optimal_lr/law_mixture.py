"""Predictions of a mixture of laws of the best LR, from draws of their parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import OPTIMAL_LR_LAWS, FloatArray

Draws = tuple[tuple[str, tuple[tuple[float, ...], ...]], ...]
"""(law, draws of its parameters); the number of draws is the law's weight."""


def mixed_draws(weights: dict[str, float], params: dict[str, FloatArray], count: int) -> Draws:
    """Return `count` draws shared out among laws by their weights, to seven digits.

    Examples
    --------
    >>> mixed_draws({"constant": 0.5, "power": 0.5}, {"constant": np.ones((4, 1)), "power": np.ones((4, 2))}, 2)
    (('constant', ((1.0,),)), ('power', ((1.0, 1.0),)))
    """
    parts = []
    for name, weight in weights.items():
        share = round(weight * count)
        if share:
            rows = params[name][:share]
            parts.append((name, tuple(tuple(float(f"{value:.7g}") for value in row) for row in rows)))
    return tuple(parts)


def mixed_lr(draws: Draws, sizes: FloatArray) -> FloatArray:
    """Return the LR of each draw at batch sizes, shape (draws, sizes)."""
    return np.concatenate([OPTIMAL_LR_LAWS[name].predict(np.asarray(params), sizes) for name, params in draws])


def mixed_slope(draws: Draws, sizes: FloatArray) -> FloatArray:
    """Return d log LR / d log B of each draw at batch sizes, shape (draws, sizes)."""
    return np.concatenate(
        [OPTIMAL_LR_LAWS[name].local_slope(np.asarray(params)[:, 1:], sizes) for name, params in draws]
    )


def checked_sizes(batch: ArrayLike, draws: Draws, reason: str) -> FloatArray:
    """Return batch sizes as an array of shape (m,); raise LrscaleError when there is no law or one is not positive."""
    if not draws:
        raise LrscaleError(f"no law was fitted: {reason}", hint="look at the status first")
    sizes = np.atleast_1d(np.asarray(batch, dtype=np.float64))
    if not np.all(np.isfinite(sizes) & (sizes > 0)):
        raise LrscaleError(f"batch sizes must be positive numbers, not {sizes}", hint="check the argument")
    return sizes


def median_and_ends(values: FloatArray, confidence: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return median, low and high end of the central interval along the first axis."""
    tail = 50 * (1 - confidence)
    lo, middle, hi = np.percentile(values, [tail, 50, 100 - tail], axis=0)
    return middle, lo, hi

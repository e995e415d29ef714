"""Predictions of a mixture of laws of the best LR, from draws of their parameters."""

from __future__ import annotations

from typing import Protocol

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


class _Mixture(Protocol):
    @property
    def reason(self) -> str: ...

    @property
    def draws(self) -> Draws: ...

    @property
    def confidence(self) -> float: ...


class PredictsBestLR:
    """What fits of the best LR against the batch size say of any batch size; they hold `draws` of a mixture of laws."""

    __slots__ = ()

    def predict(self: _Mixture, batch: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the best LR at batch sizes and its interval, laws mixed by their weights.

        Parameters
        ----------
        batch : array-like of shape (m,)
            Positive batch sizes in the unit of the fit, inside or outside the measured range.

        Returns
        -------
        lr, lo, hi : arrays of shape (m,)
            Median and interval of the mixture. Outside the measured range the interval widens, because the parameters
            are uncertain and because laws that agree inside part ways.

        Raises
        ------
        LrscaleError
            When no law was fitted, or a batch size is not positive.
        """
        sizes = checked_sizes(batch, self.draws, self.reason)
        return median_and_ends(mixed_lr(self.draws, sizes), self.confidence)

    def local_slope(self: _Mixture, batch: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return d log LR / d log B at batch sizes and its interval (linear rule 1, square root 1/2, constant 0)."""
        sizes = checked_sizes(batch, self.draws, self.reason)
        return median_and_ends(mixed_slope(self.draws, sizes), self.confidence)

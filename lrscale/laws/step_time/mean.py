"""The mean of step times that follow one another, and of trials that repeat one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from lrscale.laws.base import Interval, check_confidence

FEWEST_BLOCKS = 4
"""Blocks below which a spread says nothing."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesMean:
    """A mean in seconds with its standard error; the error is None where too little was measured to tell it."""

    value: float
    se: float | None
    degrees: int
    """Degrees of freedom of the error, at least 1 where there is one."""

    def interval(self, confidence: float = 0.95) -> Interval:
        """Return the interval of the mean, Student's t on the logarithm, so that a time stays positive."""
        check_confidence(confidence)
        if self.se is None or self.value <= 0:
            return Interval(None, None, confidence)
        half = float(stdtrit(self.degrees, 0.5 + confidence / 2)) * self.se / self.value
        return Interval(self.value * math.exp(-half), self.value * math.exp(half), confidence)


def mean_of_series(seconds: ArrayLike) -> SeriesMean:
    """Return the mean of consecutive step times.

    Neighbouring steps share a garbage collection, a flush, a busy neighbour: their errors are correlated, and the
    textbook error of a mean is too small. Means of blocks of ``n^(1/3)`` steps hardly are (batch means: Schmeiser 1982,
    Operations Research 30; the length: Carlstein 1986, Annals of Statistics 14).

    Parameters
    ----------
    seconds : array of shape (n,)
        Seconds of consecutive steps, n at least 1.

    Examples
    --------
    >>> mean = mean_of_series([0.10, 0.12, 0.10, 0.12, 0.10, 0.12, 0.10, 0.12])
    >>> round(mean.value, 3), mean.degrees
    (0.11, 3)
    """
    values = np.asarray(seconds, dtype=np.float64)
    block = max(1, round(len(values) ** (1 / 3)))
    count = len(values) // block
    if count < FEWEST_BLOCKS:
        return SeriesMean(value=float(values.mean()), se=None, degrees=0)
    blocks = values[len(values) - count * block :].reshape(count, block).mean(axis=1)
    return SeriesMean(value=float(values.mean()), se=float(blocks.std(ddof=1)) / math.sqrt(count), degrees=count - 1)


def mean_of_replicates(means: Sequence[SeriesMean]) -> SeriesMean:
    """Return the mean of trials that repeat one another, with the larger of two errors.

    The spread between trials holds what changed on the machine from one to the next; with two or three of them it is
    itself hardly known, and never taken to be less than what the steps within the trials say.

    Examples
    --------
    >>> one = SeriesMean(value=0.10, se=0.001, degrees=8)
    >>> both = mean_of_replicates([one, SeriesMean(value=0.12, se=0.001, degrees=8)])
    >>> round(both.value, 3), round(both.se, 3), both.degrees
    (0.11, 0.01, 1)
    """
    if len(means) == 1:
        return means[0]
    values = np.array([mean.value for mean in means])
    between = float(values.std(ddof=1)) / math.sqrt(len(values))
    errors = [mean.se for mean in means if mean.se is not None]
    within = math.sqrt(sum(error**2 for error in errors)) / len(means) if len(errors) == len(means) else 0.0
    if between >= within:
        return SeriesMean(value=float(values.mean()), se=between, degrees=len(values) - 1)
    return SeriesMean(value=float(values.mean()), se=within, degrees=sum(mean.degrees for mean in means))

"""The posteriors of slices that lend each other their noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from lrscale.laws.base import FitStatus, FloatArray
from lrscale.laws.lr_slice.basin import BasinPosterior
from lrscale.laws.lr_slice.basin_fit import fit_basin
from lrscale.laws.lr_slice.slice_fit import LRSliceFit
from lrscale.laws.runs import read_runs

# Beyond, a trigamma is that of a noise which does not vary.
_MOST_DF = 1e4
_LEAST_DF = 1e-2


def posteriors_together(slices: Sequence[LRSliceFit]) -> list[BasinPosterior | None]:
    """Return the posterior of each located slice, with the noise of the others as prior; None for the others.

    One slice of few runs knows its noise from two to five degrees of freedom, and its interval is wide because it may
    be unlucky. Slices of one study mostly have the same noise; how far theirs differs beyond chance sets how much they
    lend each other (`prior_df`). A slice whose residuals contradict the others (p < 0.01) borrows nothing.
    """
    variance = np.array([(own.noise_sd or 0.0) ** 2 for own in slices])
    df = np.array([own.noise_df or 0.0 for own in slices])
    known = (variance > 0) & (df > 0)
    common = prior_df(variance[known], df[known])
    answer: list[BasinPosterior | None] = []
    for i, own in enumerate(slices):
        if own.status is not FitStatus.OK:
            answer.append(None)
            continue
        others = known & (np.arange(len(slices)) != i)
        total = float(df[others].sum())
        sd, lent = None, 30.0
        if total > 0 and common > 0:
            sd = math.sqrt(float(variance[others] @ df[others]) / total)
            lent = 1 / (1 / common + 1 / total)
        runs = read_runs(own.lr, own.loss, None, own.seeds)
        answer.append(fit_basin(runs, noise_sd=sd, noise_df=lent).posterior)
    return answer


def prior_df(variance: FloatArray, df: FloatArray) -> float:
    """Return the degrees of freedom of the distribution from which the variances of several groups come.

    Variances are taken as scaled inverse chi-squared draws, and the degrees of freedom from the spread of the logarithm
    of their estimates beyond what the groups' own degrees of freedom make (Smyth 2004, Statistical Applications in
    Genetics and Molecular Biology 3, Article 3). Zero with fewer than two groups.

    Parameters
    ----------
    variance : array of shape (n,)
        Estimated variances, positive.
    df : array of shape (n,)
        Their degrees of freedom.

    Examples
    --------
    >>> prior_df(np.array([1.0, 1.2, 0.9]), np.array([5.0, 5.0, 5.0]))  # no more spread than chance
    10000.0
    >>> prior_df(np.array([1.0, 1e4, 1e-4]), np.array([5.0, 5.0, 5.0])) < 1
    True
    """
    if variance.size < 2:
        return 0.0
    centred = np.log(variance) - digamma(df / 2) + np.log(df / 2)
    beyond = float(np.var(centred, ddof=1) - np.mean(polygamma(1, df / 2)))

    def excess(log_df: float) -> float:
        return float(polygamma(1, math.exp(log_df) / 2)) - beyond

    low, high = math.log(_LEAST_DF), math.log(_MOST_DF)
    if excess(high) >= 0:
        return _MOST_DF
    return _LEAST_DF if excess(low) <= 0 else math.exp(float(brentq(excess, low, high)))

"""Noise of runs that grows away from the lowest LRs: how much larger the variance of each run is than near them.

Close to divergence two seeds can end at 1.3 and 2.3 where seeds near the best LR differ by 0.01. One noise for all
would be that of the far runs, and the near ones would say nothing of where the minimum lies and how low it is.
"""

from __future__ import annotations

import numpy as np
from scipy.special import fdtri

from lrscale.laws.base import FloatArray
from lrscale.laws.noise import decompose, variance_ratio_p
from lrscale.laws.runs import Runs

NEAR_LRS, FEWEST_NEAR = 5, 3
"""LRs that count as near, those with the lowest median loss: half of them, between these bounds."""
_FEWEST_DF = 1
_P = 0.01
_SURELY = 0.95
"""Confidence of the lower bound of the ratio of variances."""


def relative_variance(runs: Runs) -> FloatArray:
    """Return the variance of each finished run over that of a run near the lowest LRs, at least 1.

    On each side of the lowest LR by itself: where replicates at far LRs differ by more than those at near ones (F test,
    p < 0.01), their standard deviation is taken to grow in proportion to the excess loss. How much is the lower 95 %
    bound of the ratio of variances: two seeds near the lowest may agree by chance, and would then outweigh all others.
    Without far replicates, or without any near, all are 1.

    Parameters
    ----------
    runs : Runs
        With at least one finished run.

    Returns
    -------
    array of shape (finished runs,)

    Examples
    --------
    >>> from lrscale.laws.runs import read_runs
    >>> losses = [0.90, 0.91, 0.30, 0.31, 0.10, 0.11, 0.12, 0.11, 0.20, 0.21, 0.50, 0.49, 1.30, 2.30]
    >>> found = relative_variance(read_runs([1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64], losses, None, [0, 1] * 7))
    >>> [round(float(value)) for value in found[[0, 4, 8]]], bool(found[-1] > 100)
    ([1, 1, 4], True)
    """
    lr, loss = runs.lr[runs.kept], runs.loss[runs.kept]
    distinct, place = np.unique(lr, return_inverse=True)
    factor = np.ones(loss.size)
    if distinct.size < 2 or np.unique(place).size == place.size:
        return factor
    medians = np.array([float(np.median(loss[place == index])) for index in range(distinct.size)])
    ordered = np.argsort(medians, kind="stable")
    count = min(NEAR_LRS, max(FEWEST_NEAR, (distinct.size + 1) // 2))
    is_near = np.isin(np.arange(distinct.size), ordered[:count])
    near = decompose(_only(runs, is_near[place]))
    if near.df < _FEWEST_DF:
        return factor
    variance = float(np.sum(near.residuals**2)) / near.df
    excess: FloatArray = medians - float(medians.min())
    shifted = loss - _levels(runs, is_near[place], near.block_levels)
    for side in (np.arange(distinct.size) < ordered[0], np.arange(distinct.size) > ordered[0]):
        squares, df, scale = 0.0, 0, 0.0
        for index in np.flatnonzero(side & ~is_near):
            own = shifted[place == index]
            squares += float(np.sum((own - own.mean()) ** 2))
            df += own.size - 1
            scale += (own.size - 1) * float(excess[index]) ** 2
        if df == 0 or scale == 0 or variance_ratio_p(squares / df, df, variance, near.df) >= _P:
            continue
        # Of exact replicates near the lowest the noise is that of rounding.
        least = max(variance, 1e-12 * float(np.max(excess)) ** 2)
        share = max(squares - df * variance, 0.0) / scale / float(fdtri(df, near.df, _SURELY))
        rows = side[place]
        factor[rows] = 1 + share * excess[place[rows]] ** 2 / least
    return factor


def _only(runs: Runs, chosen: np.ndarray) -> Runs:
    rows = np.flatnonzero(runs.kept)[chosen]
    return Runs(
        lr=runs.lr[rows],
        loss=runs.loss[rows],
        diverged=runs.diverged[rows],
        seeds=tuple(runs.seeds[row] for row in rows),
    )


def _levels(runs: Runs, chosen: np.ndarray, levels: FloatArray) -> FloatArray:
    """Return the level of the seed of each finished run as the near runs have it; 0 for a seed that is not near."""
    known = dict(zip(_only(runs, chosen).blocks()[1], levels, strict=True))
    seeds = [runs.seeds[row] for row in np.flatnonzero(runs.kept)]
    return np.array([float(known.get(seed, 0.0)) for seed in seeds])

"""What replicates tell: the standard deviation of a run with its interval, and the differences that stand out from it.

Noise is taken as normal; the quantiles are those of chi-square, t and F (Fisher 1925).
"""

from __future__ import annotations

import math

from scipy.special import chdtri, fdtri, stdtrit

MOST_SEEDS = 1000
"""Seeds beyond which no number of them is named."""


def chi_square_interval(sd: float, df: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a standard deviation that was estimated with some degrees of freedom.

    Parameters
    ----------
    sd : float
        In units of the loss, at least 0.
    df : float
        Above 0; a share of pooled degrees of freedom need not be whole.
    confidence : float, optional
        Between 0 and 1. Default 0.95.

    Returns
    -------
    tuple of float
        Lower and upper end, in units of the loss.

    Examples
    --------
    >>> [round(end, 3) for end in chi_square_interval(1.0, 10)]
    [0.699, 1.755]
    """
    tail = (1 - confidence) / 2
    # chdtri takes the upper tail.
    return sd * math.sqrt(df / chdtri(df, tail)), sd * math.sqrt(df / chdtri(df, 1 - tail))


def sd_ratio_interval(
    ratio: float, df_numerator: float, df_denominator: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of the ratio of two standard deviations.

    Parameters
    ----------
    ratio : float
        Of the two estimates, at least 0.
    df_numerator, df_denominator : float
        Degrees of freedom of each, above 0.
    confidence : float, optional
        Between 0 and 1. Default 0.95.

    Returns
    -------
    tuple of float
        Lower and upper end.

    Examples
    --------
    >>> [round(end, 2) for end in sd_ratio_interval(2.0, 10, 10)]
    [1.04, 3.86]
    """
    tail = (1 - confidence) / 2
    lo, hi = (ratio / math.sqrt(float(fdtri(df_numerator, df_denominator, end))) for end in (1 - tail, tail))
    return lo, hi


def smallest_difference(sd: float, df: float, seeds: float, confidence: float = 0.95) -> float:
    """Return half the width of the t interval of a difference of two means over so many seeds.

    Parameters
    ----------
    sd : float
        Of a run, in units of the loss, at least 0.
    df : float
        With which it is known, above 0.
    seeds : float
        Behind each mean, above 0.
    confidence : float, optional
        Between 0 and 1. Default 0.95.

    Returns
    -------
    float
        In units of the loss. A true difference of that size is found in about half of all studies.

    Examples
    --------
    >>> round(smallest_difference(0.01, 10, 3), 4)
    0.0182
    """
    return float(stdtrit(df, (1 + confidence) / 2)) * sd * math.sqrt(2 / seeds)


def seeds_to_halve(sd: float, df: float, seeds: int) -> int | None:
    """Return the fewest seeds at the same LRs with half the smallest difference; None above `MOST_SEEDS`.

    Degrees of freedom grow with the seeds.

    Parameters
    ----------
    sd : float
        Of a run, in units of the loss, above 0.
    df : float
        With which it is known from `seeds`, above 0.
    seeds : int
        At least 1.

    Examples
    --------
    >>> seeds_to_halve(0.01, 10, 3), seeds_to_halve(0.01, 1000, 3)
    (10, 12)
    """
    wanted = smallest_difference(sd, df, seeds) / 2
    each = df / max(seeds - 1, 1)
    for more in range(seeds + 1, MOST_SEEDS + 1):
        if smallest_difference(sd, each * (more - 1), more) <= wanted * (1 + 1e-9):
            return more
    return None

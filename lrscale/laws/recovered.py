"""The interval of a difference of two independent estimates, from the interval of each."""

from __future__ import annotations

import math

from lrscale.errors import LrscaleError
from lrscale.laws.base import Interval


def recovered_difference(a: float, a_interval: Interval, b: float, b_interval: Interval) -> tuple[float, Interval]:
    """Return a minus b with its interval, recovered from the intervals of both (MOVER).

    The distance from an estimate to the end of its interval stands for the error on that side, so that skewed intervals
    stay skewed: ``lo = a - b - sqrt((a - lo_a)^2 + (hi_b - b)^2)`` and
    ``hi = a - b + sqrt((hi_a - a)^2 + (b - lo_b)^2)``. Nothing but the two intervals is needed, and they
    have to be of independent estimates.

    Parameters
    ----------
    a, b : float
        Estimates in one unit.
    a_interval, b_interval : Interval
        Of equal confidence, each around its estimate. An open end opens the end of the difference that it decides.

    Returns
    -------
    value : float
    interval : Interval
        Of the same confidence.

    Raises
    ------
    LrscaleError
        When the confidences differ.

    References
    ----------
    .. [1] Zou, Donner. "Construction of confidence limits about effect measures: A general approach." Statistics in
       Medicine 27 (2008).

    Examples
    --------
    >>> value, interval = recovered_difference(5.0, Interval(2.0, 9.0, 0.95), 1.0, Interval(-3.0, 4.0, 0.95))
    >>> value, round(interval.lo, 3), round(interval.hi, 3)
    (4.0, -0.243, 9.657)
    """
    if a_interval.confidence != b_interval.confidence:
        raise LrscaleError(
            f"the confidences {a_interval.confidence:g} and {b_interval.confidence:g} of two intervals differ",
            hint="fit both at one confidence",
        )
    value = a - b
    below = _root(_gap(a, a_interval.lo), _gap(b_interval.hi, b))
    above = _root(_gap(a_interval.hi, a), _gap(b, b_interval.lo))
    lo, hi = None if below is None else value - below, None if above is None else value + above
    return value, Interval(lo, hi, a_interval.confidence)


def recovered_ratio(a: float, a_interval: Interval, b: float, b_interval: Interval) -> tuple[float, Interval]:
    """Return a over b with its interval: `recovered_difference` of logarithms.

    Raises
    ------
    LrscaleError
        When an estimate is not positive, or the confidences differ.

    Examples
    --------
    >>> value, interval = recovered_ratio(4.0, Interval(2.0, 8.0, 0.95), 1.0, Interval(1.0, None, 0.95))
    >>> value, interval.lo, round(interval.hi, 6)
    (4.0, None, 8.0)
    """
    if not (a > 0 and b > 0):
        raise LrscaleError(f"a ratio of {a:g} and {b:g} has no logarithm", hint="compare positive numbers")
    value, interval = recovered_difference(math.log(a), _log(a_interval), math.log(b), _log(b_interval))
    return math.exp(value), Interval(_exp(interval.lo), _exp(interval.hi), interval.confidence)


def _gap(high: float | None, low: float | None) -> float | None:
    # An estimate at the end of its interval, or beyond it by rounding, has no error on that side.
    return None if high is None or low is None else max(0.0, high - low)


def _root(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else math.hypot(one, other)


def _log(interval: Interval) -> Interval:
    lo, hi = (None if end is None or end <= 0 else math.log(end) for end in (interval.lo, interval.hi))
    return Interval(lo, hi, interval.confidence)


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)

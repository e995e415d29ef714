"""Numbers in the sentences of a recommendation."""

from __future__ import annotations

from lrscale.study.finding import Quantity
from lrscale.study.words import loss_digits


def rate(value: float) -> str:
    """Return a learning rate with two significant digits.

    Examples
    --------
    >>> rate(0.00213), rate(0.25), rate(1.0)
    ('2.1e-3', '0.25', '1')
    """
    if 1e-2 <= abs(value) < 1e3:
        return f"{value:.2g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def with_interval(number: Quantity) -> str:
    """Return a rate with its interval in the same breath.

    Examples
    --------
    >>> with_interval(Quantity(value=2.1e-3, lo=1.6e-3, hi=2.8e-3))
    '2.1e-3 (95 % 1.6e-3 to 2.8e-3)'
    """
    if number.value is None:
        return "unknown"
    if number.lo is None or number.hi is None:
        return rate(number.value)
    return f"{rate(number.value)} ({100 * number.confidence:g} % {rate(number.lo)} to {rate(number.hi)})"


def loss_words(number: Quantity) -> str:
    """Return a loss with four significant digits and its interval; with more where that is narrower than they show.

    Examples
    --------
    >>> loss_words(Quantity(value=2.31456, lo=2.28, hi=2.35))
    '2.315 (95 % 2.28 to 2.35)'
    """
    if number.value is None:
        return "not measured"
    if number.lo is None or number.hi is None:
        return f"{number.value:.4g}"
    digits = loss_digits(number.value, number.lo, number.hi)
    ends = f"{100 * number.confidence:g} % {number.lo:.{digits}g} to {number.hi:.{digits}g}"
    return f"{number.value:.{digits}g} ({ends})"


def percent(share: float) -> str:
    """Return a signed share in percent.

    Examples
    --------
    >>> percent(0.0043), percent(-0.31), percent(0.0), percent(1.52)
    ('+0.43 %', '-31 %', '+0 %', '+152 %')
    """
    value = 100 * share
    return f"{value:+.0f} %" if abs(value) >= 100 else f"{value:+.2g} %"


def count(value: int) -> str:
    """Return a whole number with thousands separated.

    Examples
    --------
    >>> count(40000)
    '40,000'
    """
    return f"{value:,}"


def clock(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> clock(42.3), clock(600), clock(15_000), clock(200_000)
    ('42 s', '10 min', '4.2 h', '2.3 days')
    """
    for bound, unit, name in ((90.0, 1.0, "s"), (5400.0, 60.0, "min"), (129600.0, 3600.0, "h")):
        if seconds < bound:
            return f"{seconds / unit:.2g} {name}" if seconds / unit < 100 else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.2g} days"

"""Numbers in sentences."""

from __future__ import annotations

import math


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with two significant digits, as people write it.

    Examples
    --------
    >>> number(0.00213), number(31.7), number(3514.0, 3), number(None)
    ('2.1e-3', '32', '3,510', 'unknown')
    """
    if value is None:
        return "unknown"
    if abs(value) >= 10**digits:
        return f"{float(f'{value:.{digits}g}'):,.0f}"
    text = f"{value:.{digits}g}"
    if value != 0 and abs(value) < 1e-2:
        text = f"{value:.{digits - 1}e}"
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else text


def loss_digits(value: float | None, lo: float | None = None, hi: float | None = None) -> int:
    """Return the significant digits of a loss: four, or more where its interval is narrower than they show.

    Examples
    --------
    >>> loss_digits(2.31456, 2.28, 2.35), loss_digits(2.31456), loss_digits(-999_999.64, -999_999.66, -999_999.61)
    (4, 4, 8)
    """
    if value is None or lo is None or hi is None or not hi > lo or not math.isfinite(value):
        return 4
    size = max(abs(value), abs(lo), abs(hi))
    return min(max(4, math.floor(math.log10(size)) - math.floor(math.log10(hi - lo)) + 1), 15)


def amount_text(value: float) -> str:
    """Return a large number as people say it.

    Examples
    --------
    >>> amount_text(8e8), amount_text(19_531_250), amount_text(1234), amount_text(640)
    ('800M', '19.5M', '1.23k', '640')
    """
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.3g}"


def memory_text(size: float) -> str:
    """Return bytes in the unit that people would use, in powers of 1024.

    Examples
    --------
    >>> memory_text(3.2e9), memory_text(512 * 2**20)
    ('3.0 GiB', '510 MiB')
    """
    for scale, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(size) >= scale:
            value = size / scale
            return f"{value:.1f} {unit}" if value < 10 else f"{number(value)} {unit}"
    return f"{size:.0f} bytes"


def interval_text(lo: float | None, hi: float | None, confidence: float = 0.95, digits: int = 2) -> str:
    """Return an interval in words; an open end is said.

    Examples
    --------
    >>> interval_text(0.0016, 0.0028), interval_text(0.0016, None), interval_text(2.362, 2.448, digits=3)
    ('95 % 1.6e-3 to 2.8e-3', '95 % above 1.6e-3', '95 % 2.36 to 2.45')
    """
    share = f"{100 * confidence:.0f} %"
    if lo is None and hi is None:
        return "no interval"
    if hi is None:
        return f"{share} above {number(lo, digits)}"
    if lo is None:
        return f"{share} below {number(hi, digits)}"
    return f"{share} {number(lo, digits)} to {number(hi, digits)}"

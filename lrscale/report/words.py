"""Numbers and names as text: two significant digits, a unit, and an interval in the same breath."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from typing import Any, TypeGuard

EMPTY = "\N{EN DASH}"
"""What stands for a value that is absent."""


def finite(value: Any) -> TypeGuard[float]:
    """Return whether `value` is a number other than NaN and infinity."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def significant(value: float | None, digits: int = 2, *, plain: bool | None = None) -> str:
    """Return a number with so many significant digits, in scientific notation outside 0.01 to 10,000.

    `plain` fixes the notation, so that a number and its interval share it.

    Examples
    --------
    >>> [significant(value) for value in (0.00193, 0.0224, 1.0, 137.2, 123456.0, None)]
    ['1.9e-3', '0.022', '1.0', '140', '1.2e5', '–']
    """
    if value is None or not math.isfinite(value):
        return EMPTY
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if not (-2 <= power < 4 if plain is None else plain):
        return f"{mantissa}e{power}"
    rounded = float(f"{mantissa}e{power}")
    return f"{rounded:.{max(0, digits - 1 - power)}f}"


def rate(value: float | None) -> str:
    """Return a learning rate with two significant digits.

    Examples
    --------
    >>> rate(0.0019), rate(0.5)
    ('1.9e-3', '0.50')
    """
    return significant(value)


def tick(value: float) -> str:
    """Return the shortest text of a round number on an axis.

    Examples
    --------
    >>> [tick(value) for value in (1e-4, 0.002, 0.05, 5.0, 2000.0, 1024.0, 3e6)]
    ['1e-4', '2e-3', '0.05', '5', '2k', '1024', '3M']
    """
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.0095:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    for suffix, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        # 1024 stays 1024: a batch size is recognised by its digits.
        if size >= scale and abs(value / scale * 10 % 1) < 1e-9:
            return f"{value / scale:g}{suffix}"
    return f"{value:.6g}"


def count(value: float | None) -> str:
    """Return a whole number, with k, M or B where that loses nothing past four digits.

    Examples
    --------
    >>> [count(value) for value in (512, 2000, 12345, 50_000_000, None)]
    ['512', '2,000', '12.3k', '50M', '–']
    """
    if value is None or not math.isfinite(value):
        return EMPTY
    if abs(value) < 10_000:
        return f"{round(value):,}"
    for suffix, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{round(value):,}"


def loss(value: float | None, lo: float | None = None, hi: float | None = None) -> str:
    """Return a loss to the digit that its interval justifies, or with three significant digits when it has none.

    Examples
    --------
    >>> loss(2.3123, 2.28, 2.35), loss(0.04567), loss(2.3123, 2.3121, 2.3125)
    ('2.31', '0.0457', '2.3123')
    """
    if value is None or not math.isfinite(value):
        return EMPTY
    if value and abs(value) < 1e-3:
        return significant(value, 3)
    return f"{value:.{_decimals(value, lo, hi)}f}"


def loss_between(value: float | None, lo: float | None, hi: float | None) -> str:
    """Return a loss with its interval.

    Examples
    --------
    >>> loss_between(2.3123, 2.281, 2.352), loss_between(2.3123, None, None)
    ('2.31 (2.28 to 2.35)', '2.31')
    """
    if value is None or lo is None or hi is None:
        return loss(value)
    if value and abs(value) < 1e-3:
        return f"{significant(value, 3)} ({significant(lo, 3)} to {significant(hi, 3)})"
    decimals = _decimals(value, lo, hi)
    return f"{value:.{decimals}f} ({lo:.{decimals}f} to {hi:.{decimals}f})"


def between(lo: float | None, hi: float | None, digits: int = 2) -> str:
    """Return an interval; an open end says so.

    Examples
    --------
    >>> between(0.0014, 0.0026), between(None, 0.5), between(None, None)
    ('1.4e-3 to 2.6e-3', 'up to 0.50', '–')
    """
    plain = _plain(lo, hi)
    if lo is None and hi is None:
        return EMPTY
    if lo is None:
        return f"up to {significant(hi, digits, plain=plain)}"
    if hi is None:
        return f"{significant(lo, digits, plain=plain)} or more"
    return f"{significant(lo, digits, plain=plain)} to {significant(hi, digits, plain=plain)}"


def with_interval(value: float | None, lo: float | None, hi: float | None, digits: int = 2) -> str:
    """Return a number with its interval in brackets.

    Examples
    --------
    >>> with_interval(0.0019, 0.0014, 0.0026), with_interval(0.011, 0.0093, 0.012)
    ('1.9e-3 (1.4e-3 to 2.6e-3)', '1.1e-2 (9.3e-3 to 1.2e-2)')
    """
    if lo is None and hi is None:
        return significant(value, digits)
    return f"{significant(value, digits, plain=_plain(lo, hi))} ({between(lo, hi, digits)})"


def duration(seconds: float | None) -> str:
    """Return a time with two significant digits and its unit.

    Examples
    --------
    >>> [duration(value) for value in (0.034, 4.0, 75.0, 15000.0, 300000.0)]
    ['34 ms', '4.0 s', '75 s', '4.2 h', '3.5 days']
    """
    if seconds is None or not math.isfinite(seconds):
        return EMPTY
    for unit, size, least in (("days", 86400.0, 2.0), ("h", 3600.0, 1.0), ("min", 60.0, 2.0), ("s", 1.0, 1.0)):
        if seconds >= least * size:
            return f"{significant(seconds / size)} {unit}"
    return f"{significant(seconds * 1e3)} ms" if seconds else "0 s"


def percent(share: float | None, *, signed: bool = False) -> str:
    """Return a share as a percentage with two significant digits.

    Examples
    --------
    >>> percent(0.0041), percent(0.31, signed=True), percent(0.0)
    ('0.41 %', '+31 %', '0 %')
    """
    if share is None or not math.isfinite(share):
        return EMPTY
    sign = "+" if signed and share > 0 else ""
    return f"{sign}{significant(100 * share)} %"


def plural(number: int, noun: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> plural(1, "trial"), plural(3, "batch")
    ('1 trial', '3 batches')
    """
    ending = "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{ending}"


def listing(items: Iterable[str]) -> str:
    """Return names as people list them.

    Examples
    --------
    >>> listing(["a", "b", "c"]), listing(["a"])
    ('a, b and c', 'a')
    """
    names = list(items)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def short(text: Any, limit: int = 48) -> str:
    r"""Return one line of a name that a user chose, without control characters and at most `limit` long.

    Marks that turn the direction of the text that follows go too, so that a name cannot reorder its neighbours.

    Examples
    --------
    >>> short("two\nlines\u202e"), len(short("x" * 10_000))
    ('two lines', 48)
    """
    kept = (" " if char.isspace() else char for char in str(text) if char.isspace() or _printable(char))
    line = " ".join("".join(kept).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"


def block(text: Any, limit: int = 100_000) -> str:
    """Return text of several lines without control characters, cut at `limit` characters and saying so."""
    kept = "".join(char for char in str(text) if char in "\n\t" or _printable(char))
    return kept if len(kept) <= limit else f"{kept[:limit]}\n[{len(kept) - limit:,} more characters]"


def _plain(*values: float | None) -> bool:
    sizes = [abs(value) for value in values if value]
    return all(0.0095 <= size < 9_950 for size in sizes)


def _printable(char: str) -> bool:
    return not unicodedata.category(char).startswith("C")


def _decimals(value: float, lo: float | None, hi: float | None) -> int:
    size = abs(value) or 1.0
    by_value = 2 - math.floor(math.log10(size))
    if lo is None or hi is None or not hi > lo:
        return min(6, max(0, by_value))
    by_interval = -math.floor(math.log10((hi - lo) / 2))
    return min(6, max(0, by_interval, by_value - 1))

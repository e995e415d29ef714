"""How numbers, times and tables are written for people: in ASCII, which any terminal and any log file can show."""

from __future__ import annotations

import contextlib
import io
import math
import shutil
import sys
import textwrap
from collections.abc import Sequence

from lrscale.units import time_text


def tolerate_any_encoding() -> None:
    """Make printing never fail: what the terminal's encoding cannot show becomes a question mark.

    A user's class names and log messages may hold any character, and the locale of a batch job is often ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        # A stream that was replaced, by a test or a notebook, may not be reconfigurable, and needs no help.
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(io.UnsupportedOperation):
                stream.reconfigure(errors="replace")


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with `digits` significant digits, very small and very large ones with an exponent.

    Examples
    --------
    >>> number(0.0021), number(0.123456), number(3.0), number(2.5e6), number(0.0), number(None)
    ('2.1e-3', '0.123', '3', '2.5e6', '0', '-')
    """
    if value is None or not math.isfinite(value):
        return "-" if value is None or math.isnan(value) else str(value)
    if value == 0:
        return "0"
    if 1e-2 <= abs(value) < 10.0 ** max(digits, 4):
        text = f"{value:.{digits}g}" if abs(value) < 10.0**digits else f"{value:.0f}"
        return text
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"


def interval(
    value: float | None, lo: float | None, hi: float | None, confidence: float = 0.95, *, digits: int = 3
) -> str:
    """Write a number with its interval; an end that the data do not give is named as such.

    Examples
    --------
    >>> interval(2.1e-3, 1.6e-3, 2.8e-3)
    '2.1e-3 (95 % 1.6e-3 to 2.8e-3)'
    >>> interval(2.1e-3, None, 2.8e-3)
    '2.1e-3 (95 %: no lower end, at most 2.8e-3)'
    >>> interval(2.1e-3, None, None)
    '2.1e-3 (no interval)'
    """
    share = f"{100 * confidence:g} %"
    middle, least, most = (number(one, digits) for one in (value, lo, hi))
    if lo is None and hi is None:
        return f"{middle} (no interval)"
    if lo is None:
        return f"{middle} ({share}: no lower end, at most {most})"
    if hi is None:
        return f"{middle} ({share}: at least {least}, no upper end)"
    return f"{middle} ({share} {least} to {most})"


def seconds(value: float | None) -> str:
    """Write a time in at most two units.

    Examples
    --------
    >>> seconds(0.42), seconds(42.4), seconds(200), seconds(7200), seconds(2e5), seconds(None)
    ('0.4 s', '42 s', '3 min 20 s', '2 h 00 min', '2 d 7 h', 'unknown')
    """
    return "unknown" if value is None or not math.isfinite(value) else time_text(value)


def clock(value: float) -> str:
    """Write the time since a start, as a stamp of fixed width below 10 hours.

    Examples
    --------
    >>> clock(83), clock(36000)
    ('0:01:23', '10:00:00')
    """
    whole = int(value)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def count(value: int, noun: str) -> str:
    """Write a count with its noun.

    Examples
    --------
    >>> count(1, "trial"), count(0, "trial"), count(40000, "example")
    ('1 trial', '0 trials', '40,000 examples')
    """
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Return aligned columns with a rule below the header.

    Parameters
    ----------
    header : sequence of str
        Column names.
    rows : sequence of sequence of str
        Cells, as many per row as there are columns.
    right : sequence of int, optional
        Columns that are aligned to the right, counted from 0. Default none.

    Examples
    --------
    >>> print(table(["name", "trials"], [["scaling", "12"]], right=[1]))
    name     trials
    -------  ------
    scaling      12
    """
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *(line(row) for row in rows)])


def wrapped(text: str, *, indent: str = "", first: str | None = None) -> str:
    """Fill a paragraph to the width of the terminal, at most 100 columns; words are never broken.

    Examples
    --------
    >>> wrapped("short", indent="  ", first="- ")
    '- short'
    """
    width = min(100, shutil.get_terminal_size().columns)
    return textwrap.fill(
        text,
        width=width,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )

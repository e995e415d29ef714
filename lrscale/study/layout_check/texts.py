"""Small pieces of the sentences of a layout check."""

from __future__ import annotations

from collections.abc import Sequence

from lrscale.study.words import number


def share(value: float | None) -> str:
    """Return a share as a percentage.

    Examples
    --------
    >>> share(0.25), share(1.04), share(None)
    ('25 %', '104 %', 'an unknown share')
    """
    return "an unknown share" if value is None else f"{number(100 * value, 2 if abs(value) < 1 else 3)} %"


def figure(value: float) -> str:
    """Return a relative difference.

    Examples
    --------
    >>> figure(3.2e-7), figure(0.0)
    ('3.2e-7', 'the last bit')
    """
    return "the last bit" if value == 0 else number(value)


def listed(items: Sequence[object]) -> str:
    """Return items as people list them.

    Examples
    --------
    >>> listed([1, 2, 3]), listed(["a"])
    ('1, 2 and 3', 'a')
    """
    words = [str(item) for item in items]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first few of some names.

    Examples
    --------
    >>> some(["a", "b", "c", "d", "e"]), some(["a"])
    ('a, b, c and 2 more', 'a')
    """
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown

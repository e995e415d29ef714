"""How far an update can be stretched before it raises the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

from lrscale.errors import LrscaleError

GROWTH = 4.0
"""Ratio of neighbouring trials while the critical step is not bracketed."""
CLOSE = 0.01
"""Relative change of the estimate below which no further trial is worth a forward pass."""
MARGIN_OF_BRACKET = 0.1
"""Share of the bracket, in log step, that a trial keeps away from its ends."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalStep:
    """The smallest multiple of an update that raises the loss. `find_critical_step` makes it."""

    status: Literal["ok", "above", "below"]
    """``above``: every multiple that was tried lowered the loss; ``below``: none did."""
    value: float | None
    """The multiple; None unless the status is ok."""
    lo: float | None
    """Largest multiple seen that lowered the loss; None when none did."""
    hi: float | None
    """Smallest multiple seen that did; None when none did."""
    evaluations: int
    """Losses that were computed."""


def find_critical_step(excess: Callable[[float], float], *, start: float = 1.0, evaluations: int = 8) -> CriticalStep:
    """Find the smallest s with ``L(theta - s delta) > L(theta)``, the critical step along an update delta.

    The bracket grows from `start`; inside it the zero of ``excess(s) / s`` is interpolated, which is a straight line
    where the loss is quadratic, so that two trials locate it there. Far-off interpolations are held inside of the
    bracket. The decisions follow from the values alone: ranks that see the same values try the same steps.

    Parameters
    ----------
    excess : callable
        ``L(theta - s delta) - L(theta)`` at s > 0. A value that is not a number counts as infinite, and one of 0 as a
        rise: a difference that is lost in rounding must not look like a descent.
    start : float, optional
        First s, positive; the last answer of the same run is a good one. Default 1.
    evaluations : int, optional
        Most calls of `excess`, at least 2. Default 8.

    Returns
    -------
    CriticalStep

    References
    ----------
    .. [1] Critical sharpness along the update direction: arXiv:2601.16979.

    Examples
    --------
    >>> found = find_critical_step(lambda s: -3 * s + s * s)
    >>> round(found.value, 9), found.evaluations
    (3.0, 3)
    """
    if not (math.isfinite(start) and start > 0):
        raise LrscaleError(f"start {start} is not positive", hint="use 1, the update as it is")
    if evaluations < 2:
        raise LrscaleError(f"evaluations is {evaluations}", hint="use at least 2")
    lo: tuple[float, float] | None = None
    hi: tuple[float, float] | None = None
    step, used, root = start, 0, math.nan
    while used < evaluations:
        value = excess(step)
        used += 1
        if value < 0:
            lo = (step, value / step)
        else:
            hi = (step, value / step if math.isfinite(value) else math.inf)
        if lo is None or hi is None:
            step = step * GROWTH if hi is None else step / GROWTH
            continue
        before, root = root, _root(lo, hi)
        if abs(root / before - 1) < CLOSE or hi[0] / lo[0] < 1 + CLOSE:
            break
        keep = (hi[0] / lo[0]) ** MARGIN_OF_BRACKET
        step = min(max(root, lo[0] * keep), hi[0] / keep)
    return CriticalStep(
        status="above" if hi is None else "below" if lo is None else "ok",
        value=None if lo is None or hi is None else root,
        lo=None if lo is None else lo[0],
        hi=None if hi is None else hi[0],
        evaluations=used,
    )


def _root(lo: tuple[float, float], hi: tuple[float, float]) -> float:
    if not math.isfinite(hi[1]) or hi[1] <= lo[1]:
        return math.sqrt(lo[0] * hi[0])
    return lo[0] + (hi[0] - lo[0]) * -lo[1] / (hi[1] - lo[1])
